"""Muon: momentum whose singular values are all made equal, for weights that are matrices.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its scale after Liu et al., arXiv
2502.16982. Where Adam gives each number of a matrix a step of the same size, Muon gives each of its
directions one, so rare directions are learned as fast as common ones.

torch.optim.Muon does it in bfloat16, which most laptops have no units for. Here it is in the
weights' own precision, and the small Gram matrices of one shape (the same layer of six stages) go
together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at 0, within 0.7..1.2 near 1
_STEPS = 5


def inverse_root(grams: Tensor) -> Tensor:
    """About ``(X X')^(-1/2)`` from each ``X X'``: ``[K, A, A]`` to ``[K, A, A]``.

    Times ``X = U S V'`` it is about ``U V'``: singular values end within 0.7..1.2; those far below
    the largest (under 1e-3 of it) may stay smaller. Newton-Schulz as a polynomial of ``X X'``, so
    that ``X``, whose other side may be long, is read twice and not ten times. Zeros stay zeros.
    """
    squared = grams.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-24)[:, None, None]
    gram = grams / squared
    whole: Tensor | None = None
    a, b, c = _COEFFICIENTS
    for step in range(_STEPS):
        factor = b * gram + c * (gram @ gram)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < _STEPS - 1:  # all of these are polynomials of one matrix: their order is free
            gram = factor @ gram @ factor
            gram = 0.5 * (gram + gram.mT)
    assert whole is not None
    return whole / squared.sqrt()


class Muon(torch.optim.Optimizer):
    """Muon over matrices.

    lr: as for AdamW: a matrix ``[A, B]`` moves by ``0.2 sqrt(max(A, B))`` times an orthogonal one,
    so that its numbers move as far as AdamW's do.  weight_decay: decoupled, as in AdamW.
    Raises LabError for parameters that are not matrices.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]):
            raise LabError("Muon is for matrices; give other weights to AdamW.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; all gradients that are there are used."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for (rows, columns), parameters in alike.items():
                self._move(parameters, group, rows > columns)

    def _move(self, parameters: list[Tensor], group: dict[str, Any], tall: bool) -> None:
        # One matrix at a time stays in the cache; only the small Gram matrices go together.
        ahead = [self._momentum(p, group["momentum"]) for p in parameters]
        roots = inverse_root(torch.stack([x.mT @ x if tall else x @ x.mT for x in ahead]))
        scale = 0.2 * max(parameters[0].shape) ** 0.5
        kept, rate = 1 - group["lr"] * group["weight_decay"], -group["lr"] * scale
        for parameter, x, root in zip(parameters, ahead, roots, strict=True):
            factors = (x, root) if tall else (root, x)
            parameter.addmm_(*factors, beta=kept, alpha=rate)

    def _momentum(self, parameter: Tensor, kept: float) -> Tensor:
        """Updates the momentum, and returns it as it will be (Nesterov)."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"].lerp_(grad, 1 - kept)
        return grad.lerp(momentum, kept)
