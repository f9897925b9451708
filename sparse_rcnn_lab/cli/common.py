"""What several commands share: argument types, options, and output that every console can show."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_rcnn_lab.core.errors import LabError

if TYPE_CHECKING:
    import torch

    from sparse_rcnn_lab.detect.detector import Detector
    from sparse_rcnn_lab.training.distributed import Group

DEFAULT_MODEL = "nano-shapes"


def whole_number(text: str, least: int = 1) -> int:
    """An argument that must be a whole number of at least ``least``."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        needed = f"a whole number of at least {least} is needed"
        raise argparse.ArgumentTypeError(f"{needed}, found {text!r}")
    return value


def count(text: str) -> int:
    """An argument that must be a whole number of at least 0."""
    return whole_number(text, least=0)


def fraction(text: str) -> float:
    """An argument that must be a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is needed, found {text!r}")
    return value


def stage_list(text: str) -> tuple[int, ...]:
    """An argument that lists whole numbers, such as "1,3,6"."""
    return tuple(whole_number(part) for part in text.split(","))


def add_model(parser: argparse.ArgumentParser) -> None:
    """The options ``--model``, ``--precision``, ``--overlap-attention`` and ``--device``."""
    add_model_name(parser)
    parser.add_argument(
        "--overlap-attention",
        type=float,
        metavar="X",
        help="how much more a proposal attends to overlapping ones of higher confidence (default: "
        "the model's own; published: 0; 8 suppresses duplicates)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "auto"),
        default="float32",
        help="bf16 is faster but less exact; auto: bf16 where the hardware supports it "
        "(default: %(default)s)",
    )
    add_device(parser)


def add_model_name(parser: argparse.ArgumentParser) -> None:
    """The option ``--model``."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="a shipped or published model (`sparse-rcnn-lab models` lists them), a run folder, or "
        "a checkpoint file (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option ``--device``."""
    parser.add_argument("--device", help="cpu, cuda or mps (default: cuda where there is one)")


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options ``--data`` and ``--split``."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help='a folder with val.json and images/, a COCO json file, or "shapes"',
    )
    parser.add_argument("--split", default="val", help="train or val (default: %(default)s)")


def add_proposals(parser: argparse.ArgumentParser) -> None:
    """The option ``--proposals``."""
    parser.add_argument(
        "--proposals", type=whole_number, metavar="N", help="use only the first N proposals"
    )


def add_stage(parser: argparse.ArgumentParser) -> None:
    """The option ``--stage``."""
    parser.add_argument(
        "--stage", type=whole_number, metavar="S", help="stop after this stage (default: last)"
    )


def open_model(arguments: argparse.Namespace) -> Detector:
    """The detector that the options of :func:`add_model` describe."""
    from sparse_rcnn_lab.detect.device import pick_device
    from sparse_rcnn_lab.models.load import load

    device = pick_device(arguments.device)
    overlap = arguments.overlap_attention
    return load(arguments.model, device, precision=arguments.precision, overlap_attention=overlap)


def run_folder(model: str) -> Path | None:
    """The run folder that ``--model`` names; None for a file, or a name, which has priority."""
    from sparse_rcnn_lab.models.load import locate

    path = Path(model)
    return path if path.is_dir() and path in locate(model).parents else None


def check_place(folder: Path) -> None:
    """Raises LabError where a folder cannot be written to, before any long work is done."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise LabError(
            f'Nothing can be written in "{folder}": "{there}" is '
            f"{'write-protected' if there.is_dir() else 'no folder'}. Choose another place."
        )


def plural(number: int, word: str) -> str:
    """``1 box`` or ``3,000 boxes``."""
    ending = "" if number == 1 else "es" if word.endswith(("s", "x")) else "s"
    return f"{number:,} {word}{ending}"


def run_together(
    arguments: argparse.Namespace,
    work: Callable[[argparse.Namespace, torch.device, Group], int],
) -> int:
    """Joins the processes, if there are several, does ``work`` in each, and returns its exit code.

    What process 0 has already reported is not printed again by the others.
    """
    import torch

    from sparse_rcnn_lab.detect.device import pick_device
    from sparse_rcnn_lab.training.distributed import AlreadyReported, join

    device = torch.device(pick_device(arguments.device))
    try:
        with join(device) as group:
            return work(arguments, device, group)
    except AlreadyReported:
        return 2


def megabytes(path: Path) -> str:
    """A file's size, such as ``12.3 MB``."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def replace_unprintable() -> None:
    """Makes printing show ? for a character that the console's code page lacks.

    Otherwise Python raises in the middle of a command, and the rest of its output and work is lost.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's stream can show every character
            stream.reconfigure(errors="replace")
