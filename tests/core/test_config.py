"""Configs: changed field by field, kept in files, and refused when they make no sense."""

import json

import pytest

from sparse_rcnn_lab import RECIPES, LabError, Recipe, recipe
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.models.config_edit import from_dict, to_dict


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip_through_json(name):
    """Catches a tuple that comes back as a list, which is never equal and cannot be hashed."""
    original = RECIPES[name]
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(original)))) == original


@pytest.mark.parametrize("key", ["train__stesp", "trian__steps", "steps", "name__x", "loss__"])
def test_unknown_fields(key):
    """Catches a misspelt option that changes nothing and says nothing."""
    with pytest.raises(LabError, match="no field"):
        recipe("nano", **{key: 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train__schedule", "cosine", "train.schedule 'cosine' is unknown. Choose one of step"),
        ("train__lr", -1.0, "train.lr must be a number above 0, found -1.0"),
        ("train__lr", float("nan"), "train.lr must be"),
        ("train__steps", "1", "train.steps must be .*int.*, found '1'"),
        ("train__steps", 0, "train.steps must be .* at least 1, found 0"),
        ("train__seed", -1, "train.seed must be .* at least 0, found -1"),
        ("train__seed", 10**22, "train.seed must be at most 1,000,000,000,000, found 1000"),
        ("train__batch_size", 0, "train.batch_size must be .* at least 1"),
        ("train__denoising", -1, "train.denoising must be .* at least 0"),
        ("train__accumulate", 0, "train.accumulate"),
        ("train__precision", "half", "train.precision"),
        ("train__ema", 1.0, "train.ema must be at least 0 and below 1"),
        ("train__progressive_resizing", 1.0, "train.progressive_resizing must be at least 0"),
        ("train__ema", -0.1, "train.ema must be at least 0 and below 1"),
        ("train__nested_prefixes", 0, "nested_prefixes must be a whole number of at least 1"),
        ("loss__matches_per_object", (), "matches_per_object needs at least one number"),
        ("loss__l1", "much", "loss.l1 must be float, found 'much'"),
        ("model__input__short_side", 6.4, "model.input.short_side must be int"),
        ("model__input__side", 64, "no field 'model.input.side'"),
        ("model", None, "model must be ModelConfig"),
    ],
)
def test_values_that_cannot_train(key, value, words):
    """Catches a wrong value that trains in another way, or fails somewhere inside."""
    with pytest.raises(LabError, match=words):
        recipe("nano", **{key: value})


def test_changes_reach_every_level():
    """Catches a field that --set knows and Python does not, a list kept as one, a change that
    touches the shared recipe, or resets the fields beside it."""
    changed = recipe("nano", model__input__short_side=64, augment__size=[64, 96])
    assert (changed.model.input.short_side, changed.augment.size) == (64, (64, 96))
    assert changed.model.input.long_side == RECIPES["nano"].model.input.long_side
    assert changed.train == RECIPES["nano"].train and changed.augment != RECIPES["nano"].augment
    assert recipe("nano", train__steps=None, train__epochs=3).train.epochs == 3
    with pytest.raises(LabError, match=r"train\.epochs"):
        recipe("nano", train__steps=None, train__epochs=0)


def test_unknown_names():
    """Catches a KeyError in place of the list of what there is."""
    with pytest.raises(LabError, match="r50_3x_300"):
        recipe("r51")
    with pytest.raises(LabError, match="invented"):
        from_dict(ModelConfig, {"invented": 1})
