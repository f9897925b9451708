"""The model's input: images padded and normalised, and for training their ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.errors import LabError


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its ground truth.

    image: ``[3, H, W]`` uint8, RGB.
    boxes: ``[M, 4]`` float32, xyxy, pixels of ``image``; crowd boxes are left out.
    labels: ``[M]`` int64, index into the data set's ``class_names``.
    image_id: the id that ``ground_truth()`` uses for this image.
    name: what messages call the image: its file name, or its seed and index.
    """

    image: Tensor = field(repr=False)  # keeps the repr in a notebook to one line
    boxes: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    image_id: int
    name: str


@dataclass(frozen=True, eq=False)
class Targets:
    """Ground truth of a batch, padded to the image with the most objects.

    boxes: ``[B, M, 4]`` xyxy, input pixels.  labels: ``[B, M]`` int64.
    counts: objects in each image.  sizes: ``[B, 2]`` (height, width) before padding.
    """

    boxes: Tensor
    labels: Tensor
    counts: tuple[int, ...]
    sizes: Tensor

    @classmethod
    def pad(cls, boxes: list[Tensor], labels: list[Tensor], sizes: Tensor) -> Targets:
        """Pads one ``[M, 4]`` and one ``[M]`` tensor per image."""
        padded = [pad_sequence(part, batch_first=True).to(sizes.device) for part in (boxes, labels)]
        return cls(padded[0].float(), padded[1].long(), tuple(map(len, boxes)), sizes)


def collate(samples: Sequence[Sample], config: InputConfig) -> tuple[Tensor, Targets]:
    """Batches samples: images ``[B, 3, H, W]``, padded and normalised, and their targets."""
    images, sizes = pad_images([sample.image for sample in samples], config.multiple)
    targets = Targets.pad([s.boxes for s in samples], [s.labels for s in samples], sizes)
    return normalise(images, sizes, config.mean, config.std), targets


def pad_images(images: Sequence[Tensor], multiple: int = 32) -> tuple[Tensor, Tensor]:
    """Puts B tensors ``[3, h, w]`` into one batch, with zeros at the right and bottom.

    Returns the batch ``[B, 3, H, W]`` with H, W the largest sizes rounded up to ``multiple``, and
    the sizes before padding ``[B, 2]`` float32 (height, width), on the CPU.
    """
    if not images:
        raise LabError("A batch needs at least one image; found none.")
    sizes = torch.tensor([image.shape[-2:] for image in images], dtype=torch.float32)
    height, width = (-(-int(side) // multiple) * multiple for side in sizes.amax(dim=0))
    batch = images[0].new_empty(len(images), 3, height, width)
    for slot, image in zip(batch, images, strict=True):
        slot[:, : image.shape[-2], : image.shape[-1]] = image
    return _clear_padding(batch, sizes), sizes


def normalise(
    batch: Tensor, sizes: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor
) -> Tensor:
    """Normalises uint8 RGB ``[B, 3, H, W]`` to float32; outside ``sizes`` ``[B, 2]`` it is zero.

    mean, std: 3 numbers each, in units of 0..255. ``sizes`` on the CPU avoid a wait for the GPU.
    """
    mean = torch.as_tensor(mean, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    std = torch.as_tensor(std, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    return _clear_padding(batch.to(torch.float32).sub_(mean).div_(std), sizes)


def _clear_padding(batch: Tensor, sizes: Tensor) -> Tensor:
    for slot, (height, width) in zip(batch, sizes.long().tolist(), strict=True):
        slot[:, height:] = 0
        slot[:, :height, width:] = 0
    return batch
