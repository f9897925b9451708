"""COCO AP of every stage from one pass over the data, through pycocotools."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm.auto import tqdm

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.core.validation import check_stages
from sparse_rcnn_lab.data.sample import DetectionData, file_of, notes_of
from sparse_rcnn_lab.detect.batches import Batch
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.training.distributed import current

# Image ids of a batch, and one array of rows a stage.
_Found = tuple[list[int], list[np.ndarray]]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_COLUMNS = METRICS[:6]


@dataclass(frozen=True)
class CocoResult:
    """What COCOeval says about boxes, each number 0..1, or -1 where no object could count.

    AP: averaged over IoU .50 to .95 and classes; AP50 and AP75 at one IoU; s, m, l: objects
    below 32², between, and from 96² pixels of the original image. AR1, AR10, AR100: recall with
    so many detections an image. per_class, per_class_50: AP and AP50 of each class name.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: dict[str, float] = field(default_factory=dict)
    per_class_50: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json can hold."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good each stage is.

    stages: the stages (1..6) that were evaluated; per_stage: one result for each of them.
    num_images: images seen.  seconds: wall time of all of it.
    detections: for each stage ``[K, 7]`` float64 rows of image id, x, y, w, h (original pixels),
    score, category id.
    source_ids: of images and of categories, the ids that 1, 2, .. in these rows stand for, where
    the data has some beyond 2^53; else empty.
    """

    stages: tuple[int, ...]
    per_stage: list[CocoResult]
    num_images: int
    seconds: float
    detections: tuple[np.ndarray, ...] = field(repr=False, default=())
    source_ids: tuple[tuple[int, ...], tuple[int, ...]] = field(repr=False, default=((), ()))

    @property
    def results(self) -> list[dict[str, Any]]:
        """Detections of the last evaluated stage as COCO results with the data's own ids."""
        return to_results(self.detections[-1], self.source_ids)

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
    ablation: Ablation = NORMAL,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
    notes: bool = True,
) -> Evaluation:
    """COCO AP on ``data`` at each of ``stages`` (1-based, default all).

    The N best (proposal, class) pairs of an image count, as in inference, N being
    ``num_proposals`` (default all). ablation: what is switched off or exchanged in every stage,
    see :class:`sparse_rcnn_lab.core.ablation.Ablation`. limit: only the first so many images. progress: show a
    bar, and with ``notes`` first what the data set says about itself. The model is left in the
    mode, training or not, that it was in.

    Under torchrun, inside ``distributed.join``, the processes share the batches. As each batch is
    the very one that a single process would have made, so is every detection. All processes get the
    numbers, process 0 alone the detections.

    Classes that only one of detector and data knows are left out, and said. Raises LabError when
    they have none in common, or a number is out of range.

    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(length=4, seed=1)
    >>> result = srl.evaluate(srl.load("nano-shapes"), drawn, stages=[1, 6], progress=False)
    >>> result.num_images, len(result.per_stage), result.per_stage[1].AP > 0.5
    (4, 2, True)
    >>> print(result.table().splitlines()[0])
    stage     AP   AP50   AP75    APs    APm    APl
    """
    start = time.perf_counter()
    stages = check_stages(stages, detector.num_stages)
    if batch_size < 1 or (limit is not None and limit < 1):
        raise LabError(f"batch_size ({batch_size}) and limit ({limit}) must be at least 1.")
    count = min(len(data), limit or len(data))
    if not count:
        raise LabError("The data set has no images; there is nothing to evaluate.")
    categories, class_notes = shared_category_ids(detector.class_names, data)

    group = current()
    if progress and notes and group.first:
        for note in (*notes_of(data), *class_notes):
            tqdm.write(note)
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
    for i in range(len(stages)):  # told one by one: nobody waits in silence for longer than a stage

        def numbers(i: int = i) -> tuple[None, Any]:
            return None, coco_stats(truth, detections[i]) if group.first else None

        per_stage.append(group.exchange(numbers)[1][0])
    sources = getattr(data, "source_ids", ((), ()))
    return Evaluation(stages, per_stage, count, time.perf_counter() - start, detections, sources)


