"""``explore``: look at every proposal through the stages, change something, see what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.ablation import Ablation
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.detect.batches import Picture
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.trace_file import load_trace
from sparse_rcnn_lab.intervene.experiment import Experiment
from sparse_rcnn_lab.intervene.intervention import Edit
from sparse_rcnn_lab.intervene.session import MAX_STAGES, Session
from sparse_rcnn_lab.models.load import load, shipped_models
from sparse_rcnn_lab.views.explorer.view import Explorer, Run

ROI = ("roi_features", "filtered_features")
SMALL = 4e6  # numbers of a recording (16 MB) up to which RoI features are recorded unasked


def explore(
    what: Trace | Session | Sample | Picture,
    detector: Detector | str | Path | None = None,
    *,
    stage: int | None = None,
    chosen: int | None = None,
    threshold: float = 0.3,
    show: str = "all",
    color: str = "class",
    tab: str = "attention",
    theme: str = "auto",
    fly: bool = True,
    roi: bool | None = None,
) -> Explorer:
    """Every proposal's box and feature through the stages, in a notebook or as a page.

    what: a picture (or a data set's sample) to run, a :class:`Session`, or a recorded
    :class:`Trace` (or the path of a ``.trace`` file), which can be looked at but not changed.
    detector: a :class:`Detector`, or the name or path of one, for pictures; default the first
    shipped model.

    stage: show this state (0 the learned proposals, 1..S) instead of flying through all once.
    chosen: id of a proposal to choose.  threshold: least score of a detection, 0..1.
    show: "all", "detections" (proposals that end as one) or "one" (the chosen).
    color: "class", "score", "match" (with ground truth), "proposal" or "stage".
    tab: "attention", "roi", "filters" or "similarity".  theme: "auto", "light" or "dark".
    roi: record and show what each stage pooled and what its filters made of it; a saved page grows
    by half. Default: what a session or trace has recorded; of a picture, with models of the size
    of those shipped, not with ResNet-50.

    >>> srl.explore("photo.jpg", "nano-shapes")  # the last line of a cell shows it
    >>> srl.explore(trace).to_html("explorer.html")  # no kernel, no network

    Raises LabError for anything that does not fit.
    """
    trace, run = _opened(what, detector, roi)
    return Explorer(
        trace,
        run,
        roi=roi is not False,
        stage=stage,
        chosen=chosen,
        threshold=threshold,
        show=show,
        color=color,
        tab=tab,
        theme=theme,
        fly=fly,
    )


def _opened(
    what: Any, detector: Detector | str | Path | None, roi: bool | None
) -> tuple[Trace, Run | None]:
    if isinstance(what, str | Path) and str(what).endswith(".trace"):
        what = load_trace(what)
    if isinstance(what, Trace):
        if detector is not None:
            raise LabError(
                "A trace is a recording: it cannot be run by a detector. Give the picture instead."
            )
        return what, None
    if isinstance(what, Session):
        session = what
    else:
        if not isinstance(detector, Detector):
            detector = load(str(detector) if detector is not None else shipped_models()[0])
        wanted = _is_small(detector.model.config) if roi is None else roi
        record = ("attention", *ROI) if wanted else ("attention",)
        session = Session(detector, what, record=record)
    return session.trace if session.history else session.base, Runs(session)


def _is_small(config: ModelConfig) -> bool:
    """Whether the RoI features of all stages and proposals are few enough to keep two of each."""
    numbers = config.num_stages * config.num_proposals * config.roi_size**2 * config.dim
    return numbers <= SMALL


class Runs:
    """Runs experiments in a session; what was changed in it before stays changed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.picture = session.base
        self.before = session.history

    def __call__(self, experiment: Experiment) -> Trace:
        """The trace of the session's own changes and the experiment's."""
        session = self.session
        if session.base.boxes is not self.picture.boxes:
            raise LabError("The session has another picture now. Call explore(session) again.")
        session.reset()
        for change in self.before:
            if isinstance(change, Edit):
                session.edit(change.proposal, change.box, change.feature, change.stage)
            else:
                session.drop(list(change.proposals), change.stage)
        for edit in experiment.edits:
            session.edit(edit.proposal, edit.box, "zero" if edit.zero else None, edit.stage)
        for drop in experiment.drops:
            session.drop(drop.proposal, drop.stage)
        ablation = Ablation(
            self_attention=experiment.self_attention,
            swap_filters=experiment.swaps,
            freeze_boxes=experiment.freeze_boxes,
            freeze_features=experiment.freeze_features,
        )
        last = session.detector.num_stages
        stop = min(last + experiment.extra, MAX_STAGES)
        return session.run(min(experiment.start, last - 1), stop, ablation)
