"""The five published recipes against what was published, and what they draw.

Published: the configs ``configs/sparse_rcnn/sparse-rcnn_*_coco.py`` of mmdetection 3.3.0, which
follow the paper (section 4); the APs are those of its table.
"""

from collections import Counter

import pytest
import torch

from sparse_rcnn_lab import RECIPES, LabError, Recipe, recipe
from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.core.train import lr_factor, total_steps
from sparse_rcnn_lab.data.transforms import Augment, Window
from sparse_rcnn_lab.detect.images import resized_size
from sparse_rcnn_lab.models.config_edit import from_dict, to_dict

MULTI_SCALE = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
ALIKE = {
    "proposal boxes": "image",
    "batch": 16,
    "lr": 2.5e-5,
    "backbone's lr": 1.0,
    "weight decay": 1e-4,
    "clip norm": 1.0,
    "warm-up": (500, 0.001),
    "drops to": 0.1,
    "denoising": 0,
    "loss": (2, 5, 2),
    "matches": {1},
    "long side": 1333,
    "flip": 0.5,
    "boxes kept": (0.0, 0.0, 1.0),
    "images kept": (True, 32),
    "grouped": True,
    "colours, zoom": ((0.0,) * 4, (1.0, 1.0)),
    "frozen": 2,
    "batch norm": False,
    "test": (800, 1333, False),
}
LONG = {"epochs": 36, "drops": (27, 33), "short sides": MULTI_SCALE}
CROP = {"crop": 0.5, "crop from": (400, 500, 600), "crop to": (384, 600)}
PLAIN: dict[str, object] = {"crop": 0.0}
PUBLISHED: dict[str, dict[str, object]] = {
    "r50_1x_100": {
        **{"backbone": "resnet50", "proposals": 100, "AP": 37.9, **PLAIN},
        **{"epochs": 12, "drops": (8, 11), "short sides": (800,)},
    },
    "r50_3x_100": {"backbone": "resnet50", "proposals": 100, "AP": 42.8, **LONG, **PLAIN},
    "r50_3x_300": {"backbone": "resnet50", "proposals": 300, "AP": 45.0, **LONG, **CROP},
    "r101_3x_100": {"backbone": "resnet101", "proposals": 100, "AP": 44.2, **LONG, **PLAIN},
    "r101_3x_300": {"backbone": "resnet101", "proposals": 300, "AP": 46.2, **LONG, **CROP},
}


def values(recipe: Recipe) -> dict[str, object]:
    model, train, augment, loss = recipe.model, recipe.train, recipe.augment, recipe.loss
    schedule = [lr_factor(train, step, 16) for step in range(total_steps(train, 16))]
    found: dict[str, object] = {
        "backbone": model.backbone,
        "proposals": model.num_proposals,
        "proposal boxes": model.proposal_init,
        "AP": recipe.published_ap,
        "epochs": train.epochs,
        "drops": train.drop_epochs,
        "short sides": augment.short_sides,
        "crop": augment.crop,
        "batch": train.batch_size,
        "lr": train.lr,
        "backbone's lr": train.backbone_lr,
        "weight decay": train.weight_decay,
        "clip norm": train.clip_norm,
        "warm-up": (train.warmup_steps, train.warmup_start),
        "drops to": pytest.approx(schedule[-1] ** 0.5),  # two of them
        "denoising": train.denoising,
        "loss": (loss.cls, loss.l1, loss.giou),
        "matches": set(loss.matches_per_object),
        "long side": augment.long_side,
        "flip": augment.hflip,
        "boxes kept": (augment.min_visible, augment.min_side, augment.min_source_side),
        "images kept": (augment.drop_empty, augment.min_image_side),
        "grouped": augment.group_by_aspect,
        "colours, zoom": (
            (augment.brightness, augment.contrast, augment.saturation, augment.hue),
            augment.scale,
        ),
        "frozen": model.frozen_stages,
        "batch norm": model.train_batch_norm,
        "test": (model.input.short_side, model.input.long_side, model.input.antialias),
    }
    if augment.crop:
        found |= {"crop from": augment.crop_short_sides, "crop to": augment.crop_size}
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_value(name):
    """Catches a recipe that trains another model than the one whose AP stands beside it."""
    assert values(RECIPES[name]) == {**PUBLISHED[name], **ALIKE}


