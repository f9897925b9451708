"""Configs: changed field by field, kept in files, and refused when they make no sense."""

from __future__ import annotations

import json

import pytest

from sparse_rcnn_lab.config import ModelConfig, Recipe, from_dict, to_dict
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip_through_json(name: str) -> None:
    """Would catch a tuple that comes back as a list, which is never equal and cannot be hashed."""
    original = RECIPES[name]
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(original)))) == original


def test_changes() -> None:
    """Would catch a change that touches the shared recipe, or resets the fields beside it."""
    changed = recipe("nano", train__steps=7, model__num_classes=4, name="mine")
    assert (changed.train.steps, changed.model.num_classes, changed.name) == (7, 4, "mine")
    assert changed.train.lr == RECIPES["nano"].train.lr
    assert RECIPES["nano"].train.steps != 7


@pytest.mark.parametrize("key", ["train__stesp", "trian__steps", "steps", "name__x", "loss__"])
def test_unknown_fields(key: str) -> None:
    """Would catch a misspelt option that changes nothing and says nothing."""
    with pytest.raises(LabError, match="no field"):
        recipe("nano", **{key: 1})


def test_unknown_names() -> None:
    """Would catch a KeyError in place of the list of what there is."""
    with pytest.raises(LabError, match="r50_3x_300"):
        recipe("r51")
    with pytest.raises(LabError, match="invented"):
        from_dict(ModelConfig, {"invented": 1})


@pytest.mark.parametrize(
    ("name", "backbone", "proposals", "drops", "ap"),
    [
        ("r50_1x_100", "resnet50", 100, (8, 11), 37.9),
        ("r50_3x_100", "resnet50", 100, (27, 33), 42.8),
        ("r50_3x_300", "resnet50", 300, (27, 33), 45.0),
        ("r101_3x_100", "resnet101", 100, (27, 33), 44.2),
        ("r101_3x_300", "resnet101", 300, (27, 33), 46.2),
    ],
)
def test_published_recipes(
    name: str, backbone: str, proposals: int, drops: tuple[int, ...], ap: float
) -> None:
    """Would catch a small preset's trick that has slipped into a published recipe."""
    got = RECIPES[name]
    assert (got.model.backbone, got.model.num_proposals, got.published_ap) == (
        backbone,
        proposals,
        ap,
    )
    assert got.model.proposal_init == "image"
    assert (got.model.frozen_stages, got.model.train_batch_norm) == (2, False)
    assert got.train.drop_epochs == drops
    assert (got.train.batch_size, got.train.lr, got.train.weight_decay) == (16, 2.5e-5, 1e-4)
    assert (got.train.backbone_lr, got.train.clip_norm) == (1.0, 1.0)
    assert got.train.denoising == 0
    assert (got.train.warmup_steps, got.train.warmup_start) == (500, 0.001)
    assert (got.loss.cls, got.loss.l1, got.loss.giou) == (2, 5, 2)
    assert set(got.loss.matches_per_object) == {1}
    assert got.augment.hflip == 0.5
