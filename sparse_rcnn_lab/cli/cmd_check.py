"""``sparse-rcnn-lab check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_lab.cli.common import whole_number

HELP = """check a data set: what it holds, what looks wrong, and what is done about it

FOLDER has train.json and val.json in COCO format, as labelling tools export it; a single json file
will do too. What has only one possible meaning (boxes as corners or in 0..1, a class under two
ids, an image listed twice) is mended whenever the data is read; what is ambiguous is an error.

Nothing in FOLDER is changed. --fix writes a mended copy: train.json, val.json, their images, and
changes.csv with one line per change.

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
        help="write a page of twelve images with their boxes, the most suspicious first",
    )
    add("--fix", type=Path, metavar="OUT", help="write a mended copy to this folder")
    add(
        "--proposals",
        type=whole_number,
        default=100,
        metavar="N",
        help="number of proposals of the model that is to be trained (default: %(default)s)",
    )
    add("--no-images", action="store_true", help="check only the json, without opening any image")


def run(arguments: argparse.Namespace) -> int:
    """Writes the sheet and the copy where asked for, then prints the table."""
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
