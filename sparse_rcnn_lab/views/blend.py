"""Smooth box outlines and label tiles, blended into pixels.

Lines are weighted with the exact share of each pixel they cover, so a box at fractions of a pixel
is smooth without drawing larger and shrinking.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.labels import Box


def _coverage(low: float, high: float, start: int, stop: int) -> np.ndarray:
    """Share 0..1 of each pixel start..stop-1 that the interval low..high covers."""
    left = np.arange(start, stop, dtype=np.float32)
    return np.clip(np.minimum(left + 1, high) - np.maximum(left, low), 0, 1)


def frame(
    canvas: np.ndarray,
    box: Box,
    thick: float,
    color: str,
    opacity: float,
    dash: tuple[float, ...] | None,
) -> None:
    """Blends the outline of a box into ``canvas`` ``[H, W, 3]`` uint8, the line on its edge.

    box: xyxy, pixels.  thick: of the line, pixels.  color: ``#rrggbb``.  opacity: 0..1.  dash:
    (length of a dash, of a gap), pixels, or None.
    """
    half = thick / 2
    x1, y1, x2, y2 = box
    # Four bars that do not overlap, so that corners are not blended twice.
    _bar(canvas, (x1 - half, y1 - half, x2 + half, y1 + half), color, opacity, dash, 0)
    if y2 - y1 <= thick:
        return
    _bar(canvas, (x1 - half, y2 - half, x2 + half, y2 + half), color, opacity, dash, 0)
    _bar(canvas, (x1 - half, y1 + half, x1 + half, y2 - half), color, opacity, dash, 1)
    if x2 - x1 > thick:
        _bar(canvas, (x2 - half, y1 + half, x2 + half, y2 - half), color, opacity, dash, 1)


def _bar(
    canvas: np.ndarray,
    bar: Box,
    color: str,
    opacity: float,
    dash: tuple[float, ...] | None,
    axis: int,
) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = bar
    left, right = max(0, int(np.floor(x1))), min(width, int(np.ceil(x2)))
    top, bottom = max(0, int(np.floor(y1))), min(height, int(np.ceil(y2)))
    if left >= right or top >= bottom:
        return
    across, down = _coverage(x1, x2, left, right), _coverage(y1, y2, top, bottom)
    if dash is not None:
        on, off = dash
        if axis == 0:
            across = across * _dashes(left - x1, right - left, on, off)
        else:
            down = down * _dashes(top - y1, bottom - top, on, off)
    alpha = (down[:, None] * across[None, :] * opacity)[..., None]
    view = canvas[top:bottom, left:right]
    view[...] = view + alpha * (np.array(style.rgb(color), np.float32) - view) + 0.5


def _dashes(first: float, count: int, on: float, off: float) -> np.ndarray:
    place = (np.arange(count) + 0.5 + first) % (on + off)
    return (place < on).astype(np.float32)


@lru_cache(maxsize=4)
def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all labels, ``size`` pixels high."""
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=2048)
def label_tile(text: str, color: str, size: int, max_width: int) -> Image.Image:
    """The label as an RGBA tile: text on a rounded patch of the box's colour.

    color: ``#rrggbb``.  size: of the letters, pixels.  max_width: pixels; a longer text is cut
    with an ellipsis.
    """
    font = label_font(size)
    pad = max(3, round(size * 0.3))
    while text and font.getlength(text) + 2 * pad > max_width and len(text) > 1:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    width, height = round(font.getlength(text)) + 2 * pad, round(size * 1.2) + 2
    # The patch is drawn four times as large and shrunk: Pillow has no smooth corners.
    patch = Image.new("L", (width * 4, height * 4))
    corner = (width * 4 - 1, height * 4 - 1)
    ImageDraw.Draw(patch).rounded_rectangle((0, 0, *corner), radius=size, fill=255)
    tile = Image.new("RGBA", (width, height), style.rgb(color))
    ImageDraw.Draw(tile).text(
        (pad, height / 2), text, fill=style.text_color(color), font=font, anchor="lm"
    )
    tile.putalpha(patch.resize((width, height), Image.Resampling.BOX))
    return tile
