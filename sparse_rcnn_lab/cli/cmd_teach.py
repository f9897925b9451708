"""``sparse-rcnn-lab teach``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sparse_rcnn_lab.cli.common import add_device, count

HELP = """train a detector of your own on a labelled folder, within minutes

FOLDER holds images and their boxes as a labelling tool wrote them: COCO json, Pascal VOC (one xml
per image), YOLO (one txt per image), or a zip of these. The data is checked, a quarter of it is
held out (never the neighbour in time of a training image), the recipe is chosen to fit the data,
and at the end a report says what the detector does well and badly.

Ctrl-C stops early and keeps what was learned. After a crash, the same command continues the run.

examples:
  sparse-rcnn-lab teach photographs
  sparse-rcnn-lab teach export.zip --minutes 20 --out runs/boards
  sparse-rcnn-lab teach photographs --start-from runs/boards --out runs/boards-2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="labelled images, or a zip of them")
    add("--out", type=Path, metavar="RUN", help="run folder (default: runs/teach-FOLDER)")
    add("--minutes", type=float, default=4.0, help="time for all of it (default: %(default)s)")
    add(
        "--start-from",
        default="small-everyday",
        metavar="MODEL",
        help="name, run folder or file of the model to start from (default: %(default)s)",
    )
    workers = "processes that load images (default: none on a CPU, 1 beside a GPU)"
    add("--workers", type=count, metavar="N", help=workers)
    add("--seed", type=count, default=0, help=argparse.SUPPRESS)
    add("--quiet", action="store_true", help="show no progress bar")
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains the detector, and prints how good it has become."""
    from sparse_rcnn_lab.training.teach.teaching import teach

    given = Path(arguments.folder)
    whole = given.resolve()
    name = whole.name if whole.is_dir() else whole.stem  # a folder's name may have dots
    out = arguments.out or Path("runs") / f"teach-{name}"
    taught = teach(
        given,
        out,
        minutes=arguments.minutes,
        start_from=arguments.start_from,
        device=arguments.device,
        workers=arguments.workers,
        progress=not arguments.quiet,
        seed=arguments.seed,
    )
    print()
    print(taught.evaluation.table())
    print()
    print(taught.judgement)
    print()
    place = shlex.quote(str(out))
    print(f"The model: {out / 'model.safetensors'}")
    print(f"  sparse-rcnn-lab predict photo.jpg --model {place}")
    print(f"  python apps/demo.py --checkpoint {place}")
    print(f"  sparse-rcnn-lab playground --model {place}")
    return 0
