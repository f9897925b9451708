"""One update of the weights: loss, gradient, clipping, AdamW."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from sparse_rcnn_lab.config import Recipe, TrainConfig
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.model.detector import SparseRCNN
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.step import StepLoss, step_loss


def train_step(
    model: SparseRCNN,
    optimizer: torch.optim.Optimizer,
    batch: TrainBatch,
    recipe: Recipe,
    step: int,
    rate: float,
    folder: Path,
) -> tuple[StepLoss, float]:
    """One update. Returns the loss and the gradient norm before clipping.

    Raises LabError, before the weights are changed, when loss or gradient are not finite.
    """
    hint = (
        f"at step {step + 1}, learning rate {rate:.2e}, images: {', '.join(batch.names)}. What "
        f'"{folder}" already holds is intact; try a lower learning rate, or look at these images.'
    )
    generator = torch.Generator().manual_seed(recipe.train.seed * 1_000_003 + step)
    try:
        train = recipe.train
        loss = step_loss(
            model, batch, recipe.loss, train.denoising, generator, train.denoising_negatives
        )
    except LabError as error:
        raise LabError(f"{error} This happened {hint}") from error
    total = loss.total()
    if not math.isfinite(float(total.detach())):
        raise LabError(f"The loss is {float(total.detach())}, not a finite number, {hint}")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(trained, recipe.train.clip_norm))
    if not math.isfinite(norm):
        raise LabError(f"The gradient is {norm}, not a finite number, {hint}")
    optimizer.step()
    return loss, norm


def make_optimizer(config: TrainConfig, model: nn.Module, body: nn.Module) -> torch.optim.AdamW:
    """AdamW over all trainable parameters of ``model``.

    Those of ``body``, the bottom-up part of the backbone, learn at ``backbone_lr`` times the rate.
    """
    slow = list(body.parameters())
    known = {id(p) for p in slow}
    rest = [p for p in model.parameters() if id(p) not in known]
    groups = []
    for parameters, factor in ((rest, 1.0), (slow, config.backbone_lr)):
        trained = [p for p in parameters if p.requires_grad]
        if trained:
            rate = config.lr * factor
            groups.append({"params": trained, "lr": rate, "base_lr": rate})
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
