"""Convolutions in 8-bit whole numbers, for processors that multiply these faster than float32.

Weights: one scale an output channel.  Maps: one scale each, which follows from the least and the
largest number that the map holds just then (dynamic quantization); so nothing is calibrated on
other pictures first, and a result depends on its own picture alone. Sums are 32-bit integers.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.runtime.folding import fold
from sparse_rcnn_lab.runtime.onednn import Pairs, agree

# Of 255: bf16 may enlarge the factor by 0.2 %, the zero point is rounded up and moved by one, and
# in bf16 the sum is rounded once more. 253 would wrap around.
LEVELS = 250
# oneDNN orders weights for a picture's size; without one, small maps take many times as long.
_TYPICAL = 64


class Quantized(NamedTuple):
    """A map in whole numbers: ``(values - zero_point) * scale``.

    values: uint8 ``[1, C, H, W]``, channels last.
    """

    values: Tensor
    scale: float
    zero_point: int


def quantize(x: Tensor) -> Quantized:
    """``[1, C, H, W]``, channels last, float32 or bf16, as whole numbers.

    Raises LabError when a number is not finite.
    """
    # Flat: along the strides of channels last, torch takes 70 times as long.
    flat = x.permute(0, 2, 3, 1).reshape(-1)
    least, largest = (float(end) for end in flat.aminmax())
    low, high = min(least, 0.0), max(largest, 0.0)  # in this order NaN stays
    if not math.isfinite(high - low):
        raise LabError(
            "A feature map holds numbers that are not finite, which int8 cannot express. Look at "
            'the weights and the picture, or use precision="float32".'
        )
    # A factor that bf16 has too: as torch rounds it, all would be off by the same share.
    factor = float(torch.tensor(LEVELS / max(high - low, 1e-30)).bfloat16())
    zero_point = math.ceil(-low * factor) + 1 if low < 0 else 0
    # By way of int8, which torch makes six times faster than uint8.
    signed = torch.add(x.new_tensor(zero_point - 128), flat, alpha=factor).round_().to(torch.int8)
    values = signed.view(torch.uint8).bitwise_xor_(128)
    _, c, h, w = x.shape
    return Quantized(values.view(1, h, w, c).permute(0, 3, 1, 2), 1 / factor, zero_point)


class Int8Convolution(nn.Module):
    """``relu(convolution(x) + shortcut)``, one picture at a time, for inference on a processor.

    dtype: of its results, float32 or bf16.
    """

    def __init__(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, relu: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        with torch.no_grad():
            weight, bias = fold(conv, norm)
            scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-30) / 127
            whole = (weight / scales[:, None, None, None]).round().to(torch.int8)
        self.relu, self.dtype, self.width = relu, dtype, conv.out_channels
        self.shape = (list(conv.stride), [int(p) for p in conv.padding], [1, 1], 1)
        size = [1, conv.in_channels, _TYPICAL, _TYPICAL]
        packed = torch.ops.onednn.qconv_prepack(whole, scales, 1.0, 0, *self.shape, size)
        zeros = torch.zeros(conv.out_channels, dtype=torch.int64)
        self.weights = (packed, scales, zeros, bias.detach().float())

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """``[1, C, H, W]`` channels last -> ``[1, K, h, w]``; a shortcut is overwritten."""
        if shortcut is None:
            return self._convolved(x, self.relu)
        y = shortcut.add_(self._convolved(x, relu=False))
        return y.relu_() if self.relu else y

    def into(self, x: Tensor, out: Tensor) -> None:
        """Writes the result to ``out`` ``[1, h, w, K]``."""
        out.copy_(self(x).permute(0, 2, 3, 1))

    def _convolved(self, x: Tensor, relu: bool) -> Tensor:
        after = "relu" if relu else "none"
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            *quantize(x), *self.weights, *self.shape, 1.0, 0, self.dtype, after, [], ""
        )
        return y


def suits(conv: nn.Conv2d) -> bool:
    """Whether a convolution can be an :class:`Int8Convolution`."""
    return conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"


@cache
def has_int8_convolution(dtype: torch.dtype) -> bool:
    """Whether this torch has it here, and it gives about the numbers of the plain one."""
    generator = torch.Generator().manual_seed(0)  # of its own: others may be drawing
    conv = torch.nn.utils.skip_init(nn.Conv2d, 16, 8, 3, padding=1).requires_grad_(False)
    with torch.no_grad():
        conv.weight.uniform_(-0.1, 0.1, generator=generator)
        conv.bias.uniform_(-1, 1, generator=generator)
        x = torch.randn(1, 16, 5, 7, generator=generator)
        x = x.contiguous(memory_format=torch.channels_last)

        def tried() -> Pairs:
            for relu in (False, True):
                plain = conv(x)
                found = Int8Convolution(conv, None, relu, dtype)(x.to(dtype))
                yield found, F.relu(plain) if relu else plain

        # Without VNNI, sums of 16 bits overflow: off by 0.4; where all is well, by 0.015.
        return agree(tried, 0.05)
