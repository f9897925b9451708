"""Images of any kind made ready for the model: read, resized, normalised, one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.images import (
    ImageSource,
    normalise_and_pad,
    read_image,
    resize_image,
    resize_to,
)

# More cannot be seen on a screen; a 12,000x9,000 photo would make every trace 324 MB.
MAX_KEPT_PIXELS = 4_000_000


@dataclass(frozen=True)
class Batch:
    """Images made ready for the model.

    images: ``[B, 3, H, W]`` normalised, padded.  sizes: ``[B, 2]`` (height, width) before padding.
    originals: each image's own (height, width).  sources: ``[3, h, w]`` uint8, as read.
    """

    images: Tensor
    sizes: Tensor
    originals: tuple[tuple[int, int], ...]
    sources: tuple[Tensor, ...]

    def scale(self, index: int) -> Tensor:
        """``[2]`` factors (x, y) from original to input pixels of one image."""
        h, w = self.originals[index]
        return self.sizes[index].flip(0) / self.sizes.new_tensor([w, h])


def make_batch(
    images: Sequence[ImageSource], want: InputConfig, device: torch.device, resize: bool = True
) -> Batch:
    """Reads, resizes, normalises and pads images into one batch on ``device``.

    resize: False keeps the images' own pixels. Raises LabError for an empty list and for what is
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
    """An image ``[3, H, W]`` uint8 as a trace keeps it: at most 4 megapixels, aspect kept."""
    height, width = image.shape[-2:]
    shrink = (MAX_KEPT_PIXELS / (height * width)) ** 0.5
    if shrink >= 1:
        return image
    size = max(1, int(height * shrink)), max(1, int(width * shrink))
    return resize_to(image, size, antialias=True)
