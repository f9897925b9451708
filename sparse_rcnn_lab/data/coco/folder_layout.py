"""Where a COCO-json data set keeps its json and its images, and whether they are all there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_lab.core.errors import LabError

_SHOWN = 3  # names listed in an error before "and N more"


def find_json(root: Path, split: str) -> Path:
    """The json of ``split`` under ``root``, or ``root`` itself when it is a file."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise LabError(
            f'No folder "{root}". Give a folder with train.json, val.json and images/, '
            "or one json file."
        )
    folders = ("val", "valid") if split == "val" else (split,)
    exported = [root / folder / "_annotations.coco.json" for folder in folders]  # Roboflow's
    for candidate in (root / f"{split}.json", *exported):
        if candidate.is_file():
            return candidate
    published = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    published = [p for p in published if re.fullmatch(r"instances_[a-z]+\d*", p.stem)]
    if len(published) == 1:
        return published[0]
    if published:
        names = ", ".join(p.name for p in published)
        raise LabError(f'"{root}" has several files for "{split}": {names}. Give one of them.')
    here = sorted(p.name for p in [*root.glob("*.json"), *root.glob("annotations/*.json")])
    raise LabError(
        f'"{root}" has no {split}.json (nor annotations/instances_{split}2017.json); json files '
        f"found: {', '.join(here[:_SHOWN]) or 'none'}. Add it, or give a json file."
    )


def find_image_folder(root: Path, json_path: Path, file_names: Sequence[str]) -> Path:
    """The folder that the json's ``file_name`` start from: the first that has all the files.

    Tried: ``images/`` beside the json or above it, a folder named as the json's split
    (``train2017/``), the json's own folder. Without a full match, the one with the most files.
    """
    base = json_path.parent
    tops = [base, base.parent] if base.name == "annotations" else [base]
    if root.is_dir() and root not in tops:
        tops.append(root)
    split = json_path.stem.removeprefix("instances_")
    candidates = [top / folder for top in tops for folder in ("images", split, f"images/{split}")]
    candidates = [folder for folder in [*candidates, *tops] if folder.is_dir()]
    return min(candidates, key=lambda folder: len(missing_files(folder, file_names)))


def check_image_files(folder: Path, file_names: Sequence[str], json_path: Path) -> None:
    """Raises :class:`LabError` unless every file is in ``folder``; opens none of them."""
    missing = missing_files(folder, file_names)
    if missing:
        names = ", ".join(f'"{name}"' for name in missing[:_SHOWN])
        raise LabError(
            f"{json_path.name} names {len(file_names)} images, and {len(missing)} of them "
            f'(first: {names}) are not in "{folder}". Copy them there, or take them out of the '
            "json."
        )


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
