"""Shapes: images drawn on demand from a seed, with their boxes; no download.

The same (seed, index, size, difficulty) gives the same pixels on every machine. About half of the
images look like a sheet of paper with pen drawings in front of a webcam, so that a detector
trained on them also finds shapes that somebody really drew.

difficulty.py has the settings; layout.py chooses and places the shapes of drawing.py, which also
has the dice and the rasteriser; painting.py colours them in front of paper, wood and clutter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import Sample, sample_number
from sparse_rcnn_lab.data.shapes.difficulty import PRESETS, Difficulty
from sparse_rcnn_lab.data.shapes.drawing import CLASS_NAMES, Dice
from sparse_rcnn_lab.data.shapes.layout import Layout, lay_out
from sparse_rcnn_lab.data.shapes.painting import paint

__all__ = ["CLASS_NAMES", "PRESETS", "Difficulty", "Shapes", "shapes_image"]

# Part of the fingerprint: raise it whenever a change alters any pixel or box.
VERSION = 1


class Shapes:
    """A data set of drawn shapes: circle, square, triangle, star, heart, cross.

    length: number of images, at least 1. seed: a whole number from 0 to 2**32 - 1.
    size: side in pixels, or (height, width), 32 to 2048. difficulty: "easy", "normal", "hard" or
    a :class:`Difficulty`. Raises LabError for anything else.

    Items are :class:`Sample`: image ``[3, H, W]`` uint8, boxes ``[M, 4]`` xyxy in its pixels,
    tight around the visible part of each shape; M may be 0 where the difficulty allows it.
    A negative index counts from the end; one beyond the length raises IndexError.

    >>> data = Shapes(length=3, seed=5)
    >>> sample = data[1]
    >>> sample.image.shape, [data.class_names[label] for label in sample.labels]
    (torch.Size([3, 128, 128]), ['star', 'heart', 'square', 'heart'])
    """

    def __init__(
        self,
        length: int = 4096,
        seed: int = 0,
        size: int | tuple[int, int] = 128,
        difficulty: str | Difficulty = "normal",
    ) -> None:
        sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(sides) != 2:
            raise LabError(f"Shapes size must be one side or (height, width), found {size!r}.")
        self._length = _whole("length", length, 1, 10**9)
        self.seed = _whole("seed", seed, 0, 2**32 - 1)
        self.size = (_whole("size", sides[0], 32, 2048), _whole("size", sides[1], 32, 2048))
        if isinstance(difficulty, str):
            difficulty = Difficulty.named(difficulty)
        if not isinstance(difficulty, Difficulty):
            raise LabError(
                f"Shapes difficulty must be one of {', '.join(PRESETS)} or a Difficulty, "
                f"found {difficulty!r}."
            )
        self.difficulty = difficulty
        self._laid_out: dict[int, list[dict[str, Any]]] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; a label is an index into this."""
        return CLASS_NAMES

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        height, width = self.size
        return f"Shapes({self._length} images of {width}x{height} px, seed {self.seed})"

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._length))

    def _layout(self, index: int) -> Layout:
        # Layout and paint have separate dice, so boxes can be computed without painting.
        return lay_out(Dice(self.seed, index, 0), self.difficulty, *self.size)

    def __getitem__(self, index: int) -> Sample:
        index = sample_number(index)
        if not -self._length <= index < self._length:
            raise IndexError(f"Shapes has {self._length} images, there is no number {index}.")
        index %= self._length
        layout = self._layout(index)
        pixels = paint(Dice(self.seed, index, 1), self.difficulty, layout, *self.size)
        return Sample(
            image=torch.from_numpy(pixels),
            boxes=layout.boxes(),
            labels=layout.labels(),
            image_id=index,
            name=f"shapes seed {self.seed} image {index}",
        )

    def _annotations(self, index: int) -> list[dict[str, Any]]:
        """The annotations of one image, without ids; its layout is computed only once."""
        if index not in self._laid_out:
            layout = self._layout(index)
            boxes = layout.boxes()
            self._laid_out[index] = [
                {"image_id": index, "category_id": label + 1, "bbox": b, "area": a, "iscrowd": 0}
                for label, b, a in zip(
                    layout.labels().tolist(),
                    box_ops.xyxy_to_xywh(boxes).tolist(),
                    box_ops.area(boxes).tolist(),
                    strict=True,
                )
            ]
        return self._laid_out[index]

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """The COCO dictionary; ``area`` is that of the box. Layouts are computed when first needed.

        indices: only these images, not negative; default: all.
        """
        height, width = self.size
        chosen = range(self._length) if indices is None else indices
        found = chain.from_iterable(self._annotations(index) for index in chosen)
        return {
            "images": [
                {"id": index, "file_name": f"{index:06d}.png", "height": height, "width": width}
                for index in chosen
            ],
            # Numbered from 1, since pycocotools takes annotation 0 for "no match".
            "annotations": [{"id": number, **row} for number, row in enumerate(found, 1)],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASS_NAMES)],
        }

    def category_ids(self) -> tuple[int, ...]:
        """The COCO category id of each label: 1 to 6."""
        return tuple(range(1, len(CLASS_NAMES) + 1))

    def fingerprint(self) -> str:
        """A short hash of the generator's version and settings, which determine every pixel."""
        settings = [VERSION, CLASS_NAMES, self._length, self.seed, self.size]
        text = json.dumps([*settings, asdict(self.difficulty)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def shapes_image(
    seed: int = 0, size: int | tuple[int, int] = 128, difficulty: str | Difficulty = "normal"
) -> Sample:
    """One drawn image: the first of ``Shapes(seed=seed, ...)``.

    >>> shapes_image(seed=5).name
    'shapes seed 5 image 0'
    """
    return Shapes(1, seed, size, difficulty)[0]


def _whole(name: str, value: object, low: int, high: int) -> int:
    """The value as an int. Raises LabError where it is not one, or out of range."""
    number = int(value) if isinstance(value, np.integer) else value
    if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
        return number
    raise LabError(f"Shapes {name} must be a whole number from {low} to {high}, found {value!r}.")
