"""Batch norm over the images of all processes, and statistics that a failed step leaves alone.

Only backbones that train from scratch follow statistics; the published recipes freeze them.
torch's own SyncBatchNorm needs GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverProcesses(torch.autograd.Function):
    """The sum reaches every process's loss, so its gradient is again summed over all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose mean and variance are those of the images of all processes."""

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]``, of which B, H and W may differ between processes."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        pixels = x.new_tensor([x.numel() / x.shape[1]])
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), pixels]))
        count = sums[-1].detach()
        mean = (sums[:-1] / count)[:, None, None]
        centred = x - mean
        variance: Tensor = _SumOverProcesses.apply((centred**2).sum((0, 2, 3))) / count
        self._follow(mean.detach().flatten(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def share_batch_norm(module: nn.Module) -> None:
    """Makes each batch norm in ``module`` that is in training mode one over all processes.

    Weights and statistics stay the same tensors.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d and child.training:
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            for buffer, value in child.named_buffers():
                shared.register_buffer(buffer, value)
            setattr(module, name, shared)
        else:
            share_batch_norm(child)


@contextmanager
def statistics_kept_on_failure(model: nn.Module) -> Iterator[None]:
    """Puts batch-norm statistics back when the step inside fails: it has moved them already."""
    followed = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    buffers = [b for module in followed for b in module.buffers()]
    before = [b.clone() for b in buffers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        raise
