"""The run folder and the recipe of ``train``, from its options, a run, or a model."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes

if TYPE_CHECKING:
    from sparse_rcnn_lab.training.run_folder import RunFolder

# Keeps the options of the run, so that --resume needs nothing but the folder.
COMMAND_FILE = "command.json"


def run_settings(arguments: argparse.Namespace) -> tuple[RunFolder, Recipe]:
    """The run folder and the recipe; fills in options that ``--resume`` or defaults supply."""
    from sparse_rcnn_lab.training.run_folder import RunFolder, read_json

    if arguments.resume:
        if arguments.out is None:
            raise LabError("--resume needs --out, the folder of the run to continue.")
        folder = RunFolder(arguments.out)
        if not folder.exists():
            raise LabError(f'There is no run in "{folder.path}" to resume (no run.json).')
        if (folder.path / COMMAND_FILE).exists():
            for name, value in read_json(folder.path / COMMAND_FILE).items():
                if getattr(arguments, name, None) is None:
                    setattr(arguments, name, value)
        header = folder.header()
        recipe = configs.from_dict(Recipe, header["recipe"])
        for name in ("backbone_weights", "start_from"):
            if getattr(arguments, name) in (None, "none"):
                setattr(arguments, name, header[name])
        if arguments.preset not in (None, recipe.name):
            raise LabError(
                f'The run in "{folder.path}" uses preset {recipe.name}, not {arguments.preset}. '
                "Leave --preset out, or start a new run in another folder."
            )
    if arguments.data is None:
        raise LabError('--data is missing: a folder with train.json and images/, or "shapes".')
    if arguments.resume:
        return folder, _changed(recipe, arguments)

    base = _base_recipe(arguments)
    _choose_backbone_weights(arguments, base)
    recipe = _changed(base, arguments)
    if recipe.train.lr == base.train.lr and arguments.lr is None:
        recipe = configs.with_changes(recipe, train__lr=scaled_rate(recipe, base))
    name = arguments.data.replace(":", "-")
    folder = RunFolder(arguments.out or Path("runs") / f"{recipe.name}-{Path(name).resolve().stem}")
    if folder.exists():
        raise LabError(
            f'"{folder.path}" already holds a run. Give another --out, or continue that run: '
            f"{resume_command(folder.path)}"
        )
    return folder, recipe


def scaled_rate(recipe: Recipe, base: Recipe) -> float:
    """The learning rate of ``base``, scaled linearly to ``recipe``'s batches if it is published."""
    if base.published_ap is None or recipe.train.batch_size == base.train.batch_size:
        return base.train.lr
    return base.train.lr * recipe.train.batch_size / base.train.batch_size


def _base_recipe(arguments: argparse.Namespace) -> Recipe:
    if arguments.start_from is None:
        return recipes.recipe(arguments.preset or "nano")
    from sparse_rcnn_lab.models.checkpoint import read_checkpoint
    from sparse_rcnn_lab.models.load import locate

    path = locate(arguments.start_from)
    arguments.start_from = str(path)
    if arguments.preset:
        return recipes.recipe(arguments.preset)
    checkpoint = read_checkpoint(path)
    if "recipe" not in checkpoint.info:
        raise LabError(f'"{path}" does not say how it was trained. Give its --preset.')
    recipe = configs.from_dict(Recipe, checkpoint.info["recipe"])
    # How its steps were computed suited that machine, not necessarily this one.
    here = {"train__precision": "float32", "train__accumulate": 1}
    return configs.with_changes(recipe, model=checkpoint.config, **here)


def _choose_backbone_weights(arguments: argparse.Namespace, recipe: Recipe) -> None:
    if arguments.backbone_weights == "none":
        arguments.backbone_weights = None
    elif arguments.backbone_weights is None:
        pretrained = recipe.model.backbone != "nano" and arguments.start_from is None
        arguments.backbone_weights = "download" if pretrained else None


def _changed(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    changes = {
        "train__steps": arguments.steps,
        "train__batch_size": arguments.batch_size,
        "train__lr": arguments.lr,
        "train__denoising": arguments.denoising,
        "train__seed": arguments.seed,
        "train__precision": arguments.precision,
        "train__accumulate": arguments.accumulate,
        "train__ema": arguments.ema,
        "model__num_proposals": arguments.proposals,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return apply_overrides(configs.with_changes(recipe, **given), arguments.overrides)


def apply_overrides(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A copy of ``recipe`` with every ``part.field=value`` of ``--set`` applied.

    Raises LabError, naming the assignment, for an unknown field or a value of another type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise LabError(
                f"--set {assignment!r} has no value. Write FIELD=VALUE, for example train.lr=1e-3."
            )
        try:
            path = path.strip()
            value = _value(text.strip(), _field(recipe, path))
            recipe = configs.with_changes(recipe, **{path.replace(".", "__"): value})
        except LabError as error:
            raise LabError(f"--set {assignment!r}: {error}") from None
    return recipe


def _field(config: Any, path: str) -> Any:
    """The present value of a field. Raises LabError, listing the names, for an unknown field."""
    for name in path.split("."):
        known = [f.name for f in fields(config)] if is_dataclass(config) else []
        if name not in known:
            choice = f"Choose one of {', '.join(known)}." if known else "The name ends before it."
            raise LabError(f"there is no field {name!r} here. {choice}")
        config = getattr(config, name)
    if is_dataclass(config):
        inner = ", ".join(f"{path}.{f.name}" for f in fields(config))
        raise LabError(f"{path!r} is a group. Choose one of {inner}.")
    return config


def _value(text: str, before: Any) -> Any:
    """The value that ``text`` stands for in a field that holds ``before``; its config checks it."""
    if isinstance(before, str):
        return text
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if isinstance(before, tuple) or "," in text:
        parts = [part.strip() for part in text.strip("()[] ").split(",")]
        if not any(parts):
            raise LabError("at least one value is needed; separate several by commas.")
        return tuple(_value(part, before[0] if before else None) for part in parts if part)
    for kind in (float,) if isinstance(before, float) else (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def remember(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that go into :data:`COMMAND_FILE`."""
    data = Path(arguments.data)
    return {
        "data": str(data.resolve()) if data.exists() else arguments.data,
        "evaluate_every": arguments.evaluate_every,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "compile": arguments.compile,
    }


def resume_command(path: Path, processes: int = 1) -> str:
    """The command that continues the run in ``path`` in this many processes on this machine."""
    program = "sparse-rcnn-lab"
    if processes > 1:
        program = f"torchrun --nproc-per-node {processes} -m sparse_rcnn_lab"
    return f"{program} train --resume --out {shlex.quote(str(path))}"
