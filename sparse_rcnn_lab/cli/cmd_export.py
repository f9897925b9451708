"""``sparse-rcnn-lab export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_rcnn_lab.cli.common import add_model_name, add_proposals, add_stage, megabytes

if TYPE_CHECKING:
    from sparse_rcnn_lab.detect.detector import Detector

HELP = """write a model as one file that runs without this package

The file is one graph from pixels to detections, for any batch, height and width: float32 RGB in
0..255 goes in; boxes, scores, labels and proposals come out. It normalises, pads and selects by
itself, and holds the class names and advice on the input size. onnx is for onnxruntime and others
(it needs the extra "export"), torch-export for PyTorch without this package. The written file is
run on two batches and compared with the model; if they differ, no file is left.

With --parts a folder of ONNX graphs is written, to be chained as its parts.json says: the pyramid
once per image, then each stage. Image size, batch, proposals and stages are then free at run time.

examples:
  sparse-rcnn-lab export --model nano-shapes --to onnx
  sparse-rcnn-lab export --model runs/cells --to torch-export --proposals 20 --out cells.pt2
  sparse-rcnn-lab export --model nano-shapes --parts --out nano-shapes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_model_name(parser)
    parser.add_argument(
        "--to",
        choices=("onnx", "torch-export"),
        help="the format (default: from the suffix of --out, else onnx)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write (default: MODEL.onnx or MODEL.pt2)"
    )
    parser.add_argument(
        "--parts",
        action="store_true",
        help="write a folder of graphs to be chained (--out, default: MODEL) instead of one file",
    )
    add_proposals(parser)
    add_stage(parser)
    parser.add_argument(
        "--stages",
        choices=("last", "all"),
        default="last",
        help="all: the graph also returns the output of every stage (default: %(default)s)",
    )
    parser.add_argument(
        "--sizes",
        action="store_true",
        help="the graph takes each image's size as a second input, for images of different sizes",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the written file and compare it with the model (default: yes)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes and checks the file, and prints what is in it."""
    from sparse_rcnn_lab.models.load import load
    from sparse_rcnn_lab.runtime.export import export
    from sparse_rcnn_lab.runtime.export.formats import SUFFIXES

    detector = load(arguments.model)
    out = arguments.out
    name = detector.name or Path(arguments.model).stem
    if arguments.parts:
        return _parts(detector, arguments, out or Path(name))
    if out is None:
        out = Path(name + SUFFIXES[arguments.to or "onnx"])
    done = export(
        detector,
        out,
        to=arguments.to,
        num_proposals=arguments.proposals,
        stage=arguments.stage,
        all_stages=arguments.stages == "all",
        sizes=arguments.sizes,
        check=arguments.check,
    )
    print(done.metadata["description"])
    for name in done.inputs:
        print(f"  in   {name}: {done.metadata[name]}")
    for name in done.outputs:
        print(f"  out  {name}: {done.metadata[name]}")
    for check in done.checks:
        print(f"checked: {check}")
    if arguments.check and not done.checks:
        print("not checked: onnxruntime is not installed (pip install onnxruntime)")
    print(f"written: {done.path} ({megabytes(done.path)})")
    return 0


def _parts(detector: Detector, arguments: argparse.Namespace, folder: Path) -> int:
    from sparse_rcnn_lab.core.errors import LabError
    from sparse_rcnn_lab.runtime.export.parts import export_parts

    for option in ("to", "proposals", "stage", "stages", "sizes"):
        if getattr(arguments, option) not in (None, False, "last"):
            raise LabError(
                f"--{option} cannot be used with --parts, which writes ONNX graphs for any "
                "proposals, stages and image sizes."
            )
    done = export_parts(detector, folder, check=arguments.check)
    print(done.about["chain"])
    for name, graph in done.about["graphs"].items():
        print(f"  {name}: {', '.join(graph['inputs'])} -> {', '.join(graph['outputs'])}")
    print(done)
    if arguments.check and not done.checks:
        print("not checked: onnxruntime is not installed (pip install onnxruntime)")
    return 0
