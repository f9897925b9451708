"""The tabs about one image: Photo and Compare (and Explore, in ``explore_tab.py``).

Each lays itself out in the current block; ``refresh`` returns what it shows of an image, for the
components in ``outputs``, from the values of ``inputs``; ``empty`` is what it shows without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from sparse_rcnn_lab.app import readouts
from sparse_rcnn_lab.app.control_panel import ModelControls, Values
from sparse_rcnn_lab.app.downloads import as_jpeg, on_page
from sparse_rcnn_lab.app.state import DETECTIONS, PROPOSALS, ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.viewer import View, Viewer
from sparse_rcnn_lab.views.draw import data_uri

PARTS = {"image": "Image", "stages": "All stages", "budgets": "Fewer proposals"}
BUDGETS = (1, 2, 3, 5, 10, 20)
_MOMENT = readouts.hint("One moment: the images are being drawn.")
_PANEL_SIDE = 480  # size of an image in a row, pixels


class PhotoTab:
    """An image and its detections, its stages side by side, fewer proposals."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.part = gr.State("image")
        self.parts: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="lab-parts", selected="image"):
            with self._tab("image"):
                self.result = _drawn(
                    "Your image with the boxes that the detector found",
                    buttons=["fullscreen"],
                    elem_id="lab-result",
                )
            with self._tab("stages"):
                self.stages = gr.HTML(_MOMENT, apply_default_css=False, elem_id="lab-stages")
            with self._tab("budgets"):
                self.budgets = gr.HTML(_MOMENT, apply_default_css=False, elem_id="lab-budgets")
        self.inputs = [self.part]
        self.outputs = [self.result, self.stages, self.budgets]
        self.empty = dict(
            zip(self.outputs, (None, readouts.NO_IMAGE, readouts.NO_IMAGE), strict=True)
        )

    def _tab(self, name: str) -> gr.Tab:
        self.parts[name] = gr.Tab(PARTS[name], id=name, elem_id=f"lab-part-{name}")
        return self.parts[name]

    def refresh(self, values: Values, image: InputImage, view: View) -> dict[Any, Any]:
        """Fills the part that is open."""
        if values[self.part] == "stages":
            return {self.stages: as_html(stage_panels(self.viewer, image, view.state), 200)}
        if values[self.part] == "budgets":
            return {self.budgets: as_html(budget_panels(self.viewer, image, view.state), 220)}
        return {self.result: on_page(view.image)}


class CompareTab:
    """The same image twice; the left side follows the controls of the page."""

    def __init__(self, viewer: Viewer, start: ViewState) -> None:
        self.viewer = viewer
        with gr.Row(elem_id="lab-sides"):
            self.left, self.left_text = _side("left", "Left: the controls of the page")
            self.right, self.right_text = _side("right", "Right: the controls below")
        with gr.Group(elem_id="lab-other"), gr.Row():
            fewer = replace(start, num_proposals=max(1, start.num_proposals // 2))
            model = gr.Dropdown(
                viewer.models.choices(),
                value=start.model,
                label="Model on the right",
                info="The same model with other controls, or another model.",
                filterable=False,
                elem_id="lab-other-model",
            )
            self.other = ModelControls(viewer, fewer, "lab-other", model)
        self.inputs = self.other.inputs
        self.outputs = [self.left, self.left_text, self.right, self.right_text]
        self.empty = dict(zip(self.outputs, (None, readouts.NO_IMAGE, None, ""), strict=True))

    def refresh(self, values: Values, image: InputImage, view: View) -> dict[Any, Any]:
        """Both sides."""
        other = self.viewer.view(image, view.state.using(*(values[i] for i in self.inputs)))
        return {
            self.left: on_page(view.image),
            self.left_text: readouts.side(view),
            self.right: on_page(other.image),
            self.right_text: readouts.side(other),
        }


def _side(name: str, caption: str) -> tuple[gr.Image, gr.HTML]:
    with gr.Column(min_width=140):
        gr.HTML(f'<span class="lab-caption">{caption}</span>', padding=False)
        image = _drawn(
            f"The image with the boxes of the {name} side",
            buttons=["download", "fullscreen"],
            elem_id=f"lab-side-{name}",
            elem_classes="lab-side",
        )
        text = gr.HTML("", elem_id=f"lab-side-{name}-text", padding=False)
    return image, text


def _drawn(what: str, **options: Any) -> gr.Image:
    """An image that the page shows as it is; ``what`` is its alternative text."""
    return gr.Image(
        type="filepath",
        label="Detections",
        show_label=False,
        container=False,
        interactive=False,
        alt_text=what,
        **options,
    )


@dataclass(frozen=True)
class Panel:
    """One image of a grid. title: what it is.  text: its result.  goes: what a click sets, as the
    attribute that ``page.js`` reads.
    """

    image: Image.Image
    title: str
    text: str
    goes: str


def stage_panels(viewer: Viewer, image: InputImage, state: ViewState) -> Iterator[Panel]:
    """All stages of one run, the learned proposals first; the last one with its detections."""
    last = viewer.models[state.model].num_stages
    for stage in range(last + 1):
        view = viewer.view(image, replace(state, stage=stage, show=PROPOSALS))
        title = f"stage {stage}" if stage else "learned proposals"
        none = f"{view.state.num_proposals}, no scores yet"
        text = readouts.count_detections(view) if stage else none
        yield Panel(view.image, title, text, f"data-stage={stage}")
    view = viewer.view(image, replace(state, stage=last, show=DETECTIONS))
    text = f"score at least {state.threshold:.2f}"
    yield Panel(view.image, "detections", text, f"data-stage={last}")


def budget_panels(viewer: Viewer, image: InputImage, state: ViewState) -> Iterator[Panel]:
    """The detections of one proposal, of a few and of all, with number, time and measured AP."""
    detector = viewer.models[state.model]
    total = detector.num_proposals
    for number in [*(n for n in BUDGETS if n < total), total]:
        view = viewer.view(image, replace(state, num_proposals=number))
        title = (
            f"all {total} proposals"
            if number == total
            else f"{number} proposal{'s' * (number > 1)}"
        )
        ap = readouts.measured_ap(view.state, total)
        measured = "" if ap is None else f", AP {ap:.2f}"
        text = f"{readouts.count_detections(view)}, {view.milliseconds:.0f} ms{measured}"
        yield Panel(view.image, title, text, f"data-proposals={number}")


def as_html(panels: Iterator[Panel], min_width: int) -> str:
    """The grid as HTML with its images inside, each at least ``min_width`` pixels wide and a
    button.
    """
    figures = "".join(
        f'<button type="button" {panel.goes}><img src="{_small(panel.image)}" alt="">'
        f"<b>{escape(panel.title)}</b> <span>{escape(panel.text)}</span></button>"
        for panel in panels
    )
    return f'<div class="lab-panels" style="--min-width: {min_width}px">{figures}</div>'


def _small(image: Image.Image) -> str:
    """The image, downscaled, as a data URI."""
    small = image.copy()
    small.thumbnail((_PANEL_SIDE, _PANEL_SIDE), Image.Resampling.BICUBIC)
    return data_uri(as_jpeg(small))
