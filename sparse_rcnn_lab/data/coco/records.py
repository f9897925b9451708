"""Reads a COCO json, and checks one field of all its records at once: lists in, arrays out.

COCO's ``instances_train2017.json`` has 0.45 GB, two thirds of which are polygons that a box
detector never uses. msgspec reads the requested fields and skips the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.finding import first_few

# Names of a json that do not say which split it belongs to.
WHOLE = r"(?:_annotations\.coco|annotations|instances_default|labels|result|coco)"
_MEMORY = 4  # bytes of memory per byte of json text, once it is read
_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


class _Image(msgspec.Struct, gc=False):
    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class _Annotation(msgspec.Struct, gc=False):
    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    attributes: Any = None


class _Category(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None
    supercategory: Any = None


class Document(msgspec.Struct):
    """The parts of a COCO json that are read; a field of a record may be anything, or None."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    info: Any = None


# A key in other files of labelling tools -> what to do about such a file.
_OTHERS = {
    "_via_img_metadata": "It is a VIA project: choose Annotation > Export Annotations (COCO "
    "format) there.",
    "shapes": "It is LabelMe's file of one image: labelme2coco makes one json of all.",
    "samples": "It is FiftyOne's format: export with dataset_type=fo.types.COCODetectionDataset.",
    "data": "It is Label Studio's format: export as COCO there.",
    "annotation": "It is CreateML's or Label Studio's format: export as COCO there.",
}


def file_label(path: Path) -> str:
    """What messages call a json: its name, with its folder's where many have the same name."""
    common = re.fullmatch(WHOLE, path.stem, re.IGNORECASE)
    return f"{path.parent.name}/{path.name}" if common else path.name


