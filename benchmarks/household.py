"""Drawn photographs of a mug, a key ring and scissors on cluttered tables, with their true boxes.

What a webcam would see of them: each table another one (wood, cloth, stone, carpet, paper, a dark
mat), other light, things lying about that are none of the three, a camera held by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

NAMES = ("mug", "keys", "scissors")
SIZE = (640, 480)  # of a frame
SCALES = (0.6, 1.6)
Truth = list[tuple[str, tuple[float, float, float, float]]]  # (name, xyxy in pixels) of each object
_TABLE = (860, 660)  # a frame is a part of it
_FINE = 360  # pixels of a drawing's side, -1.2 to 1.2
_UNIT = 62.0  # pixels of the table that 1 of a drawing is, at scale 1
_SEEN = 0.3  # share of an object in the frame from which on it counts


@dataclass(frozen=True)
class Scene:
    """A table as it lies there. pixels: ``[H, W, 3]``.  masks: where each object is, ``[H, W]``.

    shake: numbers that say how the hand moves.
    """

    pixels: np.ndarray
    masks: tuple[tuple[str, np.ndarray], ...]
    shake: np.ndarray

    def frame(self, seconds: float) -> tuple[Image.Image, Truth]:
        """What the camera sees at a time, blurred by its motion, and what is where."""
        table = Image.fromarray(self.pixels)
        moments = [self._affine(seconds + share / 30) for share in (0.0, 0.33, 0.67)]
        views = [np.asarray(_seen(table, m, Image.Resampling.BILINEAR)) for m in moments]
        blurred = np.mean(views, axis=0, dtype=np.float32) * (1 + 0.03 * sin(2 * seconds))
        rng = np.random.default_rng(int(1000 * seconds))
        blurred += 3 * rng.standard_normal(blurred.shape, dtype=np.float32)  # the sensor's noise
        truth: Truth = []
        for name, mask in self.masks:
            seen = np.asarray(_seen(Image.fromarray(mask), moments[1], Image.Resampling.NEAREST))
            rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
            if len(rows) and seen.sum() >= _SEEN * mask.sum():
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                truth.append((name, tuple(map(float, box))))  # type: ignore[arg-type]
        return Image.fromarray(blurred.clip(0, 255).astype(np.uint8)), truth

    def _affine(self, t: float) -> tuple[float, ...]:
        a = self.shake
        waves = [sin(a[i] * t + a[i + 4]) for i in range(4)]
        tremor = [1.5 * sin(25 * t + a[8]), 1.5 * sin(31 * t + a[9])]
        turn, zoom = 0.05 * waves[2], 1.06 + 0.06 * waves[3]
        c, s = cos(turn) / zoom, sin(turn) / zoom
        x, y = (_TABLE[k] / 2 + 24 * waves[k] + tremor[k] for k in range(2))
        w, h = SIZE[0] / 2, SIZE[1] / 2
        return (c, -s, x - c * w + s * h, s, c, y - s * w - c * h)


def scene(seed: int, objects: Sequence[str]) -> Scene:
    """A table with these objects; the same for the same seed."""
    rng = np.random.default_rng(seed)
    table = _texture(rng)
    light = np.array([cos(a := rng.uniform(0, 2 * pi)), sin(a)])
    for _ in range(rng.integers(2, 6)):
        thing = CLUTTER[rng.integers(len(CLUTTER))]
        place = rng.uniform((120, 110), (_TABLE[0] - 120, _TABLE[1] - 110))
        _lay(table, thing, rng, rng.uniform(0.7, 1.5), rng.uniform(0, 360), place, light)
    masks: list[tuple[str, np.ndarray]] = []
    for name in objects:
        scale = rng.uniform(*SCALES)
        angle = rng.uniform(-25, 25) if name == "mug" else rng.uniform(0, 360)
        far = _UNIT * scale
        for _ in range(60):  # beside the others; on a full table it lies on them
            low, high = np.array((150, 130)) + 0.6 * far, np.array(_TABLE) - (150, 130) - 0.6 * far
            place = rng.uniform(low, np.maximum(high, low + 1))
            ahead = np.zeros(table.shape[:2], dtype=bool)
            reach = (
                int(v) for v in (place[1] - far, place[1] + far, place[0] - far, place[0] + far)
            )
            top, bottom, left, right = (max(0, v) for v in reach)
            ahead[top:bottom, left:right] = True
            if not any((ahead & mask).any() for _, mask in masks):
                break
        masks.append((name, _lay(table, DRAWN[name], rng, scale, angle, place, light)))
    ramp = np.linspace(-1, 1, _TABLE[0])[None, :] * light[0]
    ramp = ramp + np.linspace(-1, 1, _TABLE[1])[:, None] * light[1]
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    lit = table * (rng.uniform(0.75, 1.15) - 0.18 * ramp)[..., None] * tint
    shake = np.concatenate([rng.uniform(0.6, 1.6, 4), rng.uniform(0, 2 * pi, 6)])
    return Scene((255 * lit).clip(0, 255).astype(np.uint8), tuple(masks), shake)


def scenes(seed: int, count: int, empty: int = 0) -> list[Scene]:
    """So many tables with one to three of the objects, and spread among them ``empty`` without."""
    rng = np.random.default_rng(seed)
    without = {int((i + 0.5) * (count + empty) / empty) for i in range(empty)} if empty else set()
    numbers = [
        0 if i in without else rng.choice((1, 2, 3), p=(0.2, 0.4, 0.4))
        for i in range(count + empty)
    ]
    return [
        scene(1000 * seed + i, [str(name) for name in rng.permutation(NAMES)[:number]])
        for i, number in enumerate(numbers)
    ]


class Video:
    """Motion JPEG for a fake camera, written to ``path``, each scene so many seconds long.

    rate: pictures a second that differ. Chromium plays such a file at 30 a second, over and over.
    """

    def __init__(self, path: Path, shown: Sequence[Scene], seconds: float, rate: int = 10) -> None:
        self.path = path
        self._truths: list[Truth] = []
        looks = []
        with path.open("wb") as file:
            for place in shown:
                for i in range(round(seconds * rate)):
                    image, truth = place.frame(i / rate)
                    self._truths.append(truth)
                    looks.append(_look(image))
                    file.write(jpeg(image) * (30 // rate))
        self._looks = np.stack(looks)

    def truth(self, image: Image.Image) -> Truth:
        """What is where in an image taken of this video: that of the picture most like it."""
        return self._truths[int(np.square(self._looks - _look(image)).sum(1).argmin())]


def _look(image: Image.Image) -> np.ndarray:
    small = image.convert("L").resize((64, 48), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def write_coco(folder: Path, shown: Sequence[Scene]) -> list[Truth]:
    """One frame of each scene as ``images/000.jpg``, .., with ``val.json``; what is where."""
    (folder / "images").mkdir(parents=True)
    rows: dict[str, list[Any]] = {"images": [], "annotations": []}
    rows["categories"] = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    truths = []
    for number, place in enumerate(shown):
        image, truth = place.frame(1.0)
        truths.append(truth)
        name = f"{number:03d}.jpg"
        (folder / "images" / name).write_bytes(jpeg(image))
        row = {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        rows["images"].append(row)
        for what, (x1, y1, x2, y2) in truth:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            ids = {"id": len(rows["annotations"]) + 1, "image_id": number}
            rows["annotations"].append({**ids, **box, "category_id": NAMES.index(what) + 1})
    (folder / "val.json").write_text(json.dumps(rows), encoding="utf-8")
    return truths


def jpeg(image: Image.Image) -> bytes:
    """As a webcam compresses."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


