"""Draws boxes on images fast enough for a webcam; used by the app and ``predict`` too.

:mod:`figures`, made for print, takes a hundred times as long.
"""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace, check_aspect
from sparse_rcnn_lab.detect.images import ImageSource, read_image
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.fonts import font_for
from sparse_rcnn_lab.views.text_layout import Box, place_labels

MAX_LABELS = 60  # more cannot be read; the best come first
DETECTED = 0.45  # lowest opacity of a detection, which passed the threshold and must be visible


@dataclass(frozen=True)
class Mark:
    """One box to draw. box: xyxy, pixels of the image.  color: ``#rrggbb``.  opacity: 0..1.

    width: line width; 1 is a full line of this image.  label: text beside the box, or "".
    dashed: whether it is dashed, like ground truth.
    """

    box: Box
    color: str
    opacity: float = 1.0
    width: float = 1.0
    label: str = ""
    dashed: bool = False


def draw_detections(
    image: ImageSource,
    detections: Detections,
    *,
    scores: bool = True,
    text: float = 1.0,
    gt_boxes: Tensor | None = None,
    min_side: int | None = None,
) -> Image.Image:
    """The image with its detections: colour shows the class, opacity and line width the score.

    image: the image of the detections in any form that the detector reads, upright, at any size.
    scores: False writes only the class.  text: size of the labels, relative to the usual one.
    gt_boxes: ``[M, 4]`` xyxy in the frame of the detections, drawn dashed and white.
    min_side: see :func:`display_size`; boxes stay sharp at any size.
    Raises LabError when the image has another aspect ratio than the detections' image.

    >>> import sparse_rcnn_lab as srl
    >>> image = srl.open_data("shapes", "val")[6].image
    >>> found = srl.load("nano-shapes")(image, threshold=0.5)
    >>> draw_detections(image, found, min_side=512).size
    (512, 512)
    """
    whole = as_image(read_image(image))
    check_aspect("The image", (whole.height, whole.width), detections.size)
    size = display_size(*whole.size, min_side)
    if size != whole.size:
        whole = whole.resize(size, Image.Resampling.BICUBIC)
    # Ground truth is on top, since its gaps show what is below.
    marks = [
        Mark(tuple(box), style.GROUND_TRUTH_COLOR, dashed=True)
        for box in ([] if gt_boxes is None else gt_boxes.tolist())
    ]
    marks += detection_marks(detections, scores)
    return draw_marks(whole, marks, detections.size[::-1], text)


def detection_marks(detections: Detections, scores: bool = True) -> list[Mark]:
    """What :func:`draw_detections` draws, best first."""
    names = detections.class_names
    marks = []
    for box, score, label in zip(
        detections.boxes.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        strict=True,
    ):
        text = names[label] + (f" {style.score_text(score)}" if scores else "")
        opacity = style.score_opacity(score, DETECTED)
        marks.append(Mark(tuple(box), style.class_color(label), opacity, 0.5 + score / 2, text))
    return marks


def proposal_marks(trace: Trace, stage: int) -> list[Mark]:
    """All proposals at ``stage`` (0: the learned ones) in the colour of the stage, best first.

    Opacity and width show each proposal's best class score; the learned ones have none yet and look
    all the same, see :func:`style.learned_opacity`. Raises LabError for an unknown stage.
    """
    color = style.line_color(stage, trace.num_stages)
    scores = best_scores(trace, stage)
    opacities, widths = strengths(trace, stage)
    return [
        Mark(tuple(trace.boxes[stage, n].tolist()), color, opacities[n], widths[n])
        for n in sorted(range(trace.num_proposals), key=lambda n: -scores[n])
    ]


def best_scores(trace: Trace, stage: int) -> list[float]:
    """Each proposal's best class score at ``stage``, N numbers 0..1. The learned proposals, which
    have none yet, all get 0.5; NaN becomes 0.
    """
    if stage == 0:
        return [0.5] * trace.num_proposals
    return trace.logits[stage - 1].max(-1).values.sigmoid().nan_to_num().tolist()


def strengths(trace: Trace, stage: int) -> tuple[list[float], list[float]]:
    """Opacity 0..1 and line width (1 is a full line) of each proposal's box at ``stage``."""
    if stage == 0:
        count = trace.num_proposals
        return [style.learned_opacity(count)] * count, [0.5] * count
    scores = best_scores(trace, stage)
    return [style.score_opacity(score) for score in scores], [0.5 + s / 2 for s in scores]


