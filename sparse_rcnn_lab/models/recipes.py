"""The five published COCO recipes, and the small presets that train in minutes."""

from __future__ import annotations

from typing import Any

from sparse_rcnn_lab.core.config import (
    AugmentConfig,
    BackboneName,
    InputConfig,
    LossConfig,
    ModelConfig,
    Recipe,
    TrainConfig,
)
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models.config_edit import with_changes

PUBLISHED_TOLERANCE = 0.3  # AP of 100
_MULTI_SCALE = tuple(range(480, 801, 32))


def _published(name: str, backbone: BackboneName, n: int, epochs: int, ap: float) -> Recipe:
    long = epochs == 36
    return Recipe(
        name=name,
        summary=f"published: {backbone}, {n} proposals, {epochs} epochs",
        model=ModelConfig(backbone=backbone, num_proposals=n),
        train=TrainConfig(epochs=epochs, drop_epochs=(27, 33) if long else (8, 11)),
        augment=AugmentConfig(
            short_sides=_MULTI_SCALE if long else (800,),
            crop=0.5 if n == 300 else 0.0,
            # mmdetection leaves out boxes under one pixel when it reads them, and later only those
            # of which a crop has left nothing.
            min_visible=0.0,
            min_side=0.0,
            min_source_side=1.0,
            drop_empty=True,
            min_image_side=32,
            group_by_aspect=True,
        ),
        published_ap=ap,
    )


NANO = Recipe(
    name="nano",
    summary="small convolutional backbone from scratch, 128 px: minutes on a laptop",
    model=ModelConfig(
        num_classes=1,
        backbone="nano",
        num_proposals=20,
        dim=64,
        num_heads=4,
        ffn_dim=256,
        dynamic_dim=16,
        proposal_init="grid",
        frozen_stages=0,
        train_batch_norm=True,
        fpn_norm=True,
        zero_init_box_head=True,
        overlap_attention=8.0,
        input=InputConfig(short_side=128, long_side=192, antialias=True),
    ),
    train=TrainConfig(
        batch_size=4,
        lr=5e-4,
        backbone_lr=2.5,
        optimizer="muon",
        schedule="one-cycle",
        steps=1600,
        warmup_steps=50,
        warmup_start=0.05,
        denoising=3,
    ),
    augment=AugmentConfig(size=(128, 128)),
)

SMALL = Recipe(
    name="small",
    summary="MobileNetV2 with ImageNet weights, 320 px: an hour on a laptop, real photographs",
    model=ModelConfig(
        num_classes=1,
        backbone="mobilenet_v2",
        num_proposals=50,
        dim=112,
        num_heads=8,
        ffn_dim=512,
        dynamic_dim=16,
        proposal_init="grid",
        frozen_stages=2,
        zero_init_box_head=True,
        overlap_attention=8.0,
        input=InputConfig(short_side=320, long_side=320, antialias=True),
    ),
    train=TrainConfig(
        batch_size=4,
        lr=5e-4,
        backbone_lr=0.3,
        schedule="one-cycle",
        steps=2400,
        denoising=5,
        denoising_negatives=True,
        warmup_steps=100,
        warmup_start=0.05,
    ),
    loss=LossConfig(matches_per_object=(3, 3, 2, 1, 1, 1)),
    augment=AugmentConfig(
        size=(320, 320), scale=(0.7, 1.4), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03
    ),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _published("r50_1x_100", "resnet50", 100, 12, 37.9),
        _published("r50_3x_100", "resnet50", 100, 36, 42.8),
        _published("r50_3x_300", "resnet50", 300, 36, 45.0),
        _published("r101_3x_100", "resnet101", 100, 36, 44.2),
        _published("r101_3x_300", "resnet101", 300, 36, 46.2),
        NANO,
        SMALL,
    )
}


def recipe(name: str, /, **changes: Any) -> Recipe:
    """The recipe called ``name``; ``changes`` such as ``train__steps=300`` replace single fields.

    Raises LabError for an unknown name or field, and for a value of the wrong type.

    >>> short = recipe("nano", train__steps=300, model__num_proposals=10)
    >>> short.train.steps, short.model.num_proposals, RECIPES["nano"].model.num_proposals
    (300, 10, 20)
    """
    if name not in RECIPES:
        raise LabError(f"There is no recipe {name!r}. Choose one of {', '.join(RECIPES)}.")
    return with_changes(RECIPES[name], **changes)
