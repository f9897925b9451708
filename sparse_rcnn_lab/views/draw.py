"""Pictures with boxes, fast: for the app, ``predict`` and a webcam.

:mod:`figures`, for paper, takes a hundred times as long.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace, check_aspect
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.blend import frame, label_tile
from sparse_rcnn_lab.views.labels import Box, place_labels

MAX_LABELS = 60  # more cannot be read; the best come first
DETECTED = 0.45  # least opacity of a detection: it passed the threshold, so it must be seen


@dataclass(frozen=True)
class Mark:
    """One box to draw. box: xyxy, pixels of the picture.  color: ``#rrggbb``.  opacity: 0..1.

    width: of the line, in units of the picture's own line width.  label: text beside it, or "".
    dashed: as ground truth is drawn.
    """

    box: Box
    color: str
    opacity: float = 1.0
    width: float = 1.0
    label: str = ""
    dashed: bool = False


def draw_detections(
    picture: Tensor | Image.Image,
    detections: Detections,
    *,
    labels: bool = True,
    scores: bool = True,
    text: float = 1.0,
    chosen: int | None = None,
    gt_boxes: Tensor | None = None,
    gt_labels: Tensor | None = None,
    min_side: int | None = None,
    max_side: int | None = None,
    pixelated: bool = False,
) -> Image.Image:
    """The picture with its detections: colour is the class, opacity and width are the score.

    picture: ``[3, H, W]`` uint8 RGB or a PIL image, the one the detections belong to, at any size.
    labels: write class and score; scores=False: the class alone.  text: size of the labels,
    relative to the usual one.  chosen: a proposal to draw in the accent colour.  gt_boxes:
    ``[M, 4]`` xyxy in the frame of the detections, drawn dashed and white; gt_labels: ``[M]`` to
    name them too.
    min_side, max_side, pixelated: see :func:`display_size`; boxes stay sharp at any size.
    Raises LabError when the picture has another shape than the one they were found in.
    """
    image = as_image(picture)
    check_aspect("The picture", (image.height, image.width), detections.size)
    marks = detection_marks(detections, labels=labels, scores=scores, chosen=chosen)
    # Ground truth on top: its gaps show what lies below.
    marks = [*ground_truth_marks(gt_boxes, gt_labels, detections.class_names), *marks]
    height, width = detections.size
    shown = _resized(image, min_side, max_side, pixelated)
    return draw_marks(shown, marks, (width, height), text)


def draw_proposals(
    trace: Trace,
    stage: int,
    *,
    chosen: int | None = None,
    min_side: int | None = None,
    max_side: int | None = None,
    pixelated: bool = False,
    picture: Tensor | Image.Image | None = None,
) -> Image.Image:
    """All proposals at ``stage`` in the colour of the stage; 0 are the learned ones, in grey.

    Opacity and width are each proposal's best class score; the learned ones have none yet and are
    all alike, see :func:`style.learned_opacity`.
    picture: the image, where the trace has not kept it.
    Raises LabError when there is no such stage or no image.
    """
    source = trace.image if picture is None else picture
    if source is None:
        raise LabError("This trace was saved without its image; give it as picture=.")
    image = as_image(source)
    height, width = trace.size
    check_aspect("The picture", (image.height, image.width), trace.size)
    marks = proposal_marks(trace, stage, chosen=chosen)
    return draw_marks(_resized(image, min_side, max_side, pixelated), marks, (width, height))


def detection_marks(
    detections: Detections, *, labels: bool = True, scores: bool = True, chosen: int | None = None
) -> list[Mark]:
    """What :func:`draw_detections` draws, best first."""
    names = detections.class_names
    marks = []
    for box, score, label, proposal in zip(
        detections.boxes.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        detections.proposals.tolist(),
        strict=True,
    ):
        color = style.ACCENT if proposal == chosen else style.class_color(label)
        text = names[label] + (f" {style.score_text(score)}" if scores else "")
        opacity = style.score_opacity(score, DETECTED)
        marks.append(Mark(_box(box), color, opacity, 0.5 + score / 2, text if labels else ""))
    return marks


def proposal_marks(trace: Trace, stage: int, *, chosen: int | None = None) -> list[Mark]:
    """What :func:`draw_proposals` draws, best first. Raises LabError for an unknown stage."""
    color = style.line_color(stage, trace.num_stages)
    scores = best_scores(trace, stage)
    opacities, widths = strengths(trace, stage)
    first = None if chosen is None else trace.row(chosen)
    order = sorted(range(trace.num_proposals), key=lambda n: (n != first, -scores[n]))
    return [
        Mark(
            _box(trace.boxes[stage, n].tolist()),
            style.ACCENT if n == first else color,
            1.0 if n == first else opacities[n],
            widths[n],
        )
        for n in order
    ]


def ground_truth_marks(
    boxes: Tensor | None, labels: Tensor | None, names: tuple[str, ...]
) -> list[Mark]:
    """Dashed white boxes for ``[M, 4]`` xyxy boxes, named where labels ``[M]`` are given."""
    if boxes is None:
        return []
    texts = [""] * len(boxes) if labels is None else [names[i] for i in labels.tolist()]
    return [
        Mark(_box(box), style.GROUND_TRUTH_COLOR, 1.0, 1.0, text, dashed=True)
        for box, text in zip(boxes.tolist(), texts, strict=True)
    ]


def best_scores(trace: Trace, stage: int) -> list[float]:
    """Each proposal's best class score at ``stage``, N numbers 0..1; the learned proposals, which
    have none yet, all count as 0.5. What is not a number counts as 0.
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
    picture: Image.Image,
    marks: Sequence[Mark],
    size: tuple[int, int] | None = None,
    text: float = 1.0,
) -> Image.Image:
    """Draws marks on a copy of ``picture``; earlier ones lie on top and place their labels first.

    Boxes that are not numbers are left out, with a warning that says how many.
    size: (width, height) of the frame the boxes are in, when the picture was resized for display.
    text: size of the labels, relative to the usual one.
    """
    width, height = picture.size
    frame_width, frame_height = size or picture.size
    known = [mark for mark in marks if all(map(math.isfinite, mark.box))]
    if len(known) < len(marks):
        warnings.warn(
            f"{len(marks) - len(known)} of {len(marks)} boxes are not numbers (NaN): they are left "
            "out of the picture. The model has probably diverged.",
            stacklevel=3,
        )
    marks = known
    sx, sy = width / frame_width, height / frame_height
    line = line_width(width, height)
    canvas = np.array(picture.convert("RGB"))
    boxes: list[Box] = [(m.box[0] * sx, m.box[1] * sy, m.box[2] * sx, m.box[3] * sy) for m in marks]
    for mark, box in zip(reversed(marks), reversed(boxes), strict=True):
        thick = max(style.MIN_LINE, line * mark.width)
        # A dark edge of half a pixel and more keeps light colours visible on light pictures.
        rim = max(0.75, thick / 4)
        dash = tuple(d * thick for d in style.GROUND_TRUTH_DASH) if mark.dashed else None
        frame(canvas, box, thick + 2 * rim, style.DARK, style.EDGE * mark.opacity, dash)
        frame(canvas, box, thick, mark.color, mark.opacity, dash)
    result = Image.fromarray(canvas)
    named = [(m, b) for m, b in zip(marks, boxes, strict=True) if m.label][:MAX_LABELS]
    letters = round(font_size(width, height) * text)
    tiles = [label_tile(m.label, m.color, letters, width) for m, _ in named]
    places = place_labels([b for _, b in named], [tile.size for tile in tiles], width, height)
    for tile, place in zip(tiles, places, strict=True):
        if place is not None:
            result.paste(tile, place, tile)
    return result


