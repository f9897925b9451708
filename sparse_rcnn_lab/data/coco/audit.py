"""What looks wrong in a COCO json is mended and noted if its meaning is clear; else an error asks.

Every function adds to :class:`Findings` what it did or saw. The form in which the boxes are written
is inferred from all of them together, never box by box.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.records import Document, Records
from sparse_rcnn_lab.data.finding import Finding, first_few

# Labelling tools round, so a box may stick out this far (pixels) without being wrong.
_ROUNDING = 1.0
_FORMS = {
    "xywh": "left, top, width, height",
    "xyxy": "left, top, right, bottom",
    "cxcywh": "centre x, centre y, width, height",
}
# The suffix of a form whose boxes are relative to the image's sides -> the value of a whole side.
_UNITS = {"-shares": 1, "-percent": 100}
_IN_WORDS = {"-shares": "as shares of the image", "-percent": "in per cent of the image"}
_CLOSE = 0.01  # share of the image's side by which boxes of another form may stick out
_MANY = 0.1  # share of all boxes (and at least 3) whose reaching out is no accident
_CROWDED = 0.1  # share of all boxes from which on crowds are noted
_CORNER = 2  # in images at least this many times 100 pixels, boxes within 0..100 fill only a corner
_ASKED, _TOLD = 8, 30  # with this many boxes in the corner: an error asks, or they are per cent
_TURN = 0.01  # degrees of rotation that are noticed


class Findings(list[Finding]):
    """The findings in one json. ``names`` of its images and ``owner`` ``[A]``, the row of each
    annotation's image, are set as soon as they are known."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file
        self.names: Sequence[str] = ()
        self.owner = np.zeros(0, dtype=np.int64)
        self.image_ids = np.zeros(0, dtype=np.int64)

    def note(self, records: Records, wrong: Any, what: str, done: str) -> None:
        """Adds a finding on the records set in ``wrong`` ``[len]`` bool, if there are any."""
        rows = np.flatnonzero(wrong)
        if not len(rows):
            return
        kind = records.singular
        if kind == "category":
            first = f"id {first_few([str(records.called(row)) for row in rows.tolist()])}"
            images = rows[:0]
        else:
            images = rows if kind == "image" else self.owner[rows]
            first = f'"{self.names[images[0]]}", {kind} id {records.called(rows[0])}'
            images = np.unique(self.image_ids[images])
        self.append(Finding(self.file, kind, len(rows), what, first, done, images, rows))


def merge_classes(
    categories: Records, counts: np.ndarray, found: Findings
) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
    """Merges entries of the same name into one class; a mere supercategory is not a class.

    counts: ``[len]`` annotations of each entry. Returns the label of every entry ``[len]`` (-1:
    left out, it has no annotation), and name and category id of each class, ascending by id.
    """
    names = categories.strings("name")
    above = [row.supercategory for row in categories.rows]
    named_above = Counter(name for name in above if isinstance(name, str))
    groups: dict[str, list[int]] = {}
    project = np.zeros(len(names), dtype=bool)
    for row in np.argsort(categories.ids, kind="stable").tolist():
        project[row] = not counts[row] and named_above[names[row]] > (above[row] == names[row])
        if not project[row]:
            name = unicodedata.normalize("NFC", " ".join(names[row].split()))
            groups.setdefault(name, []).append(row)
    shown = _listed([names[row] for row in np.flatnonzero(project)])
    what = f"without a box that others have as supercategory, {shown}"
    found.note(categories, project, what, "not taken for a class")

    classes = []  # category id, name, entries
    for name, rows in groups.items():
        chief = next((row for row in rows if counts[row]), rows[0])
        if len(rows) > 1:
            done = f"one class, with the boxes of all ({counts[rows].sum():,})"
            found.note(categories, _at(rows, len(names)), f'called "{name}"', done)
        classes.append((int(categories.ids[chief]), name, rows))
    classes.sort()

    labels = np.full(len(categories), -1)
    for label, (_, _, rows) in enumerate(classes):
        labels[rows] = label
    alike: dict[str, dict[str, int]] = {}
    for _, name, rows in classes:
        folded = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())
        alike.setdefault(folded, {})[name] = rows[0]
    for group in alike.values():
        if len(group) > 1:
            found.note(
                categories,
                _at([*group.values()], len(names)),
                f"nearly alike, {_listed([*group])}",
                f"they stay {len(group)} classes; give them one name if they are one",
            )
    return labels, tuple(name for _, name, _ in classes), tuple(i for i, _, _ in classes)


