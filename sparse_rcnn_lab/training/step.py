"""One training step: forward pass, matching, set loss, gradient, clipping, update.

The batch of a step may be shared by several processes, and each shard may be computed in parts
(gradient accumulation) or by several threads at once. The loss of every part is divided by the
whole batch's number of positives, so that the gradients add up to those of one process with the
whole batch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sparse_rcnn_lab.core.config import LossConfig, NestedScheme, Precision, Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.losses import SetLoss, set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets, match
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import build_pyramid
from sparse_rcnn_lab.runtime.for_training import resolve_precision
from sparse_rcnn_lab.training.class_loss import balance, class_loss
from sparse_rcnn_lab.training.denoising import denoising_queries
from sparse_rcnn_lab.training.distributed import AlreadyReported, Group
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.nested import (
    draw_lengths,
    expected_positives,
    prefix_losses,
    with_prefixes,
)
from sparse_rcnn_lab.training.optimizer import WeightAverage


@dataclass(frozen=True)
class Part:
    """The position of some images in the batch of a step that is computed in parts.

    first: index of the first of them, from 0.  counts: objects in each image of the whole batch.
    """

    first: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class StepLoss:
    """The losses that a step minimises.

    loss: the proposals' set loss.  denoising: that of the denoising queries, or None.
    nested: that of the prefixes, all stages in one number, or None.
    """

    loss: SetLoss
    denoising: SetLoss | None
    matches: Matches
    nested: Tensor | None = None

    def total(self) -> Tensor:
        """The scalar to minimise."""
        total = self.loss.total()
        if self.denoising is not None:
            total = total + self.denoising.total()
        return total if self.nested is None else total + self.nested


def step_loss(
    model: SparseRCNN,
    batch: TrainBatch,
    config: LossConfig,
    denoising: int = 0,
    generator: torch.Generator | None = None,
    contrastive: bool = False,
    prefixes: int = 0,
    scheme: NestedScheme = "log",
    part: Part | None = None,
    autocast: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it holds no state
    levels: list[Tensor] | None = None,
) -> StepLoss:
    """Runs the model on a batch and compares every stage with the ground truth.

    denoising: denoising queries per object (0: as published), drawn from ``generator``;
    contrastive: each has a negative query beside it. prefixes: how many prefixes of the proposals
    train beside all of them (0: as published). part: these images are part of a larger batch,
    whose normaliser, noise and prefixes are then used, so that the losses of the parts add up to
    its loss.
    autocast: a context around the forward pass; matching and losses are always float32.
    levels: the backbone's output for the images, where it has been computed already.
    """
    part = part or Part(0, batch.targets.counts)
    targets = _padded(batch.targets, max(part.counts))
    generator = generator or torch.Generator()
    boxes, features = model.proposals(targets.sizes)
    n = boxes.shape[1]
    mask = queries = None
    if denoising:
        rows = slice(part.first, part.first + len(targets.counts))
        queries = denoising_queries(
            targets,
            model.proposals.features,
            denoising,
            generator,
            contrastive,
            rows=rows,
            batch=len(part.counts),
        )
    if queries is not None:
        boxes = torch.cat([boxes, queries.boxes], dim=1)
        features = torch.cat([features, queries.features], dim=1)
        mask = queries.mask
    own = boxes.shape[1]  # rows that do not belong to a prefix
    lengths = draw_lengths(n, prefixes, generator, scheme)
    boxes, features, mask = with_prefixes(boxes, features, mask, lengths)
    with autocast:
        pyramid = model.pyramid(batch.images) if levels is None else build_pyramid(levels)
        outputs = model.run_stages(pyramid, boxes, features, mask=mask)
    logits = torch.stack([output.logits for output in outputs])  # [S, B, N + Q + P, C]
    refined = torch.stack([output.boxes for output in outputs])

    matches = match(logits[:, :, :n], refined[:, :, :n], targets, config)
    positives = torch.tensor(
        expected_positives(part.counts, n, len(outputs), config), device=logits.device
    )
    found = logits[:, :, :n], refined[:, :, :n], targets
    loss, objects = set_loss(*found, matches, config, positives), sum(part.counts)
    cls = loss.cls
    if config.among_classes:
        cls = cls + config.among_classes * class_loss(*found, objects)
    if config.balanced:
        cls = cls + balance(*found, matches, config, positives)
    loss = replace(loss, cls=cls)
    denoised = None
    if queries is not None:
        pairs = queries.matches(len(outputs))
        real = queries.real[None, :, :, None]
        # Padding rows get a logit at which the focal loss and its gradient vanish.
        silenced = logits[:, :, n:own].masked_fill(~real, -30.0)
        positives = torch.full_like(positives, queries.groups * sum(part.counts))
        denoised = set_loss(silenced, refined[:, :, n:own], targets, pairs, config, positives)
    nested = None
    if lengths:
        behind = logits[:, :, own:], refined[:, :, own:]
        losses = prefix_losses(*behind, lengths, targets, config, part.counts)
        nested = losses.sum() if scheme == "log" else losses.mean()
    return StepLoss(loss, denoised, matches, nested)


def _padded(targets: Targets, room_for: int) -> Targets:
    """Targets padded to this many objects per image."""
    room = room_for - targets.boxes.shape[1]
    if not room:
        return targets
    boxes, labels = F.pad(targets.boxes, (0, 0, 0, room)), F.pad(targets.labels, (0, room))
    return replace(targets, boxes=boxes, labels=labels)


# The scale starts at 2 ** 16: after so many halvings it is far below any that could help.
MAX_SKIPPED = 25
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """The forward pass in 16 bits, everything else in float32.

    bf16 has the range of float32 and needs nothing more. fp16 has not: its gradients are scaled up
    for the backward pass, and a step whose scaled gradient overflows is skipped while the scale is
    reduced. skipped: the number of steps skipped in a row, up to now.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        precision, cuda = resolve_precision(precision, device), device.type == "cuda"
        if precision == "bf16" and cuda and not torch.cuda.is_bf16_supported(False):
            raise LabError(
                f"{torch.cuda.get_device_name(device)} has no bf16. Train with precision fp16 or "
                "float32."
            )
        self.device, self.dtype = device, _TYPES.get(precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.skipped = 0

    def autocast(self) -> AbstractContextManager[object]:
        """The context for the model's forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def update(self, optimizer: torch.optim.Optimizer, norm: float) -> bool:
        """Updates the weights; returns False where fp16 overflowed and the step was skipped.

        norm: that of the whole gradient. Raises LabError when it is not finite: at once, or in fp16
        when no smaller scale helps.
        """
        finite = math.isfinite(norm)
        self.skipped = 0 if finite else self.skipped + 1
        if not finite and (not self.scaler.is_enabled() or self.skipped > MAX_SKIPPED):
            often = f" for {self.skipped} steps in a row" if self.scaler.is_enabled() else ""
            raise LabError(f"The gradient is {norm}, not a finite number{often}.")
        self.scaler.step(optimizer)
        self.scaler.update()
        return finite


class _Forward(nn.Module):
    """The model and its loss as one module, so that DistributedDataParallel wraps both."""

    def __init__(self, model: SparseRCNN, recipe: Recipe, mixed: MixedPrecision) -> None:
        super().__init__()
        self.model, self.recipe, self.mixed = model, recipe, mixed

    def forward(
        self, batch: TrainBatch, part: Part, step: int, levels: list[Tensor] | None = None
    ) -> StepLoss:
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
            levels,
        )


@dataclass
class Training:
    """Everything that a step changes, and what it needs for that.

    trained: the optimizer's parameters.  threads: how many share the images of a batch, where there
    is only one process.
    """

    model: SparseRCNN
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    mixed: MixedPrecision
    average: WeightAverage | None = None
    group: Group = Group()  # noqa: RUF009 - frozen
    threads: int = 1

    def __post_init__(self) -> None:
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.forward: nn.Module = _Forward(self.model, self.recipe, self.mixed)
        # Each of these threads computes without further threads.
        one = partial(torch.set_num_threads, 1)
        self.pool = ThreadPoolExecutor(self.threads, "step", initializer=one)

    def connect(self) -> None:
        """Gives all processes the weights of process 0 and lets them share gradients."""
        if self.group.world > 1:
            self.forward = DistributedDataParallel(self.forward, gradient_as_bucket_view=True)
        if self.recipe.train.ema and self.average is None:
            self.average = WeightAverage(self.model, self.recipe.train.ema)


def train_step(
    training: Training, batch: TrainBatch, whole: tuple[int, ...], step: int, rate: float
) -> tuple[StepLoss, LossValues, float]:
    """Makes one update of the weights.

    batch: this process's images.  whole: objects in each image, over all processes.
    step: the number of the step, from 0.  rate: the learning rate, for messages.
    Returns the loss of this process's images (of their last part), the numbers of the whole batch,
    and the gradient's norm before clipping, which is not finite where fp16 skipped the step.

    Raises LabError, before the weights are changed, when loss or gradient are not finite.
    """
    group, mixed, forward = training.group, training.mixed, training.forward
    parts = training.recipe.train.accumulate
    first, size = group.shard(len(whole)).start, len(batch.names)
    values: list[LossValues] = []
    with _statistics_kept_on_failure(training.model):
        training.optimizer.zero_grad(set_to_none=True)
        for start, stop in pairwise(size * i // parts for i in range(parts + 1)):
            images, part = _images(batch, start, stop), Part(first + start, whole)
            if training.threads > 1:
                loss, told = _share(training, images, part, step, rate)
                values += told
                continue
            share_gradients: AbstractContextManager[None] = nullcontext()
            if stop < size and isinstance(forward, DistributedDataParallel):
                share_gradients = forward.no_sync()  # until the last part
            with share_gradients:
                work = partial(_finite_loss, training, images, part, step, rate)
                loss, told = group.exchange(work)
                # DistributedDataParallel divides the gradients' sum by the number of processes.
                mixed.scaler.scale(loss.total() * group.world).backward()
            values += told
        norm = _update(training, batch, step, rate)
    return loss, LossValues.total(values), norm


# Seconds after which a thread that waits for Python's lock gets it. With Python's default of 5 ms
# two threads spend a fifth of their time waiting for each other.
_TURN = 5e-5
_Gradients = tuple[Tensor | None, ...]


def _share(
    training: Training, batch: TrainBatch, part: Part, step: int, rate: float
) -> tuple[StepLoss, list[LossValues]]:
    """Adds the gradients of these images, which all threads compute together.

    Batch norms that follow the data must see all images; then only the stages are shared, not the
    backbone.
    """
    trained, size = training.trained, len(batch.names)
    shares = min(size, training.threads)
    levels: list[Tensor] | None = None
    if _moving_norms(training.model):
        with training.mixed.autocast():
            levels = training.model.backbone(batch.images)

    def work(start: int, stop: int) -> tuple[StepLoss, LossValues, _Gradients, _Gradients]:
        own, seen = Part(part.first + start, part.counts), None
        if levels is not None:
            seen = [level[start:stop].detach().requires_grad_() for level in levels]
        loss, values = _finite_loss(training, _images(batch, start, stop), own, step, rate, seen)
        total = training.mixed.scaler.scale(loss.total())
        inputs = [*trained, *(seen or [])]
        found = torch.autograd.grad(total, inputs, allow_unused=True)
        return loss, values, found[: len(trained)], found[len(trained) :]

    bounds = pairwise(size * i // shares for i in range(shares + 1))
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        futures = [training.pool.submit(work, *bound) for bound in bounds]
        wait(futures)
    finally:
        sys.setswitchinterval(before)
    done = (future.result() for future in futures)
    losses, values, gradients, of_levels = zip(*done, strict=True)
    if levels is not None and levels[0].requires_grad:
        torch.autograd.backward(
            levels, [torch.cat(parts) for parts in zip(*of_levels, strict=True)]
        )
    for p, *parts in zip(trained, *gradients, strict=True):
        for gradient in parts:  # in a fixed order, so that the sum is the same each time
            if gradient is not None:
                p.grad = gradient if p.grad is None else p.grad.add_(gradient)
    return losses[-1], list(values)


def _moving_norms(model: nn.Module) -> list[_BatchNorm]:
    """The model's batch norms that use, and follow, the statistics of each batch."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]


def _finite_loss(
    training: Training,
    batch: TrainBatch,
    part: Part,
    step: int,
    rate: float,
    levels: list[Tensor] | None = None,
) -> tuple[StepLoss, LossValues]:
    try:
        loss = training.forward(batch, part, step, levels)
    except LabError as error:
        hint = _hint(training, batch.names, step, rate)
        raise LabError(f"{error} This happened {hint}") from error
    values = LossValues.of(loss)
    if not math.isfinite(values.minimised):
        hint = _hint(training, batch.names, step, rate)
        raise LabError(f"The loss is {values.minimised}, not a finite number, {hint}")
    return loss, values


def _update(training: Training, batch: TrainBatch, step: int, rate: float) -> float:
    """Clips and applies the gradients, the same in all processes, and returns their norm."""
    optimizer, mixed, group = training.optimizer, training.mixed, training.group
    mixed.scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_(training.trained, training.recipe.train.clip_norm))
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
    """Some images of a batch, padded like the whole batch."""
    t, some = batch.targets, slice(start, stop)
    targets = Targets(t.boxes[some], t.labels[some], t.counts[some], t.sizes[some])
    return TrainBatch(batch.images[some], targets, batch.names[some])


