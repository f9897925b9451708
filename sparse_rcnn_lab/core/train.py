"""Training in one plain loop: one process, one device, float32, from the first line to the last.

``python -m sparse_rcnn_lab.core.train`` trains the preset ``nano`` on drawn shapes in it.
:func:`sparse_rcnn_lab.fit` makes the very same steps (a test compares them), and has what this file
leaves out: denoising queries, Muon, mixed precision, several processes, a run folder to resume.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig, Recipe, TrainConfig
from sparse_rcnn_lab.core.detections import Detections, select_detections
from sparse_rcnn_lab.core.inputs import Sample, Targets, collate
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import match
from sparse_rcnn_lab.core.model import SparseRCNN


def train(
    model: SparseRCNN,
    batches: Iterable[tuple[Tensor, Targets]],
    recipe: Recipe,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Trains ``model``, in place, for the ``steps`` of a recipe; ``on_step`` is told each loss.

    batches: images ``[B, 3, H, W]`` and their targets, as :func:`collate` makes them.
    """
    config = recipe.train
    assert config.steps is not None  # an epoch is the data set's affair
    optimizer = adamw(model, config)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    model.train()
    for step, (images, targets) in zip(range(config.steps), batches, strict=False):
        factor = lr_factor(config, step, config.batch_size)
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
    """What a step minimises: every stage's proposals matched with the objects, and compared."""
    boxes, features = model.proposals(targets.sizes)
    outputs = model.run_stages(model.pyramid(images), boxes, features)
    logits = torch.stack([output.logits for output in outputs])  # [S, B, N, C]
    refined = torch.stack([output.boxes for output in outputs])  # [S, B, N, 4]
    matches = match(logits, refined, targets, config)
    return set_loss(logits, refined, targets, matches, config).total()


def adamw(model: SparseRCNN, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; the bottom-up part of the backbone learns at ``backbone_lr`` times the rate."""
    slow = {id(parameter) for parameter in model.backbone.body.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for part, factor in ((False, 1.0), (True, config.backbone_lr)):
        own, rate = [p for p in parameters if (id(p) in slow) == part], config.lr * factor
        groups.append({"params": own, "lr": rate, "base_lr": rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


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


@torch.no_grad()
def detect(model: SparseRCNN, image: Tensor, class_names: tuple[str, ...]) -> Detections:
    """What the last stage finds in ``[3, H, W]`` uint8, taken at its own size."""
    sample = Sample(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 0, "")
    images, targets = collate([sample], model.config.input)
    last = model(images.to(model.device), targets.sizes.to(model.device))[-1]
    size = (image.shape[1], image.shape[2])
    return select_detections(last.logits[0].cpu(), last.boxes[0].cpu(), size, class_names)


def average_precision(found: Sequence[Detections], truth: Sequence[Sample]) -> float:
    """COCO's AP, 0..1: the mean over classes and over IoU thresholds 0.5, 0.55 .. 0.95.

    Detections are counted best first; each takes the object it overlaps most, if nobody has taken
    it and the overlap is large enough. Precision is read off at 101 recalls.
    """
    values = []
    for label in torch.cat([sample.labels for sample in truth]).unique().tolist():
        boxes = [sample.boxes[sample.labels == label] for sample in truth]
        own = [detections[detections.labels == label] for detections in found]
        hits = torch.cat([_hits(d.boxes, b) for d, b in zip(own, boxes, strict=True)], dim=1)
        order = torch.cat([d.scores for d in own]).argsort(descending=True, stable=True)
        right = hits[:, order].double().cumsum(1)  # [10, K]
        precision = right / torch.arange(1, len(order) + 1)
        precision = precision.flip(1).cummax(1).values.flip(1)  # the best at this recall or above
        recall = right / sum(map(len, boxes))
        wanted = torch.from_numpy(np.linspace(0, 1, 101)).repeat(len(recall), 1)
        at = torch.searchsorted(recall, wanted)
        values.append(torch.cat([precision, precision.new_zeros(len(recall), 1)], 1).gather(1, at))
    return float(torch.stack(values).mean()) if values else 0.0


def _hits(boxes: Tensor, truth: Tensor) -> Tensor:
    """Which of the boxes ``[K, 4]``, best first, are right, at each of ten thresholds: [10, K]."""
    thresholds = torch.linspace(0.5, 0.95, 10)
    hits, free = torch.zeros(10, len(boxes), dtype=torch.bool), torch.ones(10, len(truth))
    if len(truth):
        for k, overlap in enumerate(box_ops.iou(boxes, truth)):
            best, at = (free * overlap).max(1)
            hits[:, k] = best >= thresholds
            free[hits[:, k], at[hits[:, k]]] = 0
    return hits


def main() -> None:
    """Trains nano on drawn shapes (minutes), and says how good it has become."""
    from sparse_rcnn_lab.data.shapes.dataset import Shapes
    from sparse_rcnn_lab.data.transforms import Augment
    from sparse_rcnn_lab.models.recipes import recipe as recipe_of

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=1600, help="default: %(default)s")
    steps = parser.parse_args().steps
    data, val = Shapes(4096, seed=0, size=128), Shapes(60, seed=1000, size=128)
    names = data.class_names
    recipe = recipe_of("nano", model__num_classes=len(names), train__steps=steps)
    augment = Augment(recipe.augment, recipe.model.input.antialias)

    def batches() -> Iterator[tuple[Tensor, Targets]]:
        chance = torch.Generator().manual_seed(recipe.train.seed)
        while True:  # an epoch a turn
            order = torch.randperm(len(data), generator=chance)
            for chosen in order.split(recipe.train.batch_size):
                seeds = torch.randint(2**62, chosen.shape, generator=chance)
                pairs = zip(chosen.tolist(), seeds.tolist(), strict=True)
                samples = [augment(data[index], seed) for index, seed in pairs]
                yield collate(samples, recipe.model.input)

    def log(step: int, loss: float) -> None:
        if step % 20 == 0 or step in (1, steps):
            print(f"step {step:>5}  loss {loss:6.2f}", flush=True)

    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(recipe.model)
    train(model, batches(), recipe, log)
    samples = [val[i] for i in range(len(val))]
    ap = average_precision([detect(model, s.image, names) for s in samples], samples)
    print(f"AP {ap:.3f} on {len(samples)} images that it has not seen")


if __name__ == "__main__":
    main()
