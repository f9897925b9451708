"""A run folder holds everything needed to repeat, resume and judge a training run.

``run.json``            recipe, seed, versions, fingerprints of the data, class names
``metrics.jsonl``       one line per step: losses of each stage, learning rate, gradient norm
``evaluations.jsonl``   one line per evaluation: COCO AP of each stage
``model.safetensors``   the model to use, as of the last evaluation or the end
``checkpoints/``        the last complete states, each in a folder ``step_0000123`` with

    ``model.safetensors``    the weights
    ``optimizer.pt``         the optimizer's moments
    ``average.safetensors``  the weights' moving average, where there is one
    ``scaler.json``          the gradient scale of fp16, where it is used

Everything random depends on the seed and the step alone, so a state holds no generator's state and
may be resumed on any number of processes.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy
import torch

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.train import total_steps
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.files import move, write_text, write_whole
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.checkpoint import MODEL_FILE, read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.load import CHECKPOINTS, locate, run_states, shipped_models
from sparse_rcnn_lab.models.releases import RELEASES
from sparse_rcnn_lab.training.distributed import LostProcess
from sparse_rcnn_lab.training.optimizer import WeightAverage
from sparse_rcnn_lab.training.step import Training

OPTIMIZER_FILE = "optimizer.pt"
AVERAGE_FILE = "average.safetensors"
SCALER_FILE = "scaler.json"
KEEP = 2  # states
SAVE_EVERY_SECONDS = 120

# How the steps are computed, not what they compute: these may differ when a run is resumed.
_FREE_SETTINGS = ("accumulate", "precision")
_SAME_RUN = ("recipe", "class_names", "data", "backbone_weights", "start_from")
_TELLING_VERSIONS = ("sparse_rcnn_lab", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """The paths and files of one run, which the module's docstring lists."""

    path: Path

    @property
    def model(self) -> Path:
        """The path of the model to use."""
        return self.path / MODEL_FILE

    @property
    def checkpoints(self) -> Path:
        """The folder of complete states."""
        return self.path / "checkpoints"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").exists()

    def write_header(self, header: Mapping[str, Any]) -> None:
        """Writes ``run.json``."""
        write_text(self.path / "run.json", json.dumps(header, indent=2) + "\n")

    def header(self) -> dict[str, Any]:
        """Reads ``run.json``."""
        return read_json(self.path / "run.json")

    def states(self) -> list[tuple[int, Path]]:
        """The complete states as (steps done, folder), oldest first."""
        return run_states(self.path)

    @contextmanager
    def new_state(self, step: int) -> Iterator[Path]:
        """Yields an empty folder for the state after ``step`` steps, then moves it into place.

        Removes what a process killed while saving has left, and all states but the newest.
        """
        temporary = self.checkpoints / f".step_{step}.{os.getpid()}"
        final = self.checkpoints / f"step_{step:07d}"
        for left in self.checkpoints.glob(".step_*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise LabError(
                f'Could not write a checkpoint to "{self.checkpoints}" ({error.strerror}).'
            ) from error
        yield temporary
        if final.exists():
            shutil.rmtree(final)
        move(temporary, final)
        for _, old in self.states()[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)

    def log(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds one line to ``name``.jsonl."""
        path = self.path / f"{name}.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise LabError(
                f'Could not write to "{path}" ({error.strerror}). What was saved before is intact. '
                "Free some space or make the folder writable, then resume."
            ) from error

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Reads ``name``.jsonl; a last line cut short by a crash is left out."""
        path = self.path / f"{name}.jsonl"
        rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return rows

    def rewind(self, step: int) -> None:
        """Drops the lines of steps that a resumed run will repeat."""
        for name in ("metrics", "evaluations"):
            if (self.path / f"{name}.jsonl").exists():
                kept = [row for row in self.rows(name) if row["step"] <= step]
                text = "".join(json.dumps(row) + "\n" for row in kept)
                write_text(self.path / f"{name}.jsonl", text)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a json file. Raises LabError, which names it, when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f'There is no file "{path}".') from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LabError(f'"{path}" could not be read as json ({error}).') from error


