"""A folder of images with COCO json, read once into arrays; images are opened on access.

The json may come from any tool: what has one possible meaning is mended and reported in ``notes``
(see ``audit``); what is ambiguous is a :class:`LabError` that names file, field and the first ids.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.annotations import CocoTables, read_coco_json
from sparse_rcnn_lab.data.coco.image_files import SPLITS, ImageFiles
from sparse_rcnn_lab.data.coco.records import WHOLE, file_label
from sparse_rcnn_lab.data.finding import Finding, first_few
from sparse_rcnn_lab.data.sample import DetectionData, Sample, part_of, sample_number
from sparse_rcnn_lab.detect.images import read_image

# Fixed seeds, so that two people who name the same data get the same images.
_SHAPES = {"train": (0, 100_000), "val": (1_000_000, 500)}
_DIFFICULTIES = ("easy", "normal", "hard")
# Where labelling tools put the json of a split, the most likely first.
_LAYOUTS = (
    r"{split}\.json",
    r"{split}/{whole}\.json",
    r"{split}/(?:instances_)?{split}\d*\.json",
    r"annotations/instances_{split}\d*\.json",
    r"annotations/{split}\d*\.json",
    r"annotations/instances_{split}[a-z]+\d*\.json",
    r"{split}/annotations/{whole}\.json",
    r"annotations/{whole}\.json",
    r"{whole}\.json",  # not looked for in subfolders, where it would belong to another split
)
_DEEP = 2  # levels of subfolders in which a json is looked for


class CocoFolder:
    """One split of a data set in COCO format; follows :class:`DetectionData`.

    root: a folder with ``train.json``, ``val.json`` and ``images/``, or in COCO's own layout
    (``annotations/instances_train2017.json``, ``train2017/``), or one json file.
    images: the image folder, where it is none of these.
    keep_empty: whether images without boxes (crowd boxes aside) are part of the data.

    Labels follow ascending category ids. What was wrong and has been mended (boxes clipped, dropped
    or in another format, one class under two ids) is listed in ``notes``. Raises :class:`LabError`
    for a json that breaks the format or is ambiguous, that names an unknown category or image, or
    whose image files are missing. ``data[i]`` is a :class:`Sample` with boxes xyxy in pixels of the
    image as the json's width and height have it, with or without its EXIF rotation; it raises
    LabError for an image that is damaged or of another size.

    >>> import json, tempfile
    >>> examples = Path(__file__).parents[1] / "examples"
    >>> document = {
    ...     "categories": [{"id": 7, "name": "white cell"}],
    ...     "images": [{"id": 1, "file_name": "cells_1.jpg", "width": 640, "height": 480}],
    ...     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [64, 48, 90, 80]}],
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "train.json")
    ...     _ = file.write_text(json.dumps(document))
    ...     data = CocoFolder(file, images=examples)
    >>> data[0].boxes, data.class_names[data[0].labels[0]]
    (tensor([[ 64.,  48., 154., 128.]]), 'white cell')
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | Path | None = None,
        keep_empty: bool = True,
    ) -> None:
        self.split = split
        self.json_path = find_json(Path(root), split)
        self.file = file_label(self.json_path)  # what a message calls it
        files = ImageFiles(Path(root), self.json_path, Path(images) if images else None)
        self.tables: CocoTables = read_coco_json(self.json_path, files, keep_empty=keep_empty)
        self.image_folder = files.folder
        self._keep_empty = keep_empty

    @property
    def class_names(self) -> tuple[str, ...]:
        """Category names in ascending order of category id; a label is an index into this."""
        return self.tables.class_names

    @property
    def notes(self) -> tuple[str, ...]:
        """What looked wrong in the json and what was done about it, a sentence each."""
        return tuple(map(str, self.findings))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The same as ``notes``, with counts, ids and the images concerned."""
        return self.tables.findings

    @property
    def image_sizes(self) -> np.ndarray:
        """``[len, 2]`` int64: height and width of every image, without opening one."""
        return np.stack([self.tables.heights, self.tables.widths], axis=1)

    @property
    def object_counts(self) -> np.ndarray:
        """``[len]`` int64: the number of boxes in every image, crowd boxes aside."""
        before = np.concatenate([[0], np.cumsum(~self.tables.crowd)])
        return np.diff(before[self.tables.starts])

    @property
    def source_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The json's image ids, and its category ids, where they are beyond 2^53; else empty.

        float64 cannot hold such ids, so everything here numbers them 1, 2, .. in ascending order.
        """
        return self.tables.source_ids

    def category_ids(self) -> tuple[int, ...]:
        """The COCO category id of each label."""
        return self.tables.category_ids

    def __len__(self) -> int:
        return len(self.tables.image_ids)

    def __repr__(self) -> str:
        return (
            f"CocoFolder({str(self.json_path)!r}: {len(self)} images, "
            f"{len(self.tables.labels)} boxes, {len(self.class_names)} classes)"
        )

    def image_path(self, index: int) -> Path:
        """The path of the image file of sample ``index``."""
        return self.image_folder / self.tables.file_name(index)

    def __getitem__(self, index: int) -> Sample:
        index = sample_number(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        tables = self.tables
        height, width = int(tables.heights[index]), int(tables.widths[index])
        rows = slice(int(tables.starts[index]), int(tables.starts[index + 1]))
        single = ~tables.crowd[rows]
        boxes = torch.from_numpy(tables.boxes_xywh[rows][single])
        boxes = box_ops.clip(box_ops.xywh_to_xyxy(boxes), height, width)
        return Sample(
            image=self._read(index, height, width),
            boxes=boxes.to(torch.float32),
            labels=torch.from_numpy(tables.labels[rows][single]),
            image_id=int(tables.image_ids[index]),
            name=tables.file_name(index),
        )

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """The COCO dictionary after cleaning, crowd boxes included; without segmentations.

        Boxes are those of the json (xywh, pixels), clipped to the image; areas are as given, or
        width times height. Annotation ids are those of the json unless these cannot be keys
        (repeated, missing, or 0, which pycocotools takes for "not matched").

        indices: only these images; default: all.
        """
        return part_of(self.tables.to_dict(), indices)

    def fingerprint(self) -> str:
        """A hash of the json's bytes; image files are not read."""
        return self.tables.digest + ("" if self._keep_empty else "-no-empty")

    def _read(self, index: int, height: int, width: int) -> Tensor:
        """The image in the orientation that the json's size, and so its boxes, refer to."""
        path = self.image_path(index)
        image = read_image(path)
        if image.shape[-2:] != (height, width):
            # COCO's own tools ignore EXIF rotation, so boxes may refer to the stored pixels.
            stored = read_image(path, apply_exif=False)
            if stored.shape[-2:] != (height, width):
                raise LabError(
                    f'"{path.name}" has {image.shape[2]}x{image.shape[1]} pixels, but '
                    f'{self.file} gives "width" {width}, "height" {height} for image '
                    f"id {self.tables.source_id(index)}. Use the images that were labelled, or "
                    "correct the json."
                )
            image = stored
        return image


class MissingJson(LabError):
    """A folder that has no json of a split."""


def open_splits(root: Path) -> list[CocoFolder]:
    """The splits "train" and "val", as far as ``root`` has a json for them.

    Raises LabError where it has none, or several files fit one of them.
    """
    jsons: dict[Path, str] = {}
    missing: MissingJson | None = None
    for split in SPLITS:
        try:
            jsons.setdefault(find_json(root, split), split)
        except MissingJson as error:
            missing = missing or error
    if missing is not None and not jsons:
        raise missing
    return [CocoFolder(root, split) for split in jsons.values()]


def find_json(root: Path, split: str) -> Path:
    """The json of ``split`` under ``root``, or ``root`` itself when it is a file.

    It is looked for in any letter case, in ``root`` or one folder down: ``train.json``; a folder
    ``train`` with the json of Roboflow, FiftyOne, Label Studio or LabelMe; ``annotations`` of COCO
    and CVAT; last, one json that is a whole export. "val" may be "valid" or "validation".
    """
    if root.is_file():
        return root
    if not root.is_dir():
        raise LabError(
            f'No folder "{root}". Give a folder with train.json, val.json and images/, '
            "or one json file."
        )
    there: dict[str, Path] = {}
    for at, folders, files in os.walk(root, followlinks=True):
        folder = Path(at)
        there |= {
            (folder / file).relative_to(root).as_posix(): folder / file
            for file in files
            if file.lower().endswith(".json")
        }
        if len(folder.relative_to(root).parts) >= _DEEP:
            folders.clear()
    there = dict(sorted(there.items(), key=lambda item: (item[0].count("/"), item[0])))
    names = SPLITS.get(split, re.escape(split))
    layouts = [layout.format(split=f"(?:{names})", whole=WHOLE) for layout in _LAYOUTS]
    for layout in (*layouts, *(f"[^/]+/{layout}" for layout in layouts[:-1])):
        found = [name for name in there if re.fullmatch(layout, name, re.IGNORECASE)]
        if len(found) == 1:
            return there[found[0]]
        if found:
            several = first_few(found)
            raise LabError(f'"{root}" has several files for "{split}": {several}. Give one.')
    here = first_few(list(there)) or "none"
    raise MissingJson(
        f'"{root}" has no {split}.json (nor annotations/instances_{split}2017.json); json files '
        f"found: {here}. Add it, or give a json file."
    )


def open_data(name: str | Path, split: str = "train") -> DetectionData:
    """Opens a data set: ``"shapes"``, ``"shapes:hard"``, or a folder or json file in COCO format.

    The shapes are drawn from fixed seeds: 100,000 images for ``train``, 500 others for ``val``.
    ``"./shapes"`` is a folder of that name. Raises a :class:`LabError` that lists what is possible
    when ``name`` is none of these.

    >>> data = open_data("shapes:easy", "val")
    >>> len(data), data[3].image.shape
    (500, torch.Size([3, 128, 128]))
    """
    if not isinstance(name, str | os.PathLike):
        raise LabError(f"A data set is given by its name or path, found {name!r:.80}.")
    kind, _, difficulty = str(name).partition(":")
    if kind == "shapes":
        return _open_shapes(difficulty or "normal", split)
    if not Path(name).exists():
        raise LabError(
            f'No data set "{name}": neither a folder nor a built-in name. Give "shapes", '
            f"{', '.join(f'shapes:{d}' for d in _DIFFICULTIES)}, or a folder with train.json, "
            "val.json and images/."
        )
    return CocoFolder(name, split)


def open_train_val(name: str | Path) -> tuple[DetectionData, DetectionData]:
    """The training and the validation part of a data set; ``name`` is as for :func:`open_data`.

    Raises :class:`LabError` for a single json file, which would be both.
    """
    train, val = open_data(name, "train"), open_data(name, "val")
    if isinstance(train, CocoFolder) and train.json_path == getattr(val, "json_path", None):
        raise LabError(
            f'"{name}" is one json file and has no validation part. Give a folder with train.json '
            "and val.json; in Python, val= may be another data set."
        )
    return train, val


def _open_shapes(difficulty: str, split: str) -> DetectionData:
    from sparse_rcnn_lab.data.shapes.dataset import Shapes  # only this needs the drawing code

    if split not in _SHAPES:
        raise LabError(f'"shapes" has the splits {", ".join(_SHAPES)}; found "{split}".')
    seed, length = _SHAPES[split]
    return Shapes(length=length, seed=seed, difficulty=difficulty)
