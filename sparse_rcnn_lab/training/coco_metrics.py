"""The COCO metrics of given detections, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparse_rcnn_lab.core.errors import LabError

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class CocoResult:
    """COCO's box metrics, each 0..1, or -1 where there was no object to count.

    AP: averaged over IoU .50 to .95 and classes; AP50, AP75: at one IoU; s, m, l: for objects
    below 32², between, and from 96² pixels of the original image. AR1, AR10, AR100: average recall
    with this many detections per image. per_class, per_class_50: AP and AP50 of each class name.
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
        """The metrics as plain values that json can hold."""
        return asdict(self)


def coco_stats(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]] | np.ndarray,
    by_size: bool = True,
) -> CocoResult:
    """Evaluates detections against a COCO ground truth; neither is changed.

    ground_truth: ``images``, ``annotations``, ``categories`` as in COCO's json; ``area`` defaults
    to width times height, ``iscrowd`` to 0.
    results: COCO results (``image_id``, ``category_id``, ``bbox`` xywh in pixels, ``score``), or
    ``[K, 7]`` float64 rows of image id, x, y, w, h, score, category id.
    by_size: False skips the metrics of small, medium and large objects (they become -1) and takes
    only a third of the time.

    Raises LabError when a result is incomplete, not finite, or belongs to an image or category
    that the ground truth does not have; it would otherwise count as wrong without notice.
    """
    evaluator, names = _prepared(ground_truth, results)
    if not by_size:
        _only_all_sizes(evaluator)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools has no quiet mode
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


def right_detections(
    ground_truth: Mapping[str, Any], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right for AP50, and which are counted at all: ``[K]`` bool each.

    ground_truth, rows: ``[K, 7]`` as in :func:`coco_stats`. What COCO ignores, a box on a crowd,
    is not counted.
    """
    evaluator, _ = _prepared(ground_truth, rows)
    evaluator.params.iouThrs = np.array([0.5])
    evaluator.params.maxDets = [max(1, len(rows))]
    _only_all_sizes(evaluator)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
    right, counts = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for image in filter(None, evaluator.evalImgs):
        places = np.array(image["dtIds"], dtype=int) - 1
        counts[places] = image["dtIgnore"][0] == 0
        right[places] = (image["dtMatches"][0] > 0) & counts[places]
    return right, counts


def _prepared(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]] | np.ndarray
) -> tuple[COCOeval, dict[int, str]]:
    """pycocotools' evaluator, its detections numbered from 1 in order, and the class names."""
    rows = results if isinstance(results, np.ndarray) else _rows(results)
    _check_rows(rows)
    # Images and categories by position, since their ids may be too large for pycocotools.
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
    return COCOeval(truth_index, _index(images, names, found), "bbox"), names


def _only_all_sizes(evaluator: COCOeval) -> None:
    evaluator.params.areaRng = evaluator.params.areaRng[:1]  # the first range is all sizes
    evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]


def _of_all(evaluator: COCOeval) -> list[float]:
    """The twelve COCO numbers, accumulated over all areas; those by size are -1."""
    precision = evaluator.eval["precision"][..., 0, -1]
    recall = evaluator.eval["recall"][:, :, 0]  # [IoU, class, most detections]
    most = [_mean(recall[..., i]) for i in range(recall.shape[-1])]
    at = [_mean(precision), _mean(precision[0]), _mean(precision[5])]  # IoU .5, .55, ..
    return [*at, -1.0, -1.0, -1.0, *most, -1.0, -1.0, -1.0]


def to_results(
    rows: np.ndarray, source_ids: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> list[dict[str, Any]]:
    """``[K, 7]`` rows as in :func:`coco_stats` -> COCO results, ready for json.

    source_ids: as in :class:`Evaluation`.
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
        rows = [(r["image_id"], *_box(r["bbox"]), r["score"], r["category_id"]) for r in results]
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


def _box(bbox: Any) -> Sequence[float]:
    if isinstance(bbox, str) or len(bbox) != 4:
        raise ValueError(f"bbox {bbox!r}")
    return bbox


def _truth(
    annotations: Iterable[Mapping[str, Any]],
    images: Mapping[int, int],
    categories: Mapping[int, int],
) -> list[dict[str, Any]]:
    # Renumbered, as pycocotools takes id 0 for "not matched". Masks are left out.
    rows = []
    for number, a in enumerate(annotations, 1):
        x, y, w, h = bbox = a["bbox"]
        image, category = images.get(a["image_id"]), categories.get(a["category_id"])
        if image is None or category is None or not math.isfinite(x + y + w + h) or min(w, h) < 0:
            raise LabError(
                f"The ground truth's annotation {a.get('id', number)} has image id "
                f"{a['image_id']!r}, category id {a['category_id']!r} and bbox {bbox}: the ids "
                "must be listed, and the bbox must be left, top, width, height."
            )
        rows.append(
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "area": a["area"] if "area" in a else w * h,
                "iscrowd": a.get("iscrowd", 0),
            }
        )
    return rows


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
    if (rows[:, 3:5] < 0).any():
        first = rows[(rows[:, 3:5] < 0).any(axis=1)][0, 1:5].tolist()
        raise LabError(f"A detection has the bbox {first}; expected left, top, width, height.")
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
    """The position of each result's image or category; taken from the results themselves where
    they are dictionaries, since the column holds floats."""
    floats = isinstance(results, np.ndarray)
    given = column.tolist() if floats else [r[f"{what}_id"] for r in results]
    ids = [int(i) if int(i) == float(i) or abs(int(i)) > 2**53 else i for i in given]
    strange = sorted(set(ids) - places.keys())
    if strange:
        raise LabError(
            f"Detections name {what} id {', '.join(map(str, strange[:5]))}, which the ground "
            "truth does not have. Are results and ground truth from the same data set?"
        )
    return [places[i] for i in ids]
