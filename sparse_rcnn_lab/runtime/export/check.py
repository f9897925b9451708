"""Does the written file say what the model says? Run on pictures of sizes that were not traced."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Detections
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.export.formats import Runner
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph

# Float32 sums in another order, through six stages. A wrong graph is off by whole pixels.
BOX_TOLERANCE = 1e-3  # of the image's longer side
SCORE_TOLERANCE = 1e-3
# Or so many times what float32 costs the model itself: an untrained one magnifies every rounding.
ROUNDINGS = 10


@dataclass(frozen=True)
class Check:
    """How far the file and the model were apart on one batch.

    batch: pictures.  height, width: of the largest, in pixels.  boxes: largest difference of a
    coordinate, in pixels.  scores: largest difference of a score (with all stages: of a sigmoid).
    rounding: the same two between the model and itself in float64; measured only where the
    differences are beyond the fixed tolerances.
    """

    batch: int
    height: int
    width: int
    boxes: float
    scores: float
    rounding: tuple[float, float] = (0.0, 0.0)

    def agrees(self) -> bool:
        """Whether both are within tolerance; what is not a number is not."""
        box = max(BOX_TOLERANCE * max(self.height, self.width), ROUNDINGS * self.rounding[0])
        return self.boxes <= box and self.scores <= max(
            SCORE_TOLERANCE, ROUNDINGS * self.rounding[1]
        )

    def __str__(self) -> str:
        text = (
            f"batch {self.batch}, {self.height}x{self.width} pixels: boxes differ by at most "
            f"{self.boxes:.1e} pixels, scores by {self.scores:.1e}"
        )
        if any(self.rounding):
            text += f" (float32 alone: {self.rounding[0]:.1e} and {self.rounding[1]:.1e})"
        return text


def check(detector: Detector, graph: DetectionGraph, with_sizes: bool, run: Runner) -> list[Check]:
    """Compares ``run`` with ``detector`` on a batch of one and on a batch of two.

    Raises LabError when they differ by more than the tolerances.
    """
    # Not only large: neither side a multiple of 32, one upright, one lying.
    side = max(48, min(detector.config.input.short_side, 320))
    lying, upright = (side - 3, side * 4 // 3 + 2), (side + 21, side - 14)
    pairs = [[lying], [upright, (side - 14, side - 10) if with_sizes else upright]]
    checks = []
    for shapes in pairs:
        pictures = [_picture(shape, seed) for seed, shape in enumerate(shapes)]
        found = _compare(detector, graph, pictures, with_sizes, run)
        if not found.agrees():
            exact = _compare(detector, graph, pictures, with_sizes, _in_float64(graph))
            found = replace(found, rounding=(exact.boxes, exact.scores))
        if not found.agrees():
            raise LabError(
                f"The exported file does not say what the model says ({found}), so it was not "
                "kept. Please report this with the versions of torch, onnx and onnxruntime."
            )
        checks.append(found)
    return checks


def _in_float64(graph: DetectionGraph) -> Runner:
    exact = copy.deepcopy(graph).double()

    def run(images: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            found = exact(images.double(), sizes)
        return {name: v.float() if v.is_floating_point() else v for name, v in found.items()}

    return run


def _picture(shape: tuple[int, int], seed: int) -> Tensor:
    """``[3, H, W]`` uint8: soft blobs with some grain, so that no two scores are the same."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand(1, 3, 6, 6, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(blobs, shape, mode="bilinear")[0]
    grain = torch.randn(3, *shape, generator=generator) * 8
    return (smooth + grain).clamp(0, 255).to(torch.uint8)


def _compare(
    detector: Detector,
    graph: DetectionGraph,
    pictures: list[Tensor],
    with_sizes: bool,
    run: Runner,
) -> Check:
    height = max(picture.shape[1] for picture in pictures)
    width = max(picture.shape[2] for picture in pictures)
    # Grey where a smaller picture ends: the graph itself must blank it.
    images = torch.full((len(pictures), 3, height, width), 127.0)
    for image, picture in zip(images, pictures, strict=True):
        image[:, : picture.shape[1], : picture.shape[2]] = picture
    sizes = torch.tensor([p.shape[1:] for p in pictures], dtype=torch.float32)
    outputs = run(images, sizes if with_sizes else None)

    wanted = detector(pictures, num_proposals=graph.num_proposals, stage=graph.stage, resize=False)
    apart = [
        _difference(detections, {name: value[index] for name, value in outputs.items()})
        for index, detections in enumerate(wanted)
    ]
    if graph.all_stages:
        traces = detector.trace(
            pictures, record=(), num_proposals=graph.num_proposals, resize=False
        )
        for index, trace in enumerate(traces):
            logits = outputs["stage_logits"][index].sigmoid()
            apart.append(
                (
                    _apart(outputs["stage_boxes"][index], trace.boxes[: graph.stage + 1]),
                    _apart(logits, trace.logits[: graph.stage].sigmoid()),
                )
            )
    boxes, scores = (reduce(_largest, values) for values in zip(*apart, strict=True))
    return Check(len(pictures), height, width, boxes, scores)


def _difference(wanted: Detections, found: dict[str, Tensor]) -> tuple[float, float]:
    """Largest difference of boxes and of scores between one image's two answers.

    Detections are paired by proposal and class, since rounding may exchange two of nearly the same
    score. One that the other side lacks must have been the last of its list: it counts as far off
    as its score is from the other side's least.
    """
    kept = found["scores"] > 0
    boxes, scores = found["boxes"][kept], found["scores"][kept]
    theirs = _places(found["proposals"][kept], found["labels"][kept])
    ours = _places(wanted.proposals, wanted.labels)
    both = [(ours[pair], theirs[pair]) for pair in ours.keys() & theirs.keys()]
    ours_at, theirs_at = torch.tensor(both, dtype=torch.long).reshape(-1, 2).unbind(1)
    lone = [
        *((wanted.scores, ours[pair], scores) for pair in ours.keys() - theirs.keys()),
        *((scores, theirs[pair], wanted.scores) for pair in theirs.keys() - ours.keys()),
    ]
    if not both:  # rightly so where a model, untrained say, leaves nothing inside the image
        numbers = bool(found["boxes"].isfinite().all() and found["scores"].isfinite().all())
        return (0.0, 0.0) if numbers and not lone else (math.nan, math.nan)
    score = _apart(wanted.scores[ours_at], scores[theirs_at])
    for own, at, other in lone:
        score = _largest(score, float(own[at] - other[-1]))
    return _apart(wanted.boxes[ours_at], boxes[theirs_at]), score


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _places(proposals: Tensor, labels: Tensor) -> dict[tuple[int, int], int]:
    pairs = zip(proposals.tolist(), labels.tolist(), strict=True)
    return {pair: place for place, pair in enumerate(pairs)}


def _largest(a: float, b: float) -> float:
    """As ``max``, but what is not a number stays."""
    return b if b != b or b > a else a
