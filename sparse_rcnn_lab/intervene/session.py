"""``Session``: one image that is edited and run again, with results at once.

The pyramid, the costly part, depends on the image alone and is kept; for a changed box, fewer
proposals or an ablation only the stages run again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import NORMAL, Ablation
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.detector import Detector, check_detector
from sparse_rcnn_lab.detect.ground_truth import check_ground_truth, with_ground_truth
from sparse_rcnn_lab.detect.images import Batch, ImageSource
from sparse_rcnn_lab.intervene.intervention import (
    MAX_STAGES,
    Change,
    Ids,
    Intervention,
    as_ids,
    check_ids,
)
from sparse_rcnn_lab.intervene.rerun import States, run_again


class Session:
    """A detector with one image, and the changes that are made to its proposals.

    State 0 is the learned proposals, state s the output of stage s. A change belongs to a state:
    the stages before it never see it, those after it do. Changes add up until :meth:`undo` or
    :meth:`reset`; :meth:`run` shows their effect.

    Proposals are named by their ids, which stay valid when others are dropped.

    image: see :meth:`set_image`.  num_proposals: use only this many, the first ones.  resize: False
    keeps the image's own size.  record: what each trace keeps, out of
    "attention", "roi_features", "dynamic_filters", "filtered_features".

    >>> import sparse_rcnn_lab as srl
    >>> image = srl.open_data("shapes", "val")[6].image
    >>> session = srl.Session(srl.load("nano-shapes"), image)
    >>> change = session.edit(17, box=(10, 20, 90, 80), stage=2)
    >>> trace = session.run()
    >>> [round(side) for side in trace.boxes[2, 17].tolist()]
    [10, 20, 90, 80]
    >>> print(srl.trace_diff(session.base, trace))
    1 of 20 boxes moved by 1 px or more (most: 31 px)
    best class changed for 2 proposals, largest score change +0.01
    5 detections kept, 0 gained, 0 lost
    """

    def __init__(
        self,
        detector: Detector,
        image: ImageSource | Sample | None = None,
        *,
        num_proposals: int | None = None,
        resize: bool = True,
        record: Collection[str] = ("attention",),
    ) -> None:
        check_detector(detector)
        self.detector = detector
        self.num_proposals = num_proposals
        self.resize = resize
        self.record = (record,) if isinstance(record, str) else tuple(record or ())
        self._tried = Intervention()
        self._kept: tuple[Batch, Pyramid, States] | None = None
        self._base: Trace | None = None
        self._trace: Trace | None = None
        self._truth: tuple[Tensor, Tensor] | None = None
        if image is not None:
            self.set_image(image)

    @torch.no_grad()
    def set_image(self, image: ImageSource | Sample) -> Trace:
        """Sets an image (or a data set's sample, with its ground truth) and returns the base trace.

        This is the only costly call. It discards earlier changes and ground truth, which belonged
        to another image. When it fails, the session stays as it was.
        """
        source = image.image if isinstance(image, Sample) else image
        batch = self.detector.prepare([source], self.resize)
        boxes, features = self.detector.model.proposals(batch.sizes, self.num_proposals)
        pyramid = self.detector.runtime.pyramid(batch.images)
        outputs = self.detector.runtime.run_stages(pyramid, boxes, features, record=self.record)
        base = self.detector.to_trace(outputs, boxes, features, batch)
        truth = None
        if isinstance(image, Sample):
            truth = check_ground_truth(image.boxes, image.labels, self._classes)
            base = with_ground_truth(base, *truth)
        assert base.image is not None
        # Only the reduced image is kept, so that nothing large remains beside the pyramid.
        batch = replace(batch, sources=(base.image,), images=batch.images[:0])
        self._kept = batch, pyramid, States.of(boxes, features, outputs)
        self._base = self._trace = base
        self._truth = truth
        self._tried = Intervention()
        return base

    def set_ground_truth(
        self, boxes: Tensor | Sequence[Sequence[float]], labels: Tensor | Sequence[int]
    ) -> Trace:
        """Sets the objects of the image, so that traces tell which proposal each is matched to.

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
        """The trace of the run without changes. Raises LabError when there is no image yet."""
        if self._base is None:
            raise LabError("This session has no image yet. Call set_image first.")
        return self._base

    @property
    def trace(self) -> Trace:
        """The trace of the last :meth:`run`, or the base trace before there was one."""
        return self.base if self._trace is None else self._trace

    @property
    def history(self) -> tuple[Change, ...]:
        """The changes in order; ``print(*session.history, sep="\\n")`` lists them in words."""
        return self._tried.changes

    @property
    def proposals(self) -> tuple[int, ...]:
        """The ids of the proposals that are still there."""
        gone = {i for change in self.history if change.drop for i in change.proposals}
        return tuple(i for i in self.base.proposal_ids.tolist() if i not in gone)

    def edit(
        self,
        proposal: int,
        box: Tensor | Sequence[float] | None = None,
        feature: Tensor | Sequence[float] | Literal["zero"] | None = None,
        stage: int = 0,
    ) -> Change:
        """Replaces a proposal's box, feature or both at state ``stage``.

        box: xyxy, pixels of the original image; it must have an area and overlap the image.
        feature: ``[D]`` numbers, or "zero".  stage: 0 (the learned proposals) to MAX_STAGES.
        The next :meth:`run` shows the effect. Raises LabError for anything else.
        """
        return self._add(self._tried.edit(proposal, box, feature, stage))

    def drop(self, proposals: Ids, stage: int = 0) -> Change:
        """Drops proposals from state ``stage`` on: later stages run without them.

        No state of the next trace shows them, although its earlier stages ran with them.
        Raises LabError for an id that is not there, and when none would be left.
        """
        return self._add(self._tried.drop(proposals, stage))

    def keep(self, proposals: Ids, stage: int = 0) -> Change:
        """Drops all the others; see :meth:`drop`."""
        kept = as_ids(proposals)
        if not kept:
            raise LabError("Nothing to keep: give at least one proposal.")
        check_ids(kept, self.proposals, self.base.proposal_ids.tolist())
        return self.drop([i for i in self.proposals if i not in kept], stage)

    def run(self, start: int = 0, stop: int | None = None, ablation: Ablation = NORMAL) -> Trace:
        """Runs the stages with all changes and returns the trace, with all its states from 0 on.

        start: the ablation acts on the stages after this state; those before run as usual.
        stop: the last state, default S; with more, the last stage is repeated; with less, changes
        at later states have no effect yet.  ablation: what to switch off, freeze or swap (proposals
        by id). What cannot have changed is taken from the base instead of being run again.
        """
        stop = self.detector.num_stages if stop is None else stop
        return self._run(replace(self._tried, start=start, ablation=ablation), stop)

    def try_out(self, intervention: Intervention) -> Trace:
        """Replaces all changes by an intervention, runs it and returns the trace.

        Raises LabError when it cannot be run; the changes then stay as they were.
        """
        if not isinstance(intervention, Intervention):
            raise LabError(
                f"try_out needs an Intervention, found {intervention!r:.80}. Put an ablation into "
                "one: srl.Intervention(ablation=...)."
            )
        stop = min(self.detector.num_stages + intervention.repeat, MAX_STAGES)
        trace = self._run(intervention, stop)
        self._tried = Intervention(intervention.changes)
        return trace

    def undo(self) -> Change:
        """Takes back the last change and returns it. The next :meth:`run` is without it."""
        if not self.history:
            raise LabError("There is nothing to undo.")
        *rest, last = self.history
        self._tried = Intervention(tuple(rest))
        return last

    def reset(self) -> Trace:
        """Takes back all changes and returns the base trace, which becomes the latest again."""
        self._trace = self.base
        self._tried = Intervention()
        return self.base

    def __repr__(self) -> str:
        if self._base is None:
            return f"Session({self.detector.name!r}, no image yet)"
        h, w = self._base.size
        return f"Session({self.detector.name!r}, {w}x{h} px, {len(self.history)} changes)"

    @property
    def _classes(self) -> int:
        return len(self.detector.class_names)

    def _add(self, tried: Intervention) -> Change:
        tried.check(self.base)
        self._tried = tried
        return tried.changes[-1]

    @torch.no_grad()
    def _run(self, tried: Intervention, stop: int) -> Trace:
        tried.check(self.base)
        assert self._kept is not None
        batch, pyramid, states = self._kept
        if pyramid.table.device != self.detector.model.device:
            raise LabError("The detector was moved to another device. Call set_image again.")
        stop = check_stage(stop, MAX_STAGES, name="stop")
        check_stage(tried.start, stop - 1, 0, "start")
        found = run_again(self.detector, pyramid, states, tried, stop, self.record, batch.scale(0))
        learned, *outputs = found.states
        trace = self.detector.to_trace(
            outputs, learned.boxes, learned.features, batch, proposal_ids=found.ids
        )
        if self._truth is not None:
            trace = with_ground_truth(trace, *self._truth)
        self._trace = trace
        return trace
