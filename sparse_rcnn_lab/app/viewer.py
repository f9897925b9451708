"""The app without Gradio: from an image and a ViewState to detections and a drawing."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.app.state import DETECTIONS, ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage, Limits, examples
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models.load import load, shipped_models
from sparse_rcnn_lab.models.releases import RELEASES
from sparse_rcnn_lab.views.draw import Mark, as_image, detection_marks, draw_marks, proposal_marks

_TRACES = 64
# Class names of data sets that are unclear to others -> clearer ones.
_IN_WORDS = {"RBC": "red cell", "WBC": "white cell", "Platelets": "platelet"}
_PRIVATE = 16  # visitors' own models that are offered at once
_PATIENCE = 0.3  # seconds that a frame waits for requested images


@dataclass(frozen=True)
class View:
    """What the page shows. milliseconds: the time of the model's run.

    detections: those of the stage, above the threshold; None at stage 0, which has no scores.
    state: the request, limited to what the model has.  num_stages: of the model.  marks: what to
    draw.  base: the image to draw on.  size: (width, height) of the frame of the marks.
    """

    detections: Detections | None
    milliseconds: float
    state: ViewState
    num_stages: int
    marks: tuple[Mark, ...]
    base: Image.Image | Tensor
    size: tuple[int, int]

    @cached_property
    def image(self) -> Image.Image:
        """The annotated image, drawn when requested, as Live draws in the browser."""
        base = as_image(self.base) if isinstance(self.base, Tensor) else self.base
        return draw_marks(base, self.marks, self.size)


class Viewer:
    """Keeps the trace of every image and number of proposals, so that stage and threshold only
    redraw. It may be called from several threads.

    names: models' names or paths; the first one is loaded at once.  device: "auto", "cpu", "cuda",
    "mps".  Raises LabError when there is no model, or the device is missing.

    >>> from sparse_rcnn_lab.app import ViewState, read_input
    >>> from sparse_rcnn_lab.app.user_inputs import EXAMPLES
    >>> viewer = Viewer(["nano-shapes"], "cpu")
    >>> image = read_input(EXAMPLES / "shapes_1.png")
    >>> view = viewer.view(image, ViewState("nano-shapes", 20, 6, 0.3))
    >>> sorted(view.detections.names())
    ['circle', 'heart', 'square', 'triangle', 'triangle']
    >>> view.image.size
    (640, 640)
    """

    def __init__(
        self, names: Sequence[str], device: str = "auto", limits: Limits | None = None
    ) -> None:
        self.models = ModelList(names, device)
        self.limits = limits or Limits()
        self._traces: OrderedDict[tuple[str, str, int], tuple[Trace, float]] = OrderedDict()
        self._lock = threading.Lock()
        # More runs at once than there are cores would make everybody wait.
        self._turns = threading.Semaphore(max(1, os.cpu_count() or 1))
        self._waiting = 0
        self._answered = threading.Condition()
        self.models[self.models.first]

    def view(self, image: InputImage, state: ViewState) -> View:
        """Detects in an image, or uses the trace it has kept, and draws."""
        detector = self.models[state.model]
        state = state.clamped(detector)
        trace, milliseconds = self.trace(image, state)
        marks, found = select_marks(trace, state)
        size = trace.size[1], trace.size[0]
        stages = detector.num_stages
        return View(found, milliseconds, state, stages, tuple(marks), image.shown, size)

    def view_frame(self, pixels: Tensor, state: ViewState) -> View:
        """The same for one of many frames, ``[3, H, W]`` uint8 RGB: nothing is kept, and the stages
        after the chosen one do not run.
        """
        detector = self.models[state.model]
        state = state.clamped(detector)
        with self.turn(frame=True):
            start = time.perf_counter()
            number = state.num_proposals
            marks: list[Mark]
            found: Detections | None
            if state.stage and state.show == DETECTIONS:
                found = detector(
                    pixels, threshold=state.threshold, num_proposals=number, stage=state.stage
                )
                found = _of_classes(found, state)
                marks = detection_marks(found)
            else:
                trace = detector.trace(
                    pixels, record=(), num_proposals=number, stage=max(state.stage, 1)
                )
                marks, found = select_marks(trace, state)
            took = 1000 * (time.perf_counter() - start)
        size = pixels.shape[2], pixels.shape[1]
        return View(found, took, state, detector.num_stages, tuple(marks), pixels, size)

    def trace(self, image: InputImage, state: ViewState) -> tuple[Trace, float]:
        """The trace of all stages, without its image, and the milliseconds that its run took."""
        detector = self.models[state.model]
        number = state.clamped(detector).num_proposals
        key = (state.model, image.key, number)
        with self._lock:
            if key in self._traces:
                self._traces.move_to_end(key)
                return self._traces[key]
        with self.turn():
            start = time.perf_counter()
            trace = detector.trace(image.pixels, record=(), num_proposals=number)
            took = 1000 * (time.perf_counter() - start)
        with self._lock:
            # Without the image, which may be large, unlike the trace.
            kept = self._traces[key] = replace(trace, image=None), took
            while len(self._traces) > _TRACES:
                self._traces.popitem(last=False)
        return kept

    def full_trace(self, pixels: Tensor, state: ViewState) -> Trace:
        """A trace with its image and attention, for the explorer, a film and downloads."""
        detector = self.models[state.model]
        with self.turn():
            return detector.trace(pixels, num_proposals=state.clamped(detector).num_proposals)

    @contextmanager
    def turn(self, frame: bool = False) -> Iterator[None]:
        """Waits for a free core, for the computation in its body.

        frame: whether it is one of many frames, which let images that people wait for go first,
        but not for long.
        """
        with self._answered:
            if frame:
                self._answered.wait_for(lambda: not self._waiting, _PATIENCE)
            else:
                self._waiting += 1
        try:
            with self._turns, torch.no_grad():
                yield
        finally:
            if not frame:
                with self._answered:
                    self._waiting -= 1
                    self._answered.notify_all()


def select_marks(trace: Trace, state: ViewState) -> tuple[list[Mark], Detections | None]:
    """The marks to draw for a trace, best first, and its detections (None at stage 0)."""
    stage = state.stage
    if stage == 0:
        return proposal_marks(trace, 0), None
    found = select_detections(trace, state)
    if state.show == DETECTIONS:
        return detection_marks(found), found
    if state.classes:
        rows = _wanted(trace.class_names, state)[trace.logits[stage - 1].argmax(-1)]
        trace = replace(
            trace,
            boxes=trace.boxes[:, rows],
            logits=trace.logits[:, rows],
            features=trace.features[:, rows],
            fpn_level=trace.fpn_level[:, rows],
            proposal_ids=trace.proposal_ids[rows],
        )
    return proposal_marks(trace, stage), found


def select_detections(trace: Trace, state: ViewState) -> Detections:
    """The detections of the stage, 1 or later: above the threshold and of the classes shown."""
    return _of_classes(trace.detections(state.stage, state.threshold), state)


def _of_classes(found: Detections, state: ViewState) -> Detections:
    return found[_wanted(found.class_names, state)[found.labels]] if state.classes else found


def _wanted(class_names: Sequence[str], state: ViewState) -> Tensor:
    return torch.tensor([name in state.classes for name in class_names])


class ModelList:
    """The models of the page, see Viewer. Each is loaded once, at its first use. Several threads
    may use it.
    """

    def __init__(self, names: Sequence[str], device: str = "auto") -> None:
        if not names:
            raise LabError(
                "There is no model to show: this copy of the package ships none. Train one "
                "(sparse-rcnn-lab train --help) and give its run folder with --checkpoint."
            )
        self.names = tuple(names)
        self.first = self.names[0]
        self.device = pick_device(device)
        self._loaded: dict[str, Detector] = {}
        # Models that visitors taught, by their name alone, unlisted; with images to show them on.
        self.private: dict[str, list[Path]] = {}
        # One lock per model, as a download of minutes must not delay the others.
        self._locks = {name: threading.Lock() for name in names}
        self._lock = threading.Lock()  # for adding and removing models

    def __getitem__(self, name: str) -> Detector:
        """The model with this name. Raises LabError if it is unknown or cannot be loaded."""
        with self._lock_of(name):
            detector = self._loaded.get(name)
            if detector is None:
                detector = load(name, self.device, runtime="auto")
                words = (_IN_WORDS.get(kind, kind) for kind in detector.class_names)
                detector.class_names = tuple(words)
                # The first run is slow for reasons unrelated to the model.
                side = detector.config.input.short_side
                detector(torch.zeros(3, side, side, dtype=torch.uint8))
                with self._lock:
                    if name in self._locks:  # else it was removed meanwhile
                        self._loaded[name] = detector
            return detector

    def add(self, name: str, images: Sequence[Path] = ()) -> None:
        """Offers a visitor's own model to those who know its name; too many push out the oldest."""
        with self._lock:
            if name not in self._locks:
                self._locks[name] = threading.Lock()
                self.private[name] = list(images)
            while len(self.private) > _PRIVATE:
                eldest = next(iter(self.private))
                del self.private[eldest], self._locks[eldest]
                self._loaded.pop(eldest, None)

    def is_loaded(self, name: str) -> bool:
        """Whether this model is loaded already. Raises LabError for an unknown one."""
        self._lock_of(name)
        return name in self._loaded

    def _lock_of(self, name: str) -> threading.Lock:
        lock = self._locks.get(name)
        if lock is None:
            raise LabError(f"There is no model {name!r} here. Choose {', '.join(self.names)}.")
        return lock

    def examples(self, name: str) -> list[Path]:
        """Example images: the visitor's for a visitor's own model, else the shipped ones."""
        own = [path for path in self.private.get(name, ()) if path.is_file()]
        return own or examples(self[name].class_names)

    def choices(self) -> list[tuple[str, str]]:
        """(label, name) of each: a path by its last part, a published model with its megabytes."""
        return [(_label(name), name) for name in self.names]


