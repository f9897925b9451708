"""The models of the page: those at hand, and the published ones that can be fetched."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models.load import load, shipped_models
from sparse_rcnn_lab.models.releases import RELEASES


class Models:
    """Loads each model once, at its first use. Safe to call from several threads.

    names: names or paths, the first one is shown first.  device: "auto", "cpu", "cuda", "mps".
    Raises LabError when there is none, or the device is missing.
    """

    def __init__(self, names: Sequence[str], device: str = "auto") -> None:
        if not names:
            raise LabError(
                "There is no model to show: this copy of the package ships none. Train one "
                "(sparse-rcnn-lab train --help) and give its run folder with --checkpoint."
            )
        self.names = tuple(names)
        self.device = pick_device(device)
        self._loaded: dict[str, Detector] = {}
        # One lock a model: a download of minutes must not hold up the others.
        self._locks = {name: threading.Lock() for name in names}

    def __getitem__(self, name: str) -> Detector:
        """The model called so. Raises LabError for one that was not given, or cannot be loaded."""
        self.has(name)
        with self._locks[name]:
            if name not in self._loaded:
                detector = load(name, self.device)
                # The first run is slow for reasons that say nothing about the model.
                side = detector.config.input.short_side
                detector(torch.zeros(3, side, side, dtype=torch.uint8))
                self._loaded[name] = detector
            return self._loaded[name]

    def has(self, name: str) -> bool:
        """Whether this model is loaded already. Raises LabError for one that was not given."""
        if name not in self._locks:
            raise LabError(f"There is no model {name!r} here. Choose {', '.join(self.names)}.")
        return name in self._loaded

    def choices(self) -> list[tuple[str, str]]:
        """(label, name) of each: a path by its last part, a published one with what it costs."""
        return [(_label(name), name) for name in self.names]


def models_to_offer(model: str | None, checkpoint: str | None) -> list[str]:
    """The models of the page: the one to show first, what ships, then the published ones.

    Raises LabError when ``model`` is neither shipped nor published.
    """
    shipped = shipped_models()
    if model is not None and model not in (*shipped, *RELEASES):
        raise LabError(
            f"There is no model {model!r}. Shipped: {', '.join(shipped) or 'none'}; published: "
            f"{', '.join(RELEASES)}; for a file or run folder of yours use --checkpoint."
        )
    # nano-shapes first: it is the quickest, and has samples to draw.
    first = [checkpoint] if checkpoint else []
    first += [model] if model else []
    own = sorted(shipped, key=lambda name: "nano" not in name)
    names = list(dict.fromkeys([*first, *own]))
    # Without any at hand the page would begin with a download that nobody asked for.
    return list(dict.fromkeys([*names, *RELEASES])) if names else []


def _label(name: str) -> str:
    if name in RELEASES:
        release = RELEASES[name]
        there = "fetched" if release.cached.is_file() else f"downloads {release.megabytes} MB"
        return f"{name} (COCO, {there})"
    return short_name(name)


def short_name(name: str) -> str:
    """The last part of a model's path, of any system; a name stays as it is."""
    return name.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
