"""The weighted gather under RoI pooling, with a backward pass that gathers too.

``embedding_bag``'s own backward scatters gradients into the table. On a CPU it is faster to order
the entries by table row: then each row's gradient is again a bag, of the outputs that read it.
That is a sparse matrix going from rows to columns, which scipy does in one linear pass.
Several gathers from one table (one a stage) share the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# (table [R, D], rows [K, n], weights [K, n]) -> [K, D]
Gather = Callable[[Tensor, Tensor, Tensor], Tensor]
# rows [K, n], weights [K, n], gradient of what was gathered [K, D]
_Entry = tuple[Tensor, Tensor, Tensor]

_SHARE = 0.5  # outputs of a group of gathers, per row of the table


def shared_backward(table: Tensor) -> Tensor:
    """``table`` ``[R, D]``, whose gradient is made once for all :func:`weighted_gather` of it.

    Then no gathered result brings a gradient of the table's size. What else reads the table is
    differentiated as usual.
    """
    if not _trains_on_cpu(table):
        return table
    entries: list[_Entry] = []
    shared: Tensor = _SharedTable.apply(table, entries)
    shared._gathered = entries  # type: ignore[attr-defined]
    return shared


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums weighted rows: ``table`` ``[R, D]``, ``rows`` and ``weights`` ``[K, n]`` -> ``[K, D]``.

    Gradients flow into the table only.
    """
    if _trains_on_cpu(table):
        return _Gather.apply(table, rows, weights, getattr(table, "_gathered", None))
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def _trains_on_cpu(table: Tensor) -> bool:
    trains = torch.is_grad_enabled() and table.requires_grad
    return trains and table.device.type == "cpu" and not torch.compiler.is_compiling()


def plain_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """As :func:`weighted_gather`, in two operations that every runtime has.

    ONNX knows no ``embedding_bag``, and what stands in for it there is a loop over the bags. This
    holds all ``[K, n, D]`` rows in memory.
    """
    return torch.einsum("kn,knd->kd", weights, F.embedding(rows, table))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, weights: Tensor, gathered: list[_Entry] | None
    ) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.num_rows, ctx.gathered = table.shape[0], gathered
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        entry = (*ctx.saved_tensors, grad)
        if ctx.gathered is None:
            return _table_gradient([entry], ctx.num_rows), None, None, None
        ctx.gathered.append(entry)  # autograd visits _SharedTable after all of these
        return None, None, None, None


class _SharedTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, gathered: list[_Entry]) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.num_rows, ctx.gathered = table.shape[0], gathered
        return table.view_as(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        if not ctx.gathered:
            return grad, None
        ours = _table_gradient(ctx.gathered, ctx.num_rows)
        ctx.gathered.clear()
        return ours if grad is None else ours + grad, None


def _table_gradient(entries: list[_Entry], num_rows: int) -> Tensor:
    """``[R, D]``: what all gathers together want changed."""
    total: Tensor | None = None
    for group in _groups(entries, num_rows):
        part = _transposed(group, num_rows)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _groups(entries: list[_Entry], num_rows: int) -> Iterator[list[_Entry]]:
    """Entries to work through together: few at a time stay in the cache, but each group makes a
    gradient of the table's size, so that a group should have its share of outputs."""
    group: list[_Entry] = []
    for entry in entries:
        group.append(entry)
        if sum(len(rows) for rows, _, _ in group) >= num_rows * _SHARE:
            yield group
            group = []
    if group:
        yield group


def _transposed(entries: list[_Entry], num_rows: int) -> Tensor:
    """The gradient ``[R, D]`` of some gathers' table."""
    from scipy.sparse import csr_matrix  # only training needs it, and it takes long to import

    rows, weights, grad = (torch.cat(parts) for parts in zip(*entries, strict=True))
    bags, size = rows.shape
    starts = np.arange(0, rows.numel() + 1, size, dtype=np.int32)
    if weights.dtype not in (torch.float32, torch.float64):  # numpy knows no bfloat16
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