def models_to_offer(model: str | None, checkpoint: str | None) -> list[str]:
    """The models of the page: the one to show first, the shipped ones, then the published ones.

    Raises LabError when ``model`` is neither shipped nor published.

    >>> models_to_offer(None, "runs/mine")[0]
    'runs/mine'
    """
    shipped = shipped_models()
    if model is not None and model not in (*shipped, *RELEASES):
        raise LabError(
            f"There is no model {model!r}. Shipped: {', '.join(shipped) or 'none'}; published: "
            f"{', '.join(RELEASES)}. For a file or run folder of yours use --checkpoint."
        )
    # Everyday things first; then the fastest model, which has samples to draw.
    own = sorted(shipped, key=lambda name: ("everyday" not in name, "nano" not in name))
    names = [name for name in (checkpoint, model, *own) if name]
    # Without a shipped model the page would begin with a download that nobody asked for.
    return list(dict.fromkeys([*names, *RELEASES])) if names else []


def _label(name: str) -> str:
    if name in RELEASES:
        release = RELEASES[name]
        there = "downloaded" if release.cached.is_file() else f"downloads {release.megabytes} MB"
        return f"{name} (COCO, {there})"
    return short_name(name)


def short_name(name: str) -> str:
    """The last part of a model's path on any system; a name stays as it is."""
    return name.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
