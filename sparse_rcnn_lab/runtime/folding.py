"""Batch norm with fixed statistics folded into the convolution before it.

Such a batch norm only scales and shifts, so ``norm(conv(x))`` is one convolution with other
weights. This saves one pass over memory in inference, and in training, where the few weights are
scaled anew at each step, one forward and two backward; gradients still reach everything that is
trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.backbone import Backbone


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight ``[K, C, h, w]`` and bias ``[K]`` of a convolution with the batch norm after it.

    The present statistics are used.
    """
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], (bias - norm.running_mean) * scale + norm.bias


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(parent, name, name) of every convolution that is directly followed by a batch norm."""
    for parent in module.modules():
        for (first, a), (second, b) in pairwise(parent.named_children()):
            if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d):
                yield parent, first, second


@torch.no_grad()
def folded(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Backbone:
    """A copy for inference without any batch norm, which computes in ``dtype``.

    Its first part stays float32: next to the pixels, bf16 costs AP and saves little.
    """
    twin = copy.deepcopy(backbone).eval().requires_grad_(False)
    for parent, first, second in list(_pairs(twin)):
        conv, norm = getattr(parent, first), getattr(parent, second)
        # In float64, as few digits would remain where a shift nearly cancels.
        weight, bias = (part.float() for part in fold(conv.double(), norm.double()))
        settings = (conv.stride, conv.padding, conv.dilation, conv.groups)
        shape = (conv.in_channels, conv.out_channels, conv.kernel_size)
        one = nn.Conv2d(*shape, *settings, device="meta").requires_grad_(False)
        one.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), False)
        one.bias = nn.Parameter(bias, False)
        setattr(parent, first, one)
        setattr(parent, second, nn.Identity())
    if dtype != torch.float32:
        first, *others = twin.body
        for part in (*(twin.body[name] for name in others), twin.fpn):
            part.to(dtype)
        twin.body[first] = nn.Sequential(twin.body[first], _Cast(dtype))
    return twin


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


class NormalisedConv(nn.Conv2d):
    """A convolution that also does the batch norm's work while its statistics are fixed."""

    _norm: tuple[nn.BatchNorm2d]  # in a tuple, as a child would be in the state dict twice

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, K, h, w]``."""
        (norm,) = self._norm
        if norm.training:
            return super().forward(input)
        weight, bias = fold(self, norm)
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class FoldedBatchNorm(nn.BatchNorm2d):
    """A batch norm whose work the convolution before it does, except in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]``, unchanged except in training mode."""
        return super().forward(input) if self.training else input


def fold_fixed_norms(backbone: Backbone) -> None:
    """Makes batch norms with fixed statistics part of their convolutions, in place, for training.

    Weights keep their names.
    """
    for part in backbone.fixed_parts():
        for parent, first, second in _pairs(part):
            conv, norm = getattr(parent, first), getattr(parent, second)
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                conv.__class__, norm.__class__ = NormalisedConv, FoldedBatchNorm
                setattr(conv, "_norm", (norm,))  # noqa: B010 - nn.Module types it otherwise
