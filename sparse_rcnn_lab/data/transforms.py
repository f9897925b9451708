"""Training augmentation: the same sample and seed give the same result on every worker.

Colours are changed by one 3x3 matrix, in a tenth of the time of torchvision's hue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData, Sample, checked_sample
from sparse_rcnn_lab.detect.images import resize_as_opencv, resize_to, resized_size

# The mean colour of ImageNet: after normalisation, padding with it equals the batch padding.
FILL = (124, 116, 104)

_RANGES = {
    **dict.fromkeys(("hflip", "crop", "min_visible", "mosaic", "paste", "blur", "turn"), 1.0),
    **dict.fromkeys(("brightness", "contrast", "saturation"), 1.0),
    "hue": 0.5,
}

_MIXING = 0x6D6F7361  # draws which images are combined independently of how each is changed

# RGB -> luma and two colour differences (YIQ): a hue shift rotates the latter two.
_RGB_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)
_YIQ_TO_RGB = torch.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class Window:
    """How a sample's pixels move: the ``crop`` of the source, resized, is pasted into ``frame``.

    crop: (top, left, height, width) in source pixels; size: (height, width) it is resized to;
    place: (top, left) of the result in the frame; frame: (height, width) of the frame.
    first: (height, width) to which the whole source is resized before the crop, which is then in
    pixels of this size.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    place: tuple[int, int]
    frame: tuple[int, int]
    first: tuple[int, int] | None = None

    def cut(self, image: Tensor, antialias: bool = False) -> Tensor:
        """Crops and resizes ``[3, H, W]`` uint8; a first resize computes only the crop."""
        top, left, height, width = self.crop
        if self.first is None:
            part = image[:, top : top + height, left : left + width]
        elif antialias:
            part = resize_to(image, self.first, antialias)
            part = part[:, top : top + height, left : left + width]
        else:
            part = resize_as_opencv(image, self.first, self.crop)
        return resize_to(part, self.size, antialias)

    def paste(self, image: Tensor, flip: bool) -> Tensor:
        """Pastes the result of :meth:`cut` into the frame, mirrored when ``flip``."""
        (top, left), (height, width) = self.place, self.size
        if self.size != self.frame:
            framed = image.new_tensor(FILL).view(3, 1, 1).repeat(1, *self.frame)
            framed[:, top : top + height, left : left + width] = image
            image = framed
        return image.flip(-1) if flip else image

    def move_boxes(self, boxes: Tensor, source: tuple[int, int], flip: bool) -> Tensor:
        """Moves boxes ``[M, 4]`` xyxy of a source (height, width) with their pixels, unclipped."""
        if self.first is not None:
            boxes = box_ops.rescale(boxes, _factors(source, self.first))
        top, left, height, width = self.crop
        boxes = boxes - boxes.new_tensor([left, top] * 2)
        boxes = box_ops.rescale(boxes, _factors((height, width), self.size))
        x1, y1, x2, y2 = (boxes + boxes.new_tensor([*self.place[::-1]] * 2)).unbind(dim=1)
        if flip:
            x1, x2 = self.frame[1] - x2, self.frame[1] - x1
        return torch.stack([x1, y1, x2, y2], dim=1)