def line_width(width: int, height: int) -> float:
    """Width of a full line on a picture of this size, pixels: long side / 250, at least 2."""
    return max(2.0, max(width, height) / 250)


def font_size(width: int, height: int) -> int:
    """Size of the label text on a picture of this size, pixels."""
    return max(11, round(max(width, height) / 42))


def display_size(
    width: int, height: int, min_side: int | None = None, max_side: int | None = None
) -> tuple[int, int]:
    """(width, height) to show a picture at: its long side at least ``min_side`` pixels (enlarged
    by a whole factor) and at most ``max_side``.
    """
    long = max(width, height)
    if min_side is not None and long < min_side:
        factor = -(-min_side // long)
        width, height = width * factor, height * factor
    if max_side is not None and max(width, height) > max_side:
        shrink = max_side / max(width, height)
        width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    return width, height


def _box(values: Sequence[float]) -> Box:
    x1, y1, x2, y2 = values
    return x1, y1, x2, y2


def as_image(picture: Tensor | Image.Image) -> Image.Image:
    """``[3, H, W]`` uint8 -> PIL image; a PIL image comes back as it is."""
    if isinstance(picture, Image.Image):
        return picture
    if picture.dim() != 3 or picture.shape[0] != 3 or picture.element_size() != 1:
        raise LabError(
            f"A picture to draw on is [3, H, W] uint8, found {list(picture.shape)} {picture.dtype}."
        )
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())


def _resized(
    image: Image.Image, min_side: int | None, max_side: int | None, pixelated: bool
) -> Image.Image:
    size = display_size(*image.size, min_side, max_side)
    if size == image.size:
        return image
    larger = size[0] > image.width
    nearest = pixelated and larger
    return image.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)
