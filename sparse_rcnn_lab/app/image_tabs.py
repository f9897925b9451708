"""The tabs about one image: Photo and Compare (and Explore, in ``explore_tab.py``).

Each lays itself out in the current block; ``refresh`` gives what it shows of an image, for the
components in ``outputs``, from the values of ``inputs``; ``empty`` is what it shows of none.
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
from sparse_rcnn_lab.app.downloads import as_jpeg, download, on_page
from sparse_rcnn_lab.app.state import DETECTIONS, PROPOSALS, ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.viewer import View, Viewer
from sparse_rcnn_lab.views.draw import data_uri

PARTS = {"image": "Image", "stages": "All stages", "budgets": "Fewer proposals"}
BUDGETS = (10, 50)
_DOWNLOADS = {
    "image": "Image",
    "json": "COCO json",
    "trace": "Trace",
    "page": "Page",
    "playground": "Model as a page",
}
_PANEL_SIDE = 480  # of an image in a row, pixels


class PhotoTab:
    """An image and its detections, its stages side by side, fewer proposals, downloads."""

    def __init__(self, viewer: Viewer, first: InputImage | None, start: ViewState) -> None:
        self.viewer = viewer
        view = None if first is None else viewer.view(first, start)
        self.first_numbers, self.first_table = readouts.numbers(view), readouts.table(view)
        self.part = gr.State("image")
        self.parts: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="lab-parts", selected="image"):
            with self._tab("image"):
                self.result = _drawn(
                    "Your image with the boxes that the detector found",
                    value=None if view is None else on_page(view.image),
                    buttons=["fullscreen"],
                    elem_id="lab-result",
                )
            with self._tab("stages"):
                self.stages = gr.HTML(readouts.NO_IMAGE, elem_id="lab-stages", padding=False)
            with self._tab("budgets"):
                self.budgets = gr.HTML(readouts.NO_IMAGE, elem_id="lab-budgets", padding=False)
        with gr.Row(elem_id="lab-downloads"):
            gr.HTML('<span class="lab-caption">Download</span>', padding=False, min_width=70)
            self.buttons = {
                kind: gr.Button(label, size="sm", min_width=70, elem_id=f"lab-download-{kind}")
                for kind, label in _DOWNLOADS.items()
            }
        self.file = gr.DownloadButton("Download", elem_id="lab-file", elem_classes="lab-hidden")
        self.inputs = [self.part]
        self.outputs = [self.result, self.stages, self.budgets]
        self.empty = dict(
            zip(self.outputs, (None, readouts.NO_IMAGE, readouts.NO_IMAGE), strict=True)
        )

    def _tab(self, name: str) -> gr.Tab:
        self.parts[name] = gr.Tab(PARTS[name], id=name, elem_id=f"lab-part-{name}")
        return self.parts[name]

    def refresh(self, values: Values, image: InputImage, view: View) -> dict[Any, Any]:
        """The part that is open."""
        if values[self.part] == "stages":
            return {self.stages: as_html(stage_panels(self.viewer, image, view.state), 150)}
        if values[self.part] == "budgets":
            return {self.budgets: as_html(budget_panels(self.viewer, image, view.state), 220)}
        return {self.result: on_page(view.image)}

    def download(self, kind: str, image: InputImage | None, state: ViewState) -> Any:
        """Writes a file of ``downloads.KINDS`` for the image."""
        if image is None:
            raise gr.Error("Give an image first.", title="Nothing to download", duration=5)
        return gr.update(value=str(download(self.viewer, image, state, kind)))


class CompareTab:
    """The same image twice; the left side follows the controls of the page."""

    def __init__(self, viewer: Viewer, start: ViewState) -> None:
        self.viewer = viewer
        with gr.Row(elem_id="lab-sides"):
            self.left, self.left_text = _side("left", "Left: the controls of the page")
            self.right, self.right_text = _side("right", "Right: the controls below")
        with gr.Group(elem_id="lab-other"), gr.Row():
            fewer = replace(start, num_proposals=max(1, start.num_proposals // 2))
            info = "The same one with other controls, or another one."
            self.other = ModelControls(viewer, fewer, "lab-other", "Model on the right", info)
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
    """An image that the page shows as it is; ``what`` is said to who does not see it."""
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
    """One image of a row. title: what it is.  text: what came of it."""

    image: Image.Image
    title: str
    text: str


def stage_panels(viewer: Viewer, image: InputImage, state: ViewState) -> Iterator[Panel]:
    """All stages of one run, the learned proposals first; the last one with its detections."""
    last = viewer.models[state.model].num_stages
    for stage in range(last + 1):
        view = viewer.view(image, replace(state, stage=stage, show=PROPOSALS))
        title = f"stage {stage}" if stage else "learned proposals"
        none = f"{view.state.num_proposals}, no scores yet"
        yield Panel(view.image, title, readouts.count_detections(view) if stage else none)
    view = viewer.view(image, replace(state, stage=last, show=DETECTIONS))
    yield Panel(view.image, "detections", f"score at least {state.threshold:.2f}")


def budget_panels(viewer: Viewer, image: InputImage, state: ViewState) -> Iterator[Panel]:
    """The detections of 10, of 50 and of all proposals, with time and number."""
    total = viewer.models[state.model].num_proposals
    for number in [*(n for n in BUDGETS if n < total), total]:
        view = viewer.view(image, replace(state, num_proposals=number))
        title = f"all {number} proposals" if number == total else f"{number} proposals"
        text = f"{readouts.count_detections(view)}, {view.milliseconds:.0f} ms"
        yield Panel(view.image, title, text)


def as_html(panels: Iterator[Panel], min_width: int) -> str:
    """The row as HTML with its images inside, each at least so many pixels wide."""
    figures = "".join(
        f'<figure><img src="{_small(panel.image)}" alt="{escape(panel.title)}: '
        f'{escape(panel.text)}"><figcaption><b>{escape(panel.title)}</b> '
        f"<span>{escape(panel.text)}</span></figcaption></figure>"
        for panel in panels
    )
    return f'<div class="lab-panels" style="--min-width: {min_width}px">{figures}</div>'


def _small(image: Image.Image) -> str:
    """The image, made small, as a data URI."""
    small = image.copy()
    small.thumbnail((_PANEL_SIDE, _PANEL_SIDE), Image.Resampling.BICUBIC)
    return data_uri(as_jpeg(small))
