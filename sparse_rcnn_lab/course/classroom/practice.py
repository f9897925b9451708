"""What students get for assignments 3 and 4: parts of a stage, the model, data, a training.

While a notebook is graded (``grading()``) everything is short.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import Pyramid, assign_levels
from sparse_rcnn_lab.core.stage import DynamicInteraction, Stage, StageOutput
from sparse_rcnn_lab.core.train import batches_of, step_loss
from sparse_rcnn_lab.course.classroom.reference_solutions import refusing
from sparse_rcnn_lab.course.classroom.validate import grading
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.models import recipes


class StageParts(NamedTuple):
    """The learned layers of one stage; each maps ``[N, D]`` to ``[N, D]`` unless stated otherwise.

    qkv: ``[N, D]`` -> ``[N, 3 * D]``.  ffn_in: -> ``[N, F]``, ffn_out: back.
    classify: -> ``[N, C]`` logits.  regress: -> ``[N, 4]`` box deltas.
    interaction: ``dim`` D and ``inner`` d are its widths; ``generate``: -> ``[N, 2 * D * d]``,
    ``norm_in``: over d, ``norm_out``: over D, ``project``: ``[N, P * P * D]`` -> ``[N, D]``.
    """

    heads: int
    qkv: nn.Module
    out: nn.Module
    norm_attention: nn.Module
    interaction: DynamicInteraction
    norm_interaction: nn.Module
    ffn_in: nn.Module
    ffn_out: nn.Module
    norm_ffn: nn.Module
    classify: nn.Module
    regress: nn.Module


# (parts, boxes [N, 4], features [N, D], roi [N, P * P, D]) -> boxes, logits [N, C], features
RunStage = Callable[[StageParts, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def parts_of(stage: Stage) -> StageParts:
    """The layers of a stage of the real model, shared with it."""
    alike = ("norm_attention", "interaction", "norm_interaction", "ffn_in", "ffn_out", "norm_ffn")
    return StageParts(
        heads=stage.attention.num_heads,
        qkv=stage.attention.qkv,
        out=stage.attention.out,
        classify=nn.Sequential(stage.cls_tower, stage.classify),
        regress=nn.Sequential(stage.reg_tower, stage.regress),
        **{name: getattr(stage, name) for name in alike},
    )


def small_stage(seed: int) -> Stage:
    """A stage with 8 features, 2 heads, inner width 3, 2 x 2 RoIs and 4 classes.

    Its weights are sines of their index: the same on every machine and in every version of torch.
    """
    config = ModelConfig(
        num_classes=4, backbone="nano", num_proposals=5, num_stages=1, dim=8, num_heads=2,
        ffn_dim=12, dynamic_dim=3, roi_size=2, frozen_stages=0,
    )  # fmt: skip
    stage = Stage(config)
    with torch.no_grad():
        for number, parameter in enumerate(stage.parameters()):
            parameter.copy_(waves(*parameter.shape, seed=seed + number) * 0.6)
    return stage.eval()


def small_parts(seed: int) -> StageParts:
    """The layers of :func:`small_stage`."""
    return parts_of(small_stage(seed))


def waves(*shape: int, seed: int) -> Tensor:
    """Numbers from -1 to 1 that look random but are the same everywhere."""
    count = int(torch.tensor(shape).prod())
    at = torch.arange(1, count + 1, dtype=torch.float64)
    return torch.sin(at * 1.7 + at**2 * 0.013 + seed % 997).float().view(shape)


def _forward(
    stage: Stage, run: RunStage, pyramid: Pyramid, boxes: Tensor, features: Tensor, *_: object
) -> StageOutput:
    """``Stage.forward`` by a student's function, which needs only these of a stage's inputs."""
    levels = assign_levels(boxes.detach())
    roi = stage.pool(pyramid, boxes, levels, stage.roi_size)
    parts = parts_of(stage)
    with refusing("stage"):
        found = [run(parts, *image) for image in zip(boxes, features, roi, strict=True)]
    new_boxes, logits, new_features = (torch.stack(part) for part in zip(*found, strict=True))
    return StageOutput(boxes=new_boxes, logits=logits, features=new_features, levels=levels)


def own_model(run_stage: RunStage, seed: int = 0) -> SparseRCNN:
    """A new small Sparse R-CNN for shapes, all of whose stages are run by ``run_stage``."""
    torch.manual_seed(seed)
    classes = len(Shapes(1).class_names)
    changes = {"model__num_stages": 3, "model__overlap_attention": 0.0}  # the paper's stage
    config = recipes.recipe("nano", model__num_classes=classes, **changes).model
    model = SparseRCNN(config)
    for stage in model.stages:
        stage.forward = partial(_forward, stage, run_stage)  # type: ignore[arg-type]
    return model


def train(model: SparseRCNN, minutes: float = 2.0, seed: int = 0) -> list[float]:
    """Trains on drawn shapes for so many minutes; returns the loss of each step.

    While it is graded, it takes eight steps on a single batch, which any model that learns at all
    can memorise.
    """
    recipe = recipes.recipe("nano", train__seed=seed, train__batch_size=4 if grading() else 8)
    batches = batches_of(Shapes(4 if grading() else 4096, seed=seed, size=128), recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    model.train()
    losses: list[float] = []
    start, limit = time.monotonic(), 60 * minutes
    images, targets = next(batches)
    with tqdm(total=round(limit), unit="s", disable=grading()) as bar:
        while len(losses) < 8 if grading() else time.monotonic() - start < limit:
            loss = step_loss(model, images, targets, recipe.loss)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            bar.n = min(round(time.monotonic() - start), round(limit))
            bar.set_postfix_str(f"step {len(losses)}, loss {losses[-1]:.2f}")
            if not grading():
                images, targets = next(batches)
    return losses


def shapes(split: str, seed: int = 0) -> Shapes:
    """Drawn shapes of 128 px: "val" to compare settings, "test" for the last number.

    There are 60 images, different ones for each seed; 4 while it is graded.
    """
    offset = {"val": 1, "test": 2}[split]
    return Shapes(4 if grading() else 60, seed=1000 * offset + seed, size=128)
