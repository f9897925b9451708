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
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparse_rcnn_lab.model.fast.winograd import MIN_CHANNELS, Winograd

Activation = Literal["none", "relu", "relu6"]


class FoldedConvolution:
    """``activation(convolution(x) + shortcut)``, for inference.

    plain: use public operations only, which ``torch.compile`` needs.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: Activation,
        dtype: torch.dtype,
        plain: bool = False,
    ) -> None:
        folded = conv if norm is None else fuse_conv_bn_eval(conv.eval(), norm.eval())
        weight, bias = folded.weight.detach(), folded.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.activation = activation
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self.groups = conv.groups
        self.winograd: Winograd | None = None
        on_cpu = weight.device.type == "cpu" and not plain
        if on_cpu and dtype == torch.float32 and _suits_winograd(conv):
            self.winograd = Winograd(weight, bias)
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.to(dtype)
        self.packed: Any = None
        if on_cpu and fused_operations(dtype):
            self.packed = _pack(self.weight, self.padding, self.stride, self.groups)

    def __call__(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` channels last -> ``[B, K, h, w]``; a shortcut is overwritten."""
        relu = self.activation == "relu"
        if self.winograd is not None and shortcut is None and self.activation != "relu6":
            return self.winograd(x, relu)
        if self.packed is not None:
            settings = (self.bias, self.padding, self.stride, [1, 1], self.groups)
            if shortcut is not None:
                unary = "relu" if relu else None
                return _fused_add(shortcut, x, self.packed, *settings, unary)
            return _fused(x, self.packed, *settings, self.activation)
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


def _pack(weight: Tensor, padding: list[int], stride: list[int], groups: int) -> Tensor:
    packed: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(
        weight.to_mkldnn(), padding, stride, [1, 1], groups
    )
    return packed


def _fused(x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    *settings, activation = settings
    name, scalars = {
        "none": ("none", []),
        "relu": ("relu", []),
        "relu6": ("hardtanh", [0.0, 6.0]),
    }[activation]
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, *settings, name, scalars, "")
    return y


def _fused_add(shortcut: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    *settings, unary = settings
    y: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        shortcut, x, weight, *settings, "add", 1.0, unary, [], ""
    )
    return y


@cache
def fused_operations(dtype: torch.dtype) -> bool:
    """Whether this machine's torch has them and they give the numbers of the plain ones."""
    generator = torch.Generator().manual_seed(0)
    x, shortcut = (torch.randn(1, 16, 5, 5, generator=generator).to(dtype) for _ in range(2))
    weight, bias = torch.randn(16, 16, 1, 1, generator=generator).to(dtype), torch.ones(16)
    x, shortcut, weight = (
        t.contiguous(memory_format=torch.channels_last) for t in (x, shortcut, weight)
    )
    bias = bias.to(dtype)
    settings = (bias, [0, 0], [1, 1], [1, 1], 1)
    plain = F.conv2d(x.float(), weight.float(), bias.float())
    wanted = (plain.relu(), plain.clamp(0, 6), (plain + shortcut.float()).relu())
    try:
        packed = _pack(weight, [0, 0], [1, 1], 1)
        found = (
            _fused(x, packed, *settings, "relu"),
            _fused(x, packed, *settings, "relu6"),
            _fused_add(shortcut.clone(memory_format=torch.preserve_format), x, packed, *settings, "relu"),
        )
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    limit = 1e-4 if dtype == torch.float32 else 0.3
    return all(
        bool((a.float() - b).abs().max() < limit) for a, b in zip(found, wanted, strict=True)
    )
