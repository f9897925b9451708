"""One update of the weights: loss, gradient, clipping, AdamW.

The batch of a step may be shared by several processes, and each share be worked through in parts
(gradient accumulation). Every part's loss is divided by the whole batch's number of positives, so
that the sum of all gradients is that of one process with the whole batch.
"""

from __future__ import annotations

import inspect
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.matching import Targets
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.training.batch_norm import statistics_kept_on_failure
from sparse_rcnn_lab.training.distributed import AlreadyReported, Group
from sparse_rcnn_lab.training.ema import WeightAverage
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.metrics import LossValues
from sparse_rcnn_lab.training.precision import MixedPrecision
from sparse_rcnn_lab.training.step import Part, StepLoss, step_loss


class _Forward(nn.Module):
    """The model and its loss as one module, so that DistributedDataParallel surrounds both."""

    def __init__(self, model: SparseRCNN, recipe: Recipe, mixed: MixedPrecision) -> None:
        super().__init__()
        self.model, self.recipe, self.mixed = model, recipe, mixed

    def forward(self, batch: TrainBatch, part: Part, step: int) -> StepLoss:
        """The loss of some images of step ``step``."""
        train = self.recipe.train
        return step_loss(
            self.model,
            batch,
            self.recipe.loss,
            train.denoising,
            torch.Generator().manual_seed(train.seed * 1_000_003 + step),
            train.denoising_negatives,
            train.nested_prefixes if train.nested_proposals else 0,
            train.nested_scheme,
            part,
            self.mixed.autocast(),
        )


@dataclass
class Training:
    """Everything a step changes, and what it needs for that."""

    model: SparseRCNN
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    mixed: MixedPrecision
    average: WeightAverage | None = None
    group: Group = Group()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        self.forward: nn.Module = _Forward(self.model, self.recipe, self.mixed)

    def connect(self) -> None:
        """Gives all processes the weights of process 0, and lets them share gradients."""
        if self.group.world > 1:
            # Statistics are shared already (batch_norm.py); torch 2.15 renames the option.
            known = inspect.signature(DistributedDataParallel).parameters
            names = [n for n in ("forward_sync_buffers", "broadcast_buffers") if n in known]
            options: dict[str, Any] = {"gradient_as_bucket_view": True, names[0]: False}
            self.forward = DistributedDataParallel(self.forward, **options)

    def averaged(self) -> AbstractContextManager[None]:
        """In here the model has its averaged weights, where they are kept."""
        return nullcontext() if self.average is None else self.average.in_the_model()

    def apart(self) -> AbstractContextManager[None]:
        """In here gradients stay in this process."""
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return nullcontext()


def train_step(
    training: Training, batch: TrainBatch, whole: tuple[int, ...], step: int, rate: float
) -> tuple[StepLoss, LossValues, float]:
    """One update.

    batch: this process's images.  whole: objects in each image of all processes.
    Returns the loss of this process's (last part of the) images, the numbers of the whole batch,
    and the gradient's norm before clipping, which is not finite where fp16 left the step out.

    Raises LabError, before the weights are changed, when loss or gradient are not finite.
    """
    group, train = training.group, training.recipe.train
    first, size = group.share(len(whole)).start, len(batch.names)
    cuts = [size * i // train.accumulate for i in range(train.accumulate + 1)]
    values: list[LossValues] = []
    with statistics_kept_on_failure(training.model):
        training.optimizer.zero_grad(set_to_none=True)
        for start, stop in pairwise(cuts):
            images, part = _images(batch, start, stop), Part(first + start, whole)
            with nullcontext() if stop == size else training.apart():
                loss, told = group.exchange(
                    partial(_finite_loss, training, images, part, step, rate)
                )
                # DistributedDataParallel divides the gradients' sum by the number of processes.
                training.mixed.backward(loss.total() * group.world)
            values += told
        norm = _update(training, batch, step, rate)
    return loss, LossValues.total(values), norm


def _finite_loss(
    training: Training, batch: TrainBatch, part: Part, step: int, rate: float
) -> tuple[StepLoss, LossValues]:
    try:
        loss = training.forward(batch, part, step)
    except LabError as error:
        hint = _hint(training, batch.names, step, rate)
        raise LabError(f"{error} This happened {hint}") from error
    values = LossValues.of(loss)
    if not math.isfinite(values.minimised):
        hint = _hint(training, batch.names, step, rate)
        raise LabError(f"The loss is {values.minimised}, not a finite number, {hint}")
    return loss, values


def _update(training: Training, batch: TrainBatch, step: int, rate: float) -> float:
    """Clips and applies the gradients, which are the same in all processes."""
    optimizer, mixed, group = training.optimizer, training.mixed, training.group
    mixed.unscale(optimizer)
    trained = [p for g in optimizer.param_groups for p in g["params"]]
    norm = float(nn.utils.clip_grad_norm_(trained, training.recipe.train.clip_norm))
    try:
        updated = mixed.update(optimizer, norm)
    except LabError as error:
        names = sum(group.gather(batch.names), ())
        message = f"{error} This happened {_hint(training, names, step, rate)}"
        raise (LabError if group.first else AlreadyReported)(message) from error
    if updated and training.average is not None:
        training.average.update()
    return norm


def _hint(training: Training, names: tuple[str, ...], step: int, rate: float) -> str:
    fp16 = " precision bf16 or float32," if training.recipe.train.precision == "fp16" else ""
    return (
        f"at step {step + 1}, learning rate {rate:.2e}, images: {', '.join(names)}. Try{fp16} a "
        "lower learning rate, or look at these images."
    )


def _images(batch: TrainBatch, start: int, stop: int) -> TrainBatch:
    """Some of a batch's images, padded as the whole batch is."""
    t = batch.targets
    targets = Targets(
        t.boxes[start:stop], t.labels[start:stop], t.counts[start:stop], t.sizes[start:stop]
    )
    return TrainBatch(batch.images[start:stop], targets, batch.names[start:stop])
