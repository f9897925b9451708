"""Pictures that people give, examples that ship, and samples that are drawn."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sparse_rcnn_lab.app.limits import Limits, check_pixels
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES as SHAPES
from sparse_rcnn_lab.data.shapes.dataset import PRESETS, shapes_image
from sparse_rcnn_lab.detect.images import read_image
from sparse_rcnn_lab.views.draw import as_image, display_size

EXAMPLES = Path(__file__).parent.parent / "data" / "examples"
DIFFICULTIES = tuple(PRESETS)
# Which examples a model knows something about, by its class names.
_KNOWN = {
    "shapes": set(SHAPES),
    "cards": {"nine", "ten", "jack", "queen", "king", "ace"},
    "cells": {"RBC", "WBC", "Platelets"},
}
_MIN_SIDE, _MAX_SIDE = 640, 1280  # a picture on the page, pixels


@dataclass(frozen=True)
class Picture:
    """A picture that somebody gave. key: hash of its pixels.  pixels: ``[3, H, W]`` uint8 RGB.

    shown: the same at the size of the page.
    """

    key: str
    pixels: Tensor
    shown: Image.Image


def read_picture(source: str | Path | Image.Image, limits: Limits | None = None) -> Picture:
    """Reads a picture that somebody gave. Raises LabError when it is none, or too large."""
    if limits is not None:
        _check(source, limits)
    pixels = read_image(source)
    key = hashlib.sha256(pixels.numpy().tobytes()).hexdigest() + "x".join(map(str, pixels.shape))
    image = as_image(pixels)
    size = display_size(*image.size, _MIN_SIDE, _MAX_SIDE)
    shown = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    return Picture(key, pixels, shown)


def read_frame(data: bytes, limits: Limits) -> Tensor:
    """A webcam's frame -> ``[3, H, W]`` uint8 RGB. Raises LabError when it is none."""
    try:
        image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        raise LabError("The camera sent something that is not a picture.") from None
    check_pixels("A frame of the camera", *image.size, limits.frame_megapixels)
    return read_image(image)


def examples(class_names: Sequence[str]) -> list[Path]:
    """Shipped pictures that fit a model's classes; all of them when it knows none."""
    files = sorted(p for p in EXAMPLES.glob("*") if p.suffix in (".jpg", ".png"))
    names = set(class_names)
    topics = [topic for topic, known in _KNOWN.items() if names & known]
    return [p for p in files if p.name.split("_")[0] in topics] or files


def knows_shapes(class_names: Sequence[str]) -> bool:
    """Whether a model with these classes knows the shapes that :func:`sample` draws."""
    return bool(set(class_names) & _KNOWN["shapes"])


def sample(difficulty: str, seed: int | None = None) -> tuple[Image.Image, int]:
    """A freshly drawn picture of shapes and its seed, a new one unless given."""
    seed = random.randrange(2**16) if seed is None else seed
    return as_image(shapes_image(seed, difficulty=difficulty).image), seed


def _check(source: str | Path | Image.Image, limits: Limits) -> None:
    if isinstance(source, Image.Image):
        limits.check_picture(source, "The picture")
        return
    limits.check_file(Path(source))
    try:
        with Image.open(source) as image:
            limits.check_picture(image, Path(source).name)
    except (UnidentifiedImageError, OSError):
        return  # read_image says what is wrong with it
    except Image.DecompressionBombError:
        raise LabError(
            f'"{Path(source).name}" has far too many pixels; this page takes up to '
            f"{limits.megapixels:.0f} megapixels. Make it smaller first."
        ) from None
