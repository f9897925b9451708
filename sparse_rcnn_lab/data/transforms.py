"""Training augmentation: the same sample and seed give the same result on every worker.

Geometry goes through :mod:`torchvision.transforms.v2` on ``tv_tensors``, so that boxes follow
their pixels; colours are changed by one 3x3 matrix, a tenth of the time of v2's hue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from sparse_rcnn_lab import boxes as box_ops
from sparse_rcnn_lab.config import AugmentConfig
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.images import resized_size

# The mean colour of ImageNet: after normalisation what is padded here equals the batch padding.
FILL = (124, 116, 104)

_RANGES = {"hflip": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}

# RGB -> luma and two colour differences (YIQ): a hue shift turns the latter two.
_RGB_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)
_YIQ_TO_RGB = torch.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class Window:
    """Where a sample's pixels go: ``crop`` of the source, resized, pasted into ``frame``.

    crop: (top, left, height, width) in source pixels; size: (height, width) it is resized to;
    place: (top, left) of that in the frame; frame: (height, width) of the result.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    place: tuple[int, int]
    frame: tuple[int, int]

    def cut(self, thing: Tensor, antialias: bool = False) -> Tensor:
        """Crops and resizes an image or boxes (``tv_tensors``); the crop first, as it is cheap."""
        return tvf.resized_crop(
            thing, *self.crop, list(self.size), InterpolationMode.BILINEAR, antialias
        )

    def paste(self, thing: Tensor, flip: bool) -> Tensor:
        """Puts what :meth:`cut` gave on the frame, mirrored when ``flip``."""
        (top, left), (height, width) = self.place, self.size
        margins = [left, top, self.frame[1] - left - width, self.frame[0] - top - height]
        if any(margins):
            thing = tvf.pad(thing, margins, fill=list(FILL))
        return tvf.horizontal_flip(thing) if flip else thing


