"""Export: one file with all steps from pixels to detections, checked against the model.

Public: ``export``, ``Export``, ``Check``. It may import ``core``, ``detect`` and ``runtime``.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.pooling import pool
from sparse_rcnn_lab.detect.detector import Detector, check_detector
from sparse_rcnn_lab.detect.files import write_whole
from sparse_rcnn_lab.runtime.export.check import Check
from sparse_rcnn_lab.runtime.export.check import check as check_file
from sparse_rcnn_lab.runtime.export.formats import (
    RUNNERS,
    SUFFIXES,
    WRITERS,
    FormatName,
)
from sparse_rcnn_lab.runtime.export.graph import TENSORS, DetectionGraph
from sparse_rcnn_lab.runtime.graph_writer import require_onnx

__all__ = ["Check", "Export", "FormatName", "export"]


@dataclass(frozen=True)
class Export:
    """An exported file.

    path: the file.  inputs, outputs: their names, in order.  metadata: what the file says about
    itself.  checks: how far it was from the model, one entry per batch; empty where it was not
    checked.
    """

    path: Path
    format: FormatName
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        return "\n".join([f"written: {self.path} ({size:.1f} MB)", *map(str, self.checks)])


def export(
    detector: Detector,
    path: str | Path,
    *,
    to: FormatName | None = None,
    num_proposals: int | None = None,
    stage: int | None = None,
    all_stages: bool = False,
    sizes: bool = False,
    check: bool = True,
) -> Export:
    """Writes a detector as one graph: images ``[B, 3, H, W]`` in, detections out.

    The graph takes float32 RGB in 0..255, resized by the caller, with any B, H and W, and
    normalises, pads and selects by itself; docs/export.md has its inputs and outputs. The model
    stays as it is.

    path: the file; its suffix, ``.onnx`` or ``.pt2``, determines the format unless ``to`` ("onnx"
        or "torch-export") does.
    num_proposals: use only this many, the first ones. stage: stop after this one (1..S).
    all_stages: the graph also returns every stage's boxes and logits.
    sizes: the graph takes each image's (height, width) as a second input, for batches of
        images of different sizes.
    check: run the written file on two batches, of other sizes than those traced, and compare it
        with the model. ONNX needs onnxruntime for this; where it is missing, ``checks`` is empty.

    Raises LabError when an argument is out of range, the extra ``export`` is not installed, the
    file cannot be written, or its results differ from the model's; then no file is left, and one
    that was there before stays.

    >>> import sparse_rcnn_lab as srl
    >>> print(srl.export(srl.load("nano-shapes"), "nano-shapes.onnx"))  # doctest: +SKIP
    """
    check_detector(detector)
    path = Path(path)
    to = _format(path, to)
    count = _count(num_proposals, detector.num_proposals)
    most = detector.num_stages
    last = most if stage is None else check_stage(stage, most)
    if to == "onnx":
        require_onnx()
    # A separate copy: on the CPU, with this package's pooling and in float32, whatever the
    # original is set to.
    model = copy.deepcopy(detector.model).cpu().eval().requires_grad_(False)
    model.use_pooling(pool)
    graph = DetectionGraph(model, count, last, all_stages).eval()
    metadata = describe(detector, graph, sizes)
    checks: list[Check] = []
    with write_whole(path) as temporary:
        WRITERS[to](graph, sizes, metadata, temporary)
        run = RUNNERS[to](temporary, graph.output_names()) if check else None
        if run is not None:
            checks = check_file(graph, sizes, run)
    inputs = ("images", "sizes") if sizes else ("images",)
    return Export(path, to, inputs, tuple(graph.output_names()), metadata, tuple(checks))


def _format(path: Path, to: FormatName | None) -> FormatName:
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    found = by_suffix.get(path.suffix.lower())
    wanted = to or found
    if wanted is None:
        raise LabError(
            f'The format of "{path}" is unknown: it ends neither in {" nor in ".join(by_suffix)}. '
            f"Rename it, or give the format: {', '.join(SUFFIXES)}."
        )
    if wanted not in SUFFIXES:
        raise LabError(f"The format {wanted!r} is unknown. Choose from {', '.join(SUFFIXES)}.")
    if found not in (None, wanted):
        raise LabError(
            f'"{path}" ends like a file of format {found}, but {wanted} was asked for. '
            f"Call it {path.stem}{SUFFIXES[wanted]}."
        )
    if path.is_dir():
        raise LabError(f'"{path}" is a folder. Give the name of a file to write.')
    return wanted


def _count(value: int | None, most: int) -> int:
    if value is None:
        return most
    if not 1 <= value <= most:
        raise LabError(f"num_proposals must be 1..{most}, found {value}.")
    return value


def describe(detector: Detector, graph: DetectionGraph, with_sizes: bool) -> dict[str, str]:
    """The file's metadata as text; ``class_names`` is a json list.

    Every input and output has an entry under its name with its shape and meaning.
    """
    want = detector.config.input
    names = ["images", *(["sizes"] if with_sizes else []), *graph.output_names()]
    told = [(name, *TENSORS[name]) for name in names]
    return {
        "description": f"Sparse R-CNN {detector.name!r}: {detector.config.backbone}, "
        f"{graph.num_proposals} proposals, {graph.stage} stages, "
        f"{len(detector.class_names)} classes. Resize images to a short side of "
        f"{want.short_side} pixels, no side above {want.long_side}, aspect kept. No NMS needed.",
        "model": detector.name,
        "class_names": json.dumps(list(detector.class_names), ensure_ascii=False),
        "short_side": str(want.short_side),
        "long_side": str(want.long_side),
        "antialias": json.dumps(want.antialias),
        "num_proposals": str(graph.num_proposals),
        "stage": str(graph.stage),
        "source": str(detector.info.get("source", "")),
        "version": __version__,
        "torch": str(torch.__version__),
        "paper": "arXiv 2011.12450",
        **{name: f"[{', '.join(map(str, shape))}] {text}" for name, shape, text in told},
    }
