"""python -m sparse_rcnn_lab.course.lessons: sync, run or publish the notebooks; see ``--help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.lessons import notebook_files
from sparse_rcnn_lab.course.lessons.lesson_pages import make_gallery
from sparse_rcnn_lab.course.lessons.site_pages import make_site

_HERE = Path(__file__).resolve().parents[3] / "notebooks"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when done, or 1 after printing why not."""
    parser = argparse.ArgumentParser(
        prog="python -m sparse_rcnn_lab.course.lessons", description=__doc__
    )
    parser.add_argument("--folder", type=Path, default=_HERE, help="the folder of the lessons")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the .ipynb of each script")
    copy = commands.add_parser("copy", help="copy the lessons to work in, outside git")
    copy.add_argument("out", type=Path)
    run = commands.add_parser("run", help="run lessons, each in a fresh kernel")
    run.add_argument("numbers", nargs="*", help="01, 05, ... (default: all)")
    run.add_argument("--full", action="store_true", help="use real amounts and keep the times")
    for name, text in (
        ("gallery", "make pages with outputs, to read without a kernel"),
        ("slides", "make slides from the lessons' figures, as one html file"),
        ("site", "make the web site: lessons, playgrounds, docs"),
    ):
        made = commands.add_parser(name, help=text)
        made.add_argument("out", type=Path)
        made.add_argument("--fast", action="store_true", help="use toy amounts")
    options = parser.parse_args(argv)
    try:
        if options.command == "sync":
            written = notebook_files.sync(options.folder)
            print("\n".join(map(str, written)) or "All notebooks are as their scripts.")
        elif options.command == "copy":
            for path in notebook_files.copy_lessons(options.folder, options.out):
                print(f"{path} stays as it is; the lesson has changed since. For the new one, move")
                print("yours away.")
        elif options.command == "run":
            notebook_files.run(options.folder, options.numbers, fast=not options.full)
        elif options.command == "slides":
            from sparse_rcnn_lab.course.classroom.slides import make_slides

            count = make_slides(options.folder / "slides.py", options.out, fast=options.fast)
            print(f"{count} slides: open {options.out}")
        elif options.command == "site":
            print(f"Open {make_site(options.folder, options.out, fast=options.fast)}")
        else:
            print(f"Open {make_gallery(options.folder, options.out, fast=options.fast)[0]}")
    except LabError as error:
        print(f"lessons: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