def versions() -> dict[str, str]:
    """The versions of everything that may change a number."""
    return {
        "sparse_rcnn_lab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }


# Resuming


def run_header(
    recipe: Recipe,
    data: DetectionData,
    val: DetectionData | None,
    backbone_weights: str | Path | None,
    start_from: str | Path | None,
) -> dict[str, Any]:
    """The content of ``run.json``."""
    return {
        "recipe": configs.to_dict(recipe),
        "class_names": list(data.class_names),
        "data": {"train": data.fingerprint(), "val": val.fingerprint() if val else None},
        "backbone_weights": str(backbone_weights) if backbone_weights else None,
        "start_from": _located(start_from),
        "steps": total_steps(recipe.train, len(data)),
        "versions": versions(),
    }


def check_folder(folder: RunFolder, header: dict[str, Any], resume: bool) -> None:
    """Raises LabError unless the folder is free, or holds this same run and is to be resumed.

    Warns where the run was started with other versions of what may change a number.
    """
    if not folder.exists():
        return
    if not resume:
        raise LabError(
            f'"{folder.path}" already holds a run. Choose another folder, or resume it '
            "(resume=True, --resume)."
        )
    before, now = _comparable(folder.header()), _comparable(header)
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
            f"The run was started with {', '.join(changed)}; it continues, but not bit for bit.",
            stacklevel=2,
        )


def _comparable(header: dict[str, Any]) -> dict[str, Any]:
    """A header as json holds it, to be compared.

    Fields that its recipe is too old to have are filled in; those that may differ are left out.
    """
    recipe = configs.to_dict(configs.from_dict(Recipe, header["recipe"]))
    recipe["train"] = {k: v for k, v in recipe["train"].items() if k not in _FREE_SETTINGS}
    start_from = _located(header.get("start_from"))
    content: dict[str, Any] = {**header, "recipe": recipe, "start_from": start_from}
    return json.loads(json.dumps(content))


def _located(model: str | Path | None) -> str | None:
    """One spelling for a model that may be given by name, run folder or file.

    For a shipped or published model it is the name, as the file is elsewhere on another machine.
    """
    if model is None:
        return None
    shipped = {name: (CHECKPOINTS / f"{name}.safetensors").parts[-4:] for name in shipped_models()}
    # The name of a cached file holds its digest, and the cache may be anywhere.
    names = shipped | {name: release.cached.parts[-2:] for name, release in RELEASES.items()}
    if str(model) in names:
        return str(model)
    try:
        path = locate(model).resolve()
    except LabError:  # it may have been deleted, and a resumed run does not need it
        path = Path(model)
    return next((n for n, end in names.items() if path.parts[-len(end) :] == end), str(path))


