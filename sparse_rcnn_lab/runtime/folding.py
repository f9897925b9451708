"""Batch norm with fixed statistics folded into the convolution before it.

Such a batch norm only scales and shifts, and so does a convolution: ``norm(conv(x))`` is one
convolution with other weights. Scaling the weights, which are few, instead of the activations
spares a pass over memory forward and two backward; gradients still reach all that is trained.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weight ``[K, C, h, w]`` and bias ``[K]`` of a convolution and the batch norm after it.

    The statistics are taken as they stand.
    """
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    if norm is None:
        return conv.weight, bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], (bias - norm.running_mean) * scale + norm.bias


class NormalisedConv(nn.Conv2d):
    """A convolution that does the batch norm's work too, while that one keeps its statistics."""

    _norm: tuple[nn.BatchNorm2d]  # in a tuple: a child would appear twice in the state dict

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, K, h, w]``."""
        (norm,) = self._norm
        if norm.training:
            return super().forward(input)
        weight, bias = fold(self, norm)
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class FoldedBatchNorm(nn.BatchNorm2d):
    """A batch norm whose work the convolution before it has done, outside of training mode."""

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]``, unchanged but in training mode."""
        return super().forward(input) if self.training else input


def fold_norms(module: nn.Module) -> None:
    """Makes every batch norm directly after a convolution part of it; weights keep their names."""
    for first, second in pairwise([*module.children(), None]):
        if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d:
            first.__class__, second.__class__ = NormalisedConv, FoldedBatchNorm
            setattr(first, "_norm", (second,))  # noqa: B010 - nn.Module types it otherwise
        elif first is not None:
            fold_norms(first)
