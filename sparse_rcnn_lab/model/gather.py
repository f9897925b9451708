"""The weighted gather under RoI pooling, with a backward pass that gathers too.

``embedding_bag``'s own backward scatters gradients into the table. On a CPU it is faster to sort
the entries by table row once: then each row's gradient is again a bag, of the outputs that read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# (table [R, D], rows [K, n], weights [K, n]) -> [K, D]
Gather = Callable[[Tensor, Tensor, Tensor], Tensor]


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums weighted rows: ``table`` ``[R, D]``, ``rows`` and ``weights`` ``[K, n]`` -> ``[K, D]``.

    Gradients flow into the table only.
    """
    trains = torch.is_grad_enabled() and table.requires_grad
    if trains and table.device.type == "cpu" and not torch.compiler.is_compiling():
        return _GatherBothWays.apply(table, rows, weights)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def plain_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """As :func:`weighted_gather`, in two operations that every runtime has.

    ONNX knows no ``embedding_bag``, and what stands in for it there is a loop over the bags. This
    holds all ``[K, n, D]`` rows in memory.
    """
    return torch.einsum("kn,knd->kd", weights, F.embedding(rows, table))


class _GatherBothWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.num_rows = table.shape[0]
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        # Half the width of a row index sorts in half the time; a table has far fewer rows.
        order = torch.sort(rows.flatten().int(), stable=True).indices
        counts = torch.bincount(rows.flatten(), minlength=ctx.num_rows)
        table_grad = F.embedding_bag(
            order // rows.shape[1],
            grad,
            counts.cumsum(0) - counts,
            mode="sum",
            per_sample_weights=weights.flatten()[order],
        )
        return table_grad, None, None
