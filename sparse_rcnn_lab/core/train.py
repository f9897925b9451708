"""Training as one plain loop: one process, one device, float32, from the first line to the last.

``python -m sparse_rcnn_lab.core.train`` uses it to train the preset ``nano`` on drawn shapes.
:func:`sparse_rcnn_lab.fit` takes the same steps (a test compares them) and adds denoising, Muon,
nested proposals, ``among_classes``, averaged weights, progressive resizing, precision, several
processes and resuming.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core.config import LossConfig, Recipe, TrainConfig
from sparse_rcnn_lab.core.inputs import Targets, collate
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import match
from sparse_rcnn_lab.core.model import SparseRCNN


def train(
    model: SparseRCNN,
    batches: Iterable[tuple[Tensor, Targets]],
    num_images: int,
    recipe: Recipe,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Trains ``model``, in place, as ``recipe`` says; ``on_step`` gets each step (from 1) and loss.

    batches: images ``[B, 3, H, W]`` and targets (:func:`batches_of`).  num_images: per epoch.
    """
    config = recipe.train
    optimizer = adamw(model, config)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    model.train()
    steps = range(total_steps(config, num_images))
    for step, (images, targets) in zip(steps, batches, strict=False):
        factor = lr_factor(config, step, num_images)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        loss = step_loss(model, images, targets, recipe.loss)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        on_step(step + 1, loss.item())
    model.eval()


def step_loss(model: SparseRCNN, images: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """The loss of a step: the proposals of every stage, matched and compared with the objects."""
    boxes, features = model.proposals(targets.sizes)
    outputs = model.run_stages(model.pyramid(images), boxes, features)
    logits = torch.stack([output.logits for output in outputs])  # [S, B, N, C]
    refined = torch.stack([output.boxes for output in outputs])  # [S, B, N, 4]
    matches = match(logits, refined, targets, config)
    return set_loss(logits, refined, targets, matches, config).total()


def adamw(model: SparseRCNN, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with ``backbone_lr`` times the learning rate for the backbone's bottom-up network."""
    slow, groups = set(model.backbone.body.parameters()), []
    for part, factor in ((False, 1.0), (True, config.backbone_lr)):
        own = [p for p in model.parameters() if p.requires_grad and (p in slow) == part]
        groups.append({"params": own, "lr": 0.0, "base_lr": config.lr * factor})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def total_steps(config: TrainConfig, num_images: int) -> int:
    """The number of steps of a run: ``config.steps``, or ``config.epochs`` over the images."""
    if config.steps is not None:
        return config.steps
    return config.epochs * steps_per_epoch(config, num_images)


def steps_per_epoch(config: TrainConfig, num_images: int) -> int:
    """The number of batches in an epoch, an incomplete last one included."""
    return max(1, math.ceil(num_images / config.batch_size))


def lr_factor(config: TrainConfig, step: int, num_images: int) -> float:
    """The learning rate at ``step`` (from 0) relative to ``config.lr``, 0..1.

    Both schedules warm up linearly from ``warmup_start``. "step" then falls to a tenth after each
    of ``drop_epochs``; "one-cycle" follows half a cosine down to nearly zero at the last step.
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


def batches_of(data: Any, recipe: Recipe) -> Iterator[tuple[Tensor, Targets]]:
    """Batches of a data set such as ``Shapes``, shuffled and augmented, epoch after epoch."""
    from sparse_rcnn_lab.data.transforms import Augment

    augment = Augment(recipe.augment, recipe.model.input.antialias)
    chance = torch.Generator().manual_seed(recipe.train.seed)
    while True:  # one epoch per iteration
        order = torch.randperm(len(data), generator=chance)
        for chosen in order.split(recipe.train.batch_size):
            seeds = torch.randint(2**62, chosen.shape, generator=chance)
            pairs = zip(chosen.tolist(), seeds.tolist(), strict=True)
            yield collate([augment.of(data, i, seed) for i, seed in pairs], recipe.model.input)


def main() -> None:
    """Trains nano on drawn shapes, which takes minutes, and prints how good it has become."""
    import sparse_rcnn_lab as srl

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=1600, help="default: %(default)s")
    steps = parser.parse_args().steps
    data, val = srl.Shapes(4096, seed=0), srl.Shapes(60, seed=1000)
    recipe = srl.recipe("nano", model__num_classes=len(data.class_names), train__steps=steps)

    def log(step: int, loss: float) -> None:
        if step % 20 == 1 or step == steps:
            print(f"step {step:>5}  loss {loss:6.2f}", flush=True)

    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(recipe.model)
    train(model, batches_of(data, recipe), len(data), recipe, log)
    print(srl.evaluate(srl.Detector(model, data.class_names), val, progress=False).table())


if __name__ == "__main__":
    main()
