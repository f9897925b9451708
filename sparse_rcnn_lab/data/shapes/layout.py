"""Which shapes an image has, and where: everything its boxes depend on, before any colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.data.shapes.difficulty import Difficulty
from sparse_rcnn_lab.data.shapes.drawing import (
    CLASS_NAMES,
    Dice,
    Figure,
    Hand,
    Plane,
    Points,
    Window,
    coverage,
    figure,
    snap,
    window_of,
)

Box = tuple[float, float, float, float]
# How many positions are tried for a shape before it is left out.
PLACES = 12


@dataclass
class Placed:
    """A figure at its position. cover: how much of each pixel of its window it hides, ``[h, w]``.

    free: the same, less what later figures hide of it. box: xyxy, pixels, clipped to the image,
    as if nothing were on top.
    """

    figure: Figure
    box: Box
    window: Window
    cover: Plane
    free: Plane


@dataclass(frozen=True)
class Layout:
    """The figures of one image, the lowest one first, and whether it is a photo of paper."""

    shapes: list[Placed]
    photo: bool

    def boxes(self) -> torch.Tensor:
        """``[M, 4]`` float32, xyxy, pixels: tight around the visible part of each figure."""
        return torch.tensor([visible_box(s) for s in self.shapes], dtype=torch.float32).view(-1, 4)

    def labels(self) -> torch.Tensor:
        """``[M]`` int64, index into ``CLASS_NAMES``."""
        return torch.tensor([s.figure.label for s in self.shapes], dtype=torch.int64)


def _amount(cover: Plane) -> float:
    # float64, since the order of a sum, and so its last float32 bit, differs between machines.
    return float(cover.sum(dtype=np.float64))


def _hide(placed: Placed, window: Window, cover: Plane) -> Plane | None:
    """The part of ``placed`` that ``cover`` leaves visible; None where they do not overlap."""
    x1, y1 = max(placed.window[0], window[0]), max(placed.window[1], window[1])
    x2, y2 = min(placed.window[2], window[2]), min(placed.window[3], window[3])
    if x1 >= x2 or y1 >= y2:
        return None
    free = placed.free.copy()
    ox, oy = placed.window[:2]
    top = cover[y1 - window[1] : y2 - window[1], x1 - window[0] : x2 - window[0]]
    free[y1 - oy : y2 - oy, x1 - ox : x2 - ox] *= 1 - top
    return free


def _sides(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box of the true pixels of a mask ``[h, w]``; all zero where there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def visible_box(placed: Placed) -> Box:
    """The box of the visible part; exact where no later figure hides a side of it."""
    if placed.free is placed.cover:
        return placed.box
    full, left = _sides(placed.cover > 0.4), _sides(placed.free > 0.4)
    x0, y0 = placed.window[:2]
    box = [
        exact if abs(now - before) <= 1 else float(now + start)
        for exact, before, now, start in zip(placed.box, full, left, (x0, y0, x0, y0), strict=True)
    ]
    return box[0], box[1], box[2], box[3]


def _places(
    dice: Dice, d: Difficulty, box: Box, taken: list[Box], height: int, width: int
) -> Iterator[tuple[Points, Box]]:
    """Shifts that put ``box`` into the image, clear of ``taken``, each with the clipped box."""
    x1, y1, x2, y2 = box
    beyond_x, beyond_y = d.outside * (x2 - x1), d.outside * (y2 - y1)
    low = np.asarray((-beyond_x - x1, -beyond_y - y1))
    high = np.asarray((width + beyond_x - x2, height + beyond_y - y2))
    shifts = snap(low + (high - low) * dice.units(PLACES, 2))
    boxes = box_ops.clip(torch.from_numpy(np.tile(shifts, 2) + np.asarray(box)), height, width)
    if taken:
        overlap = box_ops.iou(boxes, torch.tensor(taken, dtype=torch.float64)).amax(1).tolist()
    else:
        overlap = [0.0] * PLACES
    for shift, place, shared in zip(shifts, boxes.tolist(), overlap, strict=True):
        if shared <= d.overlap:
            left, top, right, bottom = place
            yield shift, (left, top, right, bottom)


def lay_out(dice: Dice, d: Difficulty, height: int, width: int) -> Layout:
    """Chooses and places the figures of an image of ``height`` by ``width`` pixels."""
    photo = dice.chance(d.photo)
    side = min(height, width)
    hand = Hand(
        pen=dice.uniform(0.012, 0.045) * side,
        outlined=dice.choice([1.0, 1.0, 0.7, 0.3] if photo else [0.0, 0.3, 0.6]),
        sketchy=photo and d.wobble > 0,
        wobble=d.wobble * (1.0 if photo else dice.choice([0.0, 0.3])),
        tilt=d.tilt,
    )
    shapes: list[Placed] = []
    taken: list[Box] = []
    for _ in range(dice.integer(d.min_objects, d.max_objects)):
        label = dice.integer(0, len(CLASS_NAMES) - 1)
        # Uniform in the logarithm: as many from 10 to 20 pixels as from 20 to 40.
        size = d.min_size * (d.max_size / d.min_size) ** dice.unit()
        drawn = figure(dice, hand, label, max(round(size * side * 8) / 8, 6.0))
        for shift, box in _places(dice, d, drawn.box(), taken, height, width):
            placed = drawn.moved(shift)
            window = window_of(box, height, width)
            cover = coverage(placed.body + placed.line, window)
            frees = [_hide(other, window, cover) for other in shapes]
            pairs = list(zip(frees, shapes, strict=True))
            if all(f is None or _amount(f) >= d.visible * _amount(o.cover) for f, o in pairs):
                for free, other in pairs:
                    other.free = other.free if free is None else free
                shapes.append(Placed(placed, box, window, cover, cover))
                taken.append(box)
                break
    return Layout(shapes, photo)