def detection_rows(
    outputs: list[StageOutput], batch: Batch, image_ids: list[int], categories: np.ndarray
) -> list[np.ndarray]:
    """One ``[K, 7]`` array an output, best first within each image; as :meth:`Detector.decode`.

    outputs: of the same N proposals each.  categories: ``[C]`` category id of each label;
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
    # Boxes without area are no detections; the test is false for one of each, not for NaN.
    keep = np.logical_not((rows[..., 3:5] <= 0).any(axis=-1) | np.isnan(rows[..., 6]))
    return [rows[s][keep[s]] for s in range(len(outputs))]


def label_category_ids(class_names: tuple[str, ...], data: DetectionData) -> np.ndarray:
    """``[C]`` category id in ``data`` of each of a detector's labels, matched by name.

    The order may differ. Raises LabError, with the names, when the classes are not the same.
    """
    ids, notes = shared_category_ids(class_names, data)
    if notes:
        raise _different(class_names, data)
    return ids.astype(np.int64)


def shared_category_ids(
    class_names: tuple[str, ...], data: DetectionData
) -> tuple[np.ndarray, list[str]]:
    """As :func:`label_category_ids`, for classes that only some of the two know.

    Gives ``[C]`` float64 category ids, NaN where ``data`` has no such class, and what there is to
    say about it. Raises LabError when they have no class in common.
    """
    lacking = [name for name in class_names if name not in data.class_names]
    extra = [name for name in data.class_names if name not in class_names]
    if len(lacking) == len(class_names):
        raise _different(class_names, data)
    ids = dict(zip(data.class_names, data.category_ids(), strict=True))
    _check_exact(ids.values())
    file, known, notes = file_of(data), len(class_names) - len(lacking), []
    if lacking:
        notes.append(
            f"{file} does not have {_names(lacking)}, which the model knows: evaluated for the "
            f"{known} of its {len(class_names)} classes that are there."
        )
    if extra:
        notes.append(
            f"{file} has {_names(extra)}, which the model does not know: left out of the "
            "evaluation."
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
                f"Image or category id {number} is beyond 2^53, which evaluation cannot tell from "
                "its neighbours. Number the data set's images and categories from 1."
            )


def _of_categories(truth: Mapping[str, Any], ids: set[float]) -> dict[str, Any]:
    """The ground truth of these categories alone."""
    categories = [row for row in truth["categories"] if row["id"] in ids]
    annotations = [row for row in truth["annotations"] if row["category_id"] in ids]
    return {**truth, "categories": categories, "annotations": annotations}


def _names(names: list[str]) -> str:
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "none"


def coco_stats(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]] | np.ndarray,
    by_size: bool = True,
) -> CocoResult:
    """Compares detections with a COCO ground truth; neither is changed.

    ground_truth: ``images``, ``annotations``, ``categories`` as in COCO's json; ``area`` defaults
    to width times height, ``iscrowd`` to 0.
    results: COCO results (``image_id``, ``category_id``, ``bbox`` xywh in pixels, ``score``), or
    ``[K, 7]`` float64 rows of image id, x, y, w, h, score, category id.
    by_size: False leaves out the numbers of small, medium and large objects (they become -1),
    which takes a third of the time.

    Raises LabError when a result is incomplete, not finite, or belongs to an image or category
    that the ground truth does not have: each would count as a quiet miss.
    """
    rows = results if isinstance(results, np.ndarray) else _rows(results)
    _check_rows(rows)
    # Images and categories by their place among the ids: these may be too large for pycocotools.
    images, categories = (
        {number: place for place, number in enumerate(sorted(row["id"] for row in entries), 1)}
        for entries in (ground_truth["images"], ground_truth["categories"])
    )
    image_places = _places(results, rows[:, 0], "image", images)
    category_places = _places(results, rows[:, 6], "category", categories)
    names = {categories[row["id"]]: row["name"] for row in ground_truth["categories"]}
    truth_index = _index(images, names, _truth(ground_truth["annotations"], images, categories))
    found = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "score": score,
        }
        for number, (image, category, (x, y, w, h, score)) in enumerate(
            zip(image_places, category_places, rows[:, 1:6].tolist(), strict=True), 1
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools has no quiet mode
        evaluator = COCOeval(truth_index, _index(images, names, found), "bbox")
        if not by_size:
            evaluator.params.areaRng = evaluator.params.areaRng[:1]  # the first is all
            evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
        evaluator.accumulate()
        if by_size:
            evaluator.summarize()
    precision = evaluator.eval["precision"][..., 0, -1]  # [IoU, recall, class], all areas, 100
    ordered = [names[i] for i in evaluator.params.catIds]
    per_class = {name: _mean(precision[..., k]) for k, name in enumerate(ordered)}
    per_class_50 = {name: _mean(precision[0, :, k]) for k, name in enumerate(ordered)}
    stats = evaluator.stats if by_size else _of_all(evaluator)
    numbers = dict(zip(METRICS, map(float, stats), strict=True))
    return CocoResult(**numbers, per_class=per_class, per_class_50=per_class_50)


def _of_all(evaluator: COCOeval) -> list[float]:
    """The twelve numbers from what was accumulated over all areas; by size they are -1."""
    precision = evaluator.eval["precision"][..., 0, -1]
    recall = evaluator.eval["recall"][:, :, 0]  # [IoU, class, most detections]
    most = [_mean(recall[..., i]) for i in range(recall.shape[-1])]
    at = [_mean(precision), _mean(precision[0]), _mean(precision[5])]  # IoU .5, .55, ..
    return [*at, -1.0, -1.0, -1.0, *most, -1.0, -1.0, -1.0]


def to_results(
    rows: np.ndarray, source_ids: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> list[dict[str, Any]]:
    """``[K, 7]`` rows as of :func:`coco_stats` -> COCO results, ready for json.

    source_ids: as of :class:`Evaluation`.
    """
    ids = [
        [source[int(number) - 1] if source else int(number) for number in numbers]
        for source, numbers in zip(source_ids, rows[:, [0, 6]].T.tolist(), strict=True)
    ]
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, score, box in zip(
            *ids, rows[:, 5].tolist(), rows[:, 1:5].tolist(), strict=True
        )
    ]


def _mean(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0


def _rows(results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    try:
        rows = [(r["image_id"], *r["bbox"], r["score"], r["category_id"]) for r in results]
        return np.array(rows, dtype=np.float64).reshape(len(rows), 7)
    except KeyError as error:
        raise LabError(
            f"A detection has no {error}. Each needs image_id, category_id, bbox and score."
        ) from error
    except (TypeError, ValueError) as error:
        raise LabError(
            "A detection is not made of numbers (ids, a bbox of four, a score); "
            f"found: {error}. Write results as COCO does."
        ) from error


def _truth(
    annotations: Iterable[Mapping[str, Any]],
    images: Mapping[int, int],
    categories: Mapping[int, int],
) -> list[dict[str, Any]]:
    # Numbered anew: pycocotools takes id 0 for "not matched". Masks are left behind.
    return [
        {
            "id": number,
            "image_id": images.get(a["image_id"], 0),
            "category_id": categories.get(a["category_id"], 0),
            "bbox": a["bbox"],
            "area": a["area"] if "area" in a else a["bbox"][2] * a["bbox"][3],
            "iscrowd": a.get("iscrowd", 0),
        }
        for number, a in enumerate(annotations, 1)
    ]


def _index(
    images: Mapping[int, int], names: Mapping[int, str], annotations: list[dict[str, Any]]
) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": place} for place in images.values()],
        "categories": [{"id": place, "name": name} for place, name in names.items()],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _check_rows(rows: np.ndarray) -> None:
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise LabError(
            f"Results have shape {list(rows.shape)}, expected [K, 7]: image id, x, y, w, h, "
            "score, category id."
        )
    if not np.isfinite(rows).all():
        raise LabError(
            f"{int((~np.isfinite(rows)).any(1).sum())} of {len(rows)} detections hold NaN or "
            "infinity; the model has probably diverged."
        )


def _places(
    results: Sequence[Mapping[str, Any]] | np.ndarray,
    column: np.ndarray,
    what: str,
    places: Mapping[int, int],
) -> list[int]:
    """The place of each result's image or category; from the results themselves where they are
    dictionaries, since the column holds floats."""
    floats = isinstance(results, np.ndarray)
    ids = [int(i) for i in (column.tolist() if floats else (r[f"{what}_id"] for r in results))]
    strange = sorted(set(ids) - places.keys())
    if strange:
        raise LabError(
            f"Detections name {what} id {', '.join(map(str, strange[:5]))}, which the ground "
            "truth does not have. Are results and ground truth of the same data set?"
        )
    return [places[i] for i in ids]
