"""``explore``: look at every proposal through the stages, change something, and see the effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.detect.images import ImageSource
from sparse_rcnn_lab.detect.trace_file import load_trace
from sparse_rcnn_lab.intervene.intervention import Intervention
from sparse_rcnn_lab.intervene.session import Session
from sparse_rcnn_lab.models.load import load, shipped_models
from sparse_rcnn_lab.views.explorer import html_page
from sparse_rcnn_lab.views.explorer.payload import payload
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane
from sparse_rcnn_lab.views.static import is_static

Run = Callable[[Intervention], Trace]

ROI = ("roi_features", "filtered_features")
SMALL = 4e6  # numbers in a recording (16 MB) up to which RoI features are recorded by default
CHOICES = {**html_page.CHOICES, "theme": ("auto", "light", "dark")}
NEEDS_IMAGE = (
    "This is a recorded trace. To drag boxes, switch attention off and see what follows, give an "
    'image and a model: srl.explore("photo.jpg", "nano-shapes").'
)


def explore(
    what: Trace | Session | Sample | ImageSource,
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
    num_proposals: int | None = None,
) -> Explorer:
    """Shows every proposal's box and feature through the stages, in a notebook or as a page.

    what: an image (or a data set's sample) to run, a :class:`Session`, or a recorded
    :class:`Trace` (or the path of a ``.trace`` file), which can be viewed but not changed.
    detector: a :class:`Detector`, or the name or path of one, for images; default: the first
    shipped model.

    stage: show this state (0 the learned proposals, 1..S) instead of playing all stages once.
    chosen: id of a proposal to select.  threshold: lowest score of a detection, 0..1.
    show: "all", "detections" (proposals that end as one) or "one" (the chosen one).
    color: "class", "score", "match" (with ground truth), "proposal" or "stage".
    tab: "attention", "roi", "filters" or "similarity".  theme: "auto", "light" or "dark".
    fly: False starts at the last stage without playing the others.
    roi: record and show what each stage pooled and what its filters made of it; a saved page grows
    by half. Default: what a session or trace has recorded; for an image, True with models as small
    as the shipped ones, False with ResNet-50.
    num_proposals: for an image, use only this many, the first ones.

    In a notebook it is shown when it is the last line of a cell.

    >>> import sparse_rcnn_lab as srl
    >>> srl.explore(srl.open_data("shapes", "val")[6], "nano-shapes")
    Explorer('nano-shapes', 20 proposals, 6 stages, 128x128 px)

    Raises LabError for anything that does not fit.
    """
    trace, run, biased = _opened(what, detector, roi, num_proposals)
    return Explorer(
        trace, run, roi=roi is not False, overlap_bias=biased, stage=stage, chosen=chosen,
        threshold=threshold, show=show, color=color, tab=tab, theme=theme, fly=fly,
    )  # fmt: skip


def _opened(
    what: Any, detector: Detector | str | Path | None, roi: bool | None, number: int | None
) -> tuple[Trace, Run | None, bool]:
    """The trace, a function that runs it again, and whether its attention has an overlap bias."""
    if isinstance(what, str | Path) and str(what).endswith(".trace"):
        what = load_trace(what)
    if number is not None and isinstance(what, Trace | Session):
        raise LabError("num_proposals is for an image; a trace or session has its proposals.")
    if isinstance(what, Trace):
        if detector is not None:
            raise LabError(
                "A trace is a recording, so no detector can run it. Give the image instead."
            )
        return what, None, False
    if isinstance(what, Session):
        session = what
        if detector not in (None, session.detector):
            raise LabError("A session has its own detector. For another one, give the image.")
    else:
        if not isinstance(detector, Detector):
            detector = load(str(detector) if detector is not None else shipped_models()[0])
        wanted = _is_small(detector.model.config) if roi is None else roi
        record = ("attention", *ROI) if wanted else ("attention",)
        session = Session(detector, what, num_proposals=number, record=record)
    boxes, before = session.base.boxes, session.history

    def run(intervention: Intervention) -> Trace:
        """Runs an intervention; what was changed in the session before stays changed."""
        if session.base.boxes is not boxes:
            raise LabError("The session has another image now. Call explore(session) again.")
        return session.try_out(replace(intervention, changes=(*before, *intervention.changes)))

    biased = session.detector.config.overlap_attention > 0
    return session.trace if before else session.base, run, biased


def _is_small(config: ModelConfig) -> bool:
    """Whether the RoI features of all stages and proposals are small enough to keep two of each."""
    numbers = config.num_stages * config.num_proposals * config.roi_size**2 * config.dim
    return numbers <= SMALL


class Explorer:
    """A trace to look into and, where it can be run again, to change.

    base: the recorded trace.  edited: the trace with the changes, or None.  intervention: the
    changes.  In a notebook it is shown when it is the last line of a cell; :meth:`to_html` saves
    it.

    >>> import sparse_rcnn_lab as srl
    >>> view = srl.explore(srl.open_data("shapes", "val")[6], "nano-shapes")
    >>> _ = view.try_out(srl.Intervention(ablation=srl.Ablation(self_attention=False), start=2))
    >>> print(srl.trace_diff(view.base, view.trace))  # doctest: +ELLIPSIS
    20 of 20 boxes moved by 1 px or more...
    >>> view.reset() is view.base
    True
    """

    def __init__(
        self,
        trace: Trace,
        run: Run | None = None,
        *,
        roi: bool = False,
        overlap_bias: bool = False,
        **options: Any,
    ) -> None:
        """trace: what to show.  run: returns the trace of an intervention; without it nothing can
        be changed.  roi: show what was pooled and filtered, where recorded.  overlap_bias: offer to
        switch it off.  options: stage, chosen, threshold, show, color, tab, theme, fly; see
        :func:`sparse_rcnn_lab.explore`.
        """
        self.base = trace
        self.edited: Trace | None = None
        self.intervention = Intervention()
        self._run = run
        self._roi = roi
        self._history: list[Intervention] = []
        self._options = {**_checked(options, trace), "overlap_bias": overlap_bias}
        self._plane = FeaturePlane.fit(trace.features) if trace.features.numel() else None
        self._payload = payload(trace, roi=roi, plane=self._plane)
        self._widget: Any = None

    @property
    def trace(self) -> Trace:
        """The trace that is shown: the edited one, or else the base."""
        return self.base if self.edited is None else self.edited

    def try_out(self, intervention: Intervention) -> Trace:
        """Runs the stages again with an intervention, as the page's controls do, and shows them.

        Raises LabError when there is no model to run or it cannot be run; the view then stays.
        """
        before = self.intervention
        trace = self._apply(intervention)
        if intervention != before:
            self._history.append(before)
        self._tell()
        return trace

    def undo(self) -> Trace:
        """Takes back the last change; if none is recorded, everything that was changed."""
        self._apply(self._history[-1] if self._history else Intervention())
        del self._history[-1:]
        self._tell()
        return self.trace

    def reset(self) -> Trace:
        """Takes back all changes."""
        self._history.clear()
        self._apply(Intervention())
        self._tell()
        return self.trace

    @property
    def start(self) -> dict[str, Any]:
        """``payload`` and ``options`` for ``render`` of the module (:func:`html_page.script`), in a
        page whose server calls :meth:`answer`.
        """
        return {"payload": self._payload, "options": {**self._options, "needs": ""}}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answers js/link.js: ``{"intervention"}`` -> ``{"edited"}``, a payload or None. Nothing is
        kept, so that many pages may ask. Raises LabError like :meth:`try_out`.
        """
        edited = self._after(Intervention.from_message(message.get("intervention") or {}))
        return {"edited": None if edited is None else self._payload_of(edited)}

    def to_html(self, path: str | Path | None = None) -> str | Path:
        """One page that needs no kernel and no network, with the present view and the changes.

        path: where to write it; the path is returned. With None the page is returned as text.
        """
        text = html_page.page(
            self._payload,
            {**self._options, **self._shown()},
            self._edited_payload(),
            self.intervention.to_message(),
        )
        if path is None:
            return text
        write_text(Path(path), text)
        return Path(path)

    def to_iframe(self, height: int = 900) -> str:
        """The page as an ``<iframe>`` inside other HTML (``gr.HTML``, an exported notebook).

        It is isolated from the page around it. height: pixels.
        """
        return html_page.iframe(str(self.to_html()), height)

    @property
    def widget(self) -> Any:
        """The ipywidget, to combine with others. It needs the extra ``notebooks``."""
        if self._widget is None:
            if find_spec("anywidget") is None:
                raise LabError(
                    'The explorer in a notebook needs anywidget: pip install "sparse-rcnn-lab'
                    '[notebooks]". Without it, to_html() saves a page.'
                )
            live = self._run is not None
            options = {**self._options, "live": live, "needs": "" if live else NEEDS_IMAGE}
            names = [name for name in html_page.SHARED if name in options]
            self._widget = html_page.widget_class()(
                payload=self._payload, edited=self._edited_payload(), options=options,
                answer=self._answer(), **{name: options[name] for name in names},
            )  # fmt: skip
            self._widget.on_msg(lambda _, content, __: self._receive(content))
            if "stage" not in options:
                self._widget.stage = self.trace.num_stages  # where playing the stages ends
        return self._widget

    def _repr_mimebundle_(self, **options: Any) -> Any:
        # Beside the widget goes the same page without a kernel, which a notebook shows when it was
        # saved without its widgets' state, opened again or exported.
        page = {"text/html": self.to_iframe(), "text/plain": repr(self)}
        if find_spec("anywidget") is None or is_static():
            return page
        data, *metadata = self.widget._repr_mimebundle_(**options)
        return {**data, **page}, *metadata

    def _display_(self) -> Any:
        """The object that marimo shows."""
        return self.widget

    def __repr__(self) -> str:
        trace = self.base
        return (
            f"Explorer({trace.model_name or 'trace'!r}, {trace.num_proposals} proposals, "
            f"{trace.num_stages} stages, {trace.size[1]}x{trace.size[0]} px)"
        )

    def _apply(self, intervention: Intervention) -> Trace:
        self.edited = self._after(intervention)
        self.intervention = intervention
        return self.trace

    def _after(self, intervention: Intervention) -> Trace | None:
        """The trace of an intervention; None for one that changes nothing."""
        if intervention.changes_nothing():
            return None
        if self._run is None:
            raise LabError(NEEDS_IMAGE)
        return self._run(intervention)

    def _receive(self, message: dict[str, Any]) -> None:
        """Handles a message of the page: all changes, and those before it, entry by entry."""
        error = ""
        try:
            history = [Intervention.from_message(one) for one in message.get("history") or ()]
            self._apply(Intervention.from_message(message.get("intervention") or {}))
            self._history = history
        except LabError as wrong:
            error = str(wrong)
        self._tell(message.get("serial", 0), error)

    def _tell(self, serial: int = 0, error: str = "") -> None:
        if self._widget is not None:
            with self._widget.hold_sync():
                self._widget.edited = self._edited_payload()
                self._widget.answer = self._answer(serial, error)

    def _answer(self, serial: int = 0, error: str = "") -> dict[str, Any]:
        return {
            "serial": serial,
            "error": error,
            "intervention": self.intervention.to_message(),
            "history": [one.to_message() for one in self._history],
        }

    def _edited_payload(self) -> dict[str, Any] | None:
        return None if self.edited is None else self._payload_of(self.edited)

    def _payload_of(self, edited: Trace) -> dict[str, Any]:
        return payload(edited, roi=self._roi, image=False, plane=self._plane)

    def _shown(self) -> dict[str, Any]:
        """The options that are on screen now, so that a saved page shows the same."""
        if self._widget is None:
            return {}
        shown = {name: getattr(self._widget, name) for name in html_page.SHARED}
        fly = {"fly": False} if shown["stage"] != self.trace.num_stages else {}
        return {**shown, **fly}


def _checked(options: dict[str, Any], trace: Trace) -> dict[str, Any]:
    known = ("stage", "chosen", "threshold", *CHOICES, "fly")
    for name in options:
        if name not in known:
            raise LabError(f'The explorer has no option "{name}". It has {", ".join(known)}.')
    given = {name: value for name, value in options.items() if value is not None}
    for name, allowed in CHOICES.items():
        if name in given and given[name] not in allowed:
            raise LabError(f"{name} must be one of {', '.join(allowed)}, found {given[name]!r}.")
    # Plain numbers, since JSON and the widget accept neither numpy's nor torch's.
    if "stage" in given:  # it is shown at once; the stages are played only without it
        given |= {"stage": trace.check_stage(given["stage"], 0), "fly": False}
    if "chosen" in given:
        given["chosen"] = int(trace.proposal_ids[trace.row(given["chosen"])])
    if "threshold" in given:
        given["threshold"] = float(given["threshold"])
        if not 0 <= given["threshold"] <= 1:
            raise LabError(f"threshold must be 0..1, found {given['threshold']}.")
    return given
