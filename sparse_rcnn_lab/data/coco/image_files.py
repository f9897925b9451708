"""Finds the image files that a COCO json names; a file is opened only to read its size."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.audit import Findings
from sparse_rcnn_lab.data.coco.records import Records
from sparse_rcnn_lab.detect.images import image_header

SPLITS = {"train": "train|training", "val": "val|valid|validation"}  # the names of each split
_MOST = 100  # folders per level that are searched for images
_SHOWN = 3  # names listed in an error before "and N more"


class ImageFiles:
    """The image files of ``json_path``; ``folder`` is known once :meth:`locate` has been called.

    root: what the user gave, a folder or the json.  folder: the image folder, if the user gave one.
    """

    def __init__(self, root: Path, json_path: Path, folder: Path | None = None) -> None:
        self.root, self.json_path, self._given = root, json_path, folder
        self.folder = folder or root

    def locate(self, images: Records, names: list[str], found: Findings) -> list[str]:
        """The names as they are on disk, below ``folder``.

        A name without an exact match may differ in case, have %20 for a blank or decomposed
        accents, or be in another folder below, if only one file fits.
        Raises :class:`LabError` where a file is missing.
        """
        self.folder = self._given or find_image_folder(self.root, self.json_path, names)
        missing = set(missing_files(self.folder, names))
        if not missing:
            return names
        files = [
            (Path(at) / leaf).relative_to(self.folder).as_posix()
            for at, _, leaves in os.walk(self.folder)
            for leaf in leaves
        ]
        known: dict[str, list[str]] = {}
        for file in files:
            for key in {_key(file), _key(file.rpartition("/")[2])}:
                known.setdefault(key, []).append(file)
        there, taken = list(names), set(names) - missing
        for row, name in enumerate(names):
            if name in missing:
                fit = known.get(_key(name)) or known.get(_key(name.rpartition("/")[2])) or []
                if len(fit) == 1 and fit[0] not in taken:
                    there[row] = fit[0]
        lacking = [n for n, file in zip(names, there, strict=True) if n in missing and n == file]
        if lacking:
            shown = ", ".join(f'"{name}"' for name in lacking[:_SHOWN])
            raise LabError(
                f"{self.json_path.name} names {len(names)} images, and {len(lacking)} of them "
                f'(first: {shown}) are not in "{self.folder}". Copy them there, or remove them '
                "from the json."
            )
        other = np.array([n != file for n, file in zip(names, there, strict=True)])
        if len({f for f, o in zip(there, other, strict=True) if o}) < len(missing):
            images.reject(other, "file_name", "is one of several names for the same file")
        found.note(images, other, "whose file has a slightly other name or place", "found")
        return there


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown and labelled, with its EXIF rotation applied."""
    height, width, turn = image_header(path)
    return (width, height) if turn >= 5 else (height, width)


def _key(name: str) -> str:
    """A key that is the same for all spellings of one file name."""
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def find_image_folder(root: Path, json_path: Path, file_names: Sequence[str]) -> Path:
    """The folder that the json's ``file_name`` start from: the first that has all the files.

    It tries ``images/`` beside the json or above it, a folder named after the json's split
    (``train2017/``) and the json's own folder; then every folder below these, beginning with those
    named after the split. Without a full match, it is the one with the most files. Raises LabError
    where several folders have all the files and none is the split's.
    """
    base = json_path.parent
    tops = [base, base.parent] if base.name.casefold() == "annotations" else [base]
    if root.is_dir() and root not in tops:
        tops.append(root)
    split = json_path.stem.removeprefix("instances_")
    usual = [top / folder for top in tops for folder in ("images", split, f"images/{split}")]
    usual = [folder for folder in [*usual, *tops] if folder.is_dir()]
    best = min(usual, key=lambda folder: len(missing_files(folder, file_names)))
    if not missing_files(best, file_names):
        return best
    names = next((n for n in SPLITS.values() if re.fullmatch(n, split, re.IGNORECASE)), split)
    for top in tops:
        full = [f for f in _folders_below(top) if not missing_files(f, file_names[:1])]  # quick
        full = [f for f in full if not missing_files(f, file_names)]
        own = [
            folder
            for folder in full
            if any(re.fullmatch(names, p, re.IGNORECASE) for p in folder.relative_to(top).parts)
        ]
        if len(own or full) > 1:
            shown = ", ".join(f'"{folder}"' for folder in (own or full)[:_SHOWN])
            raise LabError(
                f"The images that {json_path.name} names are in several folders: {shown}. Keep "
                "one of them, or in Python give images=."
            )
        if full:
            return (own or full)[0]
    return best


def _folders_below(top: Path) -> list[Path]:
    """The first of the folders up to three levels below ``top``, ordered by level and name."""
    found, level = [], [top]
    for _ in range(3):
        level = [f for folder in level for f in sorted(folder.glob("*")) if f.is_dir()][:_MOST]
        found += level
    return found


def missing_files(folder: Path, file_names: Sequence[str]) -> list[str]:
    """The names that are not below ``folder``; one directory listing per subfolder."""
    listings: dict[str, set[str]] = {}
    missing = []
    for name in file_names:
        subfolder, _, leaf = name.rpartition("/")
        if subfolder not in listings:
            try:
                listings[subfolder] = set(os.listdir(folder / subfolder))
            except OSError:
                listings[subfolder] = set()
        if leaf not in listings[subfolder]:
            missing.append(name)
    return missing
