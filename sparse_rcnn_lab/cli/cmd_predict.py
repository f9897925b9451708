"""``sparse-rcnn-lab predict``."""

from __future__ import annotations

import argparse
import glob
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.cli.common import (
    add_model,
    add_proposals,
    add_stage,
    fraction,
    open_model,
    plural,
)
from sparse_rcnn_lab.core.errors import LabError

HELP = """detect objects in images

Each image is written as NAME.detections.jpg with its boxes drawn in. detections.json lists all
detections as COCO results (bbox is x, y, width, height in pixels of the image) with file_name and
category_name added; image_id counts the images from 0.
A file that cannot be read is reported and the others are still done; the exit code is then 1.

examples:
  sparse-rcnn-lab predict photo.jpg --model runs/cells --out predictions
  sparse-rcnn-lab predict holiday/ "scans/*.png" --threshold 0.5 --out predictions
"""

_ENDING = ".detections.jpg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders, or patterns like *.jpg")
    add_model(parser)
    add(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="FOLDER",
        help="where to write (default: %(default)s)",
    )
    add(
        "--threshold",
        type=fraction,
        default=0.3,
        metavar="0..1",
        help="lowest score of a detection (default: %(default)s)",
    )
    add_proposals(parser)
    add_stage(parser)


def run(arguments: argparse.Namespace) -> int:
    """Detects in every image; returns 1 when some could not be read."""
    from PIL import Image

    from sparse_rcnn_lab.core.errors import check_stage
    from sparse_rcnn_lab.detect.files import write_text, write_whole
    from sparse_rcnn_lab.detect.images import read_image
    from sparse_rcnn_lab.views.draw import draw_detections

    paths = find_images(arguments.images)
    detector = open_model(arguments)
    # These would be wrong for every image, so they are reported once, before the first.
    if arguments.stage is not None:
        check_stage(arguments.stage, detector.num_stages, name="--stage")
    if arguments.proposals is not None and arguments.proposals > detector.num_proposals:
        raise LabError(
            f"--proposals must be 1..{detector.num_proposals}, found {arguments.proposals}."
        )
    names = output_names(paths)
    rows: list[dict[str, Any]] = []
    failed = 0
    try:
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            try:
                image = read_image(path)
            except LabError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
                continue
            found = detector(
                image,
                threshold=arguments.threshold,
                num_proposals=arguments.proposals,
                stage=arguments.stage,
            )
            drawn = draw_detections(Image.fromarray(image.permute(1, 2, 0).numpy()), found)
            with write_whole(arguments.out / name) as temporary:
                drawn.convert("RGB").save(temporary, "JPEG", quality=92)
            for row, category in zip(found.to_coco(number), found.names(), strict=True):
                rows.append({**row, "category_name": category, "file_name": str(path)})
            try:
                print(f"{path}: {_summary(found.names())} -> {arguments.out / name}")
            except BrokenPipeError:  # nobody reads the output; the other images are still done
                sys.stdout = None
    finally:  # an interrupt keeps what was done
        if rows or failed < len(paths):
            write_text(arguments.out / "detections.json", json.dumps(rows, indent=1) + "\n")
    done = len(paths) - failed
    print(f"{plural(done, 'image')}, {plural(len(rows), 'detection')} in {arguments.out}")
    if failed:
        print(f"error: {plural(failed, 'file')} could not be read", file=sys.stderr)
    return 1 if failed else 0


def find_images(given: list[str]) -> list[Path]:
    """The files that paths, folders and patterns name, each once, in the order given.

    A path that does not exist stays in the list, to be reported like any other bad file. Raises
    LabError when a folder or pattern has no image.
    """
    from PIL import Image

    known = Image.registered_extensions().items()
    endings = {ending for ending, kind in known if kind in Image.OPEN}  # Pillow cannot open PDF
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in endings and _is_input(p)]
            if not inside:
                raise LabError(f'The folder "{path}" contains no images (jpg, png, ...).')
            found += sorted(inside)
        elif not path.exists() and glob.has_magic(text):
            files = [p for p in map(Path, glob.glob(text, recursive=True)) if _is_input(p)]
            if not files:
                raise LabError(f'No file matches the pattern "{text}".')
            found += sorted(files)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _is_input(path: Path) -> bool:
    """Whether it is a file that no earlier call of this command wrote."""
    return path.is_file() and not path.name.endswith(_ENDING)


def output_names(paths: list[Path]) -> list[str]:
    """A file name for each image; a number is added where stems are equal, ignoring case."""
    taken: set[str] = set()
    names = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.lower())
        names.append(stem + _ENDING)
    return names


def _summary(names: list[str]) -> str:
    counts = Counter(names).items()
    return ", ".join(f"{number} {name}" for name, number in counts) or "nothing found"
