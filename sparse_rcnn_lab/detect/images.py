"""Images become tensors: ``[3, H, W]`` uint8 RGB, whatever kind of image is given.

Everything that enters the detector is read by :func:`read_image`, resized by :func:`resize_image`
and put into a batch by :func:`normalise_and_pad`; :func:`make_batch` does all three.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, TiffImagePlugin
from torch import Tensor

from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import normalise, pad_images
from sparse_rcnn_lab.detect.file_type import describe_file

ImageSource = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

MAX_PIXELS = 300_000_000
# A screen shows no more than this; a 12,000x9,000 photo would make every trace 324 MB.
MAX_KEPT_PIXELS = 4_000_000

# EXIF orientation -> the transposition that shows the photograph upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the inverse of each turn; the others are their own inverse
_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 256, 257

_ONE = 1 << 11  # a weight of 1
_CACHE = 1 << 16  # values computed at once: four arrays of them stay in a processor's cache

_pillow_limit = threading.Lock()
if hasattr(os, "register_at_fork"):  # a data loader may fork while another thread opens an image
    os.register_at_fork(
        before=_pillow_limit.acquire,
        after_in_parent=_pillow_limit.release,
        after_in_child=_pillow_limit.release,
    )


# Reading


def read_image(source: ImageSource, *, apply_exif: bool = True) -> Tensor:
    """Reads one image -> ``[3, H, W]`` uint8 RGB on the CPU, upright (EXIF rotation applied).

    ``source`` is a path, a PIL image, an array (``[H, W, 3]`` uint8 RGB; also grey ``[H, W]`` or
    ``[H, W, 1]``, RGBA, uint16, bool, float in 0..1) or a tensor (``[3, H, W]`` or ``[1, H, W]``,
    uint8 or float in 0..1). 16-bit grey is scaled to 8 bits, transparent pixels are composited on
    white, an animation gives its first frame. A uint8 ``[3, H, W]`` tensor is not copied.

    ``apply_exif=False`` keeps the pixels as stored.

    Raises :class:`LabError` when the file is missing, damaged, not an image, or larger than 300
    megapixels, and when the shape, type or range of an array or tensor is ambiguous.

    >>> read_image(np.zeros((48, 64, 3), np.uint8)).shape
    torch.Size([3, 48, 64])
    >>> read_image("no such.jpg")
    Traceback (most recent call last):
    sparse_rcnn_lab.core.errors.LabError: No image at "no such.jpg". Check the path.
    """
    if isinstance(source, (np.ndarray, Tensor)):
        return _from_numbers(source, image_name(source))
    if isinstance(source, Image.Image):
        return _from_pil(source, image_name(source), apply_exif)
    if isinstance(source, str) and "://" in source:
        raise LabError(f'"{source}" is a web address. Download the image and give its path.')
    if isinstance(source, (str, os.PathLike)):
        with _opened(Path(source)) as image:
            return _from_pil(image, Path(source).name, apply_exif)
    raise LabError(
        f"An image must be a path, PIL image, numpy array or tensor; found {type(source).__name__}."
    )


@cache
def reads_heif() -> bool:
    """Whether a phone's HEIC photographs can be read. Registers pillow-heif with Pillow where it
    is installed.
    """
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def image_name(source: Image.Image | np.ndarray | Tensor) -> str:
    """What messages call an image: its file name, or its kind and size."""
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", "")
        named = isinstance(file, (str, os.PathLike)) and os.fspath(file)
        return Path(file).name if named else f"PIL image {source.width}x{source.height}"
    kind = "tensor" if isinstance(source, Tensor) else "array"
    return f"{kind} {'x'.join(map(str, source.shape))}"


def _from_numbers(source: np.ndarray | Tensor, name: str) -> Tensor:
    """Converts an array ``[H, W, C]`` or a tensor ``[C, H, W]`` to ``[3, H, W]`` uint8."""
    if isinstance(source, Tensor):
        kind, shape, axis = "tensor", "[3, H, W]", 0
        other, turn, cast = "[H, W, 3]", "tensor.permute(2, 0, 1)", ".to(torch.uint8)"
        source = source.detach().cpu().as_subclass(Tensor)
        array = (source.float() if source.is_floating_point() else source).numpy()
    else:
        kind, shape, axis = "array", "[H, W, 3]", 2
        other, turn, cast = "[3, H, W]", "array.transpose(1, 2, 0)", ".astype(np.uint8)"
        array = source[:, :, None] if source.ndim == 2 else source
    channels = (1, 3) if kind == "tensor" else (1, 3, 4)
    if array.ndim != 3 or array.shape[axis] not in channels:
        hint = " For a batch, give a list of images." if array.ndim == 4 else ""
        if array.ndim == 3 and array.shape[2 - axis] in channels:
            hint = f" This looks like {other}: use {turn}."
        raise LabError(f"An image {kind} must be {shape} in RGB; found {name}.{hint}")
    if array.size == 0:
        raise LabError(f"An image needs at least one pixel, found {name}.")
    advice = f"Give it before any normalisation; if its values are 0..255, use {cast}."
    planes = _to_8_bits(array if axis == 0 else array.transpose(2, 0, 1), name, advice)
    if len(planes) == 4:
        rgba = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
        planes = np.asarray(_over_white(rgba)).transpose(2, 0, 1)
    if len(planes) == 1:
        planes = np.repeat(planes, 3, axis=0)
    elif kind == "array":
        planes = planes.copy()  # never the caller's own memory
    return torch.from_numpy(np.ascontiguousarray(planes))


def _to_8_bits(values: np.ndarray, name: str, advice: str) -> np.ndarray:
    """Converts uint8, bool, 16 bits (high byte, as Pillow's colour) or float in 0..1 to uint8.

    Raises :class:`LabError`, ending in ``advice``, where the brightness is ambiguous.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.newbyteorder("=") == np.uint16:
        return (values >> 8).astype(np.uint8)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    raise LabError(
        f"An image must hold uint8 (0..255) or float (0..1); found {name} of {values.dtype} from "
        f"{low} to {high}. {advice}"
    )


def image_header(path: Path) -> tuple[int, int, int]:
    """Height and width of an image file as stored, and its EXIF orientation, 1 to 8 (1: upright).

    Reads only the header, so the pixels may be damaged. Raises :class:`LabError` as
    :func:`read_image` does. From orientation 5 on, the upright image has them swapped.
    """
    with _opened(path) as image:
        known = image.format != "PNG" or "exif" in image.info  # else Pillow would read all pixels
        turn = _orientation(image) if known else None
        height, width = image.height, image.width
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size is the upright one
            height, width = (image.tag_v2[tag] for tag in (_HEIGHT_TAG, _WIDTH_TAG))
        return height, width, turn if turn in _UPRIGHT else 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image with its header read. Raises LabError where there is no image."""
    try:
        file = path.open("rb") if not path.is_dir() else None
    except FileNotFoundError:
        raise LabError(f'No image at "{path}". Check the path.') from None
    except (OSError, ValueError) as error:
        raise LabError(f'"{path}" cannot be opened: {error}.') from None
    reads_heif()
    if file is None:
        raise LabError(f'"{path}" is a folder. Give one image file, or a list of them.')
    with file:
        try:
            with _without_pixel_limit():
                image = Image.open(file)
        except Exception:  # a damaged header can raise anything
            found = describe_file(path)
            heif = found == "HEIF" and not reads_heif()
            also = (
                "Install pillow-heif (pip install pillow-heif), or convert" if heif else "Convert"
            )
            raise LabError(
                f'"{path.name}" is not an image that Pillow can read (found: {found}). '
                f"{also} it to JPEG or PNG."
            ) from None
        _check_pixels(image, path.name)
        yield image


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Lifts Pillow's limit, which warns above 89 megapixels; ours is :data:`MAX_PIXELS`.

    Pillow's limit is a global, so one thread at a time lifts it, and only while a size is checked.
    """
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise LabError(f'"{name}" has no pixels: its size is {width}x{height}.')
    if width * height > MAX_PIXELS:
        raise LabError(
            f'"{name}" has {width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} '
            "megapixels. Make it smaller first."
        )


def _from_pil(image: Image.Image, name: str, apply_exif: bool) -> Tensor:
    _check_pixels(image, name)
    if getattr(image, "tile", None) and getattr(image, "fp", None) is None:
        raise LabError(
            f'"{name}" was closed before its pixels were read. Use it within its "with", or call '
            "its load() there."
        )
    turned = 1
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
            turned = _orientation(image)  # read first: Pillow turns a TIFF while loading it
            with _without_pixel_limit():  # loading checks the size again
                image.load_prepare()
        image.load()
        rgb = _to_rgb(image, name)
    except MemoryError:
        raise LabError(f'"{name}" ({image.width}x{image.height}) does not fit in memory.') from None
    except LabError:
        raise
    except Exception as error:  # a damaged file can raise anything
        found = f"{image.format or image.mode} {image.width}x{image.height}"
        raise LabError(
            f'"{name}" is cut short or damaged ({found}; Pillow: {error}). '
            "Copy or download it again."
        ) from None
    turn = _orientation(image) if apply_exif else _BACK.get(turned, turned)
    if turn in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[turn])
    # Channel by channel takes half the time of one array and a permute, and less memory.
    planes = np.empty((3, rgb.height, rgb.width), np.uint8)
    for plane, channel in zip(planes, "RGB", strict=True):
        plane[...] = np.asarray(rgb.getchannel(channel))
    return torch.from_numpy(planes)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # a damaged EXIF block, whatever it raises, must not cost the image
        return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image)
        # 32-bit values of at most 255 may come from a dark 16-bit image or from an 8-bit one.
        least = 256 if grey.dtype.kind == "i" and grey.any() else 0
        if grey.dtype.kind in "iu" and grey.min() >= 0 and least <= grey.max() <= 65535:
            grey = grey.astype(np.uint16)
        advice = "Scale its values to 8 bits (0..255) first."
        return Image.fromarray(_to_8_bits(grey, name, advice)).convert("RGB")
    if image.mode == "La":  # the only mode that Pillow does not convert in one step
        image = image.convert("LA")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """An RGBA image composited on white, as RGB."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


# Resizing


def resize_image(image: Tensor, short_side: int, long_side: int, antialias: bool = False) -> Tensor:
    """Resizes ``[3, H, W]`` uint8 bilinearly, aspect ratio kept -> ``[3, h, w]`` uint8.

    The short side becomes ``short_side`` unless the long side would exceed ``long_side``; sizes are
    those of :func:`resized_size`. The published detectors resize without ``antialias``, to exactly
    the values of OpenCV (:func:`resize_as_opencv`). An image that has the right size is returned as
    it is.

    >>> resize_image(torch.zeros(3, 427, 640, dtype=torch.uint8), 800, 1333).shape
    torch.Size([3, 800, 1199])
    """
    size = resized_size(image.shape[-2], image.shape[-1], short_side, long_side)
    return resize_to(image, size, antialias)


def resize_to(image: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Resizes ``[3, H, W]`` uint8 bilinearly to ``size`` (height, width); no copy when equal."""
    if tuple(image.shape[-2:]) == size:
        return image
    if not antialias:
        return resize_as_opencv(image, size)
    # As torchvision's resize, whose import takes seconds; only the CPU resizes in integers.
    pixels = image[None] if image.device.type == "cpu" else image[None].float()
    resized = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.round().clamp(0, 255).byte() if resized.is_floating_point() else resized


