"""The weighted gather under RoI pooling, with a backward pass that gathers too.

``embedding_bag``'s own backward pass scatters gradients into the table. On a CPU it is faster to
order the entries by table row: then each row's gradient is again a bag, of the outputs that read
it. This is the transposition of a sparse matrix, which scipy does in one linear pass.
Several gathers from one table (one per stage) share the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rcnn_lab.core.pooling import gather

# rows [K, n], weights [K, n], gradient of what was gathered [K, D]
_Entry = tuple[Tensor, Tensor, Tensor]

_SHARE = 0.5  # outputs of a group of gathers, per row of the table


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """As :func:`sparse_rcnn_lab.core.pooling.gather`, with the faster backward pass.

    All gathers from the same ``table`` add a single gradient to it, instead of one of the table's
    size each. Other readers of the table are differentiated as usual.
    """
    if not _trains_on_cpu(table):
        return gather(table, rows, weights)
    waiting = getattr(table, "_waiting", None)
    if waiting is None:
        waiting = _Waiting(table.shape[0])
        table._waiting = waiting  # type: ignore[attr-defined]
        table.register_hook(waiting.add_to)  # runs after all readers of the table
    return _Gather.apply(table, rows, weights, waiting)


def _trains_on_cpu(table: Tensor) -> bool:
    trains = torch.is_grad_enabled() and table.requires_grad
    return trains and table.device.type == "cpu" and not torch.compiler.is_compiling()


class _Waiting:
    """The gathers from one table whose gradients have arrived up to now."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.entries: list[_Entry] = []

    def add_to(self, grad: Tensor) -> Tensor:
        """The table's gradient with that of all gathers; ``grad`` is that of its other readers."""
        if not self.entries:
            return grad
        groups = _groups(self.entries, self.num_rows)
        parts = (_transposed(group, self.num_rows) for group in groups)
        total = next(parts)
        for part in parts:
            total.add_(part)
        self.entries.clear()
        # Where nothing else reads the table, this is the placeholder zero.
        return total if grad.stride() == (0, 0) else total.add_(grad)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, weights: Tensor, waiting: _Waiting
    ) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.waiting = waiting
        return gather(table, rows, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        waiting: _Waiting = ctx.waiting
        waiting.entries.append((*ctx.saved_tensors, grad))
        if len(waiting.entries) > 1:
            return None, None, None, None
        # A placeholder zero without memory; the table's hook adds the real gradient.
        return grad.new_zeros(()).expand(waiting.num_rows, grad.shape[1]), None, None, None


def _groups(entries: list[_Entry], num_rows: int) -> Iterator[list[_Entry]]:
    """Groups of entries to process together: a small group stays in the cache, but each makes a
    gradient of the table's size, so a group should not have too few outputs."""
    group: list[_Entry] = []
    for entry in entries:
        group.append(entry)
        if sum(len(rows) for rows, _, _ in group) >= num_rows * _SHARE:
            yield group
            group = []
    if group:
        yield group


def _transposed(entries: list[_Entry], num_rows: int) -> Tensor:
    """The gradient ``[R, D]`` of the table of some gathers."""
    from scipy.sparse import csr_matrix  # only training needs it, and its import is slow

    rows, weights, grad = (torch.cat(parts) for parts in zip(*entries, strict=True))
    bags, size = rows.shape
    starts = np.arange(0, rows.numel() + 1, size, dtype=np.int32)
    if weights.dtype not in (torch.float32, torch.float64):  # numpy has no bfloat16
        weights = weights.float()
    entry = weights.flatten().numpy(), rows.flatten().int().numpy(), starts
    by_row = csr_matrix(entry, shape=(bags, num_rows)).tocsc()
    return F.embedding_bag(
        torch.from_numpy(by_row.indices),
        grad,
        torch.from_numpy(by_row.indptr[:-1]),
        mode="sum",
        per_sample_weights=torch.from_numpy(by_row.data).to(grad.dtype),
    )
