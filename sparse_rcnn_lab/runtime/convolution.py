"""A convolution with its batch norm folded in, that may also add a shortcut and rectify.

On a CPU oneDNN does all of that in one pass over memory, through the operations that
``torch.compile`` uses (they are torch's own, not public; where they are missing, or give other
numbers, plain ones take their place).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.runtime.folding import fold
from sparse_rcnn_lab.runtime.onednn import LIMITS, Pairs, agree
from sparse_rcnn_lab.runtime.winograd import MIN_CHANNELS, Winograd

Activation = Literal["none", "relu", "relu6"]
# oneDNN's names, with their arguments.
_UNARY: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}


class FoldedConvolution(nn.Module):
    """``activation(convolution(x) + shortcut)``, for inference.

    public_only: use public operations only, which ``torch.compile`` needs.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: Activation,
        dtype: torch.dtype,
        public_only: bool = False,
    ) -> None:
        super().__init__()
        with torch.no_grad():
            weight, bias = fold(conv, norm)
        self.activation = activation
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self.groups, self.width = conv.groups, conv.out_channels
        self.winograd: Winograd | None = None
        on_cpu = weight.device.type == "cpu" and not public_only
        if on_cpu and dtype == torch.float32 and _suits_winograd(conv):
            self.winograd = Winograd(weight, bias)
        self.weight: Tensor
        self.bias: Tensor
        weight = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.detach().to(dtype))
        self.fused = on_cpu and fused_operations(dtype)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` channels last -> ``[B, K, h, w]``; a shortcut is overwritten."""
        relu = self.activation == "relu"
        if self.winograd is not None and shortcut is None and self.activation != "relu6":
            return self.winograd(x, relu)
        if self.fused:
            settings = (self.weight, self.bias, self.padding, self.stride, [1, 1], self.groups)
            if shortcut is None:
                return _fused(x, *settings, self.activation)
            return _fused_add(shortcut, x, *settings, self.activation)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        if shortcut is not None:
            y = y.add_(shortcut)
        if self.activation == "none":
            return y
        return y.relu_() if relu else F.hardtanh_(y, 0.0, 6.0)

    def into(self, x: Tensor, out: Tensor) -> None:
        """Writes the result to ``out`` ``[B, h, w, K]``."""
        if self.winograd is not None:
            self.winograd(x, self.activation == "relu", out)
        else:
            out.copy_(self(x).permute(0, 2, 3, 1))


def _suits_winograd(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    narrow = min(conv.in_channels, conv.out_channels)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and narrow >= MIN_CHANNELS


def _fused(x: Tensor, *settings: Any) -> Tensor:
    *settings, activation = settings  # type: ignore[assignment]
    unary, scalars = _UNARY[activation]
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, *settings, unary, scalars, "")
    return y


def _fused_add(shortcut: Tensor, x: Tensor, *settings: Any) -> Tensor:
    *settings, activation = settings  # type: ignore[assignment]
    unary, scalars = _UNARY[activation]
    y: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        shortcut, x, *settings, "add", 1.0, None if unary == "none" else unary, scalars, ""
    )
    return y


@cache
def fused_operations(dtype: torch.dtype) -> bool:
    """Whether this torch has them on this machine, and they give the numbers of the plain ones."""
    generator = torch.Generator().manual_seed(0)
    x, shortcut, weight = (
        torch.randn(*shape, generator=generator)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        for shape in ((1, 16, 5, 5), (1, 16, 5, 5), (16, 16, 1, 1))
    )
    bias = torch.ones(16, dtype=dtype)
    settings = (weight, bias, [0, 0], [1, 1], [1, 1], 1)
    plain = F.conv2d(x.float(), weight.float(), bias.float())

    def tried() -> Pairs:
        yield _fused(x, *settings, "none"), plain
        yield _fused(x, *settings, "relu"), plain.relu()
        yield _fused(x, *settings, "relu6"), plain.clamp(0, 6)
        yield _fused_add(shortcut.clone(), x, *settings, "relu"), (plain + shortcut).relu()

    return agree(tried, LIMITS[dtype])
