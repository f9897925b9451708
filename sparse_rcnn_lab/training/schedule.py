"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from sparse_rcnn_lab.core.config import TrainConfig


def total_steps(config: TrainConfig, num_images: int) -> int:
    """How many steps a run has: ``config.steps``, or ``config.epochs`` over the images."""
    if config.steps is not None:
        return config.steps
    return config.epochs * steps_per_epoch(config, num_images)


def steps_per_epoch(config: TrainConfig, num_images: int) -> int:
    """Batches an epoch gives; the incomplete last one counts."""
    return max(1, math.ceil(num_images / config.batch_size))


def lr_factor(config: TrainConfig, step: int, num_images: int) -> float:
    """The learning rate at ``step`` (from 0) relative to ``config.lr``, 0..1.

    Both schedules warm up linearly from ``warmup_start``. "step" then falls to a tenth after each
    of ``drop_epochs``; "one-cycle" follows half a cosine down to zero at the last step.
    """
    length = total_steps(config, num_images)
    warmup = min(config.warmup_steps, length // 2)
    if config.schedule == "step":
        epoch = step / steps_per_epoch(config, num_images)
        factor = 0.1 ** sum(epoch >= drop for drop in config.drop_epochs)
    else:
        done = max(0, step - warmup) / max(1, length - warmup)
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if step < warmup:
        factor *= config.warmup_start + (1 - config.warmup_start) * step / warmup
    return factor
