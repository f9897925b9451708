"""Long work in parts, each of which is cached and not done twice, with a progress bar.

Cached files are named by a hash of everything that determines them (weights, data, settings, how
the model runs; for times also the machine), so a change never leads to old results.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

# Raise it when an analysis counts differently, so that older cached results are not used.
VERSION = 4

Part = dict[str, np.ndarray]
Tables = dict[str, Table]


class RunOptions(TypedDict, total=False):
    """The options of every analysis over a data set.

    limit: use only this many images, the first ones.  batch_size: images that run together;
    default: 8.  cache: folder for finished parts (default: the user's cache), or False.  progress:
    whether progress bars are shown.
    """

    limit: int | None
    batch_size: int
    cache: str | Path | Literal[False] | None
    progress: bool


def limited(options: RunOptions, limit: int) -> RunOptions:
    """The options, with this limit where none is given."""
    return {**options, "limit": options.get("limit", limit)}


@dataclass(frozen=True)
class CachedRun:
    """An analysis of a detector on data, and where its parts are cached.

    settings: everything that determines the numbers, as values for json; the order of a mapping's
    keys does not matter.  limit, batch_size, cache, progress: see :class:`RunOptions`.
    timed: whether some of the numbers are times, which depend on the machine.
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
        """The number of images that are used."""
        return min(len(self.data), self.limit or len(self.data))

    def about(self) -> dict[str, Any]:
        """How the table was made, for its ``about``."""
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
        """The folder where parts and result are cached; None where they are not."""
        if self.cache is False:
            return None
        root = Path(self.cache) if self.cache else cache_folder() / "analysis"
        text = json.dumps([VERSION, self.about()], sort_keys=True)
        return root / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def tables(self, do: Callable[[range], Part], finish: Callable[[list[Part]], Tables]) -> Tables:
        """``finish(parts)``, where each part is ``do`` of the next images, or from the cache.

        An interrupt loses only the part at work: the same call continues with it.
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
            pass  # missing or damaged, so it is done again
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
            with self._kept():
                write_text(result, text + "\n")
                shutil.rmtree(self.folder, ignore_errors=True)
        return _tables(text)  # read back, so that the first result equals all later ones

    def table(self, do: Callable[[range], Part], finish: Callable[[list[Part]], Table]) -> Table:
        """The same for an analysis that makes a single table."""
        return self.tables(do, lambda parts: {"table": finish(parts)})["table"]

    def part(self, name: str, do: Callable[[], Part]) -> Part:
        """``do()``, or its cached result from an interrupted run; names are unique in a run."""
        file = self.folder and self.folder / f"{name}.npz"
        try:
            if file is not None:
                with np.load(file, allow_pickle=False) as content:
                    return dict(content)
        except (OSError, ValueError, BadZipFile, EOFError):
            pass  # missing or damaged, so it is done again
        part = do()
        if file is not None:
            with self._kept(), write_whole(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **part)  # type: ignore[arg-type]
        return part

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Warns where the cache cannot be written; raises where its folder was given by name."""
        try:
            yield
        except LabError:
            if self.cache:
                raise
            warnings.warn(f'"{self.folder}" cannot be written: nothing is kept.', stacklevel=2)

    def bar(self, steps: Any, what: str, unit: str) -> Any:
        """The steps, with a progress bar."""
        return tqdm(steps, desc=what, unit=unit, leave=False, disable=not self.progress)


def weights_hash(detector: Detector) -> str:
    """A short hash of all weights of a model and of its configuration."""
    digest = hashlib.sha256(repr((detector.config, detector.class_names)).encode())
    for name, value in detector.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _tables(text: str) -> Tables:
    return {name: Table.from_plain(values) for name, values in json.loads(text).items()}
