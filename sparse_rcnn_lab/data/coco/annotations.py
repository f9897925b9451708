"""One COCO json as clean arrays: 118,000 images and 860,000 boxes fit easily."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.records import Records, load_json

# Labelling tools round, so a box may stick out this far (pixels) without being called wrong.
_ROUNDING = 1.0


@dataclass(frozen=True)
class CocoTables:
    """The cleaned json: I images, A annotations grouped by image, in the order of the json.

    ``boxes_xywh`` ``[A, 4]`` float64 in pixels; ``labels`` ``[A]`` int64 into ``class_names``;
    ``crowd`` ``[A]`` bool; ``areas`` ``[A]``; the annotations of image ``i`` are the rows
    ``starts[i]`` to ``starts[i + 1]``. ``names`` holds the file names end to end, that of image
    ``i`` from ``name_starts[i]`` on: forked loader processes share one string, but copy every
    memory page of a list of strings, for reading one counts a reference in it.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    names: str
    name_starts: np.ndarray
    boxes_xywh: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray
    starts: np.ndarray
    digest: str

    @property
    def file_names(self) -> list[str]:
        """The file name of every image, below the image folder; a new list each time."""
        return [self.names[start:end] for start, end in pairwise(self.name_starts.tolist())]

    def file_name(self, index: int) -> str:
        """The file name of image ``index``."""
        return self.names[self.name_starts[index] : self.name_starts[index + 1]]

    def to_dict(self) -> dict[str, Any]:
        """The tables as a new COCO dictionary."""
        return {
            "images": _rows(
                id=self.image_ids,
                file_name=self.file_names,
                height=self.heights,
                width=self.widths,
            ),
            "annotations": _rows(
                id=self.annotation_ids,
                image_id=np.repeat(self.image_ids, np.diff(self.starts)),
                category_id=np.asarray(self.category_ids, dtype=np.int64)[self.labels],
                bbox=self.boxes_xywh,
                area=self.areas,
                iscrowd=self.crowd.astype(np.int64),
            ),
            "categories": _rows(id=self.category_ids, name=self.class_names),
        }


def _rows(**columns: np.ndarray | Sequence[Any]) -> list[dict[str, Any]]:
    """Columns of equal length as one dictionary of plain values a row."""
    plain = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]


def read_coco_json(path: Path, *, keep_empty: bool = True) -> CocoTables:
    """Reads, checks and cleans ``path``; warns once about boxes clipped or dropped.

    Raises :class:`LabError` naming the field and the first ids for everything that cannot be
    read in one way only.
    """
    document, digest = load_json(path)
    images, annotations, categories = (
        Records(document, key, path.name) for key in ("images", "annotations", "categories")
    )
    for records in (images, categories):
        if not len(records):
            raise LabError(f'{path.name}: "{records.key}" is empty.')

    category_ids = categories.unique_ids()
    class_names = categories.strings("name")
    image_ids = images.unique_ids()
    file_names = images.file_names()
    heights, widths = images.whole("height"), images.whole("width")
    images.reject((heights < 1) | (widths < 1), "width/height", "must be at least 1")

    image_row = annotations.rows_in(images, "image_id")
    by_id = np.argsort(category_ids, kind="stable")
    labels = np.argsort(by_id, kind="stable")[annotations.rows_in(categories, "category_id")]
    crowd = annotations.whole("iscrowd", default=0) != 0
    boxes, areas = annotations.boxes(), annotations.numbers("area", default=np.nan)

    keep, boxes, areas = _clean(annotations, boxes, areas, heights[image_row], widths[image_row])
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
    names = [file_names[row] for row in kept]
    return CocoTables(
        class_names=tuple(class_names[row] for row in by_id),
        category_ids=tuple(category_ids[by_id].tolist()),
        image_ids=image_ids[kept],
        heights=heights[kept],
        widths=widths[kept],
        names="".join(names),
        name_starts=np.cumsum([0, *map(len, names)]),
        boxes_xywh=boxes[order],
        labels=labels[order],
        crowd=crowd,
        areas=areas[order],
        annotation_ids=_usable_ids([annotations.rows[row].get("id") for row in order]),
        starts=np.concatenate([[0], np.cumsum(counts[kept])]),
        digest=digest,
    )


def _clean(
    annotations: Records,
    boxes: np.ndarray,
    areas: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
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
        f"{rows.sum()} {what} (first: annotation id {annotations.called(rows.argmax())})"
        for what, rows in findings.items()
        if rows.any()
    ]
    if said:
        message = f"{annotations.file}: of {len(boxes)} boxes, {'; '.join(said)}."
        warnings.warn(message, stacklevel=4)
    return keep, boxes, areas


def _usable_ids(given: Sequence[Any]) -> np.ndarray:
    """The json's annotation ids, or 1.. where they cannot serve as keys for pycocotools."""
    try:
        ids = np.asarray(given, dtype=object).astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        ids = np.zeros(len(given), dtype=np.int64)
    proper = len(np.unique(ids)) == len(ids) and (ids > 0).all()
    return ids if proper else np.arange(1, len(given) + 1)