def one_entry_a_file(images: Records, sizes: np.ndarray, found: Findings) -> np.ndarray:
    """``[len]``: the row that represents each image, the first one of the same file and size.

    Exports merged by hand list an image twice, each time with some of its boxes.
    """
    keys = pd.DataFrame({"name": found.names, "height": sizes[:, 0], "width": sizes[:, 1]})
    if not keys["name"].duplicated().any():
        return np.arange(len(images))
    first = pd.Series(np.arange(len(images))).groupby([keys[c] for c in keys]).transform("first")
    chief: np.ndarray = first.to_numpy()
    found.image_ids = found.image_ids[chief]
    done = "one image, with the boxes of all"
    found.note(images, chief != np.arange(len(images)), "listed before under another id", done)
    return chief


def turn_boxes(annotations: Records, boxes: np.ndarray, found: Findings) -> np.ndarray:
    """Boxes ``[A, 4]`` xywh. CVAT writes rotated boxes as they were before their rotation; each is
    replaced by the upright box around the rotated one."""
    attributes = [row.attributes for row in annotations.rows]
    if not any(attributes):
        return boxes
    given = [a.get("rotation") if isinstance(a, dict) else None for a in attributes]
    degrees = np.array([v if isinstance(v, int | float) else 0.0 for v in given], dtype=np.float64)
    degrees = np.where(np.isfinite(degrees), degrees, 0.0)
    turned = np.abs((degrees + 90) % 180 - 90) > _TURN
    found.note(
        annotations,
        turned,
        "with attributes.rotation, as CVAT writes it",
        "the upright box around each taken",
    )
    cos, sin = np.abs(np.cos(np.radians(degrees))), np.abs(np.sin(np.radians(degrees)))
    sides = np.stack(
        [boxes[:, 2] * cos + boxes[:, 3] * sin, boxes[:, 2] * sin + boxes[:, 3] * cos], axis=1
    )
    around = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 - sides / 2, sides], axis=1)
    return np.where(turned[:, None], around, boxes)


