"""ImageNet weights for a backbone: torchvision's, downloaded or from a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.core.backbone import Backbone, torchvision_models
from sparse_rcnn_lab.core.config import BackboneName
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models.foreign import read_weights


def load_backbone(backbone: Backbone, name: BackboneName, source: str | Path) -> None:
    """Loads ImageNet weights into the body.

    source: a file with torchvision's state dict (``.pth`` or safetensors, as timm's ResNets are),
    or "download" for torchvision's own weights. Wrappers and prefixes of the names are removed.
    Classifier weights are left out, and so, with a warning, is what a detector has besides its
    backbone. Raises LabError when the file does not fit this backbone.
    """
    if name == "nano":
        raise LabError("The nano backbone has no ImageNet weights; train it from scratch.")
    if str(source) == "download":
        try:
            state = (
                torchvision_models()
                .get_model_weights(name)
                .DEFAULT.get_state_dict(progress=True, check_hash=True)
            )
        except OSError as error:
            raise LabError(
                f"torchvision could not download the {name} weights ({error}). Give a file with "
                "backbone_weights (--backbone-weights), or none."
            ) from error
    else:
        state = _of_backbone(read_weights(Path(source))[0], Path(source).name)
    wanted, body = torchvision_keys(backbone, name), backbone.body.state_dict()
    _check_state(state, {theirs: body[ours] for theirs, ours in wanted.items()}, name, source)
    backbone.body.load_state_dict({ours: state[theirs] for theirs, ours in wanted.items()})


def _of_backbone(state: dict[str, Any], file: str) -> dict[str, Any]:
    """The tensors under ``backbone.`` where there are any, else all."""
    inner = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    if inner and (rest := len(state) - len(inner)):
        warnings.warn(f'"{file}": took its backbone, left out {rest} other tensors.', stacklevel=3)
    return inner or state


def _check_state(
    state: dict[str, Any], wanted: dict[str, Tensor], name: BackboneName, source: str | Path
) -> None:
    """Raises LabError unless the file holds exactly these tensors, apart from a classifier's."""
    fault = ""
    if missing := [key for key in wanted if key not in state]:
        fault = f'"{missing[0]}" and {len(missing) - 1} more are missing'
    elif surplus := [key for key in state if key not in wanted and not _unused(str(key), name)]:
        fault = f'"{surplus[0]}" and {len(surplus) - 1} more belong to another network'
    elif misfits := [k for k, v in wanted.items() if getattr(state[k], "shape", None) != v.shape]:
        found = list(getattr(state[misfits[0]], "shape", ()))
        fault = f'"{misfits[0]}" is {found}, not {list(wanted[misfits[0]].shape)}'
    if fault:
        raise LabError(
            f'"{source}" does not hold the weights of {name}: {fault}. Give a file of '
            f"torchvision's {name}, or choose the backbone that the file belongs to."
        )


def _unused(key: str, name: BackboneName) -> bool:
    """Whether a tensor belongs to torchvision's classifier, which the body does not have."""
    heads = ("fc.", "classifier.", *(["features.18."] if name == "mobilenet_v2" else []))
    return key.startswith(heads) or key.endswith("num_batches_tracked")


def torchvision_keys(backbone: Backbone, name: BackboneName) -> dict[str, str]:
    """Maps torchvision's name of every tensor of the body to ours."""
    keys = {}
    for ours in backbone.body.state_dict():
        part, rest = ours.split(".", 1)
        if name == "mobilenet_v2":
            keys[f"features.{rest}"] = ours  # a slice of a Sequential keeps its indices
        else:
            keys[rest if part == "stem" else ours] = ours
    return keys
