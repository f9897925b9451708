"""Outlines, pen strokes and their rasteriser, in numpy, with the same result on every machine.

Why not a drawing library: its pixels change with its version. Here sines and cosines only place
points, and points are snapped to a grid of 1/256 pixel, so a last-bit difference between maths
libraries vanishes; from there on only additions, products and quotients follow, which IEEE 754
fixes to the last bit.

A *ring* is a closed polygon ``[K, 2]`` (x, y) float64; *rings* are a list of them, filled by the
non-zero winding rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Plane = NDArray[np.float32]
Window = tuple[int, int, int, int]
T = TypeVar("T")

GRID = 256.0
# Lines per pixel row at which a polygon is cut; along x the coverage is exact.
SUBLINES = 4


class Dice:
    """Random numbers of one image; built on raw PCG64 bits, which numpy promises never to change.

    (It may change the distributions of ``Generator``: NEP 19.)
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def unit(self) -> float:
        """Uniform in 0..1, 1 excluded."""
        return int(self._bits.random_raw() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """Uniform between two numbers."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """Uniform whole number, both ends included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all alike."""
        return options[self.integer(0, len(options) - 1)]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """Uniform in 0..1, an array of this shape."""
        raw = self._bits.random_raw(math.prod(shape)) >> np.uint64(11)
        return raw.astype(np.float64).reshape(shape) * 2.0**-53

    def bell(self, *shape: int) -> Plane:
        """Nearly normal numbers, mean 0, deviation 1, within 3.5: four bytes added up."""
        count = math.prod(shape)
        raw = self._bits.random_raw((count + 1) // 2).astype("<u8").view(np.uint8)
        four = raw[: 4 * count].reshape(4, count).astype(np.int16)
        total = (four[0] + four[1] + four[2] + four[3] - 510).astype(np.float32)
        return (total * np.float32(1 / 147.8)).reshape(shape)


def snap(points: Any) -> Points:
    """Rounds coordinates to 1/256 pixel."""
    return np.round(np.asarray(points, dtype=np.float64) * GRID) / GRID


def turn(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle in radians, rounded so that they agree on every machine."""
    return round(math.cos(angle) * 65536) / 65536, round(math.sin(angle) * 65536) / 65536


def rounded(corners: Sequence[tuple[float, float]], radius: float, side_points: int = 2) -> Points:
    """A ring through a polygon's corners, each rounded off, with points along the sides.

    The sides get points of their own because a wobbly hand bends them.
    """
    corner = np.asarray(corners, dtype=np.float64)
    before, after = np.roll(corner, 1, 0) - corner, np.roll(corner, -1, 0) - corner
    length_before = np.hypot(before[:, 0], before[:, 1])[:, None]
    length_after = np.hypot(after[:, 0], after[:, 1])[:, None]
    start = corner + before * np.minimum(radius / length_before, 0.4)
    end = corner + after * np.minimum(radius / length_after, 0.4)
    points = [
        start * (1 - t) ** 2 + corner * (2 * t * (1 - t)) + end * t**2
        for t in (0.0, 0.35, 0.65, 1.0)
    ]
    following = np.roll(start, -1, 0)
    for k in range(1, side_points + 1):
        points.append(end + (following - end) * (k / (side_points + 1)))
    return np.stack(points, axis=1).reshape(-1, 2)


def stroke(path: Points, half_width: Points | float, closed: bool) -> list[Points]:
    """Rings that cover a pen stroke along ``path`` ``[K, 2]``; round ends where it is open.

    half_width: half the pen's width, pixels; one number or one for each point.
    """
    if closed:
        along = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    else:
        along = np.empty_like(path)
        along[1:-1] = path[2:] - path[:-2]
        along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)
    half = np.broadcast_to(np.asarray(half_width, dtype=np.float64), length.shape)[:, None]
    along = along / length[:, None] * half
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    left, right = path + normal, path - normal
    if closed:
        return [snap(left), snap(right[::-1])]
    slant = math.sqrt(0.5)
    end = path[-1] + np.stack(
        [(along[-1] + normal[-1]) * slant, along[-1], (along[-1] - normal[-1]) * slant]
    )
    start = path[0] + np.stack(
        [(-along[0] - normal[0]) * slant, -along[0], (normal[0] - along[0]) * slant]
    )
    return [snap(np.concatenate([left, end, right[::-1], start]))]


def extent(rings: Sequence[Points]) -> tuple[float, float, float, float]:
    """The tight xyxy box of the rings."""
    every = np.concatenate(list(rings))
    (x1, y1), (x2, y2) = every.min(0).tolist(), every.max(0).tolist()
    return x1, y1, x2, y2


def window_of(box: Sequence[float], height: int, width: int) -> Window:
    """The whole pixels a box touches, inside the image: x1, y1, x2, y2 (may be empty)."""
    x1, y1 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    return x1, y1, max(min(math.ceil(box[2]), width), x1), max(min(math.ceil(box[3]), height), y1)


def coverage(rings: Sequence[Points], window: Window) -> Plane:
    """How much of each pixel of ``window`` the rings cover: ``[h, w]`` float32 in 0..1.

    Each pixel row is cut by ``SUBLINES`` lines; where an edge crosses one, the winding number of
    all that lies to its right changes: sparse differences, then one running sum.
    """
    x0, y0, x1, y1 = window
    height, width = y1 - y0, x1 - x0
    if height <= 0 or width <= 0:
        return np.zeros((max(height, 0), max(width, 0)), dtype=np.float32)
    tail = np.concatenate(list(rings))
    head = np.concatenate([np.concatenate([ring[1:], ring[:1]]) for ring in rings])
    xa, xb = tail[:, 0] - x0, head[:, 0] - x0
    ya, yb = (tail[:, 1] - y0) * SUBLINES - 0.5, (head[:, 1] - y0) * SUBLINES - 0.5
    lines = height * SUBLINES
    first = np.clip(np.ceil(np.minimum(ya, yb)), 0, lines).astype(np.int64)
    count = np.clip(np.ceil(np.maximum(ya, yb)), 0, lines).astype(np.int64) - first
    edge = np.repeat(np.arange(len(tail)), count)
    line = np.arange(len(edge)) + np.repeat(first - np.cumsum(count) + count, count)
    rise = np.where(ya == yb, 1.0, yb - ya)
    x = np.clip(xa[edge] + (line - ya[edge]) * ((xb - xa) / rise)[edge], 0, width)
    column = x.astype(np.int64)
    sign = np.where(yb > ya, 1.0, -1.0)[edge]
    rest = sign * (x - column)
    cell = line * (width + 2) + column
    steps = np.bincount(
        np.concatenate([cell, cell + 1]),
        weights=np.concatenate([sign - rest, rest]),
        minlength=lines * (width + 2),
    )
    winding = np.cumsum(steps.reshape(lines, width + 2)[:, :width], axis=1)
    inside = np.minimum(np.abs(winding), 1.0).astype(np.float32).reshape(height, SUBLINES, width)
    return (inside[:, 0] + inside[:, 1] + inside[:, 2] + inside[:, 3]) * np.float32(0.25)