def draw_marks(
    image: Image.Image,
    marks: Sequence[Mark],
    size: tuple[int, int] | None = None,
    text: float = 1.0,
) -> Image.Image:
    """Draws marks on a copy of ``image``; earlier ones are on top and place their labels first.

    Boxes that are not finite are left out, with a warning that says how many.
    size: (width, height) of the frame of the boxes, when the image was resized for display.
    text: size of the labels, relative to the usual one.
    """
    width, height = image.size
    frame_width, frame_height = size or image.size
    known = [mark for mark in marks if all(map(math.isfinite, mark.box))]
    if len(known) < len(marks):
        warnings.warn(
            f"{len(marks) - len(known)} of {len(marks)} boxes are not numbers (NaN): they are left "
            "out of the image. The model has probably diverged.",
            stacklevel=3,
        )
    marks = known
    sx, sy = width / frame_width, height / frame_height
    line = max(2.0, max(width, height) / 250)  # width of a full line, pixels
    canvas = np.array(image.convert("RGB"))
    boxes: list[Box] = [(m.box[0] * sx, m.box[1] * sy, m.box[2] * sx, m.box[3] * sy) for m in marks]
    for mark, box in zip(reversed(marks), reversed(boxes), strict=True):
        thick = max(style.MIN_LINE, line * mark.width)
        # A dark edge of at least half a pixel keeps light colours visible on light images.
        rim = max(0.75, thick / 4)
        dash = tuple(d * thick for d in style.GROUND_TRUTH_DASH) if mark.dashed else None
        frame(canvas, box, thick + 2 * rim, style.DARK, style.EDGE * mark.opacity, dash)
        frame(canvas, box, thick, mark.color, mark.opacity, dash)
    result = Image.fromarray(canvas)
    named = [(m, b) for m, b in zip(marks, boxes, strict=True) if m.label][:MAX_LABELS]
    letters = round(max(11, round(max(width, height) / 42)) * text)
    tiles = [label_tile(m.label, m.color, letters, width) for m, _ in named]
    places = place_labels([b for _, b in named], [tile.size for tile in tiles], width, height)
    for tile, place in zip(tiles, places, strict=True):
        if place is not None:
            result.paste(tile, place, tile)
    return result


def display_size(
    width: int, height: int, min_side: int | None = None, max_side: int | None = None
) -> tuple[int, int]:
    """(width, height) at which to show an image: its long side is at least ``min_side`` pixels
    (enlarged by a whole factor) and at most ``max_side``.
    """
    long = max(width, height)
    if min_side is not None and long < min_side:
        factor = -(-min_side // long)
        width, height = width * factor, height * factor
    if max_side is not None and max(width, height) > max_side:
        shrink = max_side / max(width, height)
        width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    return width, height


def as_image(image: Tensor) -> Image.Image:
    """``[3, H, W]`` uint8 -> PIL image."""
    if image.dim() != 3 or image.shape[0] != 3 or image.element_size() != 1:
        raise LabError(
            f"An image to draw on must be [3, H, W] uint8, found {list(image.shape)} {image.dtype}."
        )
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file of ``kind``, a format of Pillow, which gets the ``options``."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """``data:image/...``: the bytes of an image file as an address for ``src``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _coverage(low: float, high: float, start: int, stop: int) -> np.ndarray:
    """The share 0..1 of each pixel start..stop-1 that the interval low..high covers."""
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

    box: xyxy, pixels.  thick: line width, pixels.  color: ``#rrggbb``.  opacity: 0..1.  dash:
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


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=16)
def label_font(size: int, file: str | None = None) -> Font:
    """The font of all labels, ``size`` pixels high. file: that of labels that need another one."""
    return ImageFont.load_default(size=size) if file is None else ImageFont.truetype(file, size)


def cut(text: str, size: int, room: float) -> tuple[str, Font]:
    """The text, cut with an ellipsis to ``room`` pixels, and a font that has its characters."""
    other = font_for(text)
    font = label_font(size, other and other[1])
    while len(text) > 1 and font.getlength(text) > room:
        text = text.removesuffix("…")[:-1] + "…"
    return text, font


@lru_cache(maxsize=2048)
def label_tile(text: str, color: str, size: int, max_width: int) -> Image.Image:
    """The label as an RGBA tile: text on a rounded patch of the box's colour.

    color: ``#rrggbb``.  size: font size, pixels.  max_width: pixels; a longer text is cut with an
    ellipsis.
    """
    pad = max(3, round(size * 0.3))
    text, font = cut(text, size, max_width - 2 * pad)
    width, height = round(font.getlength(text)) + 2 * pad, round(size * 1.2) + 2
    # The patch is drawn four times as large and shrunk, as Pillow does not smooth corners.
    patch = Image.new("L", (width * 4, height * 4))
    corner = (width * 4 - 1, height * 4 - 1)
    ImageDraw.Draw(patch).rounded_rectangle((0, 0, *corner), radius=size, fill=255)
    tile = Image.new("RGBA", (width, height), style.rgb(color))
    ImageDraw.Draw(tile).text(
        (pad, height / 2), text, fill=style.text_color(color), font=font, anchor="lm"
    )
    tile.putalpha(patch.resize((width, height), Image.Resampling.BOX))
    return tile