def test_older_files_still_mean_what_they_meant():
    """Catches a new field whose default changes how a checkpoint's recipe trains."""
    written = to_dict(RECIPES["small"])
    for new in ("crop", "crop_short_sides", "crop_size", "drop_empty", "min_image_side"):
        del written["augment"][new]
    for new in ("min_visible", "min_side", "min_source_side", "group_by_aspect"):
        del written["augment"][new]
    assert from_dict(Recipe, written) == RECIPES["small"]
    old = AugmentConfig()
    assert (old.crop, old.min_visible, old.min_side, old.min_source_side) == (0, 0.3, 1, 0)
    assert not old.drop_empty and not old.group_by_aspect and not old.min_image_side


def windows(name: str, height: int, width: int, count: int = 2200) -> list[Window]:
    augment = Augment(RECIPES[name].augment)
    return [
        augment.draw_window(height, width, torch.Generator().manual_seed(seed))
        for seed in range(count)
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train__warmup_steps", -1),
        ("train__clip_norm", 0),
        ("train__warmup_start", 1.5),
        ("loss__matches_per_object", (1, 0)),
        ("augment__size", (0, 64)),
    ],
)
def test_numbers_that_teach_nothing(field, value):
    """Catches a training of hours whose gradients are cut to 0, or that matches nothing."""
    with pytest.raises(LabError, match=f"{field.replace('__', '.')} must be .*, found"):
        recipe("nano", **{field: value})


def test_multi_scale_draws_each_short_side_about_equally():
    """Catches a range without its end, sizes of the wrong side, and one seed for all images."""
    drawn = windows("r50_3x_100", 480, 640)
    assert all(w.first is None and w.crop == (0, 0, 480, 640) for w in drawn)
    assert all(w.size[1] == int(640 * w.size[0] / 480 + 0.5) for w in drawn)
    counts = Counter(w.frame[0] for w in drawn)
    assert sorted(counts) == list(MULTI_SCALE)
    assert all(140 < count < 262 for count in counts.values())  # 200 expected, deviation 13.5
    wide = windows("r50_3x_100", 300, 1200, 200)  # long side 1333 binds from 333 on
    assert {w.frame for w in wide} == {(333, 1333)}
    assert {w.frame for w in windows("r50_1x_100", 640, 480, 50)} == {(1067, 800)}


@pytest.mark.parametrize("name", ["r50_3x_300", "r101_3x_300"])
def test_half_of_the_images_are_cropped_as_published(name):
    """Catches a crop of the original pixels, bounds that are not reached, and a fixed corner."""
    drawn = windows(name, 480, 640)
    crops = [w for w in drawn if w.first is not None]
    assert 1000 < len(crops) < 1200  # 1100 expected, deviation 23
    firsts = Counter(w.first for w in crops)
    assert sorted(firsts) == [(400, 533), (500, 667), (600, 800)]
    assert all(290 < count < 445 for count in firsts.values())

    for first in firsts:
        parts = [w.crop for w in crops if w.first == first]
        for axis in (0, 1):
            low, high = min(first[axis], 384), min(first[axis], 600)
            sides = torch.tensor([part[2 + axis] for part in parts]).double()
            assert low <= sides.min() < low + 5 and high - 5 < sides.max() <= high
            place = (sides - low) / (high - low)  # uniform: mean 1/2, variance 1/12
            assert abs(place.mean() - 0.5) < 0.07 and abs(place.var() - 1 / 12) < 0.02
            free = torch.tensor([first[axis] - part[2 + axis] for part in parts]).double()
            at = torch.tensor([part[axis] for part in parts]).double()
            assert (at >= 0).all() and (at <= free).all()
            if (free > 50).any():
                assert abs((at[free > 50] / free[free > 50]).mean() - 0.5) < 0.09
    # The part is then sized as any image.
    assert {min(w.frame) for w in crops} == set(MULTI_SCALE)
    assert all(w.frame == resized_size(*w.crop[2:], min(w.frame), 1333) for w in crops)
    assert all(w.size == w.frame for w in crops)


def test_an_image_smaller_than_the_crop_is_taken_whole():
    """Catches a crop that reaches over the border of a narrow image."""
    crops = [w for w in windows("r50_3x_300", 100, 1000, 300) if w.first is not None]
    assert {w.first for w in crops} == {(133, 1333)}  # 400 would make 4000 wide
    assert {(w.crop[0], w.crop[2]) for w in crops} == {(0, 133)}
    assert min(w.crop[3] for w in crops) < 400 < 590 < max(w.crop[3] for w in crops) <= 600


def test_without_a_crop_nothing_more_is_drawn():
    """Catches a draw for the crop that shifts all later ones: old seeds would then give others."""
    random = torch.Generator().manual_seed(4)
    choice = int(torch.randint(11, (), generator=random))
    (window,) = windows("r50_3x_100", 480, 640, 5)[4:]
    assert window.frame[0] == MULTI_SCALE[choice]
