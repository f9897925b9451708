"""Long work in parts: shown as it goes, kept part by part, and not done twice.

What is kept is named by a hash of everything that decides it (weights, data, settings, the way the
model runs; for times the machine too), so nothing changed is ever answered from the old files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.models.releases import cache_folder

# Raise it when an analysis counts differently: what was kept by an older one is then done again.
VERSION = 3

Cache = str | Path | Literal[False] | None
Part = dict[str, np.ndarray]
Tables = dict[str, Table]


@dataclass(frozen=True)
class Job:
    """Which analysis of what, and where its parts are kept.

    settings: everything that decides the numbers, as json can hold it; the order of a mapping's
    keys does not count.
    timed: whether some of them are times, which depend on the machine.
    """

    name: str
    detector: Detector
    data: DetectionData
    limit: int | None
    settings: Mapping[str, Any]
    cache: Cache = None
    progress: bool = True
    timed: bool = False

    @property
    def count(self) -> int:
        """Images that take part."""
        return min(len(self.data), self.limit or len(self.data))

    def check(self) -> None:
        """Raises LabError when there is nothing to do."""
        if self.limit is not None and self.limit < 1:
            raise LabError(f"limit must be at least 1, found {self.limit}.")
        if not self.count:
            raise LabError("The data set has no images; there is nothing to analyse.")

    def about(self) -> dict[str, Any]:
        """What a table says of its making."""
        return {
            "analysis": self.name,
            "model": self.detector.name,
            "weights": weights_hash(self.detector),
            "data": self.data.fingerprint(),
            "images": self.count,
            **self.detector.runtime.about(),
            **(_where(self.detector) if self.timed else {}),
            **self.settings,
            "sparse_rcnn_lab": __version__,
        }

    def folder(self) -> Path | None:
        """Where parts and result are kept; None where they are not."""
        if self.cache is False:
            return None
        root = Path(self.cache) if self.cache else cache_folder() / "analysis"
        text = json.dumps([VERSION, self.about()], sort_keys=True)
        return root / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def run(
        self,
        do: Callable[[range], Part],
        finish: Callable[[list[Part]], Tables],
        batch_size: int = 8,
    ) -> Tables:
        """``finish(parts)``, each part being ``do`` of the next images; or what was kept of it.

        An interrupt loses the part at work alone: the same call goes on with the next one.
        """
        self.check()
        folder = self._folder
        kept = _read_tables(folder)
        if kept is not None:
            return kept
        starts = range(0, self.count, batch_size)
        parts = []
        bar = tqdm(starts, desc=self.name, unit="batch", leave=False, disable=not self.progress)
        with bar:
            for start in bar:
                images = range(start, min(start + batch_size, self.count))
                name = f"{images.start:07d}-{images.stop:07d}"
                parts.append(self.part(name, partial(do, images)))
        text = json.dumps({name: table.to_dict() for name, table in finish(parts).items()})
        if folder is not None:
            write_text(folder.with_suffix(".json"), text + "\n")
            shutil.rmtree(folder, ignore_errors=True)
        return _tables(text)  # not its own tables: the first answer is like all later ones

    def part(self, name: str, do: Callable[[], Part]) -> Part:
        """``do()``, or what an interrupted run has kept of it; names are of one job."""
        file = self._folder and self._folder / f"{name}.npz"
        part = _read_part(file)
        if part is None:
            part = do()
            if file is not None:
                with write_whole(file) as temporary, temporary.open("wb") as stream:
                    np.savez(stream, **part)  # type: ignore[arg-type]
        return part

    @cached_property
    def _folder(self) -> Path | None:
        return self.folder()


def weights_hash(detector: Detector) -> str:
    """Short hash of every weight of a model and of its configuration."""
    return state_hash(detector.model.state_dict(), repr((detector.config, detector.class_names)))


def state_hash(state: Mapping[str, Tensor], also: str = "") -> str:
    """Short hash of tensors and their names."""
    digest = hashlib.sha256(also.encode())
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _where(detector: Detector) -> dict[str, Any]:
    """What decides how long it takes."""
    device = str(detector.model.device)
    return {"device": device, "threads": torch.get_num_threads(), "machine": machine(device)}


def _read_tables(folder: Path | None) -> Tables | None:
    if folder is None:
        return None
    try:
        return _tables(folder.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, LabError):
        return None  # not there, or damaged: done again


def _tables(text: str) -> Tables:
    return {name: Table.from_dict(values) for name, values in json.loads(text).items()}


def _read_part(file: Path | None) -> Part | None:
    if file is None or not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as content:
            return dict(content)
    except (OSError, ValueError, BadZipFile, EOFError):
        return None