def load_json(path: Path) -> tuple[Document, str]:
    """The document, and a hash of the whole file.

    Raises a :class:`LabError` that says where the text is not json, or what it lacks.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f'"{path}" cannot be read: {error.strerror}.') from None
    digest = hashlib.sha256(content).hexdigest()[:16]
    _check_fits(len(content), path)
    try:
        try:
            return msgspec.json.decode(content, type=Document), digest
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Python's own reader accepts NaN, UTF-16 and huge numbers, and reports more.
            return _as_document(_parse(content, file_label(path)), file_label(path)), digest
    except MemoryError:
        raise LabError(f'"{path}" does not fit into this machine\'s memory.') from None


def _check_fits(size: int, path: Path) -> None:
    """Raises LabError before ``size`` bytes of json fill the memory."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # unknown on Windows
        return
    if size * _MEMORY > memory:
        raise LabError(
            f'"{path}" has {size / 1e9:.1f} GB and would need about '
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
    except ValueError as error:  # an integer with thousands of digits
        raise LabError(f"{name} is not valid json: {error}.") from None
    except RecursionError:
        raise LabError(f"{name} is nested too deeply for COCO json.") from None


def _as_document(parsed: Any, file: str) -> Document:
    """The values of any json as a document. Raises a LabError that says what it is instead."""
    head = parsed[0] if isinstance(parsed, list) and parsed else parsed
    keys = list(head) if isinstance(head, dict) else []
    other = next((f" {_OTHERS[key]}" for key in keys if key in _OTHERS), "")
    if not isinstance(parsed, dict):
        found = "a list" if isinstance(parsed, list) else type(parsed).__name__
        raise LabError(
            f'{file} is not COCO json: expected an object with "images", "annotations" '
            f'and "categories", found {found}.{other}'
        )
    for key in _SINGULAR:
        rows = parsed.get(key)
        if rows is None:
            shown = ", ".join(f'"{k}"' for k in keys[:6]) or "none"
            raise LabError(
                f'{file} is not COCO json: "{key}" is missing; keys found: {shown}.{other}'
            )
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise LabError(f'{file}: "{key}" must be a list of objects.')
    return msgspec.convert(parsed, Document)


class Records:
    """The list ``key`` ("images", "annotations" or "categories") of a COCO json.

    ids: ``[len]`` int64, once :meth:`unique_ids` has checked them.  sources: where the json's ids
    are too large for float64, which evaluation uses, they are numbered 1, 2, .. in their order and
    listed here; else it is empty.  texts: ``[len]``, where a number was written as text.

    Every method raises a LabError that names file, field and the first records that fail. A field
    with a ``default`` may be absent or null.
    """

    def __init__(self, document: Document, key: str, file: str) -> None:
        self.file, self.key = file, key
        self.rows: list[Any] = getattr(document, key)
        self.ids = np.zeros(0, dtype=np.int64)
        self.sources: tuple[int, ...] = ()
        self.texts = np.zeros(len(self.rows), dtype=bool)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def singular(self) -> str:
        """What one record is called."""
        return _SINGULAR[self.key]

    def called(self, row: int) -> Any:
        """What messages call a record: its id, or its position where it has no valid id."""
        proper = self.key == "annotations" or len(self.ids)
        number = self.rows[row].id if proper else None
        return f"(entry {row})" if number is None else number

    def reject(self, wrong: Any, field: str, what: str) -> None:
        """Raises LabError when any record is set in ``wrong`` ``[len]`` bool."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            shown = first_few([str(self.called(row)) for row in rows.tolist()])
            raise LabError(
                f'{self.file}: "{field}" of {self.singular} id {shown} {what}. Correct the json.'
            )

    def numbers(self, field: str, default: float | None = None) -> np.ndarray:
        """One number per record: ``[len]``, integer or floating point as in the json."""
        values = self._values(field, default)
        array = _as_numbers(values)
        if array is None or array.ndim != 1:
            wrong = np.array([not _is_number(v) for v in values], dtype=bool)
            self.reject(wrong, field, "is not a number that can be used")
            array = np.asarray(values, dtype=np.float64)  # integers beyond 64 bits
        return array

    def whole(self, field: str, default: int | None = None) -> np.ndarray:
        """One whole number per record: ``[len]`` int64."""
        array = self.numbers(field, default)
        if array.dtype.kind in "fu":
            exact = (np.abs(array) < 2.0**53) & (array == np.rint(array))
            self.reject(~exact, field, "is not a whole number")
        return array.astype(np.int64)

    def unique_ids(self) -> np.ndarray:
        """The ``id`` of every record ``[len]`` int64, each used only once."""
        given = self._values("id")
        if any(_is_large(value) for value in given):
            self.reject(np.array([not _is_whole(v) for v in given]), "id", "is not a whole number")
            self.sources = tuple(sorted(set(map(int, given))))
        self.ids = ids = self._numbered(given) if self.sources else self.whole("id")
        self.reject(pd.Series(ids).duplicated(), "id", "is used more than once")
        return ids

    def _numbered(self, given: list[Any]) -> np.ndarray:
        """The numbers ``[len(given)]`` int64 for ids of the json; 0 for an unknown id."""
        numbers: dict[float, int] = {
            source: number for number, source in enumerate(self.sources, 1)
        }
        known = (numbers.get(v, 0) if isinstance(v, int | float) else 0 for v in given)
        return np.fromiter(known, dtype=np.int64, count=len(given))

    def strings(self, field: str) -> list[str]:
        """One text per record, not blank."""
        values = self._values(field, text=True)
        wrong = np.array([not isinstance(v, str) or not v.strip() for v in values], dtype=bool)
        self.reject(wrong, field, "is not a name")
        return values

    def file_names(self) -> tuple[list[str], np.ndarray]:
        """``file_name`` with forward slashes, and ``[len]``: which had to be cut to the last part.

        Web addresses and paths that lead out of the image folder are cut, since labelling tools
        write where the image was on their machine.
        """
        given = [name.replace("\\", "/") for name in self.strings("file_name")]
        cut = np.array([leads_out(name) for name in given], dtype=bool)
        names = [name.removeprefix("./") for name in given]
        for row in np.flatnonzero(cut):
            names[row] = re.split(r"[?#]", given[row].split("?d=")[-1])[0].rsplit("/", 1)[-1]
        nameless = np.array(["\x00" in name or name in ("", "..") for name in names])
        self.reject(nameless, "file_name", "is not a file below the image folder")
        if cut.any() and len(set(names)) < len(set(given)):
            times = Counter(names)
            same = np.array([times[name] > 1 for name in names])
            self.reject(cut & same, "file_name", "leaves the image folder, and ends like another's")
        return names, cut

    def boxes(self) -> np.ndarray:
        """``bbox`` of every annotation: ``[A, 4]`` float64; NaN and infinity are allowed."""
        values = self._values("bbox")
        array = _as_numbers(values) if values else np.zeros((0, 4))
        if array is None and any(type(v) is str for box in values if _is_list(box) for v in box):
            read = [[from_text(v) for v in box] if _is_list(box) else box for box in values]
            self.texts |= [
                _is_box(box) and box != old for box, old in zip(read, values, strict=True)
            ]
            values, array = read, _as_numbers(read)
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

    def _values(self, field: str, default: Any = None, text: bool = False) -> list[Any]:
        values = list(map(attrgetter(field), self.rows))
        kinds = set(map(type, values))
        if str in kinds and not text:
            self.texts |= [type(value) is str for value in values]
            values = [from_text(value) for value in values]
        if type(None) in kinds:
            if default is not None:
                return [default if value is None else value for value in values]
            self.reject(np.array([v is None for v in values]), field, "is missing")
        return values


def leads_out(name: str) -> bool:
    """Whether a file name is a web address, an absolute path, or leads out of its folder."""
    absolute = name.startswith("/") or re.match(r"[A-Za-z]:|\w+://", name)
    return bool(absolute) or (".." in name and ".." in name.split("/"))


def from_text(value: Any) -> Any:
    """The number that a text holds, as some tools write ids and sizes; else the value itself."""
    if isinstance(value, str) and "_" not in value:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _as_numbers(values: list[Any]) -> np.ndarray | None:
    """``values`` as an array, or None where some are not numbers or lists are ragged."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_number(value: Any) -> bool:
    """Whether a value is a number that float64 can hold; json's integers have no limit."""
    return type(value) is float or (isinstance(value, int) and abs(value) < 2**1023)


def _is_large(value: Any) -> bool:
    """Whether float64 cannot distinguish a whole number from its neighbour."""
    return isinstance(value, int) and not value.bit_length() <= 53 and _is_number(value)


def _is_whole(value: Any) -> bool:
    exact = isinstance(value, float) and abs(value) < 2.0**53 and value.is_integer()
    return exact or (isinstance(value, int) and _is_number(value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(v) is not bool and _is_number(v) for v in value)
    )
