"""Long work in parts: shown as it goes, kept part by part, and not done twice.

What is kept is named by a hash of everything that decides it (weights, data, settings, how the
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
from typing import Any, Literal, TypedDict
from zipfile import BadZipFile

import numpy as np
import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData, notes_of
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.models.releases import cache_folder

# Raise it when an analysis counts differently: what was kept by an older one is then done again.
VERSION = 4

Part = dict[str, np.ndarray]
Tables = dict[str, Table]


class RunOptions(TypedDict, total=False):
    """What every analysis over a data set takes.

    limit: only the first so many images.  batch_size: images that run together, 8.  cache: folder
    for what is done (default the user's cache), or False.  progress: whether bars are shown.
    """

    limit: int | None
    batch_size: int
    cache: str | Path | Literal[False] | None
    progress: bool


def limited(options: RunOptions, limit: int) -> RunOptions:
    """The options, with a limit where none is given."""
    return {**options, "limit": options.get("limit", limit)}


@dataclass(frozen=True)
class CachedRun:
    """Which analysis of what, and where its parts are kept.

    settings: everything that decides the numbers, as json can hold it; the order of a mapping's
    keys does not count.  limit, batch_size, cache, progress: see :class:`RunOptions`.
    timed: whether some of them are times, which depend on the machine.
    """

    name: str
    detector: Detector
    data: DetectionData
    settings: Mapping[str, Any]
    limit: int | None = None
    batch_size: int = 8
    cache: str | Path | Literal[False] | None = None
    progress: bool = True
    timed: bool = False

    @property
    def count(self) -> int:
        """Images that take part."""
        return min(len(self.data), self.limit or len(self.data))

    def about(self) -> dict[str, Any]:
        """What a table says of its making."""
        device = str(self.detector.model.device)
        where = {"device": device, "threads": torch.get_num_threads(), "machine": machine(device)}
        return {
            "analysis": self.name,
            "model": self.detector.name,
            "weights": weights_hash(self.detector),
            "data": self.data.fingerprint(),
            "images": self.count,
            **self.detector.runtime.about(),
            **(where if self.timed else {}),
            **self.settings,
            "sparse_rcnn_lab": __version__,
        }

    @cached_property
    def folder(self) -> Path | None:
        """Where parts and result are kept; None where they are not."""
        if self.cache is False:
            return None
        root = Path(self.cache) if self.cache else cache_folder() / "analysis"
        text = json.dumps([VERSION, self.about()], sort_keys=True)
        return root / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def tables(self, do: Callable[[range], Part], finish: Callable[[list[Part]], Tables]) -> Tables:
        """``finish(parts)``, each part being ``do`` of the next images; or what was kept of it.

        An interrupt loses the part at work alone: the same call goes on with the next one.
        Raises LabError when there is nothing to do.
        """
        if self.limit is not None and self.limit < 1:
            raise LabError(f"limit must be at least 1, found {self.limit}.")
        if not self.count:
            raise LabError("The data set has no images; there is nothing to analyse.")
        result = self.folder and self.folder.with_suffix(".json")
        try:
            if result is not None:
                return _tables(result.read_text(encoding="utf-8"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, LabError):
            pass  # not there, or damaged: done again
        for note in notes_of(self.data) if self.progress else ():
            tqdm.write(note)
        parts = []
        starts = range(0, self.count, self.batch_size)
        for start in self.bar(starts, self.name, "batch"):
            images = range(start, min(start + self.batch_size, self.count))
            name = f"{images.start:07d}-{images.stop:07d}"
            parts.append(self.part(name, partial(do, images)))
        text = json.dumps({name: table.to_plain() for name, table in finish(parts).items()})
        if result is not None and self.folder is not None:
            write_text(result, text + "\n")
            shutil.rmtree(self.folder, ignore_errors=True)
        return _tables(text)  # not its own tables: the first answer is like all later ones

    def table(self, do: Callable[[range], Part], finish: Callable[[list[Part]], Table]) -> Table:
        """The same for an analysis that gives one table."""
        return self.tables(do, lambda parts: {"table": finish(parts)})["table"]

    def part(self, name: str, do: Callable[[], Part]) -> Part:
        """``do()``, or what an interrupted run has kept of it; names are of one run."""
        file = self.folder and self.folder / f"{name}.npz"
        try:
            if file is not None:
                with np.load(file, allow_pickle=False) as content:
                    return dict(content)
        except (OSError, ValueError, BadZipFile, EOFError):
            pass  # not there, or damaged: done again
        part = do()
        if file is not None:
            with write_whole(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **part)  # type: ignore[arg-type]
        return part

    def bar(self, steps: Any, what: str, unit: str) -> Any:
        """The steps, with a bar while they go by."""
        return tqdm(steps, desc=what, unit=unit, leave=False, disable=not self.progress)


def weights_hash(detector: Detector) -> str:
    """Short hash of every weight of a model and of its configuration."""
    digest = hashlib.sha256(repr((detector.config, detector.class_names)).encode())
    for name, value in detector.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _tables(text: str) -> Tables:
    return {name: Table.from_plain(values) for name, values in json.loads(text).items()}
