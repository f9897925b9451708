"""What is measured: inference and a training step, cut into parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.clock import Clock
from benchmarks.roi_align import FeatureMaps, roi_align_pool
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import match
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import Pooling, Pyramid, build_pyramid, pool
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.runtime.gather import weighted_gather
from sparse_rcnn_lab.training.loader import collate
from sparse_rcnn_lab.training.optimizer import make_optimizer


@dataclass(frozen=True)
class Arm:
    """One way to pool: how its pyramid is made and how it is read."""

    name: str
    build: Callable[[list[Tensor]], Pyramid]
    pool: Pooling


ARMS = (
    Arm("one gather", build_pyramid, partial(pool, gather=weighted_gather)),
    Arm("torchvision", FeatureMaps.of, roi_align_pool),
)


@torch.no_grad()
def infer(model: SparseRCNN, arm: Arm, clock: Clock, images: Tensor, proposals: int | None) -> None:
    """Inference on a normalised batch ``[B, 3, H, W]``, part by part."""
    with clock.part("backbone + FPN"):
        maps = model.backbone(images)
    with clock.part("pyramid table"):
        pyramid = arm.build(maps)
    with clock.part("rest of the stages"):
        outputs = model.run_stages(pyramid, *model.proposals(_sizes(images), proposals))
    with clock.part("decoding"):
        top_pairs(outputs[-1].logits)


class Trainer:
    """The training step of ``training.step`` taken apart, without denoising queries.

    Its learning rate is 0: the weights, and with them the work, stay the same from one repetition
    to the next.
    """

    def __init__(
        self,
        model: SparseRCNN,
        recipe: Recipe,
        size: tuple[int, int],
        batch: int,
        proposals: int | None = None,
    ) -> None:
        self.model, self.recipe, self.batch, self.proposals = model, recipe, batch, proposals
        self.data = Shapes(length=10_000, size=size)
        changes = replace(recipe.augment, size=size, crop=0.0)
        self.augment = Augment(changes, recipe.model.input.antialias)
        self.optimizer = make_optimizer(recipe.train, model, model.backbone.body)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0

    def step(self, arm: Arm, clock: Clock, turn: int) -> None:
        """One step on the images of repetition ``turn``, part by part."""
        model, classes = self.model, self.model.config.num_classes
        with clock.part("data: drawing shapes"):
            samples = [self.data[turn * self.batch + i] for i in range(self.batch)]
            samples = [replace(s, labels=s.labels % classes) for s in samples]
        with clock.part("data: augmentation, batching"):
            samples = [self.augment(sample, turn) for sample in samples]
            batch = collate(samples, self.recipe.model.input).to(model.device)
        with clock.part("backbone + FPN"):
            maps = model.backbone(batch.images)
        # Cut the graph here, so that the two halves of the backward pass can be timed apart.
        leaves = [level.detach().requires_grad_() for level in maps]
        with clock.part("pyramid table"):
            pyramid = arm.build(leaves)
        with clock.part("rest of the stages"):
            start = model.proposals(batch.targets.sizes, self.proposals)
            outputs = model.run_stages(pyramid, *start)
            logits = torch.stack([output.logits for output in outputs])
            boxes = torch.stack([output.boxes for output in outputs])
        with clock.part("matching"):
            matches = match(logits, boxes, batch.targets, self.recipe.loss)
        with clock.part("losses"):
            loss = set_loss(logits, boxes, batch.targets, matches, self.recipe.loss).total()
        with clock.part("backward: losses, stages, pooling"):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with clock.part("backward: backbone + FPN"):
            pairs = [(m, leaf.grad) for m, leaf in zip(maps, leaves, strict=True)]
            used = [(m, gradient) for m, gradient in pairs if gradient is not None]
            torch.autograd.backward([m for m, _ in used], [gradient for _, gradient in used])
        with clock.part("clipping, optimizer"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.recipe.train.clip_norm)
            self.optimizer.step()


@torch.no_grad()
def largest_difference(model: SparseRCNN, images: Tensor, proposals: int | None) -> float:
    """Largest difference of the two poolings, over all stages, on the same boxes."""
    largest = 0.0

    def both(pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int) -> Tensor:
        nonlocal largest
        ours = pool(pyramid, boxes, levels, roi_size)
        theirs = roi_align_pool(pyramid, boxes, levels, roi_size)
        largest = max(largest, float((ours - theirs).abs().max()))
        return ours

    model.use_pooling(both)
    model.run_stages(model.pyramid(images), *model.proposals(_sizes(images), proposals))
    model.use_pooling(pool)
    return largest


def _sizes(images: Tensor) -> Tensor:
    return images.new_tensor(images.shape[2:]).expand(len(images), 2)