def mend_boxes(
    annotations: Records,
    boxes: np.ndarray,
    areas: np.ndarray,
    limits: np.ndarray,
    form: Any,
    found: Findings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes as xywh in pixels, inside their image: keep ``[A]``, boxes ``[A, 4]``, areas ``[A]``.

    areas: NaN where there is none.  limits: ``[A, 2]`` width and height of each box's image.
    form: the box format that the json states (``"box_format"`` in its ``"info"``), or None.
    """
    finite = np.isfinite(boxes).all(axis=1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    form = _form_of(annotations, boxes, limits, finite) if form is None else form
    if form != "xywh":
        boxes, areas = _converted(boxes, areas, limits, form)
        done = 'converted; if that is wrong, name their form as "box_format" in the json\'s "info"'
        found.note(annotations, finite, f"written as {_in_words(form)}", done)
    boxes = turn_boxes(annotations, boxes, found)

    negative = (boxes[:, 2:] < 0).any(axis=1)
    boxes[:, :2] += np.minimum(boxes[:, 2:], 0)
    boxes[:, 2:] = np.abs(boxes[:, 2:])

    corners = _corners(boxes, "xywh")
    clipped = np.clip(corners, 0, np.tile(limits, 2))
    flat = finite & (boxes[:, 2:] <= 0).any(axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    gone = finite & ~flat & (sides <= 0).any(axis=1)
    keep = finite & ~flat & ~gone
    out = keep & (np.abs(corners - clipped) > _ROUNDING).any(axis=1)
    boxes[out] = np.concatenate([clipped[:, :2], sides], axis=1)[out]

    whole = boxes[:, 2] * boxes[:, 3]
    given = ~np.isnan(areas)
    areas = np.where(given, areas, whole)
    areas[out] = np.minimum(areas[out], whole[out])  # a clipped mask is no larger than its box
    # A mask's area may be larger than its box by the pixels at the edge.
    most = (boxes[:, 2:] + _ROUNDING).prod(axis=1)
    wrong = keep & ((areas <= 0) | (areas > most))
    areas = np.where(wrong, whole, areas)

    for what, rows, done in (
        ("of negative sides", negative, "turned round"),
        ("reaching out of the image", out, "clipped"),
        ("wholly outside the image", gone, "dropped"),
        ("of no width or height", flat, "dropped"),
        ("with NaN or infinity", ~finite, "dropped"),
        ("with an area that cannot be theirs", wrong & given, "width times height taken"),
    ):
        found.note(annotations, rows, what, done)
    return keep, boxes, areas


def drop_repeated(
    annotations: Records, boxes: np.ndarray, labels: np.ndarray, keep: np.ndarray, found: Findings
) -> np.ndarray:
    """``keep`` ``[A]`` without the boxes that equal another of the same class in the same image."""
    columns = pd.DataFrame(boxes).assign(image=found.owner, label=labels, keep=keep)
    repeated = columns.duplicated().to_numpy() & keep
    found.note(annotations, repeated, "listed before, of the same class and place", "dropped")
    return keep & ~repeated


def read_form(document: Document, file: str) -> str | None:
    """The ``"box_format"`` in the json's ``"info"``; None where there is none."""
    form = document.info.get("box_format") if isinstance(document.info, dict) else None
    known = [name + unit for unit in ("", *_UNITS) for name in _FORMS]
    if form is not None and form not in known:
        raise LabError(
            f'{file}: "box_format" of "info" is {form!r}; expected one of {", ".join(known)}.'
        )
    return form


def note_counts(
    categories: Records,
    annotations: Records,
    class_names: Sequence[str],
    labels: np.ndarray,
    entries: np.ndarray,
    crowd: np.ndarray,
    keep: np.ndarray,
    found: Findings,
) -> None:
    """Notes crowds where they are many, and classes that no box shows.

    labels: ``[A]``.  entries: ``[len(categories)]`` label of each entry, or -1.
    """
    crowd = crowd & keep
    if crowd.sum() > _CROWDED * keep.sum():
        found.note(
            annotations,
            crowd,
            f"marked as crowds (iscrowd 1), of {keep.sum():,}",
            "not trained on, and no objects in evaluation; where each is a single object, set "
            "iscrowd to 0",
        )
    counts = np.bincount(labels[keep & ~crowd], minlength=len(class_names))
    if counts.any():
        empty = np.flatnonzero(counts == 0)
        first = _at(np.unique(entries, return_index=True)[1], len(entries))
        what = f"without a box, {_listed([class_names[label] for label in empty.tolist()])}"
        found.note(
            categories, first & np.isin(entries, empty), what, "nothing to learn or to measure"
        )


def note_numbers(all_records: Sequence[Records], found: Findings) -> None:
    """Notes numbers that were written as text, and ids that are renumbered."""
    for records in all_records:
        found.note(records, records.texts, "with a number written as text", "read as numbers")
        if records.sources:
            done = f"numbered 1 to {len(records)} inside; detections have the ids of the json"
            found.note(records, records.ids > 0, "in a set with ids beyond 2^53", done)


def _at(rows: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    wrong = np.zeros(length, dtype=bool)
    wrong[rows] = True
    return wrong


def _listed(names: Sequence[str]) -> str:
    return first_few([f'"{name}"' for name in names])


def _form_of(
    annotations: Records, boxes: np.ndarray, limits: np.ndarray, finite: np.ndarray
) -> str:
    """The one format in which the boxes lie inside their images. Raises a LabError that asks."""
    file, rows = annotations.file, np.flatnonzero(finite)
    boxes, limits = boxes[finite], limits[finite]
    if not len(boxes):
        return "xywh"
    answer = 'Say so in the json: "info": {"box_format": ...} with'
    small = (np.abs(boxes) <= 1).all(axis=1) & (limits > 2).all(axis=1)
    if small.all():
        # If all numbers are 0 or 1, a box may be a whole image or one pixel.
        form, fits = _parts_form(boxes, limits, "-shares")
        if form and (boxes != np.rint(boxes)).any():
            return form
        raise LabError(
            f"{file}: every box has numbers in 0..1, as shares of the image would, but what "
            f'they mean is not clear. {answer} {fits}, or "xywh" if they are pixels.'
        )
    if small.sum() >= 3 and (boxes[small] != np.rint(boxes[small])).any():
        raise LabError(
            f"{file}: {small.sum():,} of {len(boxes):,} boxes have numbers in 0..1 (first: "
            f"annotation id {annotations.called(rows[small.argmax()])}), as shares of the image "
            "would; the others do not. Were two exports merged? Convert them one by one, or remove "
            f'these boxes. {answer} "xywh" if all are pixels.'
        )
    corner = len(boxes) >= _ASKED and (limits >= 100 * _CORNER).all()
    if corner and 50 < boxes.max() <= 100 and boxes.min() >= 0:
        form, fits = _parts_form(boxes, limits, "-percent")
        ends = _corners(boxes, _split(form)[0] or "xyxy")[:, 2:].max(axis=0)
        if form and len(boxes) >= _TOLD and (ends > 90).all():
            return form
        raise LabError(
            f"{file}: every box has numbers in 0..100, as boxes in per cent would, but no image "
            f'is smaller than {limits.min()} pixels. {answer} {fits}, or "xywh" if they are pixels.'
        )
    outside = ((_corners(boxes, "xywh")[:, 2:] - limits) > _ROUNDING).any(axis=1)
    if outside.sum() < max(3, _MANY * len(boxes)):
        return "xywh"
    said = (
        f"{file}: {outside.sum():,} of {len(boxes):,} boxes reach out of their image (first: "
        f"annotation id {annotations.called(rows[outside.argmax()])})"
    )
    inside = [form for form in ("xyxy", "cxcywh") if _fits(boxes, limits, form).all()]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise LabError(
            f"{said}, so they are not left, top, width, height, as COCO has it; as corners and as "
            f'centre and size they all lie inside. Which is it? {answer} "xyxy" (left, top, right, '
            'bottom), "cxcywh" (centre, size), or "xywh".'
        )
    corners = _fits(boxes[outside], limits[outside], "xyxy")
    if corners.mean() >= 1 - _MANY:  # single mistakes among them say nothing about the others
        most = "" if corners.all() else "nearly all of "
        raise LabError(
            f"{said}, {most}which as left, top, right, bottom would lie inside; not all the other "
            f"boxes would. Were two exports merged? Convert them one by one. {answer} "
            '"xywh" to have them clipped, or "xyxy" if all are meant so.'
        )
    return "xywh"


def _parts_form(boxes: np.ndarray, limits: np.ndarray, unit: str) -> tuple[str, str]:
    """The format of boxes that are relative to the image, or "" unless exactly one fits; and a list
    of those that do, or of all, for a question."""
    scaled = boxes / _UNITS[unit] * np.tile(limits, 2)
    fits = [form for form in _FORMS if _fits(scaled, limits, form).all()]
    ways = " or ".join(f'"{form}{unit}" ({_FORMS[form]})' for form in fits or _FORMS)
    return fits[0] + unit if len(fits) == 1 else "", ways


def _corners(boxes: np.ndarray, form: str) -> np.ndarray:
    """Boxes ``[A, 4]`` of a format as xyxy."""
    if form == "xyxy":
        return boxes
    start = boxes[:, :2] - (boxes[:, 2:] / 2 if form == "cxcywh" else 0)
    return np.concatenate([start, start + boxes[:, 2:]], axis=1)


def _fits(boxes: np.ndarray, limits: np.ndarray, form: str) -> np.ndarray:
    """``[A]``: whether each box, in this format, has positive sides and lies in its image."""
    corners, slack = _corners(boxes, form), np.maximum(_ROUNDING, _CLOSE * limits)
    inside = (corners[:, :2] >= -slack) & (corners[:, 2:] <= limits + slack)
    return np.all(inside & (corners[:, 2:] > corners[:, :2]), axis=1)


def _converted(
    boxes: np.ndarray, areas: np.ndarray, limits: np.ndarray, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as xywh in pixels, and the areas that fit them; NaN for the others."""
    form, unit = _split(form)
    if unit:
        boxes = boxes / _UNITS[unit] * np.tile(limits, 2)
    corners = _corners(boxes, form)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    whole = np.abs(boxes[:, 2] * boxes[:, 3])
    fit = (areas > 1) & (areas <= whole + _ROUNDING)  # else relative, or from the wrong sides
    return boxes, np.where(fit, areas, np.nan)


def _split(form: str) -> tuple[str, str]:
    name, dash, unit = form.partition("-")
    return name, dash + unit


def _in_words(form: str) -> str:
    name, unit = _split(form)
    how = _IN_WORDS.get(unit, "in pixels")
    return f"{_FORMS[name]} {how}, not left, top, width, height in pixels"
