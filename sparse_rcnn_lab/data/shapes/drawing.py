"""The six shapes, pen strokes and the rasteriser, in numpy, the same on every machine.

A drawing library is not used because its pixels change with its version. Here sines and cosines
only place points, and points are snapped to a grid of 1/256 pixel, so a last-bit difference between
maths libraries vanishes; after that there are only additions, products and quotients, which
IEEE 754 fixes to the last bit.

A *ring* is a closed polygon ``[K, 2]`` (x, y) float64; *rings* are a list of them, filled by the
non-zero winding rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Plane = NDArray[np.float32]
Window = tuple[int, int, int, int]
T = TypeVar("T")

CLASS_NAMES = ("circle", "square", "triangle", "star", "heart", "cross")

GRID = 256.0
# Scan lines per pixel row; along x the coverage is exact.
SUBLINES = 4


class Dice:
    """The random numbers of one image, from raw PCG64 bits, which numpy promises never to change.

    (It may change the distributions of ``Generator``: NEP 19.)
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def unit(self) -> float:
        """A uniform number in 0..1, 1 excluded."""
        return int(self._bits.random_raw() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """A uniform number between two numbers."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """A uniform whole number, both ends included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each with the same probability."""
        return options[self.integer(0, len(options) - 1)]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """An array of this shape, uniform in 0..1."""
        raw = self._bits.random_raw(math.prod(shape)) >> np.uint64(11)
        return raw.astype(np.float64).reshape(shape) * 2.0**-53

    def bell(self, *shape: int) -> Plane:
        """Nearly normal numbers, mean 0, deviation 1, within 3.5: each a sum of four bytes."""
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

    The sides get points of their own so that a wobbly hand can bend them.
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
    """Rings that cover a pen stroke along ``path`` ``[K, 2]``, with round ends where it is open.

    half_width: half of the pen's width, pixels; one number, or one for each point.
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
    """The pixels that a box touches, inside the image: x1, y1, x2, y2 (may be empty)."""
    x1, y1 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    return x1, y1, max(min(math.ceil(box[2]), width), x1), max(min(math.ceil(box[3]), height), y1)


def coverage(rings: Sequence[Points], window: Window) -> Plane:
    """How much of each pixel of ``window`` the rings cover: ``[h, w]`` float32 in 0..1.

    Each pixel row is cut by ``SUBLINES`` lines; where an edge crosses one, the winding number of
    everything to its right changes: sparse differences, then one cumulative sum.
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


# The six shapes, as somebody would make them with a pen or a pair of scissors


@dataclass(frozen=True)
class Hand:
    """How the shapes of one image are made; on paper one hand with one pen makes them all.

    pen: width of a stroke, pixels. outlined: probability of an outline rather than a filled
    shape. sketchy: whether outlines may stay a little open or overshoot. wobble: 0..1.
    tilt: largest rotation from upright, degrees.
    """

    pen: float
    outlined: float
    sketchy: bool
    wobble: float
    tilt: float


@dataclass(frozen=True)
class Figure:
    """A shape around the origin, in pixels. body: rings of its area; line: rings of its strokes.

    Either may be empty. path: points ``[K, 2]`` all along it, at which colours are compared.
    """

    label: int
    body: list[Points]
    line: list[Points]
    path: Points

    def box(self) -> tuple[float, float, float, float]:
        """The tight xyxy box of everything that is drawn."""
        return extent(self.body + self.line)

    def moved(self, shift: Points) -> Figure:
        """The same figure moved by ``shift`` ``[2]`` (x, y) pixels, on the grid of 1/256 pixel."""
        return Figure(
            self.label,
            [ring + shift for ring in self.body],
            [ring + shift for ring in self.line],
            self.path + shift,
        )


def _heart() -> Points:
    t = np.arange(40) * (2 * math.pi / 40)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], axis=1) / 16


def _circle() -> Points:
    t = np.arange(36) * (2 * math.pi / 36)
    return np.stack([np.cos(t), np.sin(t)], axis=1)


def _tips(count: int, radius: float = 1.0, first: float = 0.0) -> list[tuple[float, float]]:
    """Points on a circle, the first one at the top."""
    angles = [first + k * 2 * math.pi / count for k in range(count)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


HEART, CIRCLE = _heart(), _circle()


def _outline(dice: Dice, name: str) -> Points:
    """The ring of a filled or outlined shape, about -1..1, y down, upright."""
    soft = dice.uniform(0.03, 0.16)
    if name == "circle":
        return CIRCLE
    if name == "heart":
        return HEART * (1.0, dice.uniform(0.9, 1.15))
    if name == "square":
        return rounded([(-1, -1), (1, -1), (1, 1), (-1, 1)], soft, side_points=4)
    if name == "triangle":
        lean, top = dice.uniform(-0.25, 0.25), dice.uniform(0.8, 1.1)
        return rounded([(lean, -top), (1, 0.8), (-1, 0.8)], soft, side_points=4)
    if name == "star":
        inner = _tips(5, dice.uniform(0.36, 0.52), math.pi / 5)
        corners = [p for pair in zip(_tips(5), inner, strict=True) for p in pair]
        return rounded(corners, soft * 0.6, side_points=1)
    arm = dice.uniform(0.24, 0.4)
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return rounded(corners, soft * 0.6, side_points=1)


def _warp(dice: Dice, tilt: float, points: Points) -> Points:
    """Gently stretches, rotates and tilts a ring or path."""
    stretch = dice.uniform(0.9, 1.11)
    cosine, sine = turn(math.radians(dice.uniform(-tilt, tilt)))
    x, y = points[:, 0] * stretch, points[:, 1] / stretch
    x, y = x * cosine - y * sine, x * sine + y * cosine
    depth = 1 + x * dice.uniform(-0.1, 0.1) + y * dice.uniform(-0.1, 0.1)
    return np.stack([x / depth, y / depth], axis=1)


def _shake(dice: Dice, points: Points, amount: float) -> Points:
    """Bends a path of about unit size as an unsteady hand does: two slow waves on each axis."""
    t = np.linspace(0, 2 * math.pi, len(points), endpoint=False)
    for wave in (2, dice.integer(3, 6)):
        phase, size = dice.units(2) * 2 * math.pi, dice.uniform(0.2, 1.0) * amount / wave
        points = points + np.sin(t[:, None] * wave + phase) * size
    return points


def _closed_by_hand(dice: Dice, ring: Points, wobble: float) -> Points:
    """The ring as one stroke: starts anywhere, ends a little early or late, beside its start."""
    count = len(ring)
    keep = count + 1 + dice.integer(-(count // 24), count // 12)
    path = ring[(np.arange(keep) + dice.integer(0, count - 1)) % count]
    drift = (dice.units(2) - 0.5) * 0.25 * wobble
    return path + drift * np.linspace(0, 1, keep)[:, None]


def figure(dice: Dice, hand: Hand, label: int, side: float) -> Figure:
    """Draws the shape ``CLASS_NAMES[label]``, its longer side ``side`` pixels."""
    name = CLASS_NAMES[label]
    outlined = dice.chance(hand.outlined)
    shake = hand.wobble * (0.12 if outlined else 0.04)
    paths: list[Points] = []
    closed = False
    if outlined and name == "cross" and dice.chance(0.5):
        # Two strokes of a pen, as most people draw it.
        bar = np.linspace(-1, 1, 7)[:, None]
        both = _warp(dice, hand.tilt, np.concatenate([bar * (1.0, 0.0), bar * (0.0, 1.0)]))
        paths = [_shake(dice, both[:7], shake), _shake(dice, both[7:], shake)]
    else:
        ring = _outline(dice, name)
        if outlined and name == "star" and dice.chance(0.4):
            # Five strokes without lifting the pen.
            tips = _tips(5)
            ring = rounded([tips[k] for k in (0, 2, 4, 1, 3)], 0.06, side_points=3)
        ring = _shake(dice, _warp(dice, hand.tilt, ring), shake)
        closed = not (outlined and hand.sketchy and dice.chance(0.6))
        paths = [ring if closed else _closed_by_hand(dice, ring, hand.wobble)]
    every = np.concatenate(paths)
    low, high = every.min(0), every.max(0)
    bordered = not outlined and dice.chance(0.2)
    thick = min(hand.pen * dice.uniform(0.85, 1.15), 0.1 * side) if outlined or bordered else 0.0
    thick = max(thick, 1.2) if thick else 0.0
    scale = (side - thick) / float((high - low).max())
    paths = [(path - (low + high) / 2) * scale for path in paths]
    line: list[Points] = []
    for path in paths if thick else []:
        press = 1 + 0.2 * hand.wobble * np.sin(
            np.linspace(0, 2 * math.pi, len(path), endpoint=False) + dice.uniform(0, 6.28)
        )
        line += stroke(path, press * (thick / 2), closed)
    body = [] if outlined else [snap(paths[0])]
    return Figure(label, body, line, snap(np.concatenate(paths)))
