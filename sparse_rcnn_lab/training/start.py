"""How a run begins: its header, the checks before anything is written, its first weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import total_steps
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.imagenet import load_backbone
from sparse_rcnn_lab.runtime.for_training import speed_up_training
from sparse_rcnn_lab.training.batch_norm import share_batch_norm
from sparse_rcnn_lab.training.distributed import Group
from sparse_rcnn_lab.training.ema import WeightAverage
from sparse_rcnn_lab.training.nested import nest
from sparse_rcnn_lab.training.optimizer import make_optimizer
from sparse_rcnn_lab.training.precision import MixedPrecision
from sparse_rcnn_lab.training.run_folder import RunFolder, versions
from sparse_rcnn_lab.training.states import load_state
from sparse_rcnn_lab.training.update import Training

# How the steps are computed, not what they compute: free to differ when a run is resumed.
_FREE_SETTINGS = ("accumulate", "precision")
_SAME_RUN = ("recipe", "class_names", "data", "backbone_weights", "start_from")
_TELLING_VERSIONS = ("sparse_rcnn_lab", "torch", "torchvision", "numpy")


def run_header(
    recipe: Recipe,
    data: DetectionData,
    val: DetectionData | None,
    backbone_weights: str | Path | None,
    start_from: str | Path | None,
) -> dict[str, Any]:
    """What ``run.json`` holds."""
    return {
        "recipe": configs.to_dict(recipe),
        "class_names": list(data.class_names),
        "data": {"train": data.fingerprint(), "val": val.fingerprint() if val else None},
        "backbone_weights": str(backbone_weights) if backbone_weights else None,
        "start_from": str(start_from) if start_from else None,
        "steps": total_steps(recipe.train, len(data)),
        "versions": versions(),
    }


def check_folder(folder: RunFolder, header: dict[str, Any], resume: bool) -> None:
    """Raises LabError unless the folder is free, or holds this very run and is to be resumed.

    Warns where the run was started with other versions of what may change a number.
    """
    if not folder.exists():
        return
    if not resume:
        raise LabError(
            f'"{folder.path}" already holds a run. Choose another folder, or resume it '
            "(resume=True, --resume)."
        )
    before, now = folder.header(), json.loads(json.dumps(header))
    for content in (before, now):
        content["recipe"] = _decisive(content["recipe"])
    for key in _SAME_RUN:
        if before.get(key) != now[key]:
            raise LabError(
                f'The run in "{folder.path}" was started with another {key.replace("_", " ")}: '
                f"{_difference(before.get(key), now[key])}. Resume with the same settings and "
                "data, or start a new run in another folder."
            )
    old, new = before.get("versions", {}), now["versions"]
    changed = [
        f"{n} {old[n]} (now {new[n]})" for n in _TELLING_VERSIONS if old.get(n, new[n]) != new[n]
    ]
    if changed:
        warnings.warn(
            f"The run was started with {', '.join(changed)}; it goes on, but not bit for bit.",
            stacklevel=2,
        )


def _decisive(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as json holds it: fields it is too old to know filled in, free ones left out."""
    whole = json.loads(json.dumps(configs.to_dict(configs.from_dict(Recipe, recipe))))
    whole["train"] = {k: v for k, v in whole["train"].items() if k not in _FREE_SETTINGS}
    return whole


def _difference(before: Any, now: Any, where: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return _difference(before.get(key), now[key], f"{where}.{key}" if where else key)
    return f"{where or 'it'} was {before!r}, now {now!r}"


def check_shares(recipe: Recipe, world: int) -> None:
    """Raises LabError when the batch is too small to be shared out."""
    train = recipe.train
    smallest = train.batch_size // world
    if smallest < train.accumulate:
        parts = "" if train.accumulate == 1 else f", each in {train.accumulate} parts"
        raise LabError(
            f"A batch of {train.batch_size} cannot be shared by {world} processes{parts}: every "
            f"part needs an image. Use train.batch_size {world * train.accumulate} or more, or "
            "fewer processes or parts."
        )


def begin(
    recipe: Recipe,
    device: torch.device,
    group: Group,
    state: Path | None,
    backbone_weights: str | Path | None,
    start_from: str | Path | None,
) -> Training:
    """The model and all that trains it: from ``state``, or as the settings say.

    Weights from outside are read by process 0 alone; ``Training.connect`` passes them on.
    """
    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(recipe.model)
    speed_up_training(model)
    if state is None and group.first:
        if backbone_weights is not None:
            load_backbone(model.backbone, recipe.model.backbone, backbone_weights)
        nested = start_from is not None and _start_from(model, Path(start_from))
        if recipe.train.nested_proposals and not nested:
            nest(model.proposals)
    model.backbone.frozen = recipe.train.frozen_backbone
    if model.backbone.frozen:
        model.backbone.requires_grad_(False)
    model.to(device).train()
    if group.world > 1:
        share_batch_norm(model)
    optimizer = make_optimizer(recipe.train, model, model.backbone.body)
    mixed = MixedPrecision(recipe.train.precision, device)
    training = Training(model, recipe, optimizer, mixed, group=group)
    if state is not None:
        load_state(state, training, device)
    return training


def connect(training: Training) -> None:
    """Joins the processes' models; after it all of them hold the same weights."""
    training.connect()
    if training.recipe.train.ema and training.average is None:
        training.average = WeightAverage(training.model, training.recipe.train.ema)


def _start_from(model: SparseRCNN, path: Path) -> bool:
    """Takes over a checkpoint's weights; only class layers and proposals may be other ones.

    Returns whether the proposals are the checkpoint's, and nested already.
    """
    own = model.state_dict()
    checkpoint = read_checkpoint(path)
    state = checkpoint.state
    free = (".classify.", "proposals.")
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    for key in own:
        if key not in fitting and not any(part in key for part in free):
            raise LabError(
                f'"{path}" does not fit this recipe: {key} is missing or of another shape. '
                "Fine-tune with the recipe that trained it."
            )
    model.load_state_dict(fitting, strict=False)
    trained = (checkpoint.info.get("recipe") or {}).get("train") or {}
    return "proposals.boxes" in fitting and bool(trained.get("nested_proposals"))
