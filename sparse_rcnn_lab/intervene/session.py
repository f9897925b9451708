"""``Session``: one picture, looked at again and again. What is edited is seen at once.

The pyramid, the costly part, depends on the picture alone and is kept; a changed box, fewer
proposals or a switch only run the stages again.

>>> session = Session(srl.load("nano-shapes"), "photo.jpg")
>>> session.edit(17, box=(10, 20, 90, 80), stage=2)
>>> trace = session.run()
>>> print(srl.trace_diff(session.base, trace))
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.detect.batches import Batch, Picture
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.ground_truth import check_ground_truth, with_ground_truth
from sparse_rcnn_lab.intervene.intervention import Change, Drop, Edit, checked_box, checked_feature
from sparse_rcnn_lab.intervene.rerun import Rerun, States

# Stages that one run may have; attention of 300 proposals takes 3 MB a stage.
MAX_STAGES = 60


class Session:
    """A detector with one picture, and what was changed on the way of its proposals.

    State 0 are the learned proposals, state s what stage s made of them. A change belongs to a
    state: the stages before it never see it, those after it do. Changes add up until
    :meth:`undo` or :meth:`reset`; :meth:`run` says what comes of them.

    Proposals are named by their ids, which stay right when others are dropped.

    picture: see :meth:`set_image`.  num_proposals: use only the first so many.  resize: False
    keeps the picture's own pixels.  record: what each trace keeps, out of
    "attention", "roi_features", "dynamic_filters", "filtered_features".
    """

    def __init__(
        self,
        detector: Detector,
        picture: Picture | Sample | None = None,
        *,
        num_proposals: int | None = None,
        resize: bool = True,
        record: Collection[str] = ("attention",),
    ) -> None:
        self.detector = detector
        self.num_proposals = num_proposals
        self.resize = resize
        self.record = tuple(record)
        self._history: list[Change] = []
        self._kept: tuple[Batch, Pyramid, States] | None = None
        self._base: Trace | None = None
        self._trace: Trace | None = None
        self._truth: tuple[Tensor, Tensor] | None = None
        if picture is not None:
            self.set_image(picture)

    @torch.no_grad()
    def set_image(self, picture: Picture | Sample) -> Trace:
        """Takes a picture (or a data set's sample, with its ground truth) -> the base trace.

        The only costly call. Earlier changes and ground truth belonged to another picture and are
        forgotten. When it fails, the session stays as it was.
        """
        image = picture.image if isinstance(picture, Sample) else picture
        batch = self.detector.prepare([image], self.resize)
        boxes, features = self.detector.model.proposals(batch.sizes, self.num_proposals)
        pyramid = self.detector.runtime.pyramid(batch.images)
        outputs = self.detector.runtime.run_stages(pyramid, boxes, features, record=self.record)
        base = self.detector.to_trace(outputs, boxes, features, batch)
        truth = None
        if isinstance(picture, Sample):
            truth = check_ground_truth(picture.boxes, picture.labels, self._classes)
            base = with_ground_truth(base, *truth)
        assert base.image is not None
        # The reduced picture and no input: nothing large is kept beside the pyramid.
        batch = replace(batch, pictures=(base.image,), images=batch.images[:0])
        ids = torch.arange(boxes.shape[1])
        self._kept = batch, pyramid, States(ids, boxes, features, tuple(outputs))
        self._base = self._trace = base
        self._truth = truth
        self._history.clear()
        return base

    def set_ground_truth(
        self, boxes: Tensor | Sequence[Sequence[float]], labels: Tensor | Sequence[int]
    ) -> Trace:
        """Gives the objects of the picture: traces then say which proposal is matched with which.

        boxes: ``[M, 4]`` xyxy, pixels of the original image.  labels: ``[M]``, indices into the
        detector's ``class_names``.  Returns the base trace with its matches. Raises LabError when
        they do not fit.
        """
        truth = check_ground_truth(boxes, labels, self._classes)
        base, latest = self.base, self.trace
        self._base = with_ground_truth(base, *truth)
        self._trace = self._base if latest is base else with_ground_truth(latest, *truth)
        self._truth = truth
        return self._base

    @property
    def base(self) -> Trace:
        """The trace of the untouched run. Raises LabError when there is no picture yet."""
        if self._base is None:
            raise LabError("This session has no image yet. Call set_image first.")
        return self._base

    @property
    def trace(self) -> Trace:
        """The latest trace: of the last :meth:`run`, else the base."""
        return self.base if self._trace is None else self._trace

    @property
    def history(self) -> tuple[Change, ...]:
        """What was changed, in order; ``print(*session.history, sep="\\n")`` says it in words."""
        return tuple(self._history)

    @property
    def proposals(self) -> tuple[int, ...]:
        """Ids of the proposals that are still there."""
        gone = {i for change in self._history if isinstance(change, Drop) for i in change.proposals}
        return tuple(i for i in self.base.proposal_ids.tolist() if i not in gone)

    def edit(
        self,
        proposal: int,
        box: Tensor | Sequence[float] | None = None,
        feature: Tensor | Sequence[float] | Literal["zero"] | None = None,
        stage: int = 0,
    ) -> Edit:
        """Puts another box or feature in the place of a proposal's own, at state ``stage``.

        box: xyxy, pixels of the original image; it must have an area and overlap the image.
        feature: ``[D]`` numbers, or "zero".  stage: 0 (the learned proposals) to MAX_STAGES.
        The next :meth:`run` shows what comes of it. Raises LabError for anything else.
        """
        (proposal,) = self._existing([proposal])
        stage = _state("stage", stage, 0, MAX_STAGES)
        if box is None and feature is None:
            raise LabError("Nothing to change: give a box, a feature, or both.")
        change = Edit(
            proposal,
            stage,
            None if box is None else checked_box(box, self.base.size),
            None if feature is None else checked_feature(feature, self.base.features.shape[-1]),
        )
        self._history.append(change)
        return change

    def drop(self, proposals: int | Sequence[int] | Tensor, stage: int = 0) -> Drop:
        """Takes proposals out from state ``stage`` on: later stages run without them.

        They are in no state of the next trace, whose earlier stages ran with them all the same.
        Raises LabError for an id that is not there, and when none would be left.
        """
        gone = self._existing(proposals)
        if not gone:
            raise LabError("Nothing to drop: give at least one proposal.")
        if len(gone) == len(self.proposals):
            raise LabError("At least one proposal must be left; this would drop them all.")
        change = Drop(tuple(gone), _state("stage", stage, 0, MAX_STAGES))
        self._history.append(change)
        return change

    def keep(self, proposals: int | Sequence[int] | Tensor, stage: int = 0) -> Drop:
        """Drops all the others; see :meth:`drop`."""
        kept = self._existing(proposals)
        if not kept:
            raise LabError("Nothing to keep: give at least one proposal.")
        return self.drop([i for i in self.proposals if i not in kept], stage)

    @torch.no_grad()
    def run(self, start: int = 0, stop: int | None = None, ablation: Ablation = NORMAL) -> Trace:
        """Runs the stages with all changes -> the trace, with all its states from 0 on.

        start: the ablation acts on the stages after this state; the stages before run as always.
        stop: the last state, default S; beyond S the last stage is repeated, before it changes at
        later states wait.  ablation: what to switch off, freeze or swap (proposals by id).
        What cannot have changed is taken from the base and not run again.
        """
        batch, pyramid, base = self._ready()
        stop = self.detector.num_stages if stop is None else stop
        stop = _state("stop", stop, 1, MAX_STAGES)
        start = _state("start", start, 0, stop - 1)
        if ablation.swap_filters:
            self._existing([i for pair in ablation.swap_filters for i in pair])
        scale = batch.scale(0)
        rerun = Rerun(self.detector.runtime, pyramid, self.record, ablation, start, scale)
        states = rerun(base, self._history, stop)
        trace = self.detector.to_trace(
            states.outputs, states.boxes, states.features, batch, proposal_ids=states.ids
        )
        if self._truth is not None:
            trace = with_ground_truth(trace, *self._truth)
        self._trace = trace
        return trace

    def undo(self) -> Change:
        """Takes back the last change and returns it. The next :meth:`run` goes without it."""
        if not self._history:
            raise LabError("There is nothing to undo.")
        return self._history.pop()

    def reset(self) -> Trace:
        """Takes back all changes -> the base trace, which becomes the latest again."""
        self._history.clear()
        self._trace = self.base
        return self.base

    def __repr__(self) -> str:
        if self._base is None:
            return f"Session({self.detector.name!r}, no image yet)"
        h, w = self._base.size
        return f"Session({self.detector.name!r}, {w}x{h} px, {len(self._history)} changes)"

    @property
    def _classes(self) -> int:
        return len(self.detector.class_names)

    def _ready(self) -> tuple[Batch, Pyramid, States]:
        if self._kept is None:
            raise LabError("This session has no image yet. Call set_image first.")
        if self._kept[1].table.device != self.detector.model.device:
            raise LabError("The detector was moved to another device. Call set_image again.")
        return self._kept

    def _existing(self, proposals: int | Sequence[int] | Tensor) -> list[int]:
        """Ids as a list, each once. Raises LabError for one that is not there."""
        there = self.proposals
        wanted = torch.as_tensor(proposals).flatten().tolist()
        for proposal in wanted:
            if proposal not in there:
                dropped = proposal in self.base.proposal_ids.tolist()
                why = "was dropped" if dropped else f"does not exist; there are {len(there)}"
                raise LabError(f"Proposal {proposal} {why}. Choose one of session.proposals.")
        return list(dict.fromkeys(map(int, wanted)))


def _state(name: str, value: int, low: int, high: int) -> int:
    try:
        state = operator.index(value)
    except TypeError:
        state = -1
    if not low <= state <= high:
        raise LabError(f"{name} must be a state from {low} to {high}, found {value!r}.")
    return state
