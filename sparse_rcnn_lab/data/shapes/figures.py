"""The six shapes, as somebody with a pen or a pair of scissors would make them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparse_rcnn_lab.data.shapes.drawing import Dice, Points, extent, rounded, snap, stroke, turn

CLASS_NAMES = ("circle", "square", "triangle", "star", "heart", "cross")


@dataclass(frozen=True)
class Hand:
    """How the shapes of one image are made; on paper one hand with one pen makes them all.

    pen: width of a stroke, pixels. outlined: probability of an outline rather than a filled
    shape. sketchy: whether outlines may stay a little open or overshoot. wobble: 0..1.
    tilt: largest turn from upright, degrees.
    """

    pen: float
    outlined: float
    sketchy: bool
    wobble: float
    tilt: float


@dataclass(frozen=True)
class Figure:
    """A shape around the origin, pixels. body: rings of its area; line: rings of its strokes.

    Either may be empty. path: points ``[K, 2]`` all along it, to look at the colours there.
    """

    label: int
    body: list[Points]
    line: list[Points]
    path: Points

    def box(self) -> tuple[float, float, float, float]:
        """Tight xyxy box of all that is drawn."""
        return extent(self.body + self.line)

    def moved(self, shift: Points) -> Figure:
        """The same figure, moved by ``shift`` ``[2]`` (x, y) pixels, on the grid of drawing.py."""
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
    """Points on a circle, the first at the top."""
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
    """Stretches, turns and tilts a ring or path, all gently."""
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
    """The ring as one stroke: starts anywhere, stops a little early or late, misses the start."""
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
        # Two strokes of a pen, as most people would.
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
