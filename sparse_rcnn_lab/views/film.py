"""A film of the proposals on their way through the stages, as WebP, GIF or PNG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.files import write_whole
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import (
    Mark,
    as_image,
    best_scores,
    detection_marks,
    display_size,
    draw_marks,
    label_font,
    proposal_marks,
    strengths,
)
from sparse_rcnn_lab.views.measures import need_image

FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
PER_SECOND = 20  # frames while the boxes move


def save_film(
    trace: Trace,
    path: str | Path,
    *,
    threshold: float = 0.3,
    stage_seconds: float = 0.8,
    end_seconds: float = 3.0,
    width: int = 640,
) -> Path:
    """Writes a looping film of the proposals of one image through all stages, and returns its path.

    The boxes rest at each state, then move to the next, in the colour of the stage; at the end the
    detections with a score of at least ``threshold`` are named.
    stage_seconds: duration of a stage, half of it in motion.  end_seconds: how long the detections
    stay.  width: pixels; the image is shrunk, or enlarged up to four times.
    Raises LabError for a suffix other than .webp, .gif or .png, a trace without its image, seconds
    of 0 or less, or a width below 16.

    >>> import tempfile
    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> save_film(trace, f"{tempfile.mkdtemp()}/film.webp", width=128).name
    'film.webp'
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise LabError(f'"{path}" must end in one of {", ".join(FORMATS)}.')
    frames, seconds = zip(
        *film_frames(trace, threshold, stage_seconds, end_seconds, width), strict=True
    )
    kind = FORMATS[path.suffix.lower()]
    options = {"quality": 70, "method": 4} if kind == "WEBP" else {}
    if kind == "GIF":  # the palette of the last frame, which has all colours; no dithering
        palette = frames[-1].quantize(256)
        frames = tuple(f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    with write_whole(path) as temporary:
        frames[0].save(
            temporary,
            format=kind,
            save_all=True,
            append_images=frames[1:],
            duration=[round(1000 * s) for s in seconds],
            loop=0,
            **options,
        )
    return path


def film_frames(
    trace: Trace,
    threshold: float = 0.3,
    stage_seconds: float = 0.8,
    end_seconds: float = 3.0,
    width: int = 640,
) -> Iterator[tuple[Image.Image, float]]:
    """The frames of :func:`save_film`, each with its duration in seconds.

    Raises LabError for a trace without its image, seconds of 0 or less, or a width below 16.
    """
    if stage_seconds <= 0 or end_seconds <= 0 or width < 16:
        raise LabError(
            "A film needs stage_seconds and end_seconds above 0 and a width of at least 16, found "
            f"{stage_seconds}, {end_seconds} and {width}."
        )
    image = _image(trace, width)
    frame = (trace.size[1], trace.size[0])
    moves = max(1, round(stage_seconds / 2 * PER_SECOND))
    for state in range(trace.num_stages + 1):
        still = draw_marks(image, proposal_marks(trace, state), frame)
        yield _captioned(still, trace.num_stages, state, 0.0), stage_seconds / 2
        if state == trace.num_stages:
            break
        for move in range(1, moves):
            share = move / moves
            share = share * share * (3 - 2 * share)  # eases in and out
            moving = draw_marks(image, _between(trace, state, share), frame)
            yield _captioned(moving, trace.num_stages, state, share), 1 / PER_SECOND
    found = detection_marks(trace.detections(threshold=threshold))
    faint = [
        replace(mark, opacity=mark.opacity * 0.4)
        for mark in proposal_marks(trace, trace.num_stages)
    ]
    end = draw_marks(image, [*found, *faint], frame)
    yield _captioned(end, trace.num_stages, trace.num_stages, 0.0), end_seconds


def _image(trace: Trace, width: int) -> Image.Image:
    image = as_image(need_image(trace))
    image = image.resize(display_size(*image.size, min_side=min(width, 4 * max(image.size))))
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))))
    return image


def _between(trace: Trace, state: int, share: float) -> list[Mark]:
    """The marks between ``state`` and the next one, at ``share`` 0..1 of the way."""
    boxes = torch.lerp(trace.boxes[state], trace.boxes[state + 1], share)
    first_scores, then = (torch.tensor(best_scores(trace, s)) for s in (state, state + 1))
    scores = torch.lerp(first_scores, then, share)
    drawn, next_drawn = (torch.tensor(strengths(trace, s)) for s in (state, state + 1))
    strength, width = torch.lerp(drawn, next_drawn, share)
    first, second = (style.line_color(s, trace.num_stages) for s in (state, state + 1))
    color = style.mixed(first, second, share)
    return [
        Mark(tuple(boxes[n].tolist()), color, float(strength[n]), float(width[n]))
        for n in scores.argsort(descending=True).tolist()
    ]


def _captioned(image: Image.Image, stages: int, state: int, share: float) -> Image.Image:
    """The frame with the stages below it, the current one filled, and progress to the next."""
    band = max(18, image.width // 16)
    whole = Image.new("RGB", (image.width, image.height + band), style.DARK)
    whole.paste(image, (0, 0))
    draw = ImageDraw.Draw(whole)
    font = label_font(max(9, round(band * 0.5)))
    middle = image.height + band / 2
    text = "learned proposals" if state == 0 and share < 0.5 else f"stage {state + (share >= 0.5)}"
    draw.text((band * 0.4, middle), text, style.LIGHT, font, anchor="lm")
    left = band * 1.3 + font.getlength("learned proposals")
    gap = (image.width - left - band * 0.7) / stages
    radius = band * 0.17
    for stage in range(stages + 1):
        x = left + gap * stage
        color = style.stage_color(stage, stages)
        if stage < stages:
            reached = 1.0 if stage < state else share if stage == state else 0.0
            draw.line((x, middle, x + gap, middle), "#4a4f57", max(1, round(radius / 3)))
            draw.line((x, middle, x + gap * reached, middle), color, max(1, round(radius / 2)))
        done = stage <= state
        size = radius * (1.5 if stage == state and share < 0.5 else 1.0)
        corners = (x - size, middle - size, x + size, middle + size)
        draw.ellipse(corners, color if done else style.DARK, color, max(1, round(radius / 3)))
    return whole
