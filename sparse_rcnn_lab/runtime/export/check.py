"""Does the written file compute what the model computes? Tried on sizes that were not traced."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.runtime.export.formats import Runner
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph

# For float32 sums in another order, through six stages. A wrong graph is off by whole pixels.
BOX_TOLERANCE = 1e-3  # of the image's longer side
SCORE_TOLERANCE = 1e-3
# Or this many times the model's own float32 rounding, which an untrained model magnifies.
ROUNDINGS = 10


@dataclass(frozen=True)
class Check:
    """How far the file and the model were apart on one batch.

    batch: number of images.  height, width: those of the largest, in pixels.  boxes: largest
    difference of a coordinate, in pixels.  scores: largest difference of a score (with all stages:
    of a sigmoid).  rounding: the same two numbers between the model and itself in float64, measured
    only where the differences exceed the fixed tolerances.
    """

    batch: int
    height: int
    width: int
    boxes: float
    scores: float
    rounding: tuple[float, float] = (0.0, 0.0)

    def agrees(self) -> bool:
        """Whether both are within tolerance; NaN is not."""
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


def check(graph: DetectionGraph, with_sizes: bool, run: Runner) -> list[Check]:
    """Compares ``run``, the file, with ``graph`` on a batch of one image and on a batch of two.

    Raises LabError when they differ by more than the tolerances.
    """
    # Sizes whose sides are not multiples of 32, one portrait and one landscape.
    side = max(48, min(graph.model.config.input.short_side, 320))
    landscape, portrait = (side - 3, side * 4 // 3 + 2), (side + 21, side - 14)
    checks = []
    for shapes in (
        [landscape],
        [portrait, (side - 14, side - 10) if with_sizes else portrait],
    ):
        images, sizes = _batch(shapes)
        given = images, sizes if with_sizes else None
        with torch.no_grad():
            wanted = graph(*given)
        height, width = images.shape[2:]
        found = Check(len(shapes), height, width, *_difference(wanted, run(*given)))
        if not found.agrees():
            exact = _difference(wanted, _in_float64(graph)(*given))
            found = replace(found, rounding=exact)
        if not found.agrees():
            raise LabError(
                f"The exported file does not compute what the model does ({found}), so it was not "
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


def _batch(shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Images of soft blobs with some grain, so that no two scores are equal, and their sizes.

    Values are 0..255. Beyond a smaller image it is grey, which the graph itself must blank.
    """
    sizes = torch.tensor(shapes, dtype=torch.float32)
    height, width = (int(side) for side in sizes.amax(0))
    images = torch.full((len(shapes), 3, height, width), 127.0)
    for seed, (image, shape) in enumerate(zip(images, shapes, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        blobs = torch.rand(1, 3, 6, 6, generator=generator) * 255
        smooth = F.interpolate(blobs, shape, mode="bilinear")[0]
        grain = torch.randn(3, *shape, generator=generator) * 8
        image[:, : shape[0], : shape[1]] = (smooth + grain).clamp(0, 255).round()
    return images, sizes


def _difference(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[float, float]:
    """The largest difference of boxes, and of scores, between two results for one batch."""
    boxes, scores = [], []
    for index in range(len(wanted["scores"])):
        one = [{name: v[index] for name, v in each.items()} for each in (wanted, found)]
        box, score = _of_detections(*one)
        boxes.append(box)
        scores.append(score)
    if "stage_boxes" in wanted:
        boxes.append(_largest(wanted["stage_boxes"] - found["stage_boxes"]))
        logits = wanted["stage_logits"].sigmoid() - found["stage_logits"].sigmoid()
        scores.append(_largest(logits))
    return float(torch.tensor(boxes).max()), float(torch.tensor(scores).max())


def _of_detections(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[float, float]:
    """The same for the detections of one image.

    They are paired by proposal and class, since rounding may swap two of nearly the same score. A
    detection that the other side lacks must have been the last in its list: its difference is that
    of its score from the other side's lowest one.
    """
    ours, theirs = _places(wanted), _places(found)
    both = [(ours[pair], theirs[pair]) for pair in ours.keys() & theirs.keys()]
    lone = [ours[pair] for pair in ours.keys() - theirs.keys()]
    strange = [theirs[pair] for pair in theirs.keys() - ours.keys()]
    if not both:  # possible where a model, such as an untrained one, finds nothing in the image
        numbers = found["boxes"].isfinite().all() and found["scores"].isfinite().all()
        none = bool(numbers) and not lone and not strange
        return (0.0, 0.0) if none else (math.nan, math.nan)
    i, j = torch.tensor(both).unbind(1)
    scores = [_largest(wanted["scores"][i] - found["scores"][j])]
    scores += (wanted["scores"][lone] - found["scores"][max(theirs.values())]).tolist()
    scores += (found["scores"][strange] - wanted["scores"][max(ours.values())]).tolist()
    return _largest(wanted["boxes"][i] - found["boxes"][j]), float(torch.tensor(scores).max())


def _places(answer: dict[str, Tensor]) -> dict[tuple[int, int], int]:
    """(proposal, label) of each detection with an area -> its position in the list."""
    kept = (answer["scores"] > 0).nonzero()[:, 0].tolist()
    return {(int(answer["proposals"][i]), int(answer["labels"][i])): i for i in kept}


def _largest(difference: Tensor) -> float:
    """The largest value; NaN stays NaN."""
    return float(difference.abs().max())
