"""``sparse-rcnn-lab check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_lab.cli.common import whole_number

HELP = """look a data set over: what is in it, what is odd, what is done about it

Works on a folder with train.json and val.json in COCO's format, as any label tool exports it, or on
one json. What can be meant in one way only (boxes as corners or shares, a class under two ids, an
image listed twice) is mended whenever the data is read; what can be meant in two is asked.

Nothing in FOLDER is changed. --fix writes a copy: train.json, val.json, their images, and
changes.csv, one line a change.

examples:
  sparse-rcnn-lab check data/cells
  sparse-rcnn-lab check data/cells --sheet odd.png
  sparse-rcnn-lab check export.json --fix data/cells-mended
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("data", metavar="FOLDER", help="a folder with train.json, or one json file")
    add(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="write twelve images with their boxes on one page, the oddest first",
    )
    add("--fix", type=Path, metavar="OUT", help="write a mended copy here")
    add(
        "--proposals",
        type=whole_number,
        default=100,
        metavar="N",
        help="of the model that is to find the objects (default: %(default)s)",
    )
    add("--no-images", action="store_true", help="look at the json alone; open no image")


def run(arguments: argparse.Namespace) -> int:
    """Writes what is asked for, then prints the table."""
    from sparse_rcnn_lab.data.coco.mended import write_mended
    from sparse_rcnn_lab.data.data_check import check
    from sparse_rcnn_lab.detect.files import write_whole
    from sparse_rcnn_lab.views.contact_sheet import contact_sheet

    found = check(arguments.data, proposals=arguments.proposals, images=not arguments.no_images)
    written = []
    if arguments.sheet is not None:
        shown = found.oddest(12)
        page = contact_sheet(
            [odd.sample for odd in shown],
            [odd.class_names for odd in shown],
            [(odd.name, odd.why) for odd in shown],
        )
        with write_whole(arguments.sheet) as temporary:
            jpeg = arguments.sheet.suffix.lower() in (".jpg", ".jpeg")
            page.save(temporary, "JPEG" if jpeg else "PNG")
        written.append(str(arguments.sheet))
    if arguments.fix is not None:
        written += [f"{arguments.fix}: a mended copy", str(write_mended(found.data, arguments.fix))]
    print(found)
    if written:
        print("\nwritten: " + ", ".join(written))
    return 0
