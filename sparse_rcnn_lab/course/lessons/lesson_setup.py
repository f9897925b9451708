"""What every notebook needs first: a fast mode, an example picture, a folder to work in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TypeVar

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models.published import cache_folder

FAST_VARIABLE = "SPARSE_RCNN_LAB_FAST"
EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
DATA = Path(__file__).parent / "data"
_MARK = ".made-by-sparse-rcnn-lab"

T = TypeVar("T")


def is_fast() -> bool:
    """Whether SPARSE_RCNN_LAB_FAST is set: every lesson then runs in seconds, on toy amounts."""
    return os.environ.get(FAST_VARIABLE, "") not in ("", "0")


def pick(full: T, fast: T) -> T:
    """``full``, or ``fast`` in fast mode: how many steps, how many pictures."""
    return fast if is_fast() else full


def example(name: str) -> Path:
    """One of the pictures that ship with the package. Raises LabError with the list of them."""
    there = {p.name: p for folder in (EXAMPLES, DATA) for p in sorted(folder.iterdir())}
    pictures = {n: p for n, p in there.items() if p.suffix in (".jpg", ".png")}
    if name not in pictures:
        raise LabError(f'There is no example "{name}". There are: {", ".join(sorted(pictures))}.')
    return pictures[name]


def copy_of_boards(name: str) -> Path:
    """50 labelled photographs of circuit boards, copied into a :func:`workspace` of their own.

    ``train/`` and ``val/`` hold each photograph (.jpg) and beside it its labels as labelling tools
    write them (Pascal VOC, .xml).
    """
    folder = workspace(name)
    for part in ("train", "val"):
        shutil.copytree(DATA / "boards" / part, folder / part)
    return folder


def workspace(name: str) -> Path:
    """An empty folder for what a lesson writes, the same from whichever folder it is run.

    It lies in the cache folder (``SPARSE_RCNN_LAB_CACHE`` names another); what the lesson left
    there the last time is removed, so that it starts afresh.
    """
    folder = cache_folder() / "lessons" / name
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise LabError(f'"{folder}" holds files that no lesson made. Move them away.')
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise LabError(f'Could not make the folder "{folder}" ({error.strerror}).') from error
    return folder
