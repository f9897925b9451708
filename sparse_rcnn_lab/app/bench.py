"""What the app does, without Gradio: models, examples, traces kept for the dials."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.data.shapes import CLASS_NAMES as SHAPES
from sparse_rcnn_lab.data.shapes import PRESETS, shapes_image
from sparse_rcnn_lab.detector import Detector
from sparse_rcnn_lab.device import pick_device
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.images import read_image
from sparse_rcnn_lab.trace import Detections, Trace
from sparse_rcnn_lab.views.draw import (
    as_image,
    detection_marks,
    display_size,
    draw_marks,
    proposal_marks,
)
from sparse_rcnn_lab.zoo import load, shipped_models

EXAMPLES = Path(__file__).parent.parent / "examples"
# Which examples a model knows something about, by its class names.
_KNOWN = {
    "shapes": set(SHAPES),
    "cards": {"nine", "ten", "jack", "queen", "king", "ace"},
    "cells": {"RBC", "WBC", "Platelets"},
}
DIFFICULTIES = tuple(PRESETS)
SHOWN = ("detections", "all proposals")
_MIN_SIDE, _MAX_SIDE = 640, 1280  # a picture on the page, pixels
_TRACES = 64


@dataclass(frozen=True)
class Picture:
    """A picture that somebody gave. key: hash of its pixels.  pixels: ``[3, H, W]`` uint8 RGB.

    shown: the same at the size of the page.
    """

    key: str
    pixels: Tensor
    shown: Image.Image


@dataclass(frozen=True)
class Dials:
    """Where the dials stand; the same in every tab.

    proposals: how many are used.  stage: 0 (the learned proposals) to the model's last.
    threshold: least score of a detection, 0..1.  show: one of ``SHOWN``.
    """

    model: str
    proposals: int
    stage: int
    threshold: float
    show: str = SHOWN[0]


@dataclass(frozen=True)
class View:
    """What the page shows. image: the annotated picture.  milliseconds: of the model's run.

    detections: those of the stage, above the threshold; None at stage 0, which has no scores.
    """

    image: Image.Image
    detections: Detections | None
    milliseconds: float
    proposals: int
    stage: int
    num_stages: int


class Bench:
    """Keeps the models in memory, and the trace of every picture and number of proposals, so that
    stage and threshold only draw again. Safe to call from several threads.

    models: names or paths, the first one is shown first.  device: "auto", "cpu", "cuda", "mps".
    Raises LabError when a model cannot be read or the device is missing.
    """

    def __init__(self, models: Sequence[str], device: str = "auto") -> None:
        if not models:
            raise LabError(
                "There is no model to show: this copy of the package ships none. Train one "
                "(sparse-rcnn-lab train --help) and give its run folder with --checkpoint."
            )
        self.models = tuple(models)
        self.device = pick_device(device)
        self._detectors: dict[str, Detector] = {}
        self._traces: OrderedDict[tuple[str, str, int], tuple[Trace, float]] = OrderedDict()
        self._lock = threading.RLock()
        self.detector(self.models[0])

    def detector(self, model: str) -> Detector:
        """The model called so, loaded at first use. Raises LabError for one that was not given."""
        if model not in self.models:
            raise LabError(f"There is no model {model!r} here. Choose {', '.join(self.models)}.")
        with self._lock:
            if model not in self._detectors:
                detector = load(model, self.device)
                # The first run is slow for reasons that say nothing about the model.
                side = detector.config.input.short_side
                detector(torch.zeros(3, side, side, dtype=torch.uint8))
                self._detectors[model] = detector
            return self._detectors[model]

    def examples(self, model: str) -> list[Path]:
        """Shipped pictures that fit the model's classes; all of them when it knows none."""
        files = sorted(p for p in EXAMPLES.glob("*") if p.suffix in (".jpg", ".png"))
        names = set(self.detector(model).class_names)
        topics = [topic for topic, known in _KNOWN.items() if names & known]
        fitting = [p for p in files if p.name.split("_")[0] in topics]
        return fitting or files

    def draws_samples(self, model: str) -> bool:
        """Whether the model knows the shapes that :meth:`sample` draws."""
        return bool(set(self.detector(model).class_names) & _KNOWN["shapes"])

    def sample(self, difficulty: str, seed: int | None = None) -> tuple[Image.Image, int]:
        """A freshly drawn picture of shapes and its seed, a new one unless given."""
        seed = random.randrange(2**16) if seed is None else seed
        return as_image(shapes_image(seed, difficulty=difficulty).image), seed

    def look(self, picture: Picture, dials: Dials) -> View:
        """Detects, or finds that it already has, and draws."""
        trace, milliseconds = self._trace(picture, dials.model, dials.proposals)
        stage = min(dials.stage, trace.num_stages)
        found = None if stage == 0 else trace.detections(stage, dials.threshold)
        if found is None or dials.show == SHOWN[1]:
            marks = proposal_marks(trace, stage)
        else:
            marks = detection_marks(found)
        frame = (trace.size[1], trace.size[0])
        image = draw_marks(picture.shown, marks, frame)
        return View(image, found, milliseconds, trace.num_proposals, stage, trace.num_stages)

    def _trace(self, picture: Picture, model: str, proposals: int) -> tuple[Trace, float]:
        detector = self.detector(model)
        proposals = min(max(int(proposals), 1), detector.num_proposals)
        key = (model, picture.key, proposals)
        with self._lock:
            if key not in self._traces:
                start = time.perf_counter()
                trace = detector.trace(picture.pixels, record=(), num_proposals=proposals)
                took = 1000 * (time.perf_counter() - start)
                # Without the image: pictures may be large, traces are not.
                self._traces[key] = replace(trace, image=None), took
            self._traces.move_to_end(key)
            while len(self._traces) > _TRACES:
                self._traces.popitem(last=False)
            return self._traces[key]


def read_picture(source: str | Path | Image.Image) -> Picture:
    """Reads a picture that somebody gave. Raises LabError when it is none."""
    pixels = read_image(source)
    key = hashlib.sha256(pixels.numpy().tobytes()).hexdigest() + "x".join(map(str, pixels.shape))
    image = as_image(pixels)
    size = display_size(*image.size, _MIN_SIDE, _MAX_SIDE)
    shown = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    return Picture(key, pixels, shown)


def models_to_offer(model: str | None, checkpoint: str | None) -> list[str]:
    """The models of the page, the one to show first at the front.

    Raises LabError when ``model`` does not ship with the package.
    """
    shipped = shipped_models()
    if model is not None and model not in shipped:
        raise LabError(
            f"There is no shipped model {model!r}. Shipped: {', '.join(shipped) or 'none'}; for "
            "a file or run folder of yours use --checkpoint."
        )
    # nano-shapes first: it is the quickest, and has samples to draw.
    first = [checkpoint] if checkpoint else []
    first += [model] if model else []
    return list(dict.fromkeys([*first, *sorted(shipped, key=lambda name: "nano" not in name)]))
