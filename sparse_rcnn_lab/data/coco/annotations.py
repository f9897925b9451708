"""One COCO json as clean arrays, which easily hold 118,000 images and 860,000 boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco import audit
from sparse_rcnn_lab.data.coco.image_files import ImageFiles, upright_size
from sparse_rcnn_lab.data.coco.records import Records, file_label, load_json
from sparse_rcnn_lab.data.finding import Finding


@dataclass(frozen=True)
class CocoTables:
    """The cleaned json: I images, A annotations grouped by image, in the order of the json.

    ``boxes_xywh`` ``[A, 4]`` float64 in pixels; ``labels`` ``[A]`` int64 into ``class_names``;
    ``crowd`` ``[A]`` bool; ``areas`` ``[A]``; the annotations of image ``i`` are the rows
    ``starts[i]`` to ``starts[i + 1]``. ``names`` holds the file names end to end, that of image
    ``i`` from ``name_starts[i]`` on: forked loader processes share one string, but would copy every
    memory page of a list of strings, since reading changes reference counts. ``rows`` ``[A]``: the
    index of each annotation in the json. ``findings``: what looked wrong in the json and what was
    done about it. ``source_ids``: the json's ids of images and of categories, where these are too
    large for float64 and so are numbered 1, 2, .. here; else empty.
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
    rows: np.ndarray
    digest: str
    findings: tuple[Finding, ...]
    source_ids: tuple[tuple[int, ...], tuple[int, ...]]

    def source_id(self, index: int) -> int:
        """The id that the json gives image ``index``."""
        number = int(self.image_ids[index])
        return self.source_ids[0][number - 1] if self.source_ids[0] else number

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
    """Columns of equal length as one dictionary of plain values per row."""
    plain = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]


def read_coco_json(
    path: Path, files: ImageFiles | None = None, *, keep_empty: bool = True
) -> CocoTables:
    """Reads, checks and cleans ``path``; what it had to mend is in the tables' ``findings``.

    files: where the images are; None does without them. Raises :class:`LabError`, which names the
    field and the first ids, for everything that is ambiguous.
    """
    document, digest = load_json(path)
    file = file_label(path)
    images, annotations, categories = (
        Records(document, key, file) for key in ("images", "annotations", "categories")
    )
    for records in (images, categories):
        if not len(records):
            raise LabError(f'{file}: "{records.key}" is empty.')

    found = audit.Findings(file)
    categories.unique_ids()
    found.image_ids = image_ids = images.unique_ids()
    found.names, cut = images.file_names()
    if files is not None:
        found.names = files.locate(images, found.names, found)
    found.note(images, cut, "whose name leads out of the image folder", "its last part taken")
    sizes = _sizes(images, files, found)
    chief = audit.one_entry_a_file(images, sizes, found)

    found.owner = owner = chief[annotations.rows_in(images, "image_id")]
    category_row = annotations.rows_in(categories, "category_id")
    entries = np.bincount(category_row, minlength=len(categories))
    label_of, class_names, category_ids = audit.merge_classes(categories, entries, found)
    labels = label_of[category_row]
    crowd = annotations.whole("iscrowd", default=0) != 0
    boxes, areas = annotations.boxes(), annotations.numbers("area", default=np.nan)

    form = audit.read_form(document, file)
    limits = sizes[owner, ::-1]
    keep, boxes, areas = audit.mend_boxes(annotations, boxes, areas, limits, form, found)
    keep = audit.drop_repeated(annotations, boxes, labels + len(class_names) * crowd, keep, found)
    audit.note_counts(categories, annotations, class_names, labels, label_of, crowd, keep, found)
    audit.note_numbers((images, annotations, categories), found)
    order = np.flatnonzero(keep)
    order = order[np.argsort(owner[order], kind="stable")]

    objects = np.bincount(owner[order][~crowd[order]], minlength=len(images))
    kept = chief == np.arange(len(images))
    kept = np.flatnonzero(kept if keep_empty else kept & (objects > 0))
    order = order[np.isin(owner[order], kept)]
    names = [found.names[row] for row in kept]
    ids = _usable_ids([row.id for row in annotations.rows], annotations, found)
    return CocoTables(
        class_names=class_names,
        category_ids=category_ids,
        image_ids=image_ids[kept],
        heights=sizes[kept, 0],
        widths=sizes[kept, 1],
        names="".join(names),
        name_starts=np.cumsum([0, *map(len, names)]),
        boxes_xywh=boxes[order],
        labels=labels[order],
        crowd=crowd[order],
        areas=areas[order],
        annotation_ids=np.arange(1, len(order) + 1) if ids is None else ids[order],
        starts=np.searchsorted(owner[order], [*kept, len(images)]),
        rows=order.astype(np.int32),
        digest=digest,
        findings=tuple(found),
        source_ids=(images.sources, categories.sources),
    )


def _sizes(images: Records, files: ImageFiles | None, found: audit.Findings) -> np.ndarray:
    """``[len, 2]`` int64: height and width of every image, read from its file where not given."""
    asked = 1 if files is None else 0
    given = [images.whole(field, None if asked else 0) for field in ("height", "width")]
    sizes = np.stack(given, axis=1)
    unknown = (sizes < 1).any(axis=1)
    if files is None:
        images.reject(unknown, "width/height", "must be at least 1")
    else:
        for row in np.flatnonzero(unknown).tolist():
            sizes[row] = upright_size(files.folder / found.names[row])
        found.note(images, unknown, "without a width and height", "read from the file")
    return sizes


def _usable_ids(
    given: Sequence[Any], annotations: Records, found: audit.Findings
) -> np.ndarray | None:
    """The json's annotation ids, or None where pycocotools cannot use them as keys."""
    try:
        ids = np.asarray(given, dtype=object).astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        ids = np.zeros(len(given), dtype=np.int64)
    shared = pd.Series(ids).duplicated(keep=False)
    found.note(annotations, shared, "without an id of their own", "all numbered anew")
    return None if shared.any() or (ids <= 0).any() else ids
