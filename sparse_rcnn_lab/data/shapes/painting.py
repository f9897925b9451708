"""Colours a layout of shapes: grounds, inks that stand out, light and camera."""

from __future__ import annotations

import math

import numpy as np

from sparse_rcnn_lab.data.shapes.difficulty import Difficulty
from sparse_rcnn_lab.data.shapes.drawing import Dice, Plane, coverage
from sparse_rcnn_lab.data.shapes.layout import Layout, Placed
from sparse_rcnn_lab.data.shapes.scenery import (
    Colour,
    any_colour,
    camera,
    clutter,
    fill,
    light,
    paper,
    scene,
    shade,
    slope,
)

PENS: tuple[Colour, ...] = (
    (0.08, 0.08, 0.09),
    (0.12, 0.2, 0.55),
    (0.75, 0.12, 0.15),
    (0.1, 0.45, 0.22),
    (0.4, 0.15, 0.5),
    (0.85, 0.4, 0.08),
    (0.35, 0.22, 0.12),
)
CHALKS: tuple[Colour, ...] = (
    (0.95, 0.95, 0.92),
    (0.95, 0.88, 0.45),
    (0.95, 0.6, 0.65),
    (0.55, 0.8, 0.95),
    (0.6, 0.92, 0.6),
)


def _distance(colours: np.ndarray, colour: Colour, ignored: int) -> float:
    """How far a colour is from ``colours`` ``[3, K]``, but for the ``ignored`` nearest.

    0 alike, 1 black on white; half of it brightness, so that no red lies on an equal green.
    """
    red, green, blue = (colours[k] - np.float32(colour[k]) for k in range(3))
    hue = (red * red * 2 + green * green * 4 + blue * blue * 3) * np.float32(1 / 9)
    grey = red * np.float32(0.3) + green * np.float32(0.6) + blue * np.float32(0.1)
    return math.sqrt(float(np.sort((hue + grey * grey) * np.float32(0.5))[ignored]))


def _ink(
    dice: Dice,
    picture: Plane,
    placed: Placed,
    wanted: Colour | None,
    pool: tuple[Colour, ...],
    contrast: float,
) -> Colour:
    """A colour that stands out from what is under the figure; ``wanted`` if it does."""
    height, width = picture.shape[1:]
    at = np.clip(placed.figure.path, 0, (width - 1, height - 1)).astype(np.int64)
    under = picture[:, at[:, 1], at[:, 0]]
    # Lines of one colour may cross; areas of one colour that touch would be one shape.
    ignored = len(at) // (20 if placed.figure.body else 6)
    best: tuple[float, Colour] = (-1.0, (0.0, 0.0, 0.0))
    for attempt in range(8):
        if attempt == 0 and wanted is not None:
            colour = wanted
        elif pool and attempt < 4:
            colour = shade(dice.choice(pool), dice.uniform(0.8, 1.15))
        else:
            colour = any_colour(dice)
        far = _distance(under, colour, ignored)
        if far >= contrast:
            return colour
        best = max(best, (far, colour))
    ends: list[Colour] = [(0.04, 0.04, 0.04), (0.97, 0.97, 0.97)]
    return max([best, *((_distance(under, end, ignored), end) for end in ends)])[1]


def paint(dice: Dice, d: Difficulty, layout: Layout, height: int, width: int) -> np.ndarray:
    """The picture of a layout: ``[3, H, W]`` uint8, RGB."""
    photo = layout.photo
    picture, dark = (paper if photo else scene)(dice, height, width, d.texture)
    if dice.chance(min(1.5 * d.clutter, 0.9)):
        clutter(dice, picture, d.clutter)
    pool: tuple[Colour, ...] = (CHALKS if dark else PENS) if photo else ()
    one_pen = (
        shade(dice.choice(pool), dice.uniform(0.7, 1.2)) if pool and dice.chance(0.7) else None
    )
    for placed in layout.shapes:
        colour = _ink(dice, picture, placed, one_pen, pool, d.contrast)
        x1, y1, x2, y2 = placed.window
        under = picture[:, y1:y2, x1:x2]
        drawn = placed.figure
        opacity = dice.uniform(0.88, 1.0)
        if drawn.body:
            cover = coverage(drawn.body, placed.window) if drawn.line else placed.cover
            if dice.chance(0.3 * d.texture):
                # Marker ink lies in stripes.
                stripes = slope(dice.uniform(0, 6.28), height, width)[y1:y2, x1:x2]
                stripes = stripes * np.float32(dice.uniform(12, 40))
                weak = np.abs(stripes - np.floor(stripes) - np.float32(0.5))
                cover = cover * (np.float32(1) - weak * np.float32(dice.uniform(0.2, 0.6)))
            fill(under, colour, cover * np.float32(opacity))
            if drawn.line:
                edge = shade(colour, dice.uniform(0.3, 0.6) if dice.chance(0.7) else 1.6)
                fill(under, edge, coverage(drawn.line, placed.window))
        else:
            fill(under, colour, placed.cover * np.float32(opacity))
    if photo:
        light(dice, picture, 0.4 + 0.6 * d.texture)
    return camera(dice, picture, d.noise, photo)
