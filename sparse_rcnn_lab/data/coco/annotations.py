"""Reads and checks one COCO json into arrays: 118,000 images and 860,000 boxes fit easily."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.fields import FieldChecker
from sparse_rcnn_lab.data.coco.json_file import load_json
from sparse_rcnn_lab.data.coco.packed import PackedStrings

# Labelling tools round, so a box may stick out this far (pixels) without being called wrong.
_ROUNDING = 1.0


@dataclass(frozen=True)
class CocoTables:
    """The cleaned json: I images, A annotations grouped by image, in the order of the json.

    ``boxes_xywh`` ``[A, 4]`` float64 in pixels; ``labels`` ``[A]`` int64 into ``class_names``;
    ``crowd`` ``[A]`` bool; ``areas`` ``[A]``; the annotations of image ``i`` are the rows
    ``starts[i]`` to ``starts[i + 1]``.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    file_names: PackedStrings
    boxes_xywh: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray
    starts: np.ndarray
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """The tables as a new COCO dictionary."""
        images = [
            {"id": i, "file_name": name, "height": h, "width": w}
            for i, name, h, w in zip(
                self.image_ids.tolist(),
                self.file_names,
                self.heights.tolist(),
                self.widths.tolist(),
                strict=True,
            )
        ]
        categories = np.asarray(self.category_ids, dtype=np.int64)[self.labels]
        image_of = np.repeat(self.image_ids, np.diff(self.starts))
        columns = {
            "id": self.annotation_ids,
            "image_id": image_of,
            "category_id": categories,
            "bbox": self.boxes_xywh,
            "area": self.areas,
            "iscrowd": self.crowd.astype(np.int64),
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return {
            "images": images,
            "annotations": [dict(zip(columns, row, strict=True)) for row in rows],
            "categories": [
                {"id": i, "name": name}
                for i, name in zip(self.category_ids, self.class_names, strict=True)
            ],
        }


def read_coco_json(path: Path, *, keep_empty: bool = True) -> CocoTables:
    """Reads, checks and cleans ``path``; warns once about boxes clipped or dropped.

    Raises :class:`LabError` naming the field and the first ids for everything that cannot be
    read in one way only.
    """
    document, digest = load_json(path)
    checker = FieldChecker(path.name)
    images, annotations, categories = (
        checker.records(document, key) for key in ("images", "annotations", "categories")
    )
    if not images or not categories:
        raise LabError(f'{path.name}: "{"categories" if images else "images"}" is empty.')

    category_ids = checker.unique_ids(categories, "categories")
    class_names = checker.strings(categories, "categories", "name", category_ids)
    image_ids = checker.unique_ids(images, "images")
    file_names = checker.strings(images, "images", "file_name", image_ids)
    file_names = [checker.file_name(n, i) for n, i in zip(file_names, image_ids, strict=True)]
    heights = checker.whole(images, "images", "height", image_ids)
    widths = checker.whole(images, "images", "width", image_ids)
    checker.reject(
        (heights < 1) | (widths < 1), "images", "width/height", image_ids, "must be at least 1"
    )

    given_ids = [a.get("id", f"(entry {row})") for row, a in enumerate(annotations)]
    image_row = checker.lookup(annotations, "image_id", image_ids, "images", given_ids)
    by_id = np.argsort(category_ids, kind="stable")
    category_row = checker.lookup(annotations, "category_id", category_ids, "categories", given_ids)
    labels = np.argsort(by_id, kind="stable")[category_row]
    crowd = checker.whole(annotations, "annotations", "iscrowd", given_ids, default=0) != 0
    boxes = checker.boxes(annotations, given_ids)
    areas = checker.numbers(annotations, "annotations", "area", given_ids, default=np.nan)

    keep, boxes, areas = _clean(
        path.name, boxes, areas, heights[image_row], widths[image_row], given_ids
    )
    order = np.flatnonzero(keep)
    order = order[np.argsort(image_row[order], kind="stable")]
    image_row, crowd = image_row[order], crowd[order]

    counts = np.bincount(image_row, minlength=len(images))
    if keep_empty:
        kept = np.arange(len(images))
    else:
        kept = np.flatnonzero(np.bincount(image_row[~crowd], minlength=len(images)))
        inside = np.isin(image_row, kept)
        order, crowd = order[inside], crowd[inside]
    return CocoTables(
        class_names=tuple(class_names[row] for row in by_id),
        category_ids=tuple(category_ids[by_id].tolist()),
        image_ids=image_ids[kept],
        heights=heights[kept],
        widths=widths[kept],
        file_names=PackedStrings(file_names[row] for row in kept),
        boxes_xywh=boxes[order],
        labels=labels[order],
        crowd=crowd,
        areas=areas[order],
        annotation_ids=_usable_ids([given_ids[row] for row in order]),
        starts=np.concatenate([[0], np.cumsum(counts[kept])]),
        digest=digest,
    )


def _clean(
    name: str,
    boxes: np.ndarray,
    areas: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    ids: Sequence[Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips boxes to their image, finds those to drop: keep ``[A]``, boxes, areas."""
    finite = np.isfinite(boxes).all(axis=1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    corners = box_ops.xywh_to_xyxy(torch.from_numpy(boxes)).numpy()
    limits = np.stack([widths, heights, widths, heights], axis=1)
    clipped = np.clip(corners, 0, limits)
    flat = finite & ((boxes[:, 2:] <= 0).any(axis=1))
    sides = clipped[:, 2:] - clipped[:, :2]
    gone = finite & ~flat & (sides <= 0).any(axis=1)
    out = finite & ~flat & ~gone & (np.abs(corners - clipped) > _ROUNDING).any(axis=1)
    keep = finite & ~flat & ~gone

    boxes[out] = np.concatenate([clipped[:, :2], sides], axis=1)[out]
    box_areas = boxes[:, 2] * boxes[:, 3]
    areas = np.where(np.isfinite(areas) & (areas >= 0), areas, box_areas)
    areas[out] = np.minimum(areas[out], box_areas[out])  # a part is no larger than the rest

    findings = {
        "reaching out of their image clipped": out,
        "wholly outside their image dropped": gone,
        "of no area dropped": flat,
        "with NaN or infinity dropped": ~finite,
    }
    said = [
        f"{np.count_nonzero(rows)} {what} (first: annotation id {ids[int(rows.argmax())]})"
        for what, rows in findings.items()
        if rows.any()
    ]
    if said:
        warnings.warn(f"{name}: of {len(boxes)} boxes, {'; '.join(said)}.", stacklevel=4)
    return keep, boxes, areas


def _usable_ids(given: Sequence[Any]) -> np.ndarray:
    """The json's annotation ids, or 1.. where they cannot serve as keys for pycocotools."""
    try:
        ids = np.asarray(given, dtype=object).astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        ids = np.zeros(len(given), dtype=np.int64)
    proper = len(np.unique(ids)) == len(ids) and (ids > 0).all()
    return ids if proper else np.arange(1, len(given) + 1)
