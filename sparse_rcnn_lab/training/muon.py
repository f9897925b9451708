"""Muon: momentum whose singular values are all made equal, for weights that are matrices.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its scale after Liu et al., arXiv
2502.16982. Where Adam gives each number of a matrix a step of the same size, Muon gives each of its
directions one, so rare directions are learned as fast as common ones.

torch.optim.Muon does the same one matrix at a time and in bfloat16, which most laptops have no
units for. Here all matrices of one shape (the same layer of six stages) go together, in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at 0, within 0.7..1.2 near 1
_STEPS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """About ``U V'`` of each matrix ``U S V'``: ``[K, A, B]`` to ``[K, A, B]``.

    Singular values end within 0.7..1.2; those far below the largest (under 1e-3 of it) may stay
    smaller.
    Newton-Schulz on the Gram matrix: a polynomial of the smaller side's square, so that the
    larger side is read twice and not ten times.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    x = matrices / matrices.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    gram = x @ x.mT
    whole: Tensor | None = None
    a, b, c = _COEFFICIENTS
    for step in range(_STEPS):
        square = gram @ gram
        factor = b * gram + c * square
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < _STEPS - 1:  # all of these are polynomials of one matrix: their order is free
            gram = factor @ gram @ factor
            gram = 0.5 * (gram + gram.mT)
    assert whole is not None
    return whole @ x


class Muon(torch.optim.Optimizer):
    """Muon over parameters of two or more dimensions; further ones are counted as columns.

    lr: as for AdamW: a matrix ``[A, B]`` moves by ``0.2 sqrt(max(A, B))`` times an orthogonal one,
    so that its numbers move as far as AdamW's do.  weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; all gradients that are there are used."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for parameters in alike.values():
                self._move(parameters, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        before = [self._momentum(p) for p in parameters]
        kept = group["momentum"]
        torch._foreach_lerp_(before, grads, 1 - kept)
        ahead = torch._foreach_lerp(grads, before, kept)  # Nesterov
        moves = orthogonal(torch.stack([x.flatten(1) for x in ahead]).float())
        scale = 0.2 * max(moves.shape[-2:]) ** 0.5
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.add_(move.view_as(parameter), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]
