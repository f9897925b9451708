"""The recipe for a handful of images, by a written rule: nobody is asked for a number.

It follows from the initial model and the data alone. docs/teach.md has the rule and its effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.finding import first_few
from sparse_rcnn_lab.data.transforms import smaller_side
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import Checkpoint
from sparse_rcnn_lab.models.config_edit import with_changes

FINER = 1.3  # factor on the model's own side in pixels, where objects are small
SMALL_OBJECT = 14.0  # pixels; if a tenth of the objects is smaller, the side is too small
SMALL_CLASS = 32.0  # pixels; a class of objects typically smaller needs full-size images throughout
MOST_EPOCHS = 150  # passes over the images; further ones only overfit
STEPS = (30, 3000)  # minimum and maximum
STAGES = 4  # the first ones; in as much time four learn more than six
CROWDED = 9  # objects in a typical image from which on neighbours are hard to tell apart
ENOUGH_BOXES = 5  # boxes that a class needs to be learned
RARE = 1 / 3  # of the average number of boxes per class: a class with fewer would be drowned out
# A mirrored "left hand" is a right one, and a turned "thumb up" points down.
SIDED = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Plan:
    """recipe: what to train.  reasons: why this one, a phrase each.  warnings: what to do about the
    data first, a sentence each.
    """

    recipe: Recipe
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def make_plan(
    start: Checkpoint, train: CocoFolder, val: CocoFolder | None = None, seed: int = 0
) -> Plan:
    """The recipe for these images, without its length (:func:`steps_within`).

    start: the model to start from.
    """
    model = start.config
    tables, usual = train.tables, model.input.short_side
    scale = usual / np.maximum(tables.heights, tables.widths)
    owner = np.repeat(np.arange(len(train)), np.diff(tables.starts))
    sides = np.sqrt(tables.boxes_xywh[:, 2] * tables.boxes_xywh[:, 3]) * scale[owner]
    counts = train.object_counts
    each = np.bincount(tables.labels, minlength=len(train.class_names))
    changes = choose_changes(
        usual, sides.tolist(), counts.tolist(), train.class_names, tables.labels.tolist()
    )
    # No proposal that the model has learned is thrown away.
    proposals = max(model.num_proposals, changes.get("model__num_proposals", 0))
    changes["model__num_proposals"] = proposals
    changes["model__num_stages"] = stages = min(STAGES, model.num_stages)
    side = changes["augment__size"][0]
    reasons = [f"{len(train)} images, {len(sides)} boxes, {len(train.class_names)} classes"]
    small = "small objects" if side > usual else "no small objects"
    reasons.append(f"{side} px ({small}: typically {np.median(sides) * side / usual:.0f} px)")
    if stages < model.num_stages:
        reasons.append(
            f"the first {stages} of its {model.num_stages} stages: they learn more in the time"
        )
    if share := changes["train__progressive_resizing"]:
        reasons.append(f"{smaller_side(side)} px in the first {share:.0%} of the steps")
    if changes["augment__hflip"] == 0:
        reasons.append("neither mirrored nor turned: a class is called left, right, up or down")
    if changes.get("loss__balanced"):
        reasons.append("some classes are rare: in each image all count the same")
    if proposals > model.num_proposals:
        reasons.append(f"{proposals} proposals for up to {counts.max()} objects in an image")
    preset = recipes.recipe("nano" if model.backbone == "nano" else "small", model=model)
    classes = len(train.class_names)
    recipe = with_changes(preset, train__seed=seed, model__num_classes=classes, **changes)
    return Plan(recipe, tuple(reasons), tuple(_warnings(train.class_names, each, val)))


def choose_changes(
    usual: int,
    sides: Sequence[float],
    counts: Sequence[int],
    names: Sequence[str],
    labels: Sequence[int] = (),
) -> dict[str, Any]:
    """The rule itself: the fields of the preset that change, and their values.

    usual: side in pixels that the model was trained at.  sides: for each object the root of its
    area, in pixels where the image's long side is ``usual``.  counts: objects in each image.
    names: the classes.  labels: the class of each object, an index into ``names``.

    Mosaic and pasted objects are left out: in so few steps they cost more than they gain
    (docs/teach.md).

    >>> choose_changes(320, [9.0] * 30, [3] * 10, ["mug"])["augment__size"]
    (416, 416)
    """
    small = float(np.quantile(sides, 0.1)) if len(sides) else float(usual)
    sided = any(word in SIDED for name in names for word in name.casefold().split())
    side = int(usual * FINER) // 32 * 32 if small < SMALL_OBJECT else usual
    classes = np.array(labels, dtype=int)
    of_class = [np.array(sides)[classes == label] for label in set(labels)]
    smallest = min(map(np.median, of_class), default=usual)
    changes: dict[str, Any] = {
        "augment__size": (side, side),
        "model__input__short_side": side,
        "model__input__long_side": side,
        "train__batch_size": 2,  # more steps per minute are worth more than smoother ones
        "train__lr": 1e-3,
        "train__warmup_steps": 20,
        "train__ema": 0.97,
        # A third more steps in the same time, and better ones.
        "train__progressive_resizing": 0.0 if smallest < SMALL_CLASS else 0.6,
        "train__precision": "auto",  # bf16 in hardware gives a tenth to a fifth more steps
        # New classes are all equally likely at first: a focal loss hardly separates them.
        "loss__focal_gamma": 0.0,
        "loss__among_classes": 3.0,
        "augment__hflip": 0.0 if sided else 0.5,
        "augment__turn": 0.0 if sided else 0.5,  # things on a table lie in any direction
        "augment__min_visible": 0.9,  # half a mug might be anything: it would be found everywhere
    }
    there = [len(own) for own in of_class]
    rare = bool(there) and min(there) < RARE * sum(there) / len(there)
    crowded = len(counts) > 0 and np.median(counts) >= CROWDED
    most = max(counts, default=0)
    wanted = max(100, 2 * most) if crowded else 1.2 * most
    if wanted > 50:  # one proposal finds one object
        changes["model__num_proposals"] = min(300, int(-(-wanted // 50) * 50))
    if rare:
        changes["loss__balanced"] = True
    if rare or crowded:
        # Where things are crowded, neighbours must be separated; the class is learned anyway.
        changes["loss__focal_gamma"] = 2.0
        changes["loss__matches_per_object"] = (1,)
    return changes


def steps_within(seconds: float, step_seconds: float, num_images: int, batch_size: int) -> int:
    """How many steps fit into the time, but no more than are useful.

    >>> steps_within(240, 1.0, 20, 4), steps_within(240, 0.1, 20, 4), steps_within(1, 9.0, 20, 4)
    (240, 750, 30)
    """
    most = MOST_EPOCHS * num_images / batch_size
    least, longest = STEPS
    return int(min(max(least, min(seconds / step_seconds, most)), longest))


def _warnings(names: Sequence[str], each: np.ndarray, val: CocoFolder | None) -> list[str]:
    """Warnings about classes that cannot be learned well, before any time is spent on them.

    each: training boxes of each class.
    """
    few = [f"{n} ({count})" for n, count in zip(names, each, strict=True) if count < ENOUGH_BOXES]
    said = []
    if few:
        said.append(
            f"Too few boxes to learn from: {first_few(few, 6)}. Ten or more of each, in different "
            "places, help most."
        )
    if val is not None:
        there = set(val.tables.labels.tolist())
        unseen = [name for label, name in enumerate(val.class_names) if label not in there]
        if unseen:
            said.append(
                f"No held-out image shows {first_few(unseen, 6)}, so how well it is found will not "
                "be known."
            )
    return said
