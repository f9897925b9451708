"""``sparse-rcnn-lab playground``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_lab.cli.common import add_model_name, megabytes

HELP = """write a detector as one html file that runs in any browser, without Python

The page detects in photographs, drawings and the camera's images, and holds the explorer with all
its interventions. It opens from disk or a web server and makes no network request. Writing it takes
seconds and needs the extra "export".

examples:
  sparse-rcnn-lab playground --model small-everyday
  sparse-rcnn-lab playground --model runs/mine --out mine.html --images kitchen.jpg desk.jpg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_model_name(parser)
    where = "where to write (default: MODEL.html)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=where)
    parser.add_argument(
        "--exact",
        action="store_true",
        help="keep float32 weights, in a larger file, instead of rounding them to float16",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE",
        help="JPEG or PNG files that the page offers (default: shipped ones that fit the model)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its size."""
    from sparse_rcnn_lab.models.load import load
    from sparse_rcnn_lab.views.playground.playground_page import playground

    detector = load(arguments.model)
    out = arguments.out or Path((detector.name or Path(arguments.model).stem) + ".html")
    path = playground(detector, out, exact=arguments.exact, images=arguments.images)
    print(f"written: {path} ({megabytes(path)}). Open it in a browser.")
    return 0