@dataclass(frozen=True)
class Augment:
    """Random flip, zoom and colours for training; ``augment(sample, seed)`` -> sample.

    The result's size is that of the image fitted into ``config.size`` (height, width) with its
    aspect kept or, when that is None, one of the published multi-scale sizes: short side drawn
    from ``short_sides``, long side at most ``long_side``. These are the sizes the detector sees
    at inference too; batching pads them.

    ``config.scale`` is the range of a zoom relative to that size: above 1 a random part is cut out
    and enlarged, below 1 the whole image is shrunk and put at a random place on :data:`FILL`.
    ``brightness``, ``contrast``, ``saturation``: each factor is drawn from 1 - x to 1 + x;
    ``hue`` from -x to x turns.

    antialias: as in the model's ``InputConfig``. Boxes are clipped; one is dropped when less than
    ``min_visible`` of its area or less than ``min_side`` pixels of a side are left.
    Raises :class:`LabError` for settings out of range.
    """

    config: AugmentConfig = field(default_factory=AugmentConfig)
    antialias: bool = False
    min_visible: float = 0.3
    min_side: float = 1.0

    def __post_init__(self) -> None:
        config = self.config
        if config.size is None and not config.short_sides:
            raise LabError("Augment: give a size or short_sides; both are empty.")
        if not 0 < config.scale[0] <= config.scale[1]:
            raise LabError(f"Augment: scale is (low, high) above 0; found {config.scale}.")
        for name, high in _RANGES.items():
            value = getattr(config, name)
            if not 0 <= value <= high:
                raise LabError(f"Augment: {name} must be in 0..{high:g}; found {value}.")

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample: a function of ``sample`` and ``seed`` alone.

        Neither reads nor changes the state of torch's global random generator.
        """
        random = torch.Generator().manual_seed(seed)
        window = self.draw_window(sample.image.shape[-2], sample.image.shape[-1], random)
        flip = _uniform(random, 0, 1) < self.config.hflip
        colours = self.draw_colours(random)
        pixels, outlines = as_tv_tensors(sample.image, sample.boxes)
        pixels = window.cut(pixels, self.antialias)
        pixels = tv_tensors.wrap(change_colours(pixels, *colours), like=pixels)
        image = window.paste(pixels, flip).as_subclass(Tensor)
        boxes = window.paste(window.cut(outlines), flip).as_subclass(Tensor)
        seen = box_ops.clip(boxes, *window.frame)
        sides = seen[:, 2:] - seen[:, :2]
        keep = (box_ops.area(seen) >= self.min_visible * box_ops.area(boxes)) & (
            sides >= self.min_side
        ).all(dim=1)
        return replace(
            sample,
            image=image,
            boxes=seen[keep],
            labels=sample.labels[keep],
        )

    def draw_window(self, height: int, width: int, random: torch.Generator) -> Window:
        """Draws scale and place for an image of this size."""
        config = self.config
        if config.size is not None:
            frame = fitted_size(height, width, config.size)
        else:
            choice = int(torch.randint(len(config.short_sides), (), generator=random))
            frame = resized_size(height, width, config.short_sides[choice], config.long_side)
        low, high = config.scale
        zoom = math.exp(_uniform(random, math.log(low), math.log(high)))  # 1/2 as likely as 2
        at_y, at_x = _uniform(random, 0, 1), _uniform(random, 0, 1)
        if zoom >= 1:
            part = max(1, round(height / zoom)), max(1, round(width / zoom))
            top, left = round(at_y * (height - part[0])), round(at_x * (width - part[1]))
            return Window((top, left, *part), frame, (0, 0), frame)
        size = max(1, round(frame[0] * zoom)), max(1, round(frame[1] * zoom))
        place = round(at_y * (frame[0] - size[0])), round(at_x * (frame[1] - size[1]))
        return Window((0, 0, height, width), size, place, frame)

    def draw_colours(self, random: torch.Generator) -> tuple[float, float, float, float]:
        """Draws (brightness, contrast, saturation, hue) for :func:`change_colours`."""
        config = self.config
        return (
            _uniform(random, 1 - config.brightness, 1 + config.brightness),
            _uniform(random, 1 - config.contrast, 1 + config.contrast),
            _uniform(random, 1 - config.saturation, 1 + config.saturation),
            _uniform(random, -config.hue, config.hue),
        )


def fitted_size(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the largest same-aspect image that fits into ``size``."""
    scale = min(size[0] / height, size[1] / width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def as_tv_tensors(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """``[3, H, W]`` and xyxy ``[M, 4]`` as ``tv_tensors``, whose transforms do not clip boxes."""
    outlines = tv_tensors.BoundingBoxes(
        boxes,
        format=tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=tuple(image.shape[-2:]),
        clamping_mode=None,  # clipping on the way would hide how much of a box was cut off
    )
    return tv_tensors.Image(image), outlines


def change_colours(
    image: Tensor,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> Tensor:
    """Changes the colours of ``[3, H, W]`` uint8 RGB; factors around 1, hue in turns, red to green.

    All four are linear in RGB when hue turns the colour plane of YIQ, so they are one matrix and
    one offset: contrast is about the image's own mean grey, clipping happens once at the end.
    """
    if (brightness, contrast, saturation, hue) == (1.0, 1.0, 1.0, 0.0):
        return image
    cos, sin = math.cos(2 * math.pi * hue) * saturation, math.sin(2 * math.pi * hue) * saturation
    turn = torch.tensor([[1, 0, 0], [0, cos, sin], [0, -sin, cos]], dtype=torch.float64)
    matrix = (_YIQ_TO_RGB @ turn @ _RGB_TO_YIQ * (brightness * contrast)).to(torch.float32)
    flat = image.flatten(1).to(torch.float32)
    grey = float(flat.mean(dim=1) @ _RGB_TO_YIQ[0].to(torch.float32)) * brightness
    offset = torch.full((3, 1), grey * (1 - contrast) + 0.5)  # + 0.5: the cast rounds down
    changed = torch.addmm(offset, matrix, flat).clamp_(0, 255)
    return changed.to(torch.uint8).view_as(image)


def _uniform(random: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=random, dtype=torch.float64))
