"""The plain training loop makes the steps of ``fit``."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Recipe, Shapes
from sparse_rcnn_lab.core.inputs import Targets
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import main, train
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.runtime import for_training
from sparse_rcnn_lab.training.loader import train_loader

DATA = Shapes(6, size=(64, 96))  # not a multiple of the batch: the third step begins a new epoch


def recipe(**changes: Any) -> Recipe:
    """nano without what the plain loop leaves out, four steps of it."""
    return srl.recipe(
        "nano", model__num_classes=6, model__num_stages=3, train__steps=4, train__optimizer="adamw",
        train__denoising=0, train__warmup_steps=1, augment__size=(64, 96), **changes,
    )  # fmt: skip


def batches(recipe: Recipe) -> Iterator[tuple[Tensor, Targets]]:
    """What fit is given."""
    augment, inputs = Augment(recipe.augment, recipe.model.input.antialias), recipe.model.input
    for batch in train_loader(DATA, augment, recipe.train, inputs, 0, 4, workers=0):
        yield batch.images, batch.targets


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Fixed batch norms, another schedule, several proposals an object.
        {
            "model__train_batch_norm": False,
            "train__schedule": "step",
            "train__drop_epochs": [1],
            "loss__matches_per_object": [2, 1, 1],
        },
    ],
    ids=["nano", "fixed norms"],
)
def test_fit_makes_the_same_steps(changes, tmp_path, monkeypatch):
    """Catches a fit whose rate, loss or update are not those of the plain
    loop, and a faster backward pass with other gradients."""
    # Folded fixed norms are rounded otherwise; their gradients have a test of their own.
    monkeypatch.setattr(for_training, "fold_fixed_norms", lambda backbone: None)
    wanted: list[float] = []
    srl.fit(
        DATA, recipe(**changes), tmp_path, workers=0, evaluate_every=0, progress=False,
        on_step=lambda step, loss: wanted.append(float(loss.total().detach())),
    )  # fmt: skip
    own = recipe(**changes)
    torch.manual_seed(own.train.seed)
    model, losses = SparseRCNN(own.model), []
    train(model, batches(own), len(DATA), own, lambda step, loss: losses.append(loss))
    assert len(losses) == 4 and losses[0] != losses[1]
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert losses[0] == pytest.approx(wanted[0], rel=1e-6)


def test_the_command_trains_and_says_how_good_it_is(capsys, monkeypatch):
    """Catches a lesson's file that does not run, and an AP of other stages than the model's."""
    monkeypatch.setattr("sys.argv", ["train", "--steps", "2"])
    monkeypatch.setattr(srl, "Shapes", lambda length, seed: Shapes(min(length, 8), seed))
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["step", "1"], ["step", "2"]]
    assert lines[2].split()[:2] == ["stage", "AP"] and len(lines) == 3 + 6


def test_training_leaves_a_model_that_detects():
    """Catches batch norms left following each image that is looked at."""
    own = recipe()
    torch.manual_seed(0)
    model = SparseRCNN(own.model)
    train(model, batches(own), len(DATA), replace(own, train=replace(own.train, steps=1)))
    assert not any(module.training for module in model.modules())
