"""``sparse-rcnn-lab playground``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_lab.cli.common import add_model_name, megabytes

HELP = """write a detector as one html file that runs in any browser, without Python

Detection in photographs, drawings and the camera, and the explorer with all that it can change.
The file opens from disk or a web server and asks nothing of any network. It takes seconds, and
needs the extra "export".

examples:
  sparse-rcnn-lab playground --model small-everyday
  sparse-rcnn-lab playground --model runs/mine --out mine.html --images kitchen.jpg desk.jpg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_model_name(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: MODEL.html)")
    parser.add_argument(
        "--exact",
        action="store_true",
        help="keep float32 weights, in a larger file, instead of rounding them to float16",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE",
        help="JPEG or PNG files to begin with and to offer (default: shipped ones that fit)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and says how large it is."""
    from sparse_rcnn_lab.models.load import load
    from sparse_rcnn_lab.views.playground.playground_page import playground

    detector = load(arguments.model)
    out = arguments.out or Path((detector.name or Path(arguments.model).stem) + ".html")
    path = playground(detector, out, exact=arguments.exact, images=arguments.images)
    print(f"written: {path} ({megabytes(path)}). Open it in a browser.")
    return 0
