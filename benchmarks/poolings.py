"""Measures both poolings in turn and sums up."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.clock import Clock
from benchmarks.parts import ARMS, Arm, Trainer, infer, largest_difference
from sparse_rcnn_lab.cli.cmd_benchmark import default_size, threads, untrained
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import pool
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.models.recipes import RECIPES
from sparse_rcnn_lab.training.run_folder import versions

INFERENCE, TRAINING = "inference", "training step"


@dataclass(frozen=True)
class Settings:
    """What to measure.

    model: a preset (untrained weights) or a model that :func:`sparse_rcnn_lab.load` finds.
    size: (height, width) of the input, multiples of 32; default: the model's own.
    proposals, batch: default the model's; one image for inference and the recipe's batch, at most
    8 (2 at the published size), for training.  only: "inference" or "training", None for both.
    """

    model: str = "nano"
    size: tuple[int, int] | None = None
    proposals: int | None = None
    batch: int | None = None
    threads: int = 1
    repeat: int = 5
    device: str = "cpu"
    only: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and any(side < 32 or side % 32 for side in self.size):
            raise LabError(
                f"The size must be multiples of 32, found {self.size[0]}x{self.size[1]}."
            )
        if self.repeat < 1:
            raise LabError(f"repeat must be at least 1, found {self.repeat}.")


def run_benchmark(settings: Settings) -> dict[str, Any]:
    """Measures and returns plain values that json can hold; times are median milliseconds."""
    with threads(settings.threads):
        return _run(settings)


def _run(settings: Settings) -> dict[str, Any]:
    recipe, model, trained = model_of(settings)
    height, width = settings.size or default_size(recipe.model.input)
    model.to(settings.device)
    published = recipe.model.input.short_side >= 800
    batches = {
        INFERENCE: settings.batch or 1,
        TRAINING: settings.batch or min(recipe.train.batch_size, 2 if published else 8),
    }

    def measure(name: str, step: Callable[[Arm, Clock, int], None]) -> dict[str, Any]:
        seen: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in ARMS}
        for turn in range(settings.repeat + 1):
            for arm in ARMS if turn % 2 else ARMS[::-1]:
                clock = Clock(settings.device)
                model.use_pooling(clock.pooling(arm.pool))
                with clock.part("everything else"):
                    step(arm, clock, turn)
                if turn:  # the first one warms up
                    seen[arm.name].append(clock.parts)
        model.use_pooling(pool)
        return {"batch": batches[name], **_summary(seen)}

    result: dict[str, Any] = {
        "settings": {**asdict(settings), "size": [height, width]},
        "trained": trained,
        "proposals": settings.proposals or len(model.proposals),
        "clock": Clock(settings.device).kind,
        "machine": machine(settings.device),
        "versions": versions(),
    }
    if settings.only != "training":
        images = torch.randn(batches[INFERENCE], 3, height, width, device=settings.device)
        model.eval()
        result["largest_difference"] = largest_difference(model, images, settings.proposals)
        result[INFERENCE] = measure(
            INFERENCE, lambda arm, clock, _: infer(model, arm, clock, images, settings.proposals)
        )
    if settings.only != "inference":
        model.train()
        trainer = Trainer(model, recipe, (height, width), batches[TRAINING], settings.proposals)
        result[TRAINING] = measure(TRAINING, trainer.step)
    return result


def _summary(seen: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of every part and of the totals, for each arm, and how they compare."""
    medians: dict[str, dict[str, float]] = {}
    for arm, runs in seen.items():
        medians[arm] = {
            name: round(statistics.median(run[name] for run in runs), 4)
            for name in sorted(runs[0], key="everything else".__eq__)  # opened first, shown last
        }
        medians[arm]["total"] = round(statistics.median(sum(run.values()) for run in runs), 4)
    ours, theirs = (medians[arm.name] for arm in ARMS)
    return {
        "milliseconds": medians,
        "ratio": {
            name: round(theirs[name] / ours[name], 3) for name in ours if ours[name] > 0
        },  # how many times as long torchvision takes
    }


def model_of(settings: Settings) -> tuple[Recipe, SparseRCNN, bool]:
    """The recipe and model to measure, and whether it is a trained one."""
    if settings.model not in RECIPES:
        detector = load(settings.model)
        info = detector.info.get("recipe")
        recipe = configs.from_dict(Recipe, info) if info else Recipe(detector.name, "")
        return replace(recipe, model=detector.config), detector.model, True
    recipe = RECIPES[settings.model]
    config = replace(
        recipe.model,
        num_classes=max(recipe.model.num_classes, len(CLASS_NAMES)),
        num_proposals=settings.proposals or recipe.model.num_proposals,
    )
    model = untrained(config, settings.device)
    return replace(recipe, model=model.config), model, False
