"""Positions of text without overlaps: labels beside their boxes, names at the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]  # xyxy, pixels
_GAP = 1.0  # pixels that stay free between two labels


def place_labels(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], width: int, height: int
) -> list[tuple[int, int] | None]:
    """Places one label beside each box; earlier boxes choose first.

    boxes: xyxy, pixels of the image of ``width`` x ``height``.  sizes: (width, height) of each
    label, pixels.

    It tries in this order: above, below, inside at the top, inside at the bottom, right, left; each
    is shifted along the edge until free, then further out, up to three label heights away. Returns
    the top left corner of each label, or None where there is no free place near the box.
    """
    taken = np.empty((0, 4))
    places: list[tuple[int, int] | None] = []
    for box, (w, h) in zip(boxes, sizes, strict=True):
        place = _first_free(_candidates(box, w, h, width, height), w, h, width, height, taken)
        places.append(place)
        if place is not None:
            x, y = place
            taken = np.vstack([taken, [x, y, x + w, y + h]])
    return places


def _candidates(box: Box, w: int, h: int, width: int, height: int) -> np.ndarray:
    """``[K, 2]``: the top left corners to try, best first."""
    # Only the visible part of the box, as a label at an edge outside the image is useless.
    x1, x2 = (min(max(value, 0.0), width) for value in (box[0], box[2]))
    y1, y2 = (min(max(value, 0.0), height) for value in (box[1], box[3]))
    along_x = _shifts(x1, max(x1, x2 - w), max(h / 2, w / 4))
    along_y = _shifts(y1, max(y1, y2 - h), h / 2)
    roomy = y2 - y1 > 3 * h and x2 - x1 > w
    rows = [y1 - h, y1, y2, y2 - h] if roomy else [y1 - h, y2, y1, y2 - h]
    found = [(x, y) for y in rows for x in along_x]
    found += [(x, y) for x in (x2, x1 - w) for y in along_y]
    for step in range(1, 4):
        out = [y1 - h * (1 + step), y2 + h * step]
        found += [(x, y) for y in out for x in along_x]
    # Pushed back into the image, to whole pixels so that text stays sharp.
    corners = np.array(found).round()
    return corners.clip([0, 0], [max(width - w, 0), max(height - h, 0)])


def _shifts(first: float, last: float, step: float) -> list[float]:
    count = min(math.ceil((last - first) / step), 12)
    return [first + (last - first) * i / max(count, 1) for i in range(count + 1)]


def _first_free(
    corners: np.ndarray, w: int, h: int, width: int, height: int, taken: np.ndarray
) -> tuple[int, int] | None:
    if w > width or h > height:
        return None
    low, high = corners[:, None] - _GAP, corners[:, None] + [w + _GAP, h + _GAP]
    apart = (low >= taken[None, :, 2:]) | (high <= taken[None, :, :2])
    free = np.flatnonzero(apart.any(-1).all(-1))
    return None if free.size == 0 else (int(corners[free[0], 0]), int(corners[free[0], 1]))


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near as possible to ``values``, at least ``gap`` apart, within ``low`` to
    ``high``, in the same order; closer together where there is no room.
    """
    from scipy.optimize import isotonic_regression  # its import takes half a second

    order = np.argsort(values, kind="stable")
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    # After subtracting rank times gap, no position may be below the one before.
    shares = np.arange(len(order)) * gap
    result = np.zeros(len(order))
    if len(order):
        level = isotonic_regression(np.asarray(values, dtype=float)[order] - shares).x
        result[order] = level.clip(low, max(low, high - shares[-1])) + shares
    return result.tolist()
