"""The inputs of visitors: photographs and frames within limits, shipped examples, drawn samples."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.example_images import EXAMPLES as EXAMPLES
from sparse_rcnn_lab.data.example_images import examples as examples
from sparse_rcnn_lab.data.example_images import knows_shapes as knows_shapes
from sparse_rcnn_lab.data.shapes.dataset import shapes_image
from sparse_rcnn_lab.detect.images import read_image, reads_heif
from sparse_rcnn_lab.views.draw import as_image, display_size

_MIN_SIDE, _MAX_SIDE = 640, 1280  # of an image on the page, pixels
_PROGRAMS = ("EPS", "WMF")  # Pillow has Ghostscript or Windows execute these


@dataclass(frozen=True)
class Limits:
    """The limits on what visitors may send.

    upload_mb: for a file, in units of 1e6 bytes.  megapixels: for an image.  frame_megapixels: for
    a frame of a webcam or a video.  video_seconds: length of a video.  body_mb: for any other
    request, such as a frame of a webcam.
    """

    upload_mb: int = 100
    megapixels: float = 50.0
    frame_megapixels: float = 9.0
    video_seconds: float = 120.0
    body_mb: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.upload_mb <= 10_000:
            raise LabError(f"--max-size must be 1 to 10000 megabytes, found {self.upload_mb}.")

    def check_file(self, path: Path) -> None:
        """Raises LabError for a file that is too large; such uploads have been refused already."""
        size = path.stat().st_size / 1e6
        if size > self.upload_mb:
            raise LabError(
                f'"{path.name}" has {size:.0f} MB; this page takes up to {self.upload_mb} MB. '
                "Make it smaller, or start the app with a larger --max-size."
            )


def check_pixels(name: str, width: int, height: int, max_megapixels: float) -> None:
    """Raises LabError when the image ``name`` has more megapixels; only its header was read."""
    found = width * height / 1e6
    if found > max_megapixels:
        raise LabError(
            f'"{name}" has {width}x{height} pixels ({found:.0f} megapixels); this page takes up to '
            f"{max_megapixels:.0f}. Make it smaller first."
        )


@dataclass(frozen=True)
class InputImage:
    """A visitor's image. key: hash of its pixels.  pixels: ``[3, H, W]`` uint8 RGB.

    shown: the image in its size on the page.
    """

    key: str
    pixels: Tensor
    shown: Image.Image


def read_input(source: str | Path | Image.Image, limits: Limits | None = None) -> InputImage:
    """Reads a visitor's image. Raises LabError when it is not an image, or too large.

    >>> image = read_input(EXAMPLES / "shapes_1.png", Limits())
    >>> tuple(image.pixels.shape), image.shown.size
    ((3, 128, 128), (640, 640))
    """
    if limits is not None:
        if isinstance(source, Image.Image):
            check_pixels("The image", *source.size, limits.megapixels)
        else:
            limits.check_file(Path(source))
            check_image_file(Path(source), limits)
    pixels = read_image(source)
    key = hashlib.sha256(pixels.numpy().tobytes()).hexdigest() + "x".join(map(str, pixels.shape))
    image = as_image(pixels)
    size = display_size(*image.size, _MIN_SIDE, _MAX_SIDE)
    shown = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    return InputImage(key, pixels, shown)


def read_frame(data: bytes, limits: Limits) -> Tensor:
    """A webcam's frame, a JPEG -> ``[3, H, W]`` uint8 RGB. Raises LabError for anything else."""
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
    except Exception:  # a damaged head can raise anything
        raise LabError("The camera sent something that is not an image.") from None
    check_pixels("A frame of the camera", *image.size, limits.frame_megapixels)
    return read_image(image)


def draw_sample(difficulty: str, seed: int | None = None) -> tuple[Image.Image, int]:
    """A newly drawn image of shapes and its seed, a new one unless given."""
    seed = random.randrange(2**16) if seed is None else seed
    return as_image(shapes_image(seed, difficulty=difficulty).image), seed


def check_image_file(path: Path, limits: Limits) -> None:
    """Raises LabError for an image with too many pixels, and for files that another program would
    execute; read_image refuses what is not an image.
    """
    reads_heif()
    try:
        with Image.open(path) as image:
            size, kind = image.size, image.format
    except Image.DecompressionBombError:
        raise LabError(
            f'"{path.name}" has far too many pixels; this page takes up to '
            f"{limits.megapixels:.0f} megapixels. Make it smaller first."
        ) from None
    except Exception:  # a damaged head can raise anything
        return
    if kind in _PROGRAMS:
        raise LabError(
            f'"{path.name}" is {kind}, a program that draws, which this page does not run. Convert '
            "it to JPEG or PNG."
        )
    check_pixels(path.name, *size, limits.megapixels)
