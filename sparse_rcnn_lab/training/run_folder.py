"""A run folder holds everything needed to repeat, resume and judge a training.

``run.json``            recipe, seed, versions, fingerprints of the data, class names
``metrics.jsonl``       one line a step: losses of each stage, learning rate, gradient norm
``evaluations.jsonl``   one line an evaluation: COCO AP of each stage
``checkpoints/``        the last complete states: weights (safetensors) and optimizer beside them
``model.safetensors``   the model to use: what the last evaluation or the end saw
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy
import torch

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.models.checkpoint import MODEL_FILE

KEEP = 2


def versions() -> dict[str, str]:
    """Versions of everything that may change a number."""
    return {
        "sparse_rcnn_lab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run; see the module's text for what lies where."""

    path: Path

    @property
    def model(self) -> Path:
        """The model to use."""
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
        """Complete checkpoints as (steps done, folder), oldest first."""
        found = []
        for folder in self.checkpoints.glob("step_*"):
            number = folder.name.removeprefix("step_")
            if number.isdigit():
                found.append((int(number), folder))
        return sorted(found)

    def begin_state(self, step: int) -> Path:
        """An empty temporary folder to write the state after ``step`` steps into.

        Removes what a process that was killed while it saved has left.
        """
        temporary = self.checkpoints / f".step_{step}.{os.getpid()}"
        for left in self.checkpoints.glob(".step_*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise LabError(
                f'Could not write a checkpoint to "{self.checkpoints}" ({error.strerror}).'
            ) from error
        return temporary

    def finish_state(self, temporary: Path, step: int) -> Path:
        """Moves a complete state into place and removes all but the newest."""
        final = self.checkpoints / f"step_{step:07d}"
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        for _, old in self.states()[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def log(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds one line to ``name``.jsonl."""
        path = self.path / f"{name}.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise LabError(
                f'Could not write to "{path}" ({error.strerror}). What was saved before is intact: '
                "make room or the folder writable, then resume."
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
        """Drops lines of steps that a resumed run will do again."""
        for name in ("metrics", "evaluations"):
            if (self.path / f"{name}.jsonl").exists():
                kept = [row for row in self.rows(name) if row["step"] <= step]
                text = "".join(json.dumps(row) + "\n" for row in kept)
                write_text(self.path / f"{name}.jsonl", text)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a json file. Raises LabError naming it when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f'There is no file "{path}".') from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LabError(f'"{path}" could not be read as json ({error}).') from error
