"""Bilinear resizing of 8-bit images exactly as OpenCV does it, which made the published inputs.

``cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)`` on uint8 has half-pixel centres, no
antialiasing, and integer arithmetic with its own rounding: weights of 11 bits, one pass along the
rows kept at full precision, one down the columns that cuts bits off on the way. Torch's bilinear
rounds otherwise: a tenth to a third of the values differ by one grey level, nearly all upwards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ONE = 1 << 11  # a weight of 1
_CACHE = 1 << 16  # values worked on at once: four arrays of them stay in a processor's cache


def resize_as_opencv(
    image: Tensor, size: tuple[int, int], part: tuple[int, int, int, int] | None = None
) -> Tensor:
    """Resizes ``[3, H, W]`` uint8 to ``size`` (height, width) -> ``[3, h, w]`` uint8, on the CPU.

    part: (top, left, height, width) of the resized image; only that is computed and returned.
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
    """For each of ``wanted`` samples: the index before it, from -1 on, and the next one's weight.

    Rounded step by step as OpenCV rounds: positions in float32, weights of 11 bits, half to even.
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
