"""A video with boxes, a film of one frame's stages, and a sample to try them on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.clips import Clip, Writer
from sparse_rcnn_lab.app.frames import look_at
from sparse_rcnn_lab.app.keepsakes import fresh_file
from sparse_rcnn_lab.app.pictures import Picture
from sparse_rcnn_lab.views.draw import display_size
from sparse_rcnn_lab.views.film import PER_SECOND, film_frames

SAMPLE_SIDE = 640  # of the sample video: its long side, pixels


@dataclass(frozen=True)
class Progress:
    """How far a video is. done, total: seconds of it.  took: seconds of work.  frames: written.

    image: the frame that was written last.
    """

    done: float
    total: float
    took: float
    frames: int
    image: Image.Image


def annotate(
    bench: Bench,
    clip: Clip,
    dials: Dials,
    per_second: float,
    target: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Writes the video with its boxes to ``target``, telling how far it is after every frame.

    per_second: frames of each second to detect in.  stopped: asked before every frame; what was
    done until then is kept.  When the caller stops listening, nothing is kept.
    """
    rate = min(max(per_second, 1.0), clip.rate)
    start = time.monotonic()
    frames = 0
    with Writer(target, rate) as writer:
        for now, pixels in clip.frames(rate):
            # Its header may have been wrong about its length.
            if stopped() or now > bench.limits.video_seconds:
                break
            image = look_at(bench, pixels, dials).image
            writer.add(image)
            frames += 1
            took = time.monotonic() - start
            yield Progress(min(now + 1 / rate, clip.seconds), clip.seconds, took, frames, image)


def film_of(bench: Bench, pixels: Tensor, dials: Dials, target: Path) -> Path:
    """Writes the way of all proposals through the stages, a second each, to an MP4."""
    detector = bench.models[dials.model]
    dials = dials.fitting(detector)
    with bench.turn():
        trace = detector.trace(pixels, record=(), num_proposals=dials.proposals)
    with Writer(target, PER_SECOND) as writer:
        for image, seconds in film_frames(trace, dials.threshold, stage_seconds=1.0):
            writer.add(image, max(1, round(seconds * PER_SECOND)))
    return target


def sample_video(picture: Picture, seconds: float = 4.0) -> Path:
    """A slow way across a picture: something to try when no video is at hand."""
    rate = 15
    whole = picture.shown
    side = 0.7
    width, height = max(1, int(whole.width * side)), max(1, int(whole.height * side))
    # Two pixels at least: the encoder takes even sides only.
    wide, high = display_size(width, height, SAMPLE_SIDE, SAMPLE_SIDE)
    target = fresh_file("sample.mp4")
    with Writer(target, rate) as writer:
        for number in range(int(seconds * rate)):
            share = number / (seconds * rate - 1)
            left, top = share * (whole.width - width), (1 - share) * (whole.height - height)
            view = whole.crop((int(left), int(top), int(left) + width, int(top) + height))
            writer.add(view.resize((max(2, wide), max(2, high))))
    return target
