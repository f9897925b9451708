"""``Explorer``: what ``explore`` gives back; shows itself in a notebook, saves itself as a page."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.intervene.experiment import Experiment
from sparse_rcnn_lab.views.explorer import page
from sparse_rcnn_lab.views.explorer.payload import payload
from sparse_rcnn_lab.views.explorer.plane import Plane
from sparse_rcnn_lab.views.static import is_static

Run = Callable[[Experiment], Trace]

CHOICES = {
    "show": ("all", "detections", "one"),
    "color": ("class", "score", "match", "proposal", "stage"),
    "tab": ("attention", "roi", "filters", "similarity"),
    "theme": ("auto", "light", "dark"),
}
NEEDS_PICTURE = (
    "This is a recorded trace. To drag boxes, switch attention off and see what follows, give a "
    'picture and a model: srl.explore("photo.jpg", "nano-shapes").'
)


class Explorer:
    """A trace to look into, and, where it can be run again, to change.

    base: the trace as recorded.  edited: the trace after what was changed, or None.  experiment:
    what was changed.  In a notebook the last line of a cell shows it; :meth:`to_html` saves it.
    """

    def __init__(
        self, trace: Trace, run: Run | None = None, *, roi: bool = False, **options: Any
    ) -> None:
        """trace: what to show.  run: gives the trace of an experiment; without it nothing can be
        changed.  roi: show what was pooled and filtered, where recorded.  options: stage, chosen,
        threshold, show, color, tab, theme, fly; see :func:`sparse_rcnn_lab.explore`.
        """
        self.base = trace
        self.edited: Trace | None = None
        self.experiment = Experiment()
        self._run = run
        self._roi = roi
        self._history: list[Experiment] = []
        self._options = _checked(options, trace)
        self._plane = Plane.fit(trace.features) if trace.features.numel() else None
        self._payload = payload(trace, roi=roi, plane=self._plane)
        self._widget: Any = None

    @property
    def trace(self) -> Trace:
        """What is shown: the edited trace, else the base."""
        return self.base if self.edited is None else self.edited

    def try_out(self, experiment: Experiment) -> Trace:
        """Runs the stages again with an experiment, as the page's controls do, and shows it.

        Raises LabError when there is no model to run or the experiment cannot be run; what is
        shown then stays.
        """
        before = self.experiment
        trace = self._apply(experiment)
        if experiment != before:
            self._history.append(before)
        self._tell()
        return trace

    def undo(self) -> Trace:
        """Takes back the last change."""
        self._undo()
        self._tell()
        return self.trace

    def reset(self) -> Trace:
        """Takes back all changes."""
        self._history.clear()
        self._apply(Experiment())
        self._tell()
        return self.trace

    def to_html(self, path: str | Path | None = None) -> str | Path:
        """One page that needs no kernel and no network, with what is shown and what was changed.

        path: where to write it; the path comes back. None gives the page itself as text.
        """
        text = page.page(
            self._payload,
            {**self._options, **self._shown(), "needs": page.NEEDS_KERNEL},
            edited=self._edited_payload(),
            experiment=self.experiment.to_message(),
        )
        return text if path is None else page.write_page(path, text)

    def to_iframe(self, height: int = 900) -> str:
        """The page as an ``<iframe>`` for HTML of others (``gr.HTML``, an exported notebook).

        It runs apart from what surrounds it. height: pixels.
        """
        return page.iframe(str(self.to_html()), height)

    @property
    def widget(self) -> Any:
        """The ipywidget, to put beside others. Needs the notebook extra."""
        if self._widget is None:
            if find_spec("anywidget") is None:
                raise LabError(
                    'The explorer in a notebook needs anywidget: pip install "sparse-rcnn-lab'
                    '[notebooks]". Without it, to_html() saves a page.'
                )
            from sparse_rcnn_lab.views.explorer.widget import make_widget

            live = self._run is not None
            options = {**self._options, "live": live, "needs": "" if live else NEEDS_PICTURE}
            self._widget = make_widget(self._payload, options, self._answer(), self._receive)
            if "stage" not in options:
                self._widget.stage = self.base.num_stages  # where the first flight ends
        return self._widget

    def _repr_mimebundle_(self, **options: Any) -> Any:
        # The same page without a kernel: no widget here, or a page of outputs is being made.
        if find_spec("anywidget") is None or is_static():
            return {"text/html": self.to_iframe(), "text/plain": repr(self)}
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        trace = self.base
        return (
            f"Explorer({trace.model_name or 'trace'!r}, {trace.num_proposals} proposals, "
            f"{trace.num_stages} stages, {trace.size[1]}x{trace.size[0]} px)"
        )

    def _undo(self) -> None:
        """Back to what was before the last entry; without one, to no change at all."""
        self._apply(self._history[-1] if self._history else Experiment())
        del self._history[-1:]

    def _apply(self, experiment: Experiment) -> Trace:
        if experiment.changes_nothing():
            self.experiment, self.edited = experiment, None
            return self.base
        if self._run is None:
            raise LabError(NEEDS_PICTURE)
        self.edited = self._run(experiment)
        self.experiment = experiment
        return self.edited

    def _receive(self, message: dict[str, Any]) -> None:
        """A message of the page: ``try`` (``keep`` makes it an entry to undo), undo, reset."""
        error = ""
        try:
            kind = message.get("kind")
            if kind == "undo":
                self._undo()
            elif kind == "reset":
                self._history.clear()
                self._apply(Experiment())
            else:
                self._apply(Experiment.from_message(message.get("experiment") or {}))
                if message.get("keep"):
                    self._history.append(Experiment.from_message(message.get("before") or {}))
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
            "experiment": self.experiment.to_message(),
            "undo": len(self._history),
        }

    def _edited_payload(self) -> dict[str, Any] | None:
        if self.edited is None:
            return None
        return payload(self.edited, roi=self._roi, image=False, plane=self._plane)

    def _shown(self) -> dict[str, Any]:
        """What a person has on screen now, so that a saved page shows the same."""
        if self._widget is None:
            return {}
        names = ("stage", "chosen", "threshold", "show", "color", "tab")
        shown = {name: getattr(self._widget, name) for name in names}
        fly = {"fly": False} if shown["stage"] != self.trace.num_stages else {}
        return {**shown, **fly}


def _checked(options: dict[str, Any], trace: Trace) -> dict[str, Any]:
    known = ("stage", "chosen", "threshold", *CHOICES, "fly")
    for name in options:
        if name not in known:
            raise LabError(f'The explorer has no option "{name}". It has {", ".join(known)}.')
    for name, allowed in CHOICES.items():
        value = options.get(name)
        if value is not None and value not in allowed:
            raise LabError(f"{name} must be one of {', '.join(allowed)}, found {value!r}.")
    stage = options.get("stage")
    if stage is not None:
        trace.check_stage(stage, 0)
    if options.get("chosen") is not None:
        trace.row(options["chosen"])
    threshold = options.get("threshold")
    if threshold is not None and not 0 <= threshold <= 1:
        raise LabError(f"threshold must be 0..1, found {threshold}.")
    # A chosen state is shown at once; only without one do the proposals fly.
    fly = {"fly": False} if stage is not None else {}
    return {**{k: v for k, v in options.items() if v is not None}, **fly}
