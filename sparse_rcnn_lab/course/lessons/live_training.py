"""Shows a training while it runs: loss and AP of every stage, and one image's boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.lessons.lesson_charts import stage_lines
from sparse_rcnn_lab.data.sample import DetectionData, Sample
from sparse_rcnn_lab.training.evaluate import Evaluation
from sparse_rcnn_lab.training.step import StepLoss
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.panels import detection_panels
from sparse_rcnn_lab.views.plotly_figures import go
from sparse_rcnn_lab.views.static import is_static

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SMOOTH = 0.9  # smoothing of the loss curves: weight of the previous value
_UPDATES = 100  # how often the curves are redrawn during a training, at most


@dataclass(frozen=True, eq=False)
class Moment:
    """The watched image at one evaluation. step: from 1.  found: the last stage's detections."""

    step: int
    found: Detections


class LiveTraining:
    """Follows :func:`sparse_rcnn_lab.fit` and draws while it runs.

    ::

        with LiveTraining(steps=600, val=val, watch=2) as live:
            srl.fit("shapes", recipe, out, on_step=live.step, on_evaluation=live.evaluation)

    In a notebook the curves grow while it trains and remain as an ordinary plotly figure; elsewhere
    nothing is drawn until requested. steps: length of the training.  val: the data of its
    evaluations.  watch: index of the image in it whose boxes are kept. Raises LabError where the
    data has no such image.

    >>> import sparse_rcnn_lab as srl
    >>> live = LiveTraining(steps=600, val=srl.Shapes(4, size=64), watch=2)
    >>> live.losses().layout.yaxis.title.text
    'loss'
    """

    def __init__(self, steps: int, val: DetectionData, watch: int = 0) -> None:
        if steps < 1 or not 0 <= watch < len(val):
            raise LabError(
                f"steps must be at least 1 and watch 0..{len(val) - 1}, found {steps} and {watch}."
            )
        self.steps = steps
        self.sample: Sample = val[watch]
        self._names = tuple(val.class_names)
        self._labels = {category: label for label, category in enumerate(val.category_ids())}
        self.loss_steps: list[int] = []
        self.loss: list[list[float]] = []  # smoothed, one row per step, one number per stage
        self.ap_steps: list[int] = []
        self.ap: list[list[float]] = []
        self.moments: list[Moment] = []
        self._handle: Any = None
        self._widget: Any = None

    def step(self, step: int, loss: StepLoss) -> None:
        """For ``fit(on_step=)``: records the loss of every stage."""
        parts = loss.loss
        now = (parts.cls + parts.l1 + parts.giou).detach().tolist()
        if self.loss:
            now = [_SMOOTH * a + (1 - _SMOOTH) * b for a, b in zip(self.loss[-1], now, strict=True)]
        self.loss_steps.append(step)
        self.loss.append(now)
        if step % max(1, self.steps // _UPDATES) == 0:
            self._redraw()

    def evaluation(self, step: int, result: Evaluation) -> None:
        """For ``fit(on_evaluation=)``: records AP of every stage and the watched image's boxes."""
        self.ap_steps.append(step)
        self.ap.append([stage.AP for stage in result.per_stage])
        rows = result.detections[-1]
        rows = rows[rows[:, 0] == self.sample.image_id]
        self.moments.append(Moment(step, self._detections(rows)))
        self._redraw()

    def curves(self) -> Figure:
        """AP of every stage over the steps so far."""
        return stage_lines(
            _columns(self.ap), self.ap_steps, title="AP of each stage while it learns",
            detail=f"step {self.loss_steps[-1] if self.loss_steps else 0} of {self.steps}",
            across="step", up="AP (0 to 1)", top=1.0,
        )  # fmt: skip

    def losses(self) -> Figure:
        """The set loss of every stage over the steps so far, smoothed."""
        keep = slice(None, None, max(1, len(self.loss) // 200))
        figure = stage_lines(
            _columns(self.loss[keep]), self.loss_steps[keep], title="Set loss of each stage",
            detail="class + L1 + GIoU, smoothed", across="step", up="loss",
        )  # fmt: skip
        return figure.update_traces(mode="lines")

    def images(self, threshold: float = 0.3, columns: int = 4) -> Page:
        """The watched image's detections at each evaluation; the objects are dashed."""
        if not self.moments:
            raise LabError("There was no evaluation yet. Give fit an evaluate_every.")
        return detection_panels(
            [moment.found.above(threshold) for moment in self.moments],
            self.sample.image,
            [f"step {moment.step}" for moment in self.moments],
            columns=columns,
            gt_boxes=self.sample.boxes,
            title="One image while the detector learns",
            detail=f"last stage · score of at least {threshold:g} · dashed: the objects",
        )

    def __enter__(self) -> LiveTraining:
        if not is_static() and in_notebook():
            from IPython.display import display

            self._widget = go().FigureWidget(self._figure())
            self._handle = display(self._widget, display_id=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # Replaced by an ordinary figure, which remains when the kernel is gone.
        if in_notebook() and (self.loss or self.ap):
            from IPython.display import display

            if self._handle is None:
                display(self._figure())
            else:
                self._handle.update(self._figure())
        if self._widget is not None:
            self._widget.close()

    def _figure(self) -> Figure:
        """Loss on the left, AP on the right, in one figure."""
        from plotly.subplots import make_subplots

        done = self.loss_steps[-1] if self.loss_steps else 0
        both = make_subplots(1, 2, subplot_titles=("set loss of each stage", "AP of each stage"))
        for column, figure in enumerate((self.losses(), self.curves()), 1):
            for trace in figure.data:
                trace.legendgroup, trace.showlegend = trace.name, column == 1
                both.add_trace(trace, 1, column)
        if not self.ap:  # plotly draws no axes around nothing
            both.add_scatter(x=[None], y=[None], showlegend=False, row=1, col=2)
        both.update_layout(
            autosize=True, height=400, margin={"l": 50, "r": 20, "t": 80, "b": 50},
            title={"text": f"<b>step {done} of {self.steps}</b>", "x": 0.02},
            paper_bgcolor="#ffffff", plot_bgcolor="#ffffff",
        )  # fmt: skip
        both.update_xaxes(title="step", range=[0, self.steps], gridcolor="#d0d7de")
        both.update_yaxes(gridcolor="#d0d7de", rangemode="tozero")
        return both.update_yaxes(range=[0, 1], col=2)

    def _redraw(self) -> None:
        if self._widget is None:
            return
        fresh = self._figure()
        with self._widget.batch_update():
            if len(self._widget.data) != len(fresh.data):
                self._widget.data = []
                self._widget.add_traces(fresh.data)
            for shown, trace in zip(self._widget.data, fresh.data, strict=True):
                shown.x, shown.y = trace.x, trace.y
            self._widget.layout.title = fresh.layout.title

    def _detections(self, rows: np.ndarray) -> Detections:
        values = torch.from_numpy(rows).float()
        labels = [self._labels[int(category)] for category in rows[:, 6]]
        return Detections(
            boxes=box_ops.xywh_to_xyxy(values[:, 1:5]),
            scores=values[:, 5],
            labels=torch.tensor(labels, dtype=torch.long),
            proposals=torch.arange(len(rows)),
            size=(self.sample.image.shape[1], self.sample.image.shape[2]),
            class_names=self._names,
        )


def _columns(rows: list[list[float]]) -> list[list[float | None]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else []


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
