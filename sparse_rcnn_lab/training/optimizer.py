"""The optimizer of a recipe: AdamW, or Muon for the stages' matrices and AdamW for the rest."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from sparse_rcnn_lab.core.config import TrainConfig
from sparse_rcnn_lab.training.muon import Muon

_OUTPUTS = ("classify", "regress")  # layers whose rows are classes and coordinates: not for Muon


class CombinedOptimizer:
    """Several optimizers as one, for each their own parameters."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of an optimizer."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """One step of each."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


def make_optimizer(config: TrainConfig, model: nn.Module, body: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``model``.

    Those of ``body``, the bottom-up part of the backbone, learn at ``backbone_lr`` times the rate.
    Every group has its ``base_lr``, of which the schedule takes its share.
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
    groups = []
    for parameters, factor in ((ordinary, 1.0), (backbone, config.backbone_lr)):
        if parameters:
            groups.append(_group(parameters, config.lr * factor))
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
