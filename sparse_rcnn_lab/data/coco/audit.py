"""What is odd about a COCO json: mended and noted where it can be meant one way only, else asked.

Every function appends to ``notes`` what it did or saw, one sentence each. Nothing is looked at box
by box: how the boxes are written is told from all of them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.records import Records

# Labelling tools round, so a box may stick out this far (pixels) without being called wrong.
_ROUNDING = 1.0
_SHOWN = 3  # names listed in a note before "and N more"
_FORMS = {
    "xywh": "left, top, width, height",
    "xyxy": "left, top, right, bottom",
    "cxcywh": "centre x, centre y, width, height",
}
_SHARES = "-shares"
_CLOSE = 0.01  # of the image's side: how far boxes of another form may stick out
_MANY = 0.1  # of all boxes: so many (and 3) reaching out are no accident
_CROWDED = 0.1  # of all boxes


def merge_classes(
    categories: Records, counts: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
    """Entries of one name are one class; an entry that only stands above others is none.

    counts: ``[len]`` annotations of each entry. Gives the label of every entry ``[len]`` (-1: left
    out, it has no annotation), and name and category id of each class, ascending by id.
    """
    names = categories.strings("name")
    above = [row.get("supercategory") for row in categories.rows]
    named_above = Counter(name for name in above if isinstance(name, str))
    groups: dict[str, list[int]] = {}
    for row in np.argsort(categories.ids, kind="stable").tolist():
        if not counts[row] and named_above[names[row]] > (above[row] == names[row]):
            notes.append(
                f'{categories.file}: "{names[row]}" (category id {categories.called(row)}) has no '
                "box and is the supercategory of others: not taken for a class."
            )
        else:
            groups.setdefault(" ".join(names[row].split()), []).append(row)

    classes = []  # category id, name, entries
    for name, rows in groups.items():
        chief = next((row for row in rows if counts[row]), rows[0])
        if len(rows) > 1:
            ids = ", ".join(str(categories.called(row)) for row in rows)
            notes.append(
                f'{categories.file}: {len(rows)} categories (ids {ids}) are called "{name}": '
                f"one class, with the boxes of all ({counts[rows].sum():,})."
            )
        classes.append((int(categories.ids[chief]), name if rows[1:] else names[chief], rows))
    classes.sort()

    labels = np.full(len(categories), -1)
    for label, (_, _, rows) in enumerate(classes):
        labels[rows] = label
    _note_similar([name for _, name, _ in classes], categories.file, notes)
    return labels, tuple(name for _, name, _ in classes), tuple(i for i, _, _ in classes)


def _note_similar(names: Sequence[str], file: str, notes: list[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(f'"{name}"')
    for group in alike.values():
        if len(group) > 1:
            notes.append(
                f"{file}: {' and '.join(group)} differ in upper and lower case alone; they stay "
                f"{len(group)} classes. Give them one name if they are one."
            )


def mend_boxes(
    annotations: Records,
    boxes: np.ndarray,
    areas: np.ndarray,
    limits: np.ndarray,
    form: Any,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes as xywh in pixels, inside their image: keep ``[A]``, boxes ``[A, 4]``, areas ``[A]``.

    limits: ``[A, 2]`` width and height of each box's image.  form: what the json says about its
    boxes (``"box_format"`` in its ``"info"``), or None.
    """
    finite = np.isfinite(boxes).all(axis=1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    file, first = annotations.file, annotations.called
    form = _form_of(boxes[finite], limits[finite], file) if form is None else form
    if form != "xywh":
        boxes, areas = _converted(boxes, areas, limits, form)
        notes.append(
            f"{file}: the {len(boxes):,} boxes are {_in_words(form)}; converted. If that is wrong, "
            'name their form as "box_format" in the "info" of the json.'
        )

    negative = (boxes[:, 2:] < 0).any(axis=1)
    boxes[:, :2] += np.minimum(boxes[:, 2:], 0)
    boxes[:, 2:] = np.abs(boxes[:, 2:])

    corners = _corners(boxes, "xywh")
    clipped = np.clip(corners, 0, np.tile(limits, 2))
    flat = finite & (boxes[:, 2:] <= 0).any(axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    gone = finite & ~flat & (sides <= 0).any(axis=1)
    out = finite & ~flat & ~gone & (np.abs(corners - clipped) > _ROUNDING).any(axis=1)

    boxes[out] = np.concatenate([clipped[:, :2], sides], axis=1)[out]
    box_areas = boxes[:, 2] * boxes[:, 3]
    areas = np.where(np.isfinite(areas) & (areas >= 0), areas, box_areas)
    areas[out] = np.minimum(areas[out], box_areas[out])  # a part is no larger than the rest

    findings = {
        "of negative sides turned round": negative,
        "reaching out of their image clipped": out,
        "wholly outside their image dropped": gone,
        "of no area dropped": flat,
        "with NaN or infinity dropped": ~finite,
    }
    said = [
        f"{rows.sum()} {what} (first: annotation id {first(rows.argmax())})"
        for what, rows in findings.items()
        if rows.any()
    ]
    if said:
        notes.append(f"{file}: of {len(boxes)} boxes, {'; '.join(said)}.")
    return finite & ~flat & ~gone, boxes, areas


def read_form(document: Any, file: str) -> str | None:
    """``"box_format"`` of the json's ``"info"``; None where it says nothing."""
    info = document.get("info")
    form = info.get("box_format") if isinstance(info, dict) else None
    known = [*_FORMS, *(name + _SHARES for name in _FORMS)]
    if form is not None and form not in known:
        raise LabError(
            f'{file}: "box_format" of "info" is {form!r}; expected one of {", ".join(known)}.'
        )
    return form


def note_counts(
    file: str, class_names: Sequence[str], labels: np.ndarray, crowd: np.ndarray, notes: list[str]
) -> None:
    """Notes crowds where they are many, and classes that no box shows."""
    if crowd.sum() > _CROWDED * len(crowd):
        notes.append(
            f"{file}: {crowd.sum():,} of {len(crowd):,} boxes are crowds (iscrowd 1): not trained "
            "on, and no objects in evaluation. Where each is a single object, set iscrowd to 0."
        )
    counts = np.bincount(labels[~crowd], minlength=len(class_names))
    empty = [f'"{class_names[label]}"' for label in np.flatnonzero(counts == 0).tolist()]
    if empty and counts.any():
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        notes.append(f"{file}: no box of {', '.join(empty[:_SHOWN])}{more}.")


def _form_of(boxes: np.ndarray, limits: np.ndarray, file: str) -> str:
    """The one form in which the boxes lie in their images; raises LabError that asks."""
    if not len(boxes):
        return "xywh"
    if (np.abs(boxes) <= 1).all() and (limits > 2).all():
        scaled = boxes * np.tile(limits, 2)
        # Whole numbers only, 0 and 1: a whole image, or one pixel.
        fits = [form for form in _FORMS if _fits(scaled, limits, form).all()]
        if len(fits) == 1 and (boxes != np.rint(boxes)).any():
            return fits[0] + _SHARES
        ways = " or ".join(f'"{form}{_SHARES}" ({_FORMS[form]})' for form in fits or _FORMS)
        raise LabError(
            f"{file}: every box lies within 0 and 1, as shares of the image would, but it cannot "
            'be told how they are meant. Say so in the json: "info": {"box_format": ...} with '
            f'{ways}, or "xywh" if they are pixels.'
        )
    outside = ((_corners(boxes, "xywh")[:, 2:] - limits) > _ROUNDING).any(axis=1).sum()
    if outside < max(3, _MANY * len(boxes)):
        return "xywh"
    fits = [form for form in ("xyxy", "cxcywh") if _fits(boxes, limits, form).all()]
    if len(fits) > 1:
        raise LabError(
            f"{file}: {outside:,} of {len(boxes):,} boxes reach out of their image, so they are "
            "not left, top, width, height, as COCO has it; as corners and as centre and size they "
            'all lie within. Which is it? Say so in the json: "info": {"box_format": ...} with '
            '"xyxy" (left, top, right, bottom), "cxcywh" (centre, size), or "xywh".'
        )
    return fits[0] if fits else "xywh"


def _corners(boxes: np.ndarray, form: str) -> np.ndarray:
    """Boxes of a form ``[A, 4]`` as xyxy."""
    if form == "xyxy":
        return boxes
    start = boxes[:, :2] - (boxes[:, 2:] / 2 if form == "cxcywh" else 0)
    return np.concatenate([start, start + boxes[:, 2:]], axis=1)


def _fits(boxes: np.ndarray, limits: np.ndarray, form: str) -> np.ndarray:
    """``[A]`` whether each box, read in this form, has positive sides and lies in its image."""
    corners, slack = _corners(boxes, form), np.maximum(_ROUNDING, _CLOSE * limits)
    inside = (corners[:, :2] >= -slack) & (corners[:, 2:] <= limits + slack)
    return np.all(inside & (corners[:, 2:] > corners[:, :2]), axis=1)


def _converted(
    boxes: np.ndarray, areas: np.ndarray, limits: np.ndarray, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as xywh in pixels, and the areas that fit them; NaN for the others."""
    if form.endswith(_SHARES):
        boxes = boxes * np.tile(limits, 2)
    corners = _corners(boxes, form.removesuffix(_SHARES))
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    whole = np.abs(boxes[:, 2] * boxes[:, 3])
    fit = (areas > 1) & (areas <= whole + _ROUNDING)  # else of a share, or of the wrong sides
    return boxes, np.where(fit, areas, np.nan)


def _in_words(form: str) -> str:
    share = " as shares of the image" if form.endswith(_SHARES) else " in pixels"
    return f"{_FORMS[form.removesuffix(_SHARES)]}{share}, not left, top, width, height in pixels"
