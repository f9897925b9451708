"""COCO AP of every stage from one pass over the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.core.validation import check_stages
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.batches import Batch
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.training.coco_eval import CocoResult, coco_stats, to_results
from sparse_rcnn_lab.training.distributed import current

# Image ids of a batch, and one array of rows a stage.
_Found = tuple[list[int], list[np.ndarray]]
_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good each stage is.

    stages: the stages (1..6) that were evaluated; per_stage: one result for each of them.
    num_images: images seen.  seconds: wall time of all of it.
    detections: for each stage ``[K, 7]`` float64 rows of image id, x, y, w, h (original pixels),
    score, category id.
    """

    stages: tuple[int, ...]
    per_stage: list[CocoResult]
    num_images: int
    seconds: float
    detections: tuple[np.ndarray, ...] = field(repr=False, default=())

    @property
    def results(self) -> list[dict[str, Any]]:
        """Detections of the last evaluated stage as COCO results, ready for json."""
        return to_results(self.detections[-1])

    def table(self) -> str:
        """One line a stage; numbers 0..1, a dash where no object of that size exists."""
        lines = ["stage" + "".join(f"{name:>7}" for name in _COLUMNS)]
        for stage, result in zip(self.stages, self.per_stage, strict=True):
            values = [getattr(result, name) for name in _COLUMNS]
            lines.append(
                f"{stage:>5}" + "".join("      –" if v < 0 else f"{v:7.3f}" for v in values)
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json can hold, without the detections."""
        return {
            "num_images": self.num_images,
            "seconds": round(self.seconds, 1),
            "stages": [
                {"stage": stage, **result.to_dict()}
                for stage, result in zip(self.stages, self.per_stage, strict=True)
            ],
        }


def evaluate(
    detector: Detector,
    data: DetectionData,
    *,
    stages: Sequence[int] | None = None,
    num_proposals: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """COCO AP on ``data`` at each of ``stages`` (1-based, default all).

    The N best (proposal, class) pairs of an image count, as in inference, N being
    ``num_proposals`` (default all). limit: only the first so many images. The model is left in
    the mode, training or not, that it was in.

    Under torchrun, inside ``distributed.join``, the processes share the batches. As each batch is
    the very one that a single process would have made, so is every detection. All processes get the
    numbers, process 0 alone the detections.

    Raises LabError when detector and data do not have the same classes, or a number is out of
    range.
    """
    start = time.perf_counter()
    stages = check_stages(stages, detector.num_stages)
    if batch_size < 1 or (limit is not None and limit < 1):
        raise LabError(f"batch_size ({batch_size}) and limit ({limit}) must be at least 1.")
    count = min(len(data), limit or len(data))
    if not count:
        raise LabError("The data set has no images; there is nothing to evaluate.")
    categories = label_category_ids(detector.class_names, data)

    group = current()
    starts = range(0, count, batch_size)
    bar = tqdm(
        starts[group.rank :: group.world],
        desc="evaluate",
        unit="batch",
        leave=False,
        disable=not (progress and group.first),
    )

    def detect() -> list[_Found]:
        found = []
        for first in bar:
            samples = [data[i] for i in range(first, min(first + batch_size, count))]
            ids = [sample.image_id for sample in samples]
            batch = detector.prepare([sample.image for sample in samples])
            outputs = detector.run(batch, stop=stages[-1], num_proposals=num_proposals)
            chosen = [outputs[stage - 1] for stage in stages]
            found.append((ids, detection_rows(chosen, batch, ids, categories)))
        return found

    model, training = detector.model, detector.model.training
    try:
        model.eval()
        with bar, torch.inference_mode():
            shares = group.collect(group.agree(detect))
    finally:
        model.train(training)

    truth: dict[str, Any] = {}
    detections: tuple[np.ndarray, ...] = ()
    if group.first:
        batches = [shares[i % group.world][i // group.world] for i in range(len(starts))]
        truth = data.ground_truth(range(count))
        parts = zip(*(rows for _, rows in batches), strict=True)
        detections = tuple(np.concatenate(part) for part in parts)
    # Told stage by stage, so that nobody waits in silence for longer than one stage takes.
    per_stage = [
        group.from_first(partial(lambda i: coco_stats(truth, detections[i]), i))
        for i in range(len(stages))
    ]
    return Evaluation(stages, per_stage, count, time.perf_counter() - start, detections)


def detection_rows(
    outputs: list[StageOutput], batch: Batch, image_ids: list[int], categories: np.ndarray
) -> list[np.ndarray]:
    """One ``[K, 7]`` array an output, best first within each image; as :meth:`Detector.decode`.

    outputs: of the same N proposals each.  categories: ``[C]`` category id of each label.
    A row is image id, x, y, w, h (original pixels), score, category id.
    """
    logits = torch.stack([output.logits for output in outputs]).float().cpu()  # [S, B, N, C]
    boxes = torch.stack([output.boxes for output in outputs]).float().cpu()  # [S, B, N, 4]
    scores, proposals, labels = top_pairs(logits)  # [S, B, k]
    back = torch.stack([1 / batch.scale(i) for i in range(len(image_ids))]).cpu()
    boxes = box_ops.rescale(boxes, back)
    boxes = box_ops.clip_to_sizes(boxes, torch.tensor(batch.originals, dtype=torch.float32))
    boxes = boxes.gather(2, proposals[..., None].expand(*proposals.shape, 4))
    rows = np.empty((*scores.shape, 7))
    rows[..., 0] = np.array(image_ids)[:, None]
    rows[..., 1:5] = box_ops.xyxy_to_xywh(boxes).numpy()
    rows[..., 5] = scores.numpy()
    rows[..., 6] = categories[labels.numpy()]
    # Boxes without area are no detections; the test is false for one of each, not for NaN.
    keep = np.logical_not((rows[..., 3:5] <= 0).any(axis=-1))
    return [rows[s][keep[s]] for s in range(len(outputs))]


def label_category_ids(class_names: tuple[str, ...], data: DetectionData) -> np.ndarray:
    """``[C]`` category id in ``data`` of each of a detector's labels, matched by name.

    The order may differ. Raises LabError, with the names, when the classes are not the same.
    """
    if set(class_names) != set(data.class_names):
        lacking = [name for name in data.class_names if name not in class_names]
        extra = [name for name in class_names if name not in data.class_names]
        raise LabError(
            "Detector and data set have different classes: "
            f"only in the data: {_names(lacking)}; only in the detector: {_names(extra)}. "
            "Evaluate on the data it was trained for, or rename the classes."
        )
    ids = dict(zip(data.class_names, data.category_ids(), strict=True))
    return np.array([ids[name] for name in class_names])


def _names(names: list[str]) -> str:
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "none"
