"""Reads a COCO json, and checks one field of all its records at once: lists in, arrays out.

COCO's ``instances_train2017.json`` has 0.45 GB, two thirds of them polygons that a detector of
boxes never looks at. Parsed, they would take most of the time and gigabytes of memory; skipped,
the rest is read in seconds.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_lab.core.errors import LabError

_KEY = b'"segmentation"'
_MEMORY = 6  # bytes of memory a byte of text takes once it is read
_SHOWN = 3  # ids listed in a message before "and N more"
_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


def load_json(path: Path) -> tuple[Any, str]:
    """The parsed document, its polygons replaced by ``[]``, and a hash of the whole file.

    Raises :class:`LabError` that says where the text is no json.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f'"{path}" cannot be read: {error.strerror}.') from None
    digest = hashlib.sha256(content).hexdigest()[:16]
    try:
        text = b"".join(_without_polygons(content))
        _check_fits(len(text), path)
        with _no_garbage_collection():
            try:
                return json.loads(text), digest
            except (ValueError, RecursionError):  # once more, for the right place in the message
                return _parse(content, path.name), digest
    except MemoryError:
        raise LabError(f'"{path}" does not fit into this machine\'s memory.') from None


def _check_fits(size: int, path: Path) -> None:
    """Raises LabError before ``size`` bytes of json fill the memory."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not known on Windows
        return
    if size * _MEMORY > memory:
        raise LabError(
            f'"{path}" has {size / 1e9:.1f} GB without its polygons and would take about '
            f"{size * _MEMORY / 1e9:.0f} GB of memory; this machine has {memory / 1e9:.0f}. "
            "Split it."
        )


def _parse(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        raise LabError(f"{name} is not json: it is not UTF-8 text.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        hint = " It may be cut short." if error.pos >= len(error.doc) - 1 else ""
        raise LabError(f"{name} is not valid json: {error.msg} at {where}.{hint}") from None
    except RecursionError:
        raise LabError(f"{name} is nested too deeply for COCO json.") from None


def _without_polygons(content: bytes) -> Iterator[bytes | memoryview]:
    """``content`` in pieces, each list after a ``"segmentation"`` key made ``[]``.

    Within a json string that key would have its quotes escaped, so it is found as a key only. Its
    list holds numbers, so it ends before the next quote or closing brace.
    """
    view, done = memoryview(content), 0
    key = content.find(_KEY)
    while key >= 0:
        colon = content.find(b":", key)
        start = content.find(b"[", colon)
        between = content[key + len(_KEY) : colon] + content[colon + 1 : start]
        # Else it is somebody's value, or a mask in braces, which stays.
        if 0 <= colon < start and not between.strip():
            quote = content.find(b'"', start)
            brace = content.find(b"}", start, quote if quote >= 0 else len(content))
            end = content.rfind(b"]", start, brace if brace >= 0 else quote)
            if end < 0 or (brace < 0 and quote < 0):
                break  # cut short
            yield view[done : start + 1]
            done = end
        key = content.find(_KEY, max(done, key + 1))
    yield view[done:]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of new dictionaries and no cycle among them: looking for one doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Records:
    """The list ``key`` ("images", "annotations" or "categories") of a COCO json.

    ids: ``[len]`` int64, once :meth:`unique_ids` has checked them.  sources: where the json's ids
    are too large for float64, which evaluation works in, they are numbered 1, 2, .. in their order,
    and this lists them; else it is empty.

    Every method raises LabError naming file, field and the first records that fail. A field with a
    ``default`` may be absent or null.
    """

    def __init__(self, document: Any, key: str, file: str) -> None:
        if not isinstance(document, dict):
            found = "a list" if isinstance(document, list) else type(document).__name__
            raise LabError(
                f'{file} is not COCO json: expected an object with "images", "annotations" '
                f'and "categories", found {found}.'
            )
        rows = document.get(key)
        if rows is None:
            keys = ", ".join(f'"{k}"' for k in list(document)[:6]) or "none"
            raise LabError(f'{file} is not COCO json: "{key}" is missing; keys found: {keys}.')
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise LabError(f'{file}: "{key}" must be a list of objects.')
        self.file, self.key, self.rows = file, key, rows
        self.ids = np.zeros(0, dtype=np.int64)
        self.sources: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def called(self, row: int) -> Any:
        """What a message calls a record: its id, or its place where that is no proper id."""
        proper = self.key == "annotations" or len(self.ids)
        return self.rows[row].get("id", f"(entry {row})") if proper else f"(entry {row})"

    def reject(self, wrong: np.ndarray, field: str, what: str) -> None:
        """Raises when any record of ``wrong`` ``[len]`` is set."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            shown = ", ".join(str(self.called(row)) for row in rows[:_SHOWN])
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            raise LabError(
                f'{self.file}: "{field}" of {_SINGULAR[self.key]} id {shown}{more} {what}. '
                "Correct the json."
            )

    def numbers(self, field: str, default: float | None = None) -> np.ndarray:
        """One number a record: ``[len]``, whole or not as they come."""
        values = self._values(field, default)
        array = _as_numbers(values)
        if array is None or array.ndim != 1:
            wrong = np.array([not _is_number(v) for v in values], dtype=bool)
            self.reject(wrong, field, "is not a number that can be used")
            array = np.asarray(values, dtype=np.float64)  # whole numbers beyond 64 bits
        return array

    def whole(self, field: str, default: int | None = None) -> np.ndarray:
        """One whole number a record: ``[len]`` int64."""
        array = self.numbers(field, default)
        if array.dtype.kind in "fu":
            exact = (np.abs(array) < 2.0**53) & (array == np.rint(array))
            self.reject(~exact, field, "is not a whole number")
        return array.astype(np.int64)

    def unique_ids(self) -> np.ndarray:
        """The ``id`` of every record ``[len]`` int64, each used once."""
        given = self._values("id")
        if any(_is_large(value) for value in given):
            self.reject(np.array([not _is_whole(v) for v in given]), "id", "is not a whole number")
            self.sources = tuple(sorted(set(map(int, given))))
        self.ids = ids = self._numbered(given) if self.sources else self.whole("id")
        repeated = np.ones(len(ids), dtype=bool)
        repeated[np.unique(ids, return_index=True)[1]] = False
        self.reject(repeated, "id", "is used more than once")
        return ids

    def _numbered(self, given: list[Any]) -> np.ndarray:
        """The numbers ``[len(given)]`` int64 of ids as the json has them; 0 for an unknown one."""
        numbers: dict[float, int] = {
            source: number for number, source in enumerate(self.sources, 1)
        }
        known = (numbers.get(v, 0) if isinstance(v, int | float) else 0 for v in given)
        return np.fromiter(known, dtype=np.int64, count=len(given))

    def strings(self, field: str) -> list[str]:
        """One text a record, not blank."""
        values = self._values(field)
        wrong = np.array([not isinstance(v, str) or not v.strip() for v in values], dtype=bool)
        self.reject(wrong, field, "is not a name")
        return values

    def file_names(self) -> list[str]:
        """``file_name`` with forward slashes, after a check that it stays in the image folder."""
        names = [name.replace("\\", "/") for name in self.strings("file_name")]
        for row, name in enumerate(names):
            absolute = name.startswith("/") or re.match(r"[A-Za-z]:", name)
            if absolute or (".." in name and ".." in name.split("/")) or "\x00" in name:
                raise LabError(
                    f'{self.file}: "file_name" of image id {self.called(row)} leaves the image '
                    f'folder: {name!r}. Give it relative to that folder, without "..".'
                )
        return [name.removeprefix("./") for name in names]

    def boxes(self) -> np.ndarray:
        """``bbox`` of every annotation: ``[A, 4]`` float64, NaN and infinity let through."""
        values = self._values("bbox")
        array = _as_numbers(values) if values else np.zeros((0, 4))
        if array is None or array.ndim != 2 or array.shape[1] != 4:
            wrong = np.array([not _is_box(v) for v in values], dtype=bool)
            what = "is not a list of four numbers (left, top, width, height in pixels)"
            self.reject(wrong, "bbox", what)
            array = np.asarray(values, dtype=np.float64)
        return array.astype(np.float64)

    def rows_in(self, target: Records, field: str) -> np.ndarray:
        """``[len]`` int64: the row of ``target`` whose id each record's ``field`` gives."""
        known, given = target.ids, self._values(field)
        wanted = target._numbered(given) if target.sources else self.whole(field)
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
        rows = order[place]
        wrong = known[rows] != wanted
        first = given[wrong.argmax()] if wrong.any() else ""
        self.reject(wrong, field, f'is {first}, which "{target.key}" does not list')
        return rows

    def _values(self, field: str, default: Any = None) -> list[Any]:
        values = [row.get(field) for row in self.rows]
        if default is not None:
            return [default if value is None else value for value in values]
        missing = np.fromiter((v is None for v in values), dtype=bool, count=len(values))
        self.reject(missing, field, "is missing")
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


def _is_large(value: Any) -> bool:
    """Whether float64 cannot tell a whole number from its neighbour."""
    return isinstance(value, int) and not value.bit_length() <= 53 and _is_number(value)


def _is_whole(value: Any) -> bool:
    exact = isinstance(value, float) and abs(value) < 2.0**53 and value.is_integer()
    return exact or (isinstance(value, int) and _is_number(value))


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(v) is not bool and _is_number(v) for v in value)
    )
