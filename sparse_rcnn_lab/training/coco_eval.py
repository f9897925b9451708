"""COCO's twelve numbers from results in memory, through pycocotools; nothing is printed."""

from __future__ import annotations

import contextlib
import io
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
    """What COCOeval says about boxes, each number 0..1, or -1 where no object could count.

    AP: averaged over IoU .50 to .95 and classes; AP50 and AP75 at one IoU; s, m, l: objects
    below 32², between, and from 96² pixels of the original image. AR1, AR10, AR100: recall with
    so many detections an image. per_class: AP of each class name.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json can hold."""
        return asdict(self)


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
    truth_index = _index(ground_truth, _truth(ground_truth["annotations"]))
    _check(rows, truth_index)
    found = [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(category),
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "score": score,
        }
        for number, (image, x, y, w, h, score, category) in enumerate(rows.tolist(), 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools has no quiet mode
        evaluator = COCOeval(truth_index, _index(ground_truth, found), "bbox")
        if not by_size:
            evaluator.params.areaRng = evaluator.params.areaRng[:1]  # the first is all
            evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
        evaluator.accumulate()
        if by_size:
            evaluator.summarize()
    precision = evaluator.eval["precision"][..., 0, -1]  # [IoU, recall, class], all areas, 100
    names = [truth_index.cats[i]["name"] for i in evaluator.params.catIds]
    per_class = {name: _mean(precision[..., k]) for k, name in enumerate(names)}
    stats = evaluator.stats if by_size else _of_all(evaluator)
    numbers = dict(zip(METRICS, map(float, stats), strict=True))
    return CocoResult(**numbers, per_class=per_class)


def _of_all(evaluator: COCOeval) -> list[float]:
    """The twelve numbers from what was accumulated over all areas; by size they are -1."""
    precision = evaluator.eval["precision"][..., 0, -1]
    recall = evaluator.eval["recall"][:, :, 0]  # [IoU, class, most detections]
    most = [_mean(recall[..., i]) for i in range(recall.shape[-1])]
    at = [_mean(precision), _mean(precision[0]), _mean(precision[5])]  # IoU .5, .55, ..
    return [*at, -1.0, -1.0, -1.0, *most, -1.0, -1.0, -1.0]


def to_results(rows: np.ndarray) -> list[dict[str, Any]]:
    """``[K, 7]`` rows as of :func:`coco_stats` -> COCO results, ready for json."""
    return [
        {"image_id": int(image), "category_id": int(category), "bbox": box, "score": score}
        for image, category, score, box in zip(
            *rows[:, [0, 6, 5]].T.tolist(), rows[:, 1:5].tolist(), strict=True
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


def _truth(annotations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Numbered anew: pycocotools takes id 0 for "not matched". Masks are left behind.
    return [
        {
            "id": number,
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "area": a["area"] if "area" in a else a["bbox"][2] * a["bbox"][3],
            "iscrowd": a.get("iscrowd", 0),
        }
        for number, a in enumerate(annotations, 1)
    ]


def _index(ground_truth: Mapping[str, Any], annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": ground_truth["images"],
        "categories": ground_truth["categories"],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _check(rows: np.ndarray, truth: COCO) -> None:
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
    for what, column, known in (("image", 0, truth.imgs), ("category", 6, truth.cats)):
        strange = sorted({int(i) for i in np.unique(rows[:, column])} - set(known))
        if strange:
            raise LabError(
                f"Detections name {what} id {', '.join(map(str, strange[:5]))}, which the ground "
                "truth does not have. Are results and ground truth of the same data set?"
            )
