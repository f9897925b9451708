"""AdamW, Muon and the moving average of the weights; the learning rate is in core/train.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sparse_rcnn_lab.core.config import TrainConfig
from sparse_rcnn_lab.core.errors import LabError

_OUTPUTS = ("classify", "regress")  # layers whose rows are classes and coordinates: not for Muon


def make_optimizer(config: TrainConfig, model: nn.Module, body: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer for all trainable parameters of ``model``.

    Those of ``body``, the backbone's bottom-up network, learn at ``backbone_lr`` times the rate.
    Every group has its ``base_lr``, which the schedule multiplies by its factor.
    """
    slow = {id(p) for p in body.parameters()}
    ordinary: list[nn.Parameter] = []
    backbone: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if config.optimizer == "muon" and _is_matrix(name, parameter):
            matrices.append(parameter)
        else:
            (backbone if id(parameter) in slow else ordinary).append(parameter)
    rates = ((ordinary, config.lr), (backbone, config.lr * config.backbone_lr))
    groups = [_group(parameters, rate) for parameters, rate in rates if parameters]
    adamw = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return adamw
    rate = config.lr * config.muon_lr
    muon = Muon([_group(matrices, rate)], lr=rate, weight_decay=config.weight_decay)
    return cast(torch.optim.Optimizer, CombinedOptimizer(adamw, muon))


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    if parameter.ndim != 2 or not name.startswith("stages."):
        return False
    return name.split(".")[-2] not in _OUTPUTS  # stages.0.classify.weight


def _group(parameters: list[nn.Parameter], rate: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "base_lr": rate}


class CombinedOptimizer:
    """Several optimizers in one, each with parameters of its own."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Takes one step with each optimizer."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all optimizers, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at 0, within 0.7..1.2 near 1
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all made equal, for weights that are matrices.

    See Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale follows Liu et al., arXiv
    2502.16982. Adam moves each number of a matrix equally far, Muon each of its directions, so rare
    directions are learned as fast as common ones. torch.optim.Muon computes in bfloat16, which most
    laptops have no hardware for; here it is in the weights' own precision, and the small Gram
    matrices of one shape (the same layer of six stages) are batched.

    lr: as for AdamW: a matrix ``[A, B]`` moves by ``0.2 sqrt(max(A, B))`` times an orthogonal one,
    so that its numbers move as far as with AdamW.  weight_decay: decoupled, as in AdamW.
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
            raise LabError("Muon is for matrices only. Give other weights to AdamW.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes one step with all parameters that have a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for (rows, columns), parameters in alike.items():
                self._move(parameters, group, rows > columns)

    def _move(self, parameters: list[Tensor], group: dict[str, Any], tall: bool) -> None:
        # One matrix at a time stays in the cache; only the small Gram matrices are batched.
        ahead = [self._momentum(p, group["momentum"]) for p in parameters]
        roots = _inverse_root(torch.stack([x.mT @ x if tall else x @ x.mT for x in ahead]))
        scale = 0.2 * max(parameters[0].shape) ** 0.5
        kept, rate = 1 - group["lr"] * group["weight_decay"], -group["lr"] * scale
        for parameter, x, root in zip(parameters, ahead, roots, strict=True):
            factors = (x, root) if tall else (root, x)
            parameter.addmm_(*factors, beta=kept, alpha=rate)

    def _momentum(self, parameter: Tensor, kept: float) -> Tensor:
        """Updates the momentum and returns it one step ahead (Nesterov)."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"].lerp_(grad, 1 - kept)
        return grad.lerp(momentum, kept)


def _inverse_root(grams: Tensor) -> Tensor:
    """Approximates ``(X X')^(-1/2)`` from each ``X X'``: ``[K, A, A]`` to ``[K, A, A]``.

    Times ``X = U S V'`` it is about ``U V'``: singular values end within 0.7..1.2, though those far
    below the largest (under 1e-3 of it) may stay smaller. Newton-Schulz is done as a polynomial of
    ``X X'``, so that ``X``, whose other side may be long, is read twice rather than ten times.
    Zeros stay zeros.
    """
    squared = grams.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-24)[:, None, None]
    gram = grams / squared
    whole: Tensor | None = None
    a, b, c = _COEFFICIENTS
    for step in range(_STEPS):
        factor = b * gram + c * (gram @ gram)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < _STEPS - 1:  # all of these are polynomials of one matrix, so they commute
            gram = factor @ gram @ factor
            gram = 0.5 * (gram + gram.mT)
    assert whole is not None
    return whole / squared.sqrt()


class WeightAverage:
    """Exponential moving average of everything in a model's state dict: often the better model.

    After update k the decay is ``min(decay, (1 + k) / (10 + k))``, so that the first weights, which
    are random, are soon forgotten. Counters are copied. (Torch's AveragedModel averages them and
    takes the first update whole; a resumed run would continue from other numbers.)

    updates: how many there were.  state: the averages, by the names of the state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        # The state dict's tensors share the model's memory, so they are looked up only once.
        self._live = dict(model.state_dict())
        self.state = {name: value.clone() for name, value in self._live.items()}
        self._averaged = [name for name, value in self._live.items() if value.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average with the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = [self.state[name] for name in self._averaged]
        weights = [self._live[name] for name in self._averaged]
        get_ema_multi_avg_fn(decay)(averages, weights, None)
        for name in self._live.keys() - set(self._averaged):
            self.state[name].copy_(self._live[name])

    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Continues from a saved average."""
        _copy(state, self.state)
        self.updates = updates

    @contextmanager
    def in_the_model(self) -> Iterator[None]:
        """A context in which the model has the averaged weights instead of its own."""
        own = {name: value.clone() for name, value in self._live.items()}
        try:
            self.apply()
            yield
        finally:
            _copy(own, self._live)

    def apply(self) -> None:
        """Replaces the model's weights by the average for good."""
        _copy(self.state, self._live)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, value in into.items():
        value.copy_(source[name])
