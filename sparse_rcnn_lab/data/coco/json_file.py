"""Reads a large COCO json in seconds: the outlines of objects, most of its bytes, are skipped.

COCO's ``instances_train2017.json`` has 0.45 GB, two thirds of them polygons that a detector of
boxes never looks at. Parsed, they would take most of the time and gigabytes of memory.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError

_KEY = b'"segmentation"'
_MEMORY = 6  # bytes of memory a byte of text takes once it is read


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
