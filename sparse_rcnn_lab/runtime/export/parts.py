"""The model in parts: the pyramid, each stage and the learned proposals are separate graphs.

What depends on the image alone runs once; the stages can then be repeated with other boxes, fewer
proposals, or up to another stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.detect.images import normalise_and_pad
from sparse_rcnn_lab.runtime.engines import Graph, open_onnxruntime
from sparse_rcnn_lab.runtime.export.check import Check
from sparse_rcnn_lab.runtime.graph_writer import TENSORS
from sparse_rcnn_lab.runtime.onnx_graphs import (
    write_proposals,
    write_pyramid,
    write_stage,
)

PARTS_FILE = "parts.json"
CHAIN = (
    "Once an image: boxes, features = proposals(sizes), of which the first N of each may be taken; "
    "table, levels = pyramid(images). Then for each of the stages, up to whichever: refined_boxes, "
    "logits, refined_features, attention = stage(table, levels, boxes, features); what is refined "
    "are the boxes and features of the next stage; where it also takes confidence, that is the "
    "largest logit of each proposal. A detection is one of the N best pairs of "
    "proposal and class by the sigmoid of the last logits; no NMS. Divide its box by the scale of "
    "the resizing, and clip it to the image."
)


@dataclass(frozen=True)
class Parts:
    """The exported graphs.

    folder: where they are.  files: their names, the json first.  about: the content of the json.
    checks: how far they were from the model, one entry per batch; empty where not checked.
    """

    folder: Path
    files: tuple[str, ...]
    about: dict[str, Any]
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        size = sum((self.folder / name).stat().st_size for name in self.files) / 1e6
        head = f"written: {self.folder} ({len(self.files)} files, {size:.1f} MB)"
        return "\n".join([head, *map(str, self.checks)])


def export_parts(detector: Detector, folder: str | Path, *, check: bool = True) -> Parts:
    """Writes a detector as ONNX graphs to be chained: the pyramid once, then the stages at will.

    folder: receives ``pyramid.onnx``, ``proposals.onnx``, ``stage_1.onnx`` and so on, and
        ``parts.json`` with their inputs and outputs and how to chain them. Image size, batch and
        the number of proposals are free. ``docs/export.md`` has an example in numpy.
    check: run the graphs on two batches and compare them with the model, where onnxruntime is
        installed.

    Raises LabError when the package onnx is missing, the backbone has an operation that cannot be
    exported, the files cannot be written, or their results differ from the model's; files that
    were there before then stay.

    >>> import sparse_rcnn_lab as srl
    >>> print(srl.export_parts(srl.load("nano-shapes"), "nano-shapes"))  # doctest: +SKIP
    """
    folder, model = Path(folder), detector.model
    graphs = {"pyramid.onnx": write_pyramid(model), "proposals.onnx": write_proposals(model)}
    stages = [f"stage_{index + 1}.onnx" for index in range(detector.num_stages)]
    graphs |= {name: write_stage(model, index) for index, name in enumerate(stages)}
    about = _about(detector, graphs, stages)
    contents = {name: graph.SerializeToString() for name, graph in graphs.items()}
    checks: tuple[Check, ...] = ()
    if check and find_spec("onnxruntime"):
        opened = {name: open_onnxruntime(content, 1) for name, content in contents.items()}
        checks = tuple(_checked(detector, opened, stages))
    with ExitStack() as stack:  # first all are written, then all are moved into place
        for name, content in contents.items():
            stack.enter_context(write_whole(folder / name)).write_bytes(content)
    write_text(folder / PARTS_FILE, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    return Parts(folder, (PARTS_FILE, *graphs), about, checks)


def _about(detector: Detector, graphs: dict[str, Any], stages: list[str]) -> dict[str, Any]:
    def interface(name: str) -> dict[str, Any]:
        graph = graphs[name].graph
        return {
            "inputs": [value.name for value in graph.input],
            "outputs": [value.name for value in graph.output],
        }

    used = [value for name in graphs for names in interface(name).values() for value in names]
    return {
        "model": detector.name,
        "chain": CHAIN,
        "pyramid": "pyramid.onnx",
        "proposals": "proposals.onnx",
        "stages": stages,
        "graphs": {name: interface(name) for name in graphs},
        "tensors": {
            name: {"shape": TENSORS[name][0], "about": TENSORS[name][1]}
            for name in dict.fromkeys(used)
        },
        "class_names": detector.class_names,
        "num_proposals": detector.num_proposals,
        "dim": detector.config.dim,
        "heads": detector.config.num_heads,
        "input": asdict(detector.config.input),
        "source": str(detector.info.get("source", "")),
        "version": __version__,
        "paper": "arXiv 2011.12450",
    }


@torch.no_grad()
def _checked(detector: Detector, graphs: dict[str, Graph], stages: list[str]) -> Iterator[Check]:
    """Compares them on one image and on two of other sizes, each stage with the model's own input.

    Raises LabError where they differ by more than rounding.
    """
    model, side = detector.model, max(48, min(detector.config.input.short_side, 256))
    for shapes in ([(side - 3, side + 40)], [(side + 21, side - 14), (side - 14, side)]):
        generator = torch.Generator().manual_seed(0)
        pixels = [torch.randint(0, 256, (3, *shape), generator=generator) for shape in shapes]
        want = detector.config.input
        images, sizes = normalise_and_pad([p.to(torch.uint8) for p in pixels], want.mean, want.std)
        height, width = images.shape[2:]
        found = Check(
            len(shapes), height, width, *_difference(model, graphs, stages, images, sizes)
        )
        if not found.agrees():
            raise LabError(
                f"The exported graphs do not compute what the model does ({found}), so they were "
                "not written. Please report this with the versions of torch, onnx and onnxruntime."
            )
        yield found


def _difference(
    model: SparseRCNN, graphs: dict[str, Graph], stages: list[str], images: Tensor, sizes: Tensor
) -> tuple[float, float]:
    """The largest difference of a coordinate, and of a score, over all stages."""
    device = model.device
    shared = graphs["pyramid.onnx"]({"images": images.numpy()})
    start = graphs["proposals.onnx"]({"sizes": sizes.numpy()})
    boxes, features = model.proposals(sizes.to(device))
    apart = [(_far(start["boxes"], boxes), _far(start["features"], features))]
    outputs = model.run_stages(model.pyramid(images.to(device)), boxes, features)
    confidence = features[..., 0]
    for name, output in zip(stages, outputs, strict=True):
        entering = {"boxes": boxes, "features": features, "confidence": confidence}
        given = {key: value.cpu().contiguous().numpy() for key, value in entering.items()}
        found = graphs[name]({**shared, **given})
        scores = torch.from_numpy(found["logits"]).sigmoid().numpy()
        apart.append(
            (_far(found["refined_boxes"], output.boxes), _far(scores, output.logits.sigmoid()))
        )
        boxes, features, confidence = output.boxes, output.features, output.logits.amax(-1)
    far_boxes, far_scores = torch.tensor(apart).unbind(1)
    return float(far_boxes.max()), float(far_scores.max())


def _far(found: np.ndarray, wanted: Tensor) -> float:
    """The largest difference; NaN stays NaN."""
    return float(np.abs(found - wanted.cpu().numpy()).max())