@dataclass(frozen=True)
class Augment:
    """Random flip, zoom, crop and colours for training; ``augment(sample, seed)`` -> sample.

    The result has the size of the image fitted into ``config.size`` (height, width), aspect ratio
    kept, or, when that is None, one of the published multi-scale sizes: short side drawn from
    ``short_sides``, long side at most ``long_side``. These are the sizes that the detector sees at
    inference too; batching pads them.

    ``config.scale`` is the range of a zoom relative to that size: above 1 a random part is cut out
    and enlarged, below 1 the whole image is shrunk and put at a random position on :data:`FILL`.
    ``config.crop`` is the share of images that get the published random crop instead.
    ``brightness``, ``contrast``, ``saturation``: each factor is drawn from 1 - x to 1 + x;
    ``hue`` is drawn from -x to x full turns.

    For few images (:meth:`of`): ``mosaic`` is the share that become four images side by side in a
    frame of ``size``, each at half of it (YOLOv4, arXiv 2004.10934); ``paste`` is the share that
    get objects of another image (Cut, Paste and Learn, arXiv 1708.01642); ``blur`` the share that
    are slightly blurred, as by a moving hand; ``turn`` the share that are rotated by 90, 180 or 270
    degrees, for things that lie on a table or are held in a hand.

    antialias: as in the model's ``InputConfig``. Boxes are clipped; ``min_visible``, ``min_side``
    and ``min_source_side`` say which of them are dropped.
    Raises :class:`LabError` for settings out of range.

    >>> from sparse_rcnn_lab.data.shapes.dataset import shapes_image
    >>> augment = Augment(AugmentConfig(size=(96, 160), scale=(0.5, 2.0), hue=0.1))
    >>> sample = augment(shapes_image(), seed=7)
    >>> sample.image.shape, len(sample.boxes) == len(sample.labels)
    (torch.Size([3, 96, 96]), True)
    """

    config: AugmentConfig = field(default_factory=AugmentConfig)
    antialias: bool = False

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
        if config.crop and (config.size is not None or not config.crop_short_sides):
            raise LabError(
                "Augment: crop needs crop_short_sides, and short_sides in place of a size; found "
                f"size {config.size}, crop_short_sides {config.crop_short_sides}."
            )
        if config.crop and not 1 <= config.crop_size[0] <= config.crop_size[1]:
            raise LabError(f"Augment: crop_size is (low, high); found {config.crop_size}.")
        if config.mosaic and (config.size is None or min(config.size) < 2):
            raise LabError("Augment: mosaic needs a size, the frame that four images share.")

    def smaller(self) -> Augment:
        """The same with smaller images, for the first steps of a training (:func:`smaller_side`).

        >>> Augment(AugmentConfig(size=(320, 416))).smaller().config.size
        (224, 288)
        """
        config = self.config
        changes: dict[str, Any] = {"long_side": smaller_side(config.long_side)}
        for name in ("size", "short_sides", "crop_short_sides", "crop_size"):
            if sides := getattr(config, name):
                changes[name] = tuple(map(smaller_side, sides))
        return replace(self, config=replace(config, **changes))

    def of(self, data: DetectionData, index: int, seed: int) -> Sample:
        """Image ``index`` of a data set, augmented; ``mosaic`` and ``paste`` use other images too.

        The result depends on ``data``, ``index`` and ``seed`` alone.
        """
        random = torch.Generator().manual_seed(seed ^ _MIXING)
        if _uniform(random, 0, 1) >= self.config.mosaic:
            return self(self._pasted(data, index, random), seed)
        assert self.config.size is not None
        height, width = self.config.size
        config = replace(self.config, size=(height // 2, width // 2))
        quarter = replace(self, config=config)
        last = len(data) - 1
        members = [index, *(_whole(random, 0, last) for _ in range(3))]
        parts = [
            quarter(self._pasted(data, member, random), seed ^ number)
            for number, member in enumerate(members)
        ]
        return mosaic(parts, (height, width))

    def _pasted(self, data: DetectionData, index: int, random: torch.Generator) -> Sample:
        sample = checked_sample(data, index)
        if _uniform(random, 0, 1) >= self.config.paste:
            return sample
        return paste(sample, checked_sample(data, _whole(random, 0, len(data) - 1)), random)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample, which depends on ``sample`` and ``seed`` alone.

        Torch's global random generator is neither read nor changed.
        """
        random = torch.Generator().manual_seed(seed)
        if self.config.turn and _uniform(random, 0, 1) < self.config.turn:
            sample = turned(sample, _whole(random, 1, 3))
        height, width = sample.image.shape[-2:]
        window = self.draw_window(height, width, random)
        flip = _uniform(random, 0, 1) < self.config.hflip
        image = window.cut(sample.image, self.antialias)
        image = window.paste(change_colours(image, *self.draw_colours(random)), flip)
        if self.config.blur and _uniform(random, 0, 1) < self.config.blur:
            image = blurred(image)
        boxes = window.move_boxes(sample.boxes, (height, width), flip)
        seen = box_ops.clip(boxes, *window.frame)
        keep = self._worth_keeping(sample.boxes, boxes, seen)
        return replace(sample, image=image, boxes=seen[keep], labels=sample.labels[keep])

    def _worth_keeping(self, source: Tensor, moved: Tensor, seen: Tensor) -> Tensor:
        """``[M]`` bool: which boxes to keep, from ``[M, 4]`` xyxy original, moved and clipped."""
        config, sides = self.config, seen[:, 2:] - seen[:, :2]
        visible = box_ops.area(seen) >= config.min_visible * box_ops.area(moved)
        enough = config.min_source_side - 1e-3  # corners are float32: a side of 1 may give 0.9999
        large = (source[:, 2:] - source[:, :2] >= enough).all(dim=1)
        return visible & large & ((sides >= config.min_side) & (sides > 0)).all(dim=1)

    def draw_window(self, height: int, width: int, random: torch.Generator) -> Window:
        """Draws scale and position for an image of this size."""
        config = self.config
        if config.crop and _uniform(random, 0, 1) < config.crop:
            return self._draw_crop(height, width, random)
        if config.size is not None:
            frame = fitted_size(height, width, config.size)
        else:
            frame = self._draw_size(height, width, config.short_sides, random)
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

    def _draw_crop(self, height: int, width: int, random: torch.Generator) -> Window:
        """Draws the crop of the published recipes with 300 proposals: resize, crop, resize."""
        config = self.config
        first = self._draw_size(height, width, config.crop_short_sides, random)
        low, high = (tuple(min(side, bound) for side in first) for bound in config.crop_size)
        part_h, part_w = (_whole(random, a, b) for a, b in zip(low, high, strict=True))
        top, left = _whole(random, 0, first[0] - part_h), _whole(random, 0, first[1] - part_w)
        frame = self._draw_size(part_h, part_w, config.short_sides, random)
        return Window((top, left, part_h, part_w), frame, (0, 0), frame, first)

    def _draw_size(
        self, height: int, width: int, short_sides: tuple[int, ...], random: torch.Generator
    ) -> tuple[int, int]:
        short_side = short_sides[_whole(random, 0, len(short_sides) - 1)]
        return resized_size(height, width, short_side, self.config.long_side)

    def draw_colours(self, random: torch.Generator) -> tuple[float, float, float, float]:
        """Draws (brightness, contrast, saturation, hue) for :func:`change_colours`."""
        config = self.config
        return (
            _uniform(random, 1 - config.brightness, 1 + config.brightness),
            _uniform(random, 1 - config.contrast, 1 + config.contrast),
            _uniform(random, 1 - config.saturation, 1 + config.saturation),
            _uniform(random, -config.hue, config.hue),
        )


def smaller_side(side: int) -> int:
    """0.7 of a side in pixels, to the nearest multiple of 32: an image then has half the pixels."""
    return min(side, max(1, round(0.7 * side / 32)) * 32)


def turned(sample: Sample, quarters: int) -> Sample:
    """The sample rotated anticlockwise by this many right angles, without resampling.

    >>> from sparse_rcnn_lab.data.shapes.dataset import shapes_image
    >>> sample = shapes_image()
    >>> torch.allclose(turned(turned(sample, 1), 3).boxes, sample.boxes)
    True
    """
    boxes = sample.boxes
    width = sample.image.shape[-1]
    for size in (width, sample.image.shape[-2], width)[:quarters]:
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        boxes = torch.stack([y1, size - x2, y2, size - x1], dim=1)
    image = torch.rot90(sample.image, quarters, (-2, -1)).contiguous()
    return replace(sample, image=image, boxes=boxes)


def fitted_size(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the largest image of the same aspect ratio that fits into ``size``."""
    scale = min(size[0] / height, size[1] / width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _factors(before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """``[2]``: the factors (x, y) from (height, width) ``before`` to ``after``."""
    return torch.tensor([after[1] / before[1], after[0] / before[0]])


def change_colours(
    image: Tensor,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> Tensor:
    """Changes the colours of ``[3, H, W]`` uint8 RGB: factors around 1, hue in full turns.

    All four are linear in RGB when hue rotates the colour plane of YIQ (red towards green), so they
    are one matrix and one offset. Contrast is relative to the image's own mean grey, and values are
    clipped once, at the end.
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


def blurred(image: Tensor) -> Tensor:
    """``[3, H, W]`` uint8 in which each pixel is the mean of the 3x3 around it."""
    padded = F.pad(image.float()[None], (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1)[0].round().to(torch.uint8)


def mosaic(parts: Sequence[Sample], size: tuple[int, int]) -> Sample:
    """Four samples as the quarters of one of ``size`` (height, width), touching in its middle.

    None may be larger than half of ``size``.
    """
    height, width = size
    image = torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    boxes = []
    for number, part in enumerate(parts):
        h, w = part.image.shape[-2:]
        top, left = height // 2 - h * (number < 2), width // 2 - w * (number % 2 == 0)
        image[:, top : top + h, left : left + w] = part.image
        boxes.append(part.boxes + torch.tensor([left, top] * 2))
    labels = torch.cat([part.labels for part in parts])
    return replace(parts[0], image=image, boxes=torch.cat(boxes), labels=labels)


def paste(sample: Sample, other: Sample, random: torch.Generator) -> Sample:
    """``sample`` with up to three objects of ``other``, each cut out by its box with soft edges.

    Their size relative to the image changes by a factor of 0.6 to 1.5. Where one would hide more
    than 0.3 of an existing object, another position is tried, up to ten times.
    """
    height, width = sample.image.shape[-2:]
    fit = min(height / other.image.shape[-2], width / other.image.shape[-1])
    image, boxes, labels = sample.image.clone(), sample.boxes, sample.labels
    for row in torch.randperm(len(other.boxes), generator=random)[:3].tolist():
        x1, y1, x2, y2 = other.boxes[row].round().int().tolist()
        zoom = fit * math.exp(_uniform(random, math.log(0.6), math.log(1.5)))
        h, w = round((y2 - y1) * zoom), round((x2 - x1) * zoom)
        if not (2 <= h <= height and 2 <= w <= width and y2 > y1 and x2 > x1):
            continue
        for _ in range(10):
            top, left = _whole(random, 0, height - h), _whole(random, 0, width - w)
            box = torch.tensor([[left, top, left + w, top + h]], dtype=torch.float32)
            if (box_ops.intersection(box, boxes) <= 0.3 * box_ops.area(boxes)).all():
                cut = resize_to(other.image[:, y1:y2, x1:x2], (h, w), True).float()
                soft = _soft_edges(h)[:, None] * _soft_edges(w)
                under = image[:, top : top + h, left : left + w]
                under.copy_((under + (cut - under) * soft).round().to(torch.uint8))
                boxes = torch.cat([boxes, box])
                labels = torch.cat([labels, other.labels[row : row + 1]])
                break
    return replace(sample, image=image, boxes=boxes, labels=labels)


def _soft_edges(length: int) -> Tensor:
    """``[length]``: rises from near 0 at both ends to 1 within a twelfth of the length."""
    ramp = (torch.arange(length) + 0.5) / max(1.0, length / 12)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1)


def _uniform(random: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=random, dtype=torch.float64))


def _whole(random: torch.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=random))