def resized_size(height: int, width: int, short_side: float, long_side: float) -> tuple[int, int]:
    """(height, width) after a keep-ratio resize, rounded as mmdetection 3.3.0 does."""
    if min(height, width) < 1 or min(short_side, long_side) < 1:
        raise LabError(
            f"Cannot resize {width}x{height} pixels to short side {short_side}, long side "
            f"{long_side}: all must be at least 1."
        )
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_as_opencv(
    image: Tensor, size: tuple[int, int], part: tuple[int, int, int, int] | None = None
) -> Tensor:
    """Resizes ``[3, H, W]`` uint8 to ``size`` (height, width) exactly as OpenCV does it.

    ``cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)``, which made the published inputs,
    uses on uint8 half-pixel centres, no antialiasing, and integer arithmetic with its own rounding:
    weights of 11 bits, a pass along the rows kept at full precision, and one down the columns that
    truncates intermediate values. Torch's bilinear resize rounds differently: a tenth to a third of
    the values differ by one grey level, nearly all upwards.

    part: (top, left, height, width) in the resized image; only this is computed and returned.
    """
    top, left, height, width = part or (0, 0, *size)
    bottom, end = image.shape[-2] - 1, image.shape[-1] - 1
    rows, lower = _weights(image.shape[-2], size[0])
    rows, lower = rows[top : top + height], lower[top : top + height, None]
    above, below = rows.clip(0, bottom), (rows + 1).clip(0, bottom)
    columns, right = _weights(image.shape[-1], size[1])
    columns, right = columns[left : left + width], right[left : left + width]
    here, there = columns.clip(0, end), (columns + 1).clip(0, end)
    result = np.empty((image.shape[0], height, width), np.uint8)
    step = max(1, _CACHE // width)
    for plane, out in zip(image.cpu().numpy(), result, strict=True):
        for start in range(0, height, step):
            block = slice(start, start + step)
            high, low = above[block], below[block]
            lines = _along_rows(plane[high[0] : low[-1] + 1], here, there, right)
            upper, under = lines[high - high[0]], lines[low - high[0]]
            upper *= _ONE - lower[block]
            under *= lower[block]
            upper >>= 16
            under >>= 16
            upper += under
            upper += 2
            upper >>= 2
            out[block] = upper
    return torch.from_numpy(result).to(image.device)


def _weights(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``wanted`` samples, the index before it, from -1 on, and the next one's weight.

    Each step rounds as OpenCV does: positions in float32, weights of 11 bits, half to even.
    """
    scale = 1.0 / (wanted / length)
    position = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(position)
    weight = np.rint((position - before) * np.float32(_ONE))
    return before.astype(np.int64), weight.astype(np.int32)


def _along_rows(
    plane: np.ndarray, here: np.ndarray, there: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """``[H, W]`` uint8 sampled between columns -> int32, in 128ths of a grey level, cut off."""
    left = np.take(plane, here, axis=1, mode="clip").astype(np.int32)
    right = np.take(plane, there, axis=1, mode="clip").astype(np.int32)
    right -= left
    right *= weight
    left <<= 11
    left += right
    left >>= 4
    return left


# One batch


def normalise_and_pad(
    images: Sequence[Tensor],
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    multiple: int = 32,
) -> tuple[Tensor, Tensor]:
    """Makes one batch: normalises each image, then pads it with zeros at the right and bottom.

    images: B tensors ``[3, h, w]`` uint8 RGB; mean, std: 3 numbers each, in units of 0..255.
    Returns the batch ``[B, 3, H, W]`` float32 with H, W the largest sizes rounded up to
    ``multiple``, and the sizes before padding ``[B, 2]`` float32 (height, width).

    >>> images = [torch.zeros(3, 40, 50, dtype=torch.uint8)]
    >>> batch, sizes = normalise_and_pad(images, mean=(124, 116, 104), std=(58, 57, 57))
    >>> batch.shape, sizes.tolist()
    (torch.Size([1, 3, 64, 64]), [[40.0, 50.0]])
    """
    batch, sizes = pad_images(images, multiple)
    return normalise(batch, sizes, mean, std), sizes.to(batch.device)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images prepared for the model.

    images: ``[B, 3, H, W]`` normalised, padded.  sizes: ``[B, 2]`` (height, width) before padding.
    originals: each image's own (height, width).  sources: ``[3, h, w]`` uint8, as read.
    """

    images: Tensor
    sizes: Tensor
    originals: tuple[tuple[int, int], ...]
    sources: tuple[Tensor, ...]

    def scale(self, index: int) -> Tensor:
        """``[2]``: the factors (x, y) from original to input pixels of one image."""
        h, w = self.originals[index]
        return self.sizes[index].flip(0) / self.sizes.new_tensor([w, h])


def make_batch(
    images: Sequence[ImageSource], want: InputConfig, device: torch.device, resize: bool = True
) -> Batch:
    """Reads, resizes, normalises and pads images into one batch on ``device``.

    resize: False keeps the images' own size. Raises LabError for an empty list and for what is
    not an image.
    """
    if not images:
        raise LabError("The list of images is empty; give at least one.")
    originals = tuple(read_image(image) for image in images)
    resized = [
        resize_image(image, want.short_side, want.long_side, want.antialias) if resize else image
        for image in originals
    ]
    batch, sizes = normalise_and_pad(resized, want.mean, want.std, want.multiple)
    return Batch(
        batch.to(device),
        sizes.to(device),
        tuple((int(image.shape[1]), int(image.shape[2])) for image in originals),
        originals,
    )


def reduced(image: Tensor) -> Tensor:
    """An image ``[3, H, W]`` uint8 as a trace keeps it: at most 4 megapixels, same aspect ratio."""
    height, width = image.shape[-2:]
    shrink = (MAX_KEPT_PIXELS / (height * width)) ** 0.5
    if shrink >= 1:
        return image
    size = max(1, int(height * shrink)), max(1, int(width * shrink))
    return resize_to(image, size, antialias=True)