# How things are drawn: each a list of parts, (polygons or holes, colour, gloss), -1..1 across.

Part = tuple[list[np.ndarray], list[np.ndarray], tuple[float, float, float], float]
Drawing = Callable[[np.random.Generator], list[Part]]


def _round(
    x: float, y: float, rx: float, ry: float | None = None, start: float = 0.0, end: float = 2 * pi
) -> np.ndarray:
    angles = np.linspace(start, end, 60)
    return np.stack([x + rx * np.cos(angles), y + (rx if ry is None else ry) * np.sin(angles)], 1)


def _bar(x1: float, y1: float, x2: float, y2: float, wide: float) -> np.ndarray:
    along = np.array([x2 - x1, y2 - y1])
    across = wide / 2 * np.array([-along[1], along[0]]) / np.hypot(*along)
    a, b = np.array([x1, y1]), np.array([x2, y2])
    return np.stack([a + across, b + across, b - across, a - across])


def _turned(points: np.ndarray, angle: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    c, s = cos(angle), sin(angle)
    return (points - (x, y)) @ np.array([[c, s], [-s, c]]) + (x, y)


def _mug(rng: np.random.Generator) -> list[Part]:
    flat = rng.uniform(0.12, 0.3)  # how steeply the camera looks down
    x = rng.choice((-0.66, 0.66))  # of the handle

    def band(top: float, bottom: float) -> np.ndarray:
        wide = [0.6 - 0.08 * (y + 0.6) / 1.3 for y in (top, bottom)]
        upper = _round(0, top, wide[0], flat, 0, pi)
        return np.concatenate([upper, _round(0, bottom, wide[1], flat, 0, pi)[::-1]])

    return [
        ([_round(x, 0.05, 0.38, 0.42)], [_round(x, 0.05, 0.24, 0.28)], (0.1, 0.42, 0.5), 0.5),
        ([band(-0.6, 0.7), _round(0, -0.6, 0.6, flat)], [], (0.12, 0.5, 0.58), 0.6),
        ([band(-0.05, 0.3)], [], (0.93, 0.9, 0.8), 0.4),
        ([_round(0, -0.6, 0.53, 0.86 * flat)], [], (0.05, 0.2, 0.24), 0.1),
        ([_round(0, -0.56, 0.46, 0.66 * flat)], [], (0.26, 0.15, 0.08), 0.3),
    ]  # fmt: skip


def _keys(rng: np.random.Generator) -> list[Part]:
    parts: list[Part] = []
    fan = np.sort(rng.uniform(-1.1, 1.1, 4))
    for place, angle in enumerate(fan):
        if place == 1:
            fob = [_bar(0, -0.25, 0, 0.6, 0.4), _round(0, 0.6, 0.2)]
            parts.append(([_turned(p, angle, 0, -0.45) for p in fob], [], (0.7, 0.1, 0.12), 0.35))
            continue
        teeth = [_bar(0.04, y, 0.13, y, 0.07) for y in (0.62, 0.75, 0.88)]
        key = [_round(0, 0.0, 0.22, 0.2), _bar(0, 0.1, 0, 1.0, 0.12), *teeth]
        colour = ((0.75, 0.6, 0.25), (0.66, 0.68, 0.72))[place % 2]
        hole = [_turned(_round(0, -0.08, 0.07), angle, 0, -0.45)]
        parts.append(([_turned(p, angle, 0, -0.45) for p in key], hole, colour, 0.9))
    ring = ([_round(0, -0.5, 0.36)], [_round(0, -0.5, 0.29)], (0.72, 0.74, 0.78), 1.0)
    return [*parts, ring]


def _scissors(rng: np.random.Generator) -> list[Part]:
    parts: list[Part] = []
    half = rng.uniform(0.06, 0.42)
    for side in (-1.0, 1.0):
        blade = np.array([[-0.07, 0.12], [-0.04, -0.6], [0.03, -1.1], [0.09, -0.5], [0.08, 0.12]])
        shank = _bar(0, 0.05, -0.16, 0.45, 0.15)
        loop, hole = _round(-0.24, 0.72, 0.24, 0.32), _round(-0.24, 0.72, 0.14, 0.22)
        flip = np.array([side, 1.0])
        steel, grip = (
            [_turned(p * flip, side * half) for p in ps] for ps in ([blade], [shank, loop])
        )
        parts.append((steel, [], (0.74, 0.76, 0.8), 1.0))
        parts.append((grip, [_turned(hole * flip, side * half)], (0.93, 0.42, 0.06), 0.6))
    return [*parts, ([_round(0, 0, 0.07)], [], (0.5, 0.5, 0.54), 1.0)]


def _plain(rng: np.random.Generator) -> tuple[float, float, float]:
    r, g, b = rng.uniform(0.1, 0.9, 3)
    return (r, g, b)


def _pen(rng: np.random.Generator) -> list[Part]:
    return [
        ([_bar(0, -1, 0, 0.9, 0.14)], [], _plain(rng), 0.8),
        ([_bar(0, 0.9, 0, 1.1, 0.06)], [], (0.2,) * 3, 0.5),
    ]


def _book(rng: np.random.Generator) -> list[Part]:
    wide = rng.uniform(0.9, 1.6)
    return [
        ([_bar(0, -1, 0, 1, wide)], [], _plain(rng), 0.1),
        ([_bar(0, -0.7, 0, -0.4, 0.7 * wide)], [], _plain(rng), 0.0),
    ]


def _phone(rng: np.random.Generator) -> list[Part]:
    return [
        ([_bar(0, -0.9, 0, 0.9, 0.9)], [], (0.1, 0.1, 0.12), 0.5),
        ([_bar(0, -0.8, 0, 0.8, 0.8)], [], (0.2, 0.25, 0.35), 0.2),
    ]


def _plate(rng: np.random.Generator) -> list[Part]:
    return [
        ([_round(0, 0, 1.0)], [], (0.88, 0.88, 0.9), 0.3),
        ([_round(0, 0, 0.68)], [], (0.8, 0.8, 0.83), 0.3),
    ]


def _tape(rng: np.random.Generator) -> list[Part]:
    return [([_round(0, 0, 0.5)], [_round(0, 0, 0.3)], _plain(rng), 0.5)]


def _coin(rng: np.random.Generator) -> list[Part]:
    return [
        ([_round(0, 0, 0.2)], [], (0.72, 0.55, 0.3), 0.9),
        ([_round(0, 0, 0.15)], [], (0.78, 0.62, 0.36), 0.9),
    ]


def _spoon(rng: np.random.Generator) -> list[Part]:
    return [([_round(0, -0.7, 0.22, 0.34), _bar(0, -0.4, 0, 1.0, 0.1)], [], (0.75, 0.76, 0.8), 1.0)]


DRAWN: dict[str, Drawing] = {"mug": _mug, "keys": _keys, "scissors": _scissors}
CLUTTER: tuple[Drawing, ...] = (_pen, _book, _phone, _plate, _tape, _coin, _spoon)


def _lay(
    table: np.ndarray, drawing: Drawing, rng: np.random.Generator, scale: float, angle: float,
    place: np.ndarray, light: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Puts a thing onto the table, in place; where it is, ``[H, W]`` bool."""
    turn = angle * pi / 180
    falls = np.array(
        [cos(turn) * light[0] + sin(turn) * light[1], -sin(turn) * light[0] + cos(turn) * light[1]]
    )
    layer = np.zeros((_FINE, _FINE, 4), dtype=np.float32)
    for polygons, holes, colour, gloss in drawing(rng):
        mask = Image.new("L", (_FINE, _FINE))
        pen = ImageDraw.Draw(mask)
        for points, value in [(p, 255) for p in polygons] + [(h, 0) for h in holes]:
            pen.polygon([tuple(v) for v in (points / 2.4 + 0.5) * _FINE], fill=value)
        alpha = np.asarray(mask, dtype=np.float32) / 255
        # Height falls off to the edges: what faces the light is bright, and glossy things shine.
        slope = sum(
            f * (2.5 * np.gradient(gaussian_filter(alpha, s), axis=a) * s)
            for a, f in ((1, falls[0]), (0, falls[1])) for s in (3, 14)
        )  # fmt: skip
        tone = np.array(colour)[None, None] * (1 - 0.45 * slope)[..., None]
        tone = tone + (gloss * np.clip(-slope, 0, 1) ** 2)[..., None] * 0.7
        layer[..., :3] = (
            layer[..., :3] * (1 - alpha[..., None]) + tone.clip(0, 1) * alpha[..., None]
        )
        layer[..., 3] = np.maximum(layer[..., 3], alpha)
    side, rim = round(2.4 * _UNIT * scale), 40  # pixels of the thing, and for its shadow
    drawn = Image.fromarray((255 * layer).astype(np.uint8), "RGBA")
    drawn = drawn.rotate(-angle, Image.Resampling.BICUBIC).resize(
        (side, side), Image.Resampling.BOX
    )
    whole = Image.new("RGBA", (side + 2 * rim, side + 2 * rim))
    whole.paste(drawn, (rim, rim))
    pixels = np.asarray(whole, dtype=np.float32) / 255
    fallen = np.roll(pixels[..., 3], [int(7 * scale * v) for v in light[::-1]], (0, 1))
    dark = 1 - 0.5 * gaussian_filter(fallen, 5 * scale)[..., None]
    corner = [
        int(v - side / 2 - rim) for v in place[::-1]
    ]  # of the square on the table: row, column
    on = tuple(slice(max(0, c), c + side + 2 * rim) for c in corner)
    part = table[on]
    own = tuple(
        slice(s.start - c, s.start - c + n) for s, c, n in zip(on, corner, part.shape, strict=False)
    )
    alpha = pixels[own][..., 3:]
    part[:] = part * dark[own] * (1 - alpha) + pixels[own][..., :3] * alpha
    covered = np.zeros(table.shape[:2], dtype=bool)
    covered[on] = alpha[..., 0] > 0.5
    return covered


def _noise(rng: np.random.Generator, across: float, down: float) -> np.ndarray:
    """Smooth noise, -1..1, with spots of so many pixels."""
    w, h = max(2, round(_TABLE[0] / across)), max(2, round(_TABLE[1] / down))
    small = Image.fromarray(rng.uniform(-1, 1, (h, w)).astype(np.float32))
    return np.asarray(small.resize(_TABLE, Image.Resampling.BICUBIC))


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A table's surface, ``[H, W, 3]``, 0..1."""
    y, x = np.mgrid[0 : _TABLE[1], 0 : _TABLE[0]].astype(np.float32)
    kind = rng.choice(("wood", "cloth", "stone", "carpet", "paper", "mat"))
    one, two = np.array(_plain(rng)), np.array(_plain(rng))
    if kind == "wood":
        one, two = np.array([0.62, 0.43, 0.25]), np.array([0.42, 0.27, 0.14])
        share = (
            0.5
            + 0.3 * np.sin((y + 14 * _noise(rng, 300, 60)) / rng.uniform(4, 14))
            + 0.2 * _noise(rng, 120, 3)
        )
    elif kind == "cloth":
        side = rng.uniform(14, 50)
        share = ((x // side % 2) + (y // side % 2)) / 2 + 0.1 * np.sin(2 * x) * np.sin(2 * y)
    elif kind == "stone":
        one, two = np.array([0.8, 0.8, 0.78]), np.array([0.4, 0.4, 0.45])
        share = np.abs(_noise(rng, 90, 90) + 0.5 * _noise(rng, 25, 25) + 0.2 * _noise(rng, 4, 4))
    elif kind == "carpet":
        share = 0.5 + 0.35 * _noise(rng, 3, 3) + 0.2 * _noise(rng, 60, 60)
    elif kind == "paper":
        one, two = np.array([0.93, 0.92, 0.88]), np.array([0.3, 0.35, 0.5])
        lines = (y % 26 < 2) | ((y % 26 > 10) & (y % 26 < 18) & (_noise(rng, 7, 26) > 0.25))
        share = 0.75 * lines.astype(np.float32)
    else:
        one, two = np.array([0.12, 0.16, 0.15]), np.array([0.4, 0.5, 0.45])
        share = 0.6 * ((x % 40 < 2) | (y % 40 < 2)) + 0.06 * _noise(rng, 2, 2)
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(one * (1 - share) + two * share, dtype=np.float32)


def _seen(table: Image.Image, affine: Sequence[float], how: Image.Resampling) -> Image.Image:
    return table.transform(SIZE, Image.Transform.AFFINE, tuple(affine), how)
