"""Colours a layout of shapes: backgrounds, inks that stand out, and the effects of a camera.

Images are ``[3, H, W]`` float32 RGB in 0..1. Pixels are only added, multiplied and divided (see
drawing.py), so the same dice give the same image on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from sparse_rcnn_lab.data.shapes.difficulty import Difficulty
from sparse_rcnn_lab.data.shapes.drawing import (
    Dice,
    Plane,
    Points,
    coverage,
    extent,
    snap,
    stroke,
    turn,
    window_of,
)
from sparse_rcnn_lab.data.shapes.layout import Layout, Placed

Colour = tuple[float, float, float]

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


@lru_cache(maxsize=16)
def _axis(length: int, side: float) -> Plane:
    """Pixel centres along an axis, 0 in the middle, in units of ``side`` pixels."""
    centres = (np.arange(length, dtype=np.float32) + np.float32(0.5 - length / 2)) / np.float32(
        side
    )
    return np.asarray(centres, dtype=np.float32)


@lru_cache(maxsize=256)
def _between(length: int, cells: int) -> tuple[np.ndarray, Plane]:
    """For each pixel along an axis: the grid cell it is in and its eased position in the cell."""
    place = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / length)
    cell = np.minimum(place.astype(np.int64), cells - 1)
    part = place - cell.astype(np.float32)
    return cell, part * part * (np.float32(3) - np.float32(2) * part)


def cloud(dice: Dice, height: int, width: int, rows: int, columns: int) -> Plane:
    """Smooth noise in -1..1: random values on a grid of cells, interpolated in between."""
    heights = (dice.units(rows + 1, columns + 1) * 2 - 1).astype(np.float32)
    row, down = _between(height, rows)
    column, across = _between(width, columns)
    down = down[:, None]
    lines = heights[row] + (heights[row + 1] - heights[row]) * down
    left = lines[:, column]
    return left + (lines[:, column + 1] - left) * across


def slope(angle: float, height: int, width: int) -> Plane:
    """Each pixel's distance from the centre along a direction, in units of the shorter side."""
    cosine, sine = turn(angle)
    side = float(min(height, width))
    across = _axis(width, side) * np.float32(cosine)
    down = _axis(height, side) * np.float32(sine)
    return across[None, :] + down[:, None]


def ramp(values: Plane, low: float, high: float) -> Plane:
    """An eased step: 0 below ``low``, 1 above ``high``."""
    part = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return part * part * (np.float32(3) - np.float32(2) * part)