def _difference(before: Any, now: Any, where: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return _difference(before.get(key), now[key], f"{where}.{key}" if where else key)
    return f"{where or 'it'} was {before!r}, now {now!r}"


def load_state(state: Path, training: Training, device: torch.device) -> None:
    """Loads a state into model, optimizer, average and scaler. Raises LabError when it is damaged.

    Where the state lacks a part, because the setting is new, that part starts anew.
    """
    averaged = scale = None
    try:
        checkpoint = read_checkpoint(state / MODEL_FILE)
        with zipfile.ZipFile(state / OPTIMIZER_FILE) as archive:  # torch ignores its checksums
            if damaged := archive.testzip():
                raise OSError(f"{OPTIMIZER_FILE}: {damaged}")
        moments = torch.load(state / OPTIMIZER_FILE, map_location=device, weights_only=True)
        if (state / AVERAGE_FILE).exists():
            averaged = read_checkpoint(state / AVERAGE_FILE)
        if (state / SCALER_FILE).exists():
            scale = read_json(state / SCALER_FILE)
    except Exception as error:  # a damaged pickle can raise anything
        raise LabError(
            f'The checkpoint "{state}" is damaged ({str(error).splitlines()[0]}). Delete that '
            "folder and resume again: the run continues from the checkpoint before it."
        ) from error
    training.model.load_state_dict(dict(checkpoint.state))
    training.optimizer.load_state_dict(moments)
    if training.recipe.train.ema:
        training.average = WeightAverage(training.model, training.recipe.train.ema)
        if averaged is not None:
            training.average.load(averaged.state, int(averaged.info["updates"]))
    if scale is not None and training.mixed.scaler.is_enabled():
        training.mixed.scaler.load_state_dict(scale)


# Writing


class RunWriter:
    """Writes a run's files in process 0; in other processes its methods do nothing."""

    def __init__(
        self,
        folder: RunFolder,
        training: Training,
        names: tuple[str, ...],
        header: Mapping[str, Any],
        done: int,
    ) -> None:
        self.folder, self.training, self.names, self.header = folder, training, names, header
        self.writes = training.group.first
        self.saved, self._saved_at = done, time.monotonic()
        if self.writes:
            if not folder.exists():
                folder.write_header(header)
            folder.rewind(done)

    def log(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds one line to ``name``.jsonl."""
        if self.writes:
            self.folder.log(name, row)

    def overdue(self) -> bool:
        """Whether the last complete state is so old that a new one is due."""
        return time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS

    def save_state(self, step: int) -> None:
        """Writes the complete state after ``step`` steps, whole or not at all. Raises LabError."""
        if self.writes:
            with self.folder.new_state(step) as state:
                self._write_state(state)
        self.saved, self._saved_at = step, time.monotonic()

    def _write_state(self, state: Path) -> None:
        training, average, scaler = self.training, self.training.average, self.training.mixed.scaler
        about = training.model, self.names, self.folder.path.name
        save_checkpoint(state / MODEL_FILE, *about)
        with write_whole(state / OPTIMIZER_FILE) as file:
            try:
                torch.save(training.optimizer.state_dict(), file)
            except RuntimeError as error:  # what torch raises for a full disk
                raise OSError(str(error).splitlines()[0]) from error
        if average is not None:
            info = {"updates": average.updates}
            save_checkpoint(state / AVERAGE_FILE, *about, info, state=average.state)
        if scaler.is_enabled():
            write_text(state / SCALER_FILE, json.dumps(scaler.state_dict()))

    def save_model(self, step: int) -> None:
        """Writes the model to use, with the averaged weights where there is an average."""
        if self.writes:
            average, info = self.training.average, {"step": step, **self.header}
            about = self.training.model, self.names, self.folder.path.name, info
            save_checkpoint(self.folder.model, *about, state=average.state if average else None)

    @contextmanager
    def rescue(self, done: Callable[[], int]) -> Iterator[None]:
        """Saves the state after the last complete step when one fails in here, and says so.

        done: returns the steps done. A failing step has not touched the weights. Where process 0
        is lost, the first of the remaining processes writes.
        """
        group = self.training.group
        try:
            with group.watched():
                yield
        except Exception as error:
            if isinstance(error, LostProcess) and error.missing:
                left = set(range(group.world)) - set(error.missing)
                self.writes = group.rank == min(left, default=0)
            if done() > self.saved:
                with suppress(LabError, OSError):  # the first error is the one to report
                    self.save_state(done())
            if isinstance(error, LabError) and self.saved:
                place = f'The state after step {self.saved} is saved in "{self.folder.path}".'
                error.args = (f"{error} {place}",)
            if isinstance(error, torch.OutOfMemoryError):
                raise LabError(
                    f"The GPU has too little memory for step {done() + 1} "
                    f"({str(error).splitlines()[0]}). What was done is saved. Resume with a larger "
                    "accumulate (--accumulate), or with precision bf16."
                ) from error
            raise