@contextmanager
def _statistics_kept_on_failure(model: nn.Module) -> Iterator[None]:
    """Restores the batch-norm statistics, which a step has changed already, when it fails."""
    following = _moving_norms(model)
    buffers = [b for module in following for b in module.buffers()]
    before = [b.clone() for b in buffers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        raise


@dataclass(frozen=True, eq=False)
class LossValues:
    """The numbers of a loss, for the log; those of a batch's parts add up to the batch's.

    weighted: ``[3, S]``, class, L1 and GIoU loss of each stage.  denoising: the loss of the
    denoising queries over all stages, or None.  nested: that of the prefixes, likewise.
    positives: matched pairs in the whole batch, one number per stage.
    """

    weighted: np.ndarray
    denoising: float | None
    nested: float | None
    positives: list[int]

    @classmethod
    def of(cls, step: StepLoss) -> LossValues:
        """The numbers of a loss, copied from its device."""
        loss = step.loss
        weighted = torch.stack([loss.cls, loss.l1, loss.giou]).detach().cpu().double().numpy()
        denoising = None if step.denoising is None else float(step.denoising.total().detach())
        nested = None if step.nested is None else float(step.nested.detach())
        return cls(weighted, denoising, nested, loss.positives.tolist())

    @classmethod
    def total(cls, parts: Sequence[LossValues]) -> LossValues:
        """The numbers of the whole batch from those of its parts."""
        first = parts[0]
        denoising = None if first.denoising is None else sum(p.denoising or 0.0 for p in parts)
        nested = None if first.nested is None else sum(p.nested or 0.0 for p in parts)
        weighted = np.sum([p.weighted for p in parts], axis=0)
        return cls(weighted, denoising, nested, first.positives)

    @property
    def minimised(self) -> float:
        """The total loss: all stages, the denoising queries and the prefixes."""
        return float(self.weighted.sum()) + (self.denoising or 0.0) + (self.nested or 0.0)

    def row(self, step: int, rate: float, norm: float, seconds: float) -> dict[str, Any]:
        """A line of ``metrics.jsonl``. The norm is None where fp16 skipped the step."""
        stages = self.weighted.sum(axis=0).tolist()
        return {
            "step": step,
            "loss": sum(stages),
            "loss_per_stage": stages,
            **dict(zip(("cls", "l1", "giou"), self.weighted.tolist(), strict=True)),
            "denoising": self.denoising,
            "nested": self.nested,
            "positives": self.positives,
            "lr": rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "seconds": round(seconds, 4),
        }
