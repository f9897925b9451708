"""Checks one field of all records of a COCO json at once and gives it as an array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_rcnn_lab.core.errors import LabError

Records = list[dict[str, Any]]
Ids = Sequence[Any] | np.ndarray

_SHOWN = 3  # ids listed in a message before "and N more"
_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


class FieldChecker:
    """Reads fields of ``images``, ``annotations`` or ``categories`` (``where``) of one file.

    Every method raises :class:`LabError` naming file, field and the first of ``ids`` that fail.
    A field with a ``default`` may be absent or null.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def records(self, document: Any, key: str) -> Records:
        """The list of objects under ``key`` of the whole json."""
        if not isinstance(document, dict):
            found = "a list" if isinstance(document, list) else type(document).__name__
            raise LabError(
                f'{self.file} is not COCO json: expected an object with "images", "annotations" '
                f'and "categories", found {found}.'
            )
        value = document.get(key)
        if value is None:
            keys = ", ".join(f'"{k}"' for k in list(document)[:6]) or "none"
            raise LabError(f'{self.file} is not COCO json: "{key}" is missing; keys found: {keys}.')
        if not isinstance(value, list) or not all(isinstance(r, dict) for r in value):
            raise LabError(f'{self.file}: "{key}" must be a list of objects.')
        return value

    def reject(self, wrong: np.ndarray, where: str, field: str, ids: Ids, what: str) -> None:
        """Raises when any row of ``wrong`` is set."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            shown = ", ".join(str(ids[row]) for row in rows[:_SHOWN])
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            raise LabError(
                f'{self.file}: "{field}" of {_SINGULAR[where]} id {shown}{more} {what}. '
                "Correct the json."
            )

    def numbers(
        self, records: Records, where: str, field: str, ids: Ids, default: float | None = None
    ) -> np.ndarray:
        """One number a record: ``[len(records)]``, whole or not as they come."""
        values = self._values(records, where, field, ids, default)
        array = _as_numbers(values)
        if array is None or array.ndim != 1:
            wrong = np.array([not _is_number(v) for v in values], dtype=bool)
            self.reject(wrong, where, field, ids, "is not a number that can be used")
            array = np.asarray(values, dtype=np.float64)  # whole numbers beyond 64 bits
        return array

    def whole(
        self, records: Records, where: str, field: str, ids: Ids, default: int | None = None
    ) -> np.ndarray:
        """One whole number a record: ``[len(records)]`` int64."""
        array = self.numbers(records, where, field, ids, default)
        if array.dtype.kind in "fu":
            exact = (np.abs(array) < 2.0**53) & (array == np.rint(array))
            self.reject(~exact, where, field, ids, "is not a whole number")
        return array.astype(np.int64)

    def unique_ids(self, records: Records, where: str) -> np.ndarray:
        """The ``id`` of every record, each used once."""
        ids = self.whole(records, where, "id", [f"(entry {row})" for row in range(len(records))])
        repeated = np.ones(len(ids), dtype=bool)
        repeated[np.unique(ids, return_index=True)[1]] = False
        self.reject(repeated, where, "id", ids, "is used more than once")
        return ids

    def strings(self, records: Records, where: str, field: str, ids: Ids) -> list[str]:
        """One text a record, not blank."""
        values = self._values(records, where, field, ids)
        wrong = np.array([not isinstance(v, str) or not v.strip() for v in values], dtype=bool)
        self.reject(wrong, where, field, ids, "is not a name")
        return values

    def boxes(self, annotations: Records, ids: Ids) -> np.ndarray:
        """``bbox`` of every annotation: ``[A, 4]`` float64, NaN and infinity let through."""
        values = self._values(annotations, "annotations", "bbox", ids)
        array = _as_numbers(values) if values else np.zeros((0, 4))
        if array is None or array.ndim != 2 or array.shape[1] != 4:
            wrong = np.array([not _is_box(v) for v in values], dtype=bool)
            what = "is not a list of four numbers (left, top, width, height in pixels)"
            self.reject(wrong, "annotations", "bbox", ids, what)
            array = np.asarray(values, dtype=np.float64)
        return array.astype(np.float64)

    def lookup(
        self, annotations: Records, field: str, known: np.ndarray, target: str, ids: Ids
    ) -> np.ndarray:
        """The row in ``known``, the ids of ``target``, that each annotation's ``field`` names."""
        wanted = self.whole(annotations, "annotations", field, ids)
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
        rows = order[place]
        wrong = known[rows] != wanted
        first = wanted[wrong.argmax()] if wrong.any() else ""
        self.reject(wrong, "annotations", field, ids, f'is {first}, which "{target}" does not list')
        return rows

    def file_name(self, name: str, image_id: int) -> str:
        """``name`` with forward slashes, after a check that it stays in the image folder."""
        name = name.replace("\\", "/")
        absolute = name.startswith("/") or re.match(r"[A-Za-z]:", name)
        if absolute or (".." in name and ".." in name.split("/")) or "\x00" in name:
            raise LabError(
                f'{self.file}: "file_name" of image id {image_id} leaves the image folder: '
                f'{name!r}. Give it relative to that folder, without "..".'
            )
        return name.removeprefix("./")

    def _values(
        self, records: Records, where: str, field: str, ids: Ids, default: Any = None
    ) -> list[Any]:
        values = [record.get(field) for record in records]
        if default is not None:
            return [default if value is None else value for value in values]
        missing = np.fromiter((v is None for v in values), dtype=bool, count=len(values))
        self.reject(missing, where, field, ids, "is missing")
        return values


def _as_numbers(values: list[Any]) -> np.ndarray | None:
    """The array that ``values`` make, or None where some are no numbers or lists are ragged."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_number(value: Any) -> bool:
    """json knows no largest whole number; float64 does."""
    return type(value) is float or (isinstance(value, int) and abs(value) < 2**1023)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(v) is not bool and _is_number(v) for v in value)
    )
