"""How good each stage is: the COCO AP of all stages from one pass over the data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.errors import LabError, check_stages
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, StageOutput
from sparse_rcnn_lab.data.data_check import first_lines
from sparse_rcnn_lab.data.sample import DetectionData, check_classes, file_of
from sparse_rcnn_lab.detect.detector import Detector, check_detector
from sparse_rcnn_lab.detect.images import Batch
from sparse_rcnn_lab.training.coco_metrics import METRICS, CocoResult, coco_stats, to_results
from sparse_rcnn_lab.training.distributed import current

# The image ids of a batch, and one array of rows per stage.
_Found = tuple[list[int], list[np.ndarray]]
_COLUMNS = METRICS[:6]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good each stage is.

    stages: the stages (1..6) that were evaluated; per_stage: one result for each of them.
    num_images: how many images were evaluated.  seconds: wall time in total.
    detections: for each stage ``[K, 7]`` float64 rows of image id, x, y, w, h (original pixels),
    score, category id.
    source_ids: the ids of images and of categories that 1, 2, .. in these rows stand for, where
    the data has ids beyond 2^53; else empty.
    """

    stages: tuple[int, ...]
    per_stage: list[CocoResult]
    num_images: int
    seconds: float
    detections: tuple[np.ndarray, ...] = field(repr=False, default=())
    source_ids: tuple[tuple[int, ...], tuple[int, ...]] = field(repr=False, default=((), ()))

    @property
    def results(self) -> list[dict[str, Any]]:
        """The detections of the last evaluated stage as COCO results with the data's own ids."""
        return to_results(self.detections[-1], self.source_ids)

    def table(self) -> str:
        """One line per stage; numbers are 0..1, or a dash where no object of that size exists."""
        lines = ["stage" + "".join(f"{name:>7}" for name in _COLUMNS)]
        for stage, result in zip(self.stages, self.per_stage, strict=True):
            values = [getattr(result, name) for name in _COLUMNS]
            lines.append(
                f"{stage:>5}" + "".join("      –" if v < 0 else f"{v:7.3f}" for v in values)
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation, without its detections, as plain values that json can hold."""
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
    ablation: Ablation = NORMAL,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
    notes: bool = True,
) -> Evaluation:
    """Measures COCO AP on ``data`` at each of ``stages`` (1-based; default: all).

    As in inference, the N best (proposal, class) pairs of an image count, N being
    ``num_proposals`` (default: all). ablation: what is switched off or exchanged in every stage,
    see :class:`sparse_rcnn_lab.Ablation`. limit: evaluate only this many images, the first ones.
    progress: show a bar and, with ``notes``, first what the data holds and what looks wrong in it.
    The model stays in the mode, training or not, that it was in.

    Under torchrun, inside ``distributed.join``, the processes share the batches. Each batch, and so
    each detection, is the one that a single process would have made. All processes get the
    metrics, process 0 alone the detections.

    Classes that only the detector or only the data has are left out, and a note says so. Raises
    LabError when they have no class in common, or a number is out of range.

    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(length=4, seed=1)
    >>> result = srl.evaluate(srl.load("nano-shapes"), drawn, stages=[1, 6], progress=False)
    >>> result.num_images, len(result.per_stage), result.per_stage[1].AP > 0.5
    (4, 2, True)
    >>> print(result.table().splitlines()[0])
    stage     AP   AP50   AP75    APs    APm    APl
    """
    start = time.perf_counter()
    check_detector(detector)
    stages = check_stages(stages, detector.num_stages)
    check_whole("batch_size", batch_size)
    check_whole("limit", limit)
    categories, class_notes = shared_category_ids(detector.class_names, data)
    count = min(len(data), limit or len(data))
    if not count:
        raise LabError("The data set has no images; there is nothing to evaluate.")

    group = current()
    if progress and notes and group.first:
        lines = first_lines(data, proposals=num_proposals or detector.num_proposals)
        with contextlib.suppress(BrokenPipeError):  # the evaluation goes on without a reader
            tqdm.write("\n".join([*lines, *class_notes]))
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
            outputs = detector.run(batch, stages[-1], num_proposals, ablation)
            chosen = [outputs[stage - 1] for stage in stages]
            found.append((ids, detection_rows(chosen, batch, ids, categories)))
        return found

    model, training = detector.model, detector.model.training
    try:
        model.eval()
        with bar, torch.inference_mode():
            shards = group.collect(group.agree(detect))
    finally:
        model.train(training)

    truth: dict[str, Any] = {}
    detections: tuple[np.ndarray, ...] = ()
    if group.first:
        batches = [shards[i % group.world][i // group.world] for i in range(len(starts))]
        truth = _of_categories(data.ground_truth(range(count)), set(categories.tolist()))
        parts = zip(*(rows for _, rows in batches), strict=True)
        detections = tuple(np.concatenate(part) for part in parts)
    per_stage = []
    for i in range(len(stages)):  # one by one, so that no process is silent for longer than a stage

        def numbers(i: int = i) -> tuple[None, Any]:
            return None, coco_stats(truth, detections[i]) if group.first else None

        per_stage.append(group.exchange(numbers)[1][0])
    sources = getattr(data, "source_ids", ((), ()))
    return Evaluation(stages, per_stage, count, time.perf_counter() - start, detections, sources)


def check_whole(name: str, value: int | None, least: int = 1) -> None:
    """Raises LabError unless ``value`` is None or a whole number of at least ``least``."""
    if value is not None and (not isinstance(value, int | np.integer) or value < least):
        raise LabError(f"{name} must be a whole number of at least {least}, found {value!r}.")


def detection_rows(
    outputs: list[StageOutput], batch: Batch, image_ids: list[int], categories: np.ndarray
) -> list[np.ndarray]:
    """One ``[K, 7]`` array per output, best first within each image; as :meth:`Detector.decode`.

    outputs: each of the same N proposals.  categories: ``[C]`` category id of each label;
    detections of a label with NaN are left out.
    A row is image id, x, y, w, h (original pixels), score, category id.
    """
    logits = torch.stack([output.logits for output in outputs]).float().cpu()  # [S, B, N, C]
    boxes = torch.stack([output.boxes for output in outputs]).float().cpu()  # [S, B, N, 4]
    scores, proposals, labels = top_pairs(logits)  # [S, B, k]
    back = torch.stack([1 / batch.scale(i) for i in range(len(image_ids))]).cpu()
    boxes = box_ops.rescale(boxes, back)
    boxes = box_ops.clip_to_sizes(boxes, torch.tensor(batch.originals, dtype=torch.float32))
    boxes = boxes.gather(2, proposals[..., None].expand(*proposals.shape, 4))
    _check_exact(image_ids)
    rows = np.empty((*scores.shape, 7))
    rows[..., 0] = np.array(image_ids)[:, None]
    rows[..., 1:5] = box_ops.xyxy_to_xywh(boxes).numpy()
    rows[..., 5] = scores.numpy()
    rows[..., 6] = categories[labels.numpy()]
    # Boxes without area are not detections; this test keeps NaN, which is reported later.
    keep = np.logical_not((rows[..., 3:5] <= 0).any(axis=-1) | np.isnan(rows[..., 6]))
    return [rows[s][keep[s]] for s in range(len(outputs))]


def label_category_ids(class_names: tuple[str, ...], data: DetectionData) -> np.ndarray:
    """``[C]``: the category id in ``data`` of each label of a detector, matched by name.

    The order may differ. Raises LabError, with the names, when the classes are not the same.
    """
    ids, notes = shared_category_ids(class_names, data)
    if notes:
        raise _different(class_names, data)
    return ids.astype(np.int64)


def shared_category_ids(
    class_names: tuple[str, ...], data: DetectionData
) -> tuple[np.ndarray, list[str]]:
    """As :func:`label_category_ids`, but classes that only one of the two has are allowed.

    Returns ``[C]`` float64 category ids, NaN where ``data`` has no such class, and notes about
    these classes. Raises LabError when detector and data have no class in common.
    """
    check_classes(data)
    lacking = [name for name in class_names if name not in data.class_names]
    extra = [name for name in data.class_names if name not in class_names]
    if len(lacking) == len(class_names):
        raise _different(class_names, data)
    ids = dict(zip(data.class_names, data.category_ids(), strict=True))
    _check_exact(ids.values())
    file, known, notes = file_of(data), len(class_names) - len(lacking), []
    if lacking:
        notes.append(
            f"{file} does not have {_names(lacking)}, which the model knows: it is evaluated for "
            f"the {known} of its {len(class_names)} classes that are there."
        )
    if extra:
        notes.append(
            f"{file} has {_names(extra)}, which the model does not know and is not evaluated for."
        )
    return np.array([ids.get(name, np.nan) for name in class_names], dtype=np.float64), notes


def _different(class_names: tuple[str, ...], data: DetectionData) -> LabError:
    lacking = [name for name in data.class_names if name not in class_names]
    extra = [name for name in class_names if name not in data.class_names]
    return LabError(
        f"{file_of(data)} and the detector have different classes: "
        f"only in the data: {_names(lacking)}; only in the detector: {_names(extra)}. "
        "Evaluate on the data it was trained for, or rename the classes."
    )


def _check_exact(ids: Iterable[int]) -> None:
    """Raises LabError for ids that float64 rounds."""
    for number in ids:
        if abs(number) > 2**53:
            raise LabError(
                f"Image or category id {number} is beyond 2^53, so evaluation cannot tell it from "
                "its neighbours. Number the data set's images and categories from 1."
            )


def _of_categories(truth: Mapping[str, Any], ids: set[float]) -> dict[str, Any]:
    """The part of the ground truth that belongs to these categories."""
    categories = [row for row in truth["categories"] if row["id"] in ids]
    annotations = [row for row in truth["annotations"] if row["category_id"] in ids]
    return {**truth, "categories": categories, "annotations": annotations}


def _names(names: list[str]) -> str:
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "none"
