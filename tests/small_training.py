"""A training of a second on drawn images, for the tests."""

import os
import signal
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_rcnn_lab import Recipe, Run, Shapes, fit
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.training.loader import TrainBatch, train_loader

DATA = Shapes(length=12, seed=5, size=64)
VAL = Shapes(length=4, seed=6, size=64)


def tiny(**changes: Any) -> Recipe:
    settings = {
        "model__num_classes": len(DATA.class_names),
        "model__dim": 16,
        "model__num_heads": 2,
        "model__ffn_dim": 16,
        "model__dynamic_dim": 4,
        "model__num_proposals": 8,
        "model__num_stages": 2,
        "train__steps": 6,
        "train__batch_size": 2,
        "train__denoising": 2,
        "augment__size": (64, 64),
    }
    return recipes.recipe("nano", **{**settings, **changes})


def train(out: Path, recipe: Recipe | None = None, data: Any = DATA, **options: Any) -> Run:
    settings = {"val": VAL, "workers": 0, "progress": False, "evaluate_every": 0, "device": "cpu"}
    return fit(data, recipe or tiny(), out, **{**settings, **options})


def first_batch(recipe: Recipe, data: Any = DATA, shard: slice = slice(None)) -> TrainBatch:
    """The images of a recipe's first step, augmented; those of one process."""
    augment = Augment(recipe.augment, True)
    settings = recipe.train, recipe.model.input
    return next(iter(train_loader(data, augment, *settings, 0, 1, workers=0, shard=shard)))


def signal_at(step: int, number: int = signal.SIGINT, rank: int | None = None) -> Any:
    """For ``on_step``: sends this process the signal in that step; as process ``rank`` of several
    alone."""

    def watch(now: int, _: object) -> None:
        if now == step and rank in (None, int(os.environ.get("RANK", "0"))):
            os.kill(os.getpid(), number)

    return watch


def weights(run: Run) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in run.detector.model.state_dict().items()}