def fill(image: Plane, colour: Colour | Plane, opacity: Plane | float) -> None:
    """Paints ``colour`` over ``image`` (or a window of it), in place."""
    tint = np.asarray(colour, dtype=np.float32)
    tint = tint[:, None, None] if tint.ndim == 1 else tint
    image += (tint - image) * np.asarray(opacity, dtype=np.float32)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter or darker by a factor."""
    red, green, blue = (min(max(part * factor, 0.0), 1.0) for part in colour)
    return red, green, blue


def any_colour(dice: Dice, low: float = 0.4, high: float = 1.8) -> Colour:
    """A random colour; its distance from grey is scaled by a factor from ``low`` to ``high``."""
    parts = [dice.unit() for _ in range(3)]
    mean, push = (parts[0] + parts[1] + parts[2]) / 3, dice.uniform(low, high)
    red, green, blue = (min(max(mean + (part - mean) * push, 0.0), 1.0) for part in parts)
    return red, green, blue


def paper(dice: Dice, height: int, width: int, texture: float) -> tuple[Plane, bool]:
    """A sheet or board to draw on, and whether it is dark, so that pens must be light."""
    dark = dice.chance(0.12)
    if dark:
        level, tint = dice.uniform(0.08, 0.28), dice.uniform(-0.04, 0.04)
        ground = (max(level - tint, 0.0), level + abs(tint), level)
    else:
        level, warm = dice.uniform(0.72, 1.0), dice.uniform(-0.03, 0.09)
        ground = (level, level * (1 - warm / 3), level * (1 - max(warm, -0.02)))
    image = np.empty((3, height, width), dtype=np.float32)
    image[:] = np.asarray(ground, dtype=np.float32)[:, None, None]
    if texture > 0 and not dark and dice.chance(0.3 + 0.2 * texture):
        _ruling(dice, image, texture)
    if texture > 0 and dice.chance(0.5):
        grain = cloud(dice, height, width, dice.integer(3, 24), dice.integer(3, 24))
        image += grain * np.float32(dice.uniform(0.01, 0.05) * texture)
    if dice.chance(0.2):
        _desk(dice, image, texture)
    return image, dark


def _ruling(dice: Dice, image: Plane, strength: float) -> None:
    """Rules or squares the paper, slightly rotated."""
    height, width = image.shape[1:]
    side = min(height, width)
    spacing, half = dice.uniform(0.05, 0.15), dice.uniform(0.3, 0.6)
    angle = dice.uniform(-0.15, 0.15)
    ink = dice.choice([(0.45, 0.6, 0.85), (0.6, 0.6, 0.62), (0.8, 0.55, 0.55), (0.5, 0.72, 0.7)])
    opacity = dice.uniform(0.15, 0.5) * min(strength + 0.3, 1.0)
    for direction in (angle + math.pi / 2, angle)[: dice.integer(1, 2)]:
        place = slope(direction, height, width) * np.float32(1 / spacing) + np.float32(dice.unit())
        off = np.abs(place - np.floor(place) - np.float32(0.5)) * np.float32(spacing * side)
        fill(image, ink, np.clip(np.float32(half + 0.5) - off, 0, 1) * np.float32(opacity))


def _desk(dice: Dice, image: Plane, texture: float) -> None:
    """Lets the sheet end within the image: a strip of desk on one or two sides."""
    height, width = image.shape[1:]
    desk, _ = scene(dice, height, width, texture)
    angle, turns = dice.uniform(-0.2, 0.2), dice.integer(0, 3)
    for step in range(dice.integer(1, 2)):
        across = slope(angle + (turns + step) * math.pi / 2, height, width)
        reach = float(across.max())
        edge = reach - dice.uniform(0.08, 0.22)
        fill(image, desk, ramp(across, edge - 0.008, edge + 0.008))


def scene(dice: Dice, height: int, width: int, texture: float) -> tuple[Plane, bool]:
    """A background of any colour: flat, a gradient, clouds or wood. It never counts as dark."""
    # Mostly muted colours, as behind most drawings.
    base = any_colour(dice, 0.1, 1.6 if dice.chance(0.25) else 0.6)
    image = np.empty((3, height, width), dtype=np.float32)
    image[:] = np.asarray(base, dtype=np.float32)[:, None, None]
    kind = dice.choice(["flat", "gradient", "clouds", "wood"])
    if kind == "gradient":
        other = shade(base, dice.uniform(0.5, 1.6))
        fill(image, other, ramp(slope(dice.uniform(0, 6.28), height, width), -0.7, 0.7))
    elif kind == "clouds" and texture > 0:
        cells = dice.integer(2, 6)
        noise = cloud(dice, height, width, cells, cells)
        noise = noise + cloud(dice, height, width, 3 * cells, 3 * cells) * np.float32(0.5)
        for channel in range(3):
            image[channel] += noise * np.float32(dice.uniform(0.04, 0.16) * texture)
    elif kind == "wood" and texture > 0:
        brown = dice.uniform(0.3, 0.85)
        planks = (brown, brown * dice.uniform(0.68, 0.85), brown * dice.uniform(0.4, 0.65))
        image[:] = np.asarray(planks, dtype=np.float32)[:, None, None]
        rows, columns = dice.choice([(2, 30), (30, 2), (3, 18), (18, 3)])
        noise = cloud(dice, height, width, rows, columns)
        noise = noise + cloud(dice, height, width, 3 * rows, 2 * columns) * np.float32(0.5)
        image += noise * np.float32(dice.uniform(0.03, 0.1) * texture)
    return image, False


def clutter(dice: Dice, image: Plane, amount: float) -> None:
    """Adds unlabelled marks behind the shapes: lines, scribbles, soft blobs, rows of dashes.

    At a low ``amount`` (0..1) they are faint and open, so that none can be taken for a shape.
    """
    height, width = image.shape[1:]
    side = min(height, width)
    for _ in range(dice.integer(1, 1 + round(3 * amount))):
        colour, opacity = any_colour(dice), dice.uniform(0.15, 0.3 + 0.5 * amount)
        start = dice.units(2) * (width, height)
        heading = turn(dice.uniform(0, 2 * math.pi))
        kind = dice.choice(["line", "scribble", "blob", "dashes"])
        if kind == "blob":
            rows, columns = dice.integer(2, 4), dice.integer(2, 4)
            patch = ramp(cloud(dice, height, width, rows, columns), 0.3, 0.9)
            fill(image, colour, patch * np.float32(opacity * 0.6))
            continue
        half = dice.uniform(0.004, 0.010) * side
        steps = np.linspace(0, 1, 12)[:, None]
        length = dice.uniform(0.2, 0.8) * side
        ahead, aside = np.asarray(heading), np.asarray((-heading[1], heading[0]))
        paths: list[Points] = []
        if kind == "line":
            paths.append(start + steps * length * ahead)
        elif kind == "scribble":
            swing = np.sin(steps * dice.uniform(4, 14)) * dice.uniform(0.02, 0.06) * side
            paths.append(start + steps * length * ahead + swing * aside)
        else:
            size, reach = dice.uniform(0.015, 0.03) * side, 0.0
            while reach < length:
                word = size * dice.uniform(0.6, 3.0)
                paths.append(start + np.asarray([[reach], [reach + word]]) * ahead)
                reach += word + size
        rings = [ring for path in paths for ring in stroke(snap(path), half, closed=False)]
        window = window_of(extent(rings), height, width)
        x1, y1, x2, y2 = window
        fill(image[:, y1:y2, x1:x2], colour, coverage(rings, window) * np.float32(opacity))


def light(dice: Dice, image: Plane, strength: float) -> None:
    """Adds uneven light to the whole image: falloff, vignette, the edge of a shadow; in place."""
    height, width = image.shape[1:]
    falloff = slope(dice.uniform(0, 6.28), height, width) * np.float32(
        dice.uniform(0, 0.35) * strength
    )
    lamp = np.float32(dice.uniform(0.85, 1.05)) + falloff
    if dice.chance(0.5):
        side = float(min(height, width))
        across, down = _axis(width, side), _axis(height, side)
        radius = (across * across)[None, :] + (down * down)[:, None]
        lamp = lamp - radius * np.float32(dice.uniform(0, 0.4) * strength)
    if dice.chance(0.35):
        across = slope(dice.uniform(0, 6.28), height, width)
        edge, soft = dice.uniform(-0.4, 0.4), dice.uniform(0.02, 0.3)
        depth = dice.uniform(0.1, 0.45) * strength
        lamp = lamp * (np.float32(1) - ramp(across, edge - soft, edge + soft) * np.float32(depth))
    image *= np.maximum(lamp, np.float32(0.3))


def _soften(image: Plane, amount: float) -> Plane:
    """Blurs with [1, 2, 1] / 4 along both axes, mixed in by ``amount`` in 0..1."""
    outer, inner = np.float32(amount / 4), np.float32(1 - amount / 2)
    pad = np.concatenate([image[:, :1], image, image[:, -1:]], axis=1)
    image = pad[:, 1:-1] * inner + (pad[:, :-2] + pad[:, 2:]) * outer
    pad = np.concatenate([image[:, :, :1], image, image[:, :, -1:]], axis=2)
    return pad[:, :, 1:-1] * inner + (pad[:, :, :-2] + pad[:, :, 2:]) * outer


def camera(dice: Dice, image: Plane, noise: float, photo: bool) -> np.ndarray:
    """Takes the photograph: blur, colour cast, weak chroma, sensor noise -> ``[3, H, W]`` uint8.

    noise: largest standard deviation of the sensor noise, in grey levels of 0..255.
    """
    height, width = image.shape[1:]
    if dice.chance(0.6 if photo else 0.25):
        for _ in range(dice.integer(1, 2)):
            image = _soften(image, dice.uniform(0.3, 1.0))
    if photo:
        gains = [dice.uniform(0.9, 1.1) for _ in range(3)]
        lift, gain = dice.uniform(-0.02, 0.08), dice.uniform(0.8, 1.05)
        gains = [gain * part for part in gains]
        image = image * np.asarray(gains, dtype=np.float32)[:, None, None] + np.float32(lift)
        if dice.chance(0.4):
            # As JPEG does, keep the brightness sharp and blur the rest, the colour.
            grey = (image[0] + image[1] + image[1] + image[2]) * np.float32(0.25)
            colour = image - grey
            image = _soften(_soften(colour, 1.0), 1.0) + grey
    sigma = dice.uniform(0, noise)
    levels = image * np.float32(255)
    if sigma > 0:
        levels = levels + dice.bell(height, width) * np.float32(sigma * 0.7)
        levels += dice.bell(3, height, width) * np.float32(sigma * 0.7)
    return np.clip(levels + np.float32(0.5), 0, 255).astype(np.uint8)


def _distance(colours: np.ndarray, colour: Colour, ignored: int) -> float:
    """The distance of a colour from ``colours`` ``[3, K]``, without the ``ignored`` nearest ones.

    0 for equal, 1 for black on white; half of it is brightness, so that red is never on an equally
    bright green.
    """
    red, green, blue = (colours[k] - np.float32(colour[k]) for k in range(3))
    hue = (red * red * 2 + green * green * 4 + blue * blue * 3) * np.float32(1 / 9)
    grey = red * np.float32(0.3) + green * np.float32(0.6) + blue * np.float32(0.1)
    return math.sqrt(float(np.sort((hue + grey * grey) * np.float32(0.5))[ignored]))


def _ink(
    dice: Dice,
    image: Plane,
    placed: Placed,
    wanted: Colour | None,
    pool: tuple[Colour, ...],
    contrast: float,
) -> Colour:
    """A colour that stands out from what is under the figure: ``wanted`` if it does."""
    height, width = image.shape[1:]
    at = np.clip(placed.figure.path, 0, (width - 1, height - 1)).astype(np.int64)
    under = image[:, at[:, 1], at[:, 0]]
    # Lines of one colour may cross, but touching areas of one colour would merge into one shape.
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
    """The image of a layout: ``[3, H, W]`` uint8, RGB."""
    photo = layout.photo
    image, dark = (paper if photo else scene)(dice, height, width, d.texture)
    if dice.chance(min(1.5 * d.clutter, 0.9)):
        clutter(dice, image, d.clutter)
    pool: tuple[Colour, ...] = (CHALKS if dark else PENS) if photo else ()
    one_pen = (
        shade(dice.choice(pool), dice.uniform(0.7, 1.2)) if pool and dice.chance(0.7) else None
    )
    for placed in layout.shapes:
        colour = _ink(dice, image, placed, one_pen, pool, d.contrast)
        x1, y1, x2, y2 = placed.window
        under = image[:, y1:y2, x1:x2]
        drawn = placed.figure
        opacity = dice.uniform(0.88, 1.0)
        if drawn.body:
            cover = coverage(drawn.body, placed.window) if drawn.line else placed.cover
            if dice.chance(0.3 * d.texture):
                # A marker leaves stripes.
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
        light(dice, image, 0.4 + 0.6 * d.texture)
    return camera(dice, image, d.noise, photo)
