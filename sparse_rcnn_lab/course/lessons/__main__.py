"""python -m sparse_rcnn_lab.course.lessons: sync, run or publish the notebooks; see ``--help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_lab.core.errors import LabError

_HERE = Path(__file__).resolve().parents[3] / "notebooks"


def main(argv: Sequence[str] | None = None) -> int:
    """0 when done, 1 with one line when not."""
    parser = argparse.ArgumentParser(
        prog="python -m sparse_rcnn_lab.course.lessons", description=__doc__
    )
    parser.add_argument("--folder", type=Path, default=_HERE, help="where the lessons lie")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the .ipynb of each script")
    copy = commands.add_parser("copy", help="the lessons to work in, beside what git keeps")
    copy.add_argument("out", type=Path)
    run = commands.add_parser("run", help="run lessons, each in a fresh kernel")
    run.add_argument("numbers", nargs="*", help="01, 05, ...; default all")
    run.add_argument("--full", action="store_true", help="real amounts; the times are kept")
    gallery = commands.add_parser("gallery", help="pages with outputs, to read without a kernel")
    gallery.add_argument("out", type=Path)
    gallery.add_argument("--fast", action="store_true", help="on toy amounts")
    slides = commands.add_parser("slides", help="a deck from the lessons' figures, one html file")
    slides.add_argument("out", type=Path)
    slides.add_argument("--fast", action="store_true", help="on toy amounts")
    site = commands.add_parser("site", help="the web site: lessons, playgrounds, docs")
    site.add_argument("out", type=Path)
    site.add_argument("--fast", action="store_true", help="lessons on toy amounts")
    options = parser.parse_args(argv)
    try:
        if options.command == "sync":
            from sparse_rcnn_lab.course.lessons.notebook_files import sync

            written = sync(options.folder)
            print("\n".join(map(str, written)) or "All notebooks are as their scripts.")
        elif options.command == "copy":
            from sparse_rcnn_lab.course.lessons.notebook_files import copy_lessons

            changed = copy_lessons(options.folder, options.out)
            for path in changed:
                print(f"{path} stays as it is; the lesson has changed since. For the new one, move")
                print("yours away.")
        elif options.command == "run":
            from sparse_rcnn_lab.course.lessons.notebook_files import run as run_lessons

            run_lessons(options.folder, options.numbers, fast=not options.full)
        elif options.command == "slides":
            from sparse_rcnn_lab.course.classroom.slides import make_slides

            script = options.folder / "slides.py"
            count = make_slides(script, options.out, fast=options.fast)
            print(f"{count} slides: open {options.out}")
        elif options.command == "site":
            from sparse_rcnn_lab.course.lessons.site_pages import make_site

            print(f"Open {make_site(options.folder, options.out, fast=options.fast)}")
        else:
            from sparse_rcnn_lab.course.lessons.lesson_pages import make_gallery

            pages = make_gallery(options.folder, options.out, fast=options.fast)
            print(f"Open {pages[0]}")
    except LabError as error:
        print(f"lessons: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
