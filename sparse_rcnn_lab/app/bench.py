"""What the app does, without Gradio: models, and the traces kept for the dials."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from PIL import Image

from sparse_rcnn_lab.app.limits import Limits
from sparse_rcnn_lab.app.models import Models
from sparse_rcnn_lab.app.pictures import Picture
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.views.draw import Mark, detection_marks, draw_marks, proposal_marks

SHOWN = ("detections", "all proposals")
_TRACES = 64
_PATIENCE = 0.3  # seconds that a frame waits for pictures that are asked for


@dataclass(frozen=True)
class Dials:
    """Where the dials stand; the same in every tab.

    proposals: how many are used.  stage: 0 (the learned proposals) to the model's last.
    threshold: least score of a detection, 0..1.  show: one of ``SHOWN``.  classes: names of those
    shown, none for all.
    """

    model: str
    proposals: int
    stage: int
    threshold: float
    show: str = SHOWN[0]
    classes: tuple[str, ...] = ()

    def fitting(self, detector: Detector) -> Dials:
        """The same within what a model has. Raises LabError for an unknown way to show."""
        if self.show not in SHOWN:
            raise LabError(f"show must be one of {', '.join(SHOWN)}, found {self.show!r}.")
        if not 0 <= self.threshold <= 1:
            raise LabError(f"threshold must be 0 to 1, found {self.threshold}.")
        return replace(
            self,
            proposals=min(max(self.proposals, 1), detector.num_proposals),
            stage=min(max(self.stage, 0), detector.num_stages),
            classes=tuple(name for name in self.classes if name in detector.class_names),
        )


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
    """Keeps the trace of every picture and number of proposals, so that stage and threshold only
    draw again. Safe to call from several threads.

    names, device: see :class:`Models`; the first model is loaded at once.
    """

    def __init__(
        self, names: Sequence[str], device: str = "auto", limits: Limits | None = None
    ) -> None:
        self.models = Models(names, device)
        self.limits = limits or Limits()
        self._traces: OrderedDict[tuple[str, str, int], tuple[Trace, float]] = OrderedDict()
        self._lock = threading.Lock()
        # More at once than there are cores would make everybody wait.
        self._turns = threading.Semaphore(max(1, os.cpu_count() or 1))
        self._awaited = 0
        self._answered = threading.Condition()
        self.models[self.first]

    @property
    def first(self) -> str:
        """Name of the model that the page begins with."""
        return self.models.names[0]

    def look(self, picture: Picture, dials: Dials) -> View:
        """Detects, or finds that it already has, and draws."""
        dials = dials.fitting(self.models[dials.model])
        trace, milliseconds = self.trace(picture, dials.model, dials.proposals)
        marks, found = marked(trace, dials)
        frame = (trace.size[1], trace.size[0])
        image = draw_marks(picture.shown, marks, frame)
        stage, stages = dials.stage, trace.num_stages
        return View(image, found, milliseconds, trace.num_proposals, stage, stages)

    def trace(self, picture: Picture, model: str, proposals: int) -> tuple[Trace, float]:
        """The trace, without its image, and the milliseconds that its run took."""
        detector = self.models[model]
        proposals = min(max(int(proposals), 1), detector.num_proposals)
        key = (model, picture.key, proposals)
        with self._lock:
            if key in self._traces:
                self._traces.move_to_end(key)
                return self._traces[key]
        with self.turn():
            start = time.perf_counter()
            trace = detector.trace(picture.pixels, record=(), num_proposals=proposals)
            took = 1000 * (time.perf_counter() - start)
        with self._lock:
            # Without the image: pictures may be large, traces are not.
            kept = self._traces[key] = replace(trace, image=None), took
            while len(self._traces) > _TRACES:
                self._traces.popitem(last=False)
        return kept

    def full_trace(self, picture: Picture, dials: Dials) -> Trace:
        """A trace with its image and attention: for the explorer and to keep."""
        detector = self.models[dials.model]
        with self.turn():
            return detector.trace(picture.pixels, num_proposals=dials.fitting(detector).proposals)

    @contextmanager
    def turn(self, frame: bool = False) -> Iterator[None]:
        """Waits for a free core; what computes stands inside.

        frame: one of many of a webcam or a video, which lets pictures that people wait for go
        first, but not for long.
        """
        with self._answered:
            if frame:
                self._answered.wait_for(lambda: not self._awaited, _PATIENCE)
            else:
                self._awaited += 1
        try:
            with self._turns, torch.no_grad():
                yield
        finally:
            if not frame:
                with self._answered:
                    self._awaited -= 1
                    self._answered.notify_all()


def marked(trace: Trace, dials: Dials) -> tuple[list[Mark], Detections | None]:
    """What to draw of a trace, best first, and its detections (None at stage 0)."""
    stage = dials.stage
    found = None if stage == 0 else of_classes(trace.detections(stage, dials.threshold), dials)
    if found is not None and dials.show == SHOWN[0]:
        return detection_marks(found), found
    if stage and dials.classes:
        wanted = torch.tensor([name in dials.classes for name in trace.class_names])
        rows = wanted[trace.logits[stage - 1].argmax(-1)]
        trace = replace(
            trace,
            boxes=trace.boxes[:, rows],
            logits=trace.logits[:, rows],
            features=trace.features[:, rows],
            fpn_level=trace.fpn_level[:, rows],
            proposal_ids=trace.proposal_ids[rows],
        )
    return proposal_marks(trace, stage), found


def of_classes(found: Detections, dials: Dials) -> Detections:
    """The detections of the classes that are shown."""
    if not dials.classes:
        return found
    wanted = torch.tensor([name in dials.classes for name in found.class_names])
    return found[wanted[found.labels]]
