"""The tab *Photo*: a picture and its detections, its states, fewer proposals, downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import series, words
from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.keepsakes import KINDS, keepsake, on_page
from sparse_rcnn_lab.app.pictures import Picture

PARTS = {"picture": "Picture", "states": "All states", "budgets": "Fewer proposals"}
_BUTTONS = {
    "picture": "Picture",
    "json": "COCO json",
    "trace": "Trace",
    "page": "Page",
}


class PhotoTab:
    """Lays the tab out in the current block, showing ``first``."""

    def __init__(self, bench: Bench, first: Picture | None, start: Dials) -> None:
        self.bench = bench
        image, self.first_readout, self.first_table = self._look(first, start)
        self.part = gr.State("picture")
        with gr.Tabs(elem_id="lab-parts", selected="picture"):
            with gr.Tab(PARTS["picture"], id="picture", elem_id="lab-part-picture") as picture:
                self.result = gr.Image(
                    None if image is None else on_page(image),
                    type="filepath",
                    label="Detections",
                    show_label=False,
                    container=False,
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="lab-result",
                    alt_text="Your picture with the boxes that the detector found",
                )
            with gr.Tab(PARTS["states"], id="states", elem_id="lab-part-states") as states:
                self.states = gr.HTML(words.NO_PICTURE, elem_id="lab-states", padding=False)
            with gr.Tab(PARTS["budgets"], id="budgets", elem_id="lab-part-budgets") as budgets:
                self.budgets = gr.HTML(words.NO_PICTURE, elem_id="lab-budgets", padding=False)
        self.tabs = dict(zip(PARTS, (picture, states, budgets), strict=True))
        with gr.Row(elem_id="lab-keep"):
            gr.HTML('<span class="lab-caption">Download</span>', padding=False, min_width=70)
            self.keep = {
                kind: gr.Button(label, size="sm", min_width=70, elem_id=f"lab-keep-{kind}")
                for kind, label in _BUTTONS.items()
            }
        self.file = gr.DownloadButton("Download", elem_id="lab-file", elem_classes="lab-hidden")

    def refresh(
        self, part: str, picture: Picture | None, dials: Dials, readout: gr.HTML, table: gr.HTML
    ) -> dict[Any, Any]:
        """What the tab shows for a picture: the part that is open, and the numbers."""
        image, numbers, rows = self._look(picture, dials)
        shown: dict[Any, Any] = {readout: numbers, table: rows}
        if picture is None:
            empty = words.NO_PICTURE
            return {**shown, self.result: None, self.states: empty, self.budgets: empty}
        if part == "states":
            row = series.as_html(series.states(self.bench, picture, dials), 150)
            return {**shown, self.states: row}
        if part == "budgets":
            row = series.as_html(series.budgets(self.bench, picture, dials), 220)
            return {**shown, self.budgets: row}
        return {**shown, self.result: on_page(image)}

    def outputs(self) -> list[Any]:
        """What :meth:`refresh` may change, beside the numbers."""
        return [self.result, self.states, self.budgets]

    def download(self, kind: str, picture: Picture | None, dials: Dials) -> Any:
        """Writes a file of ``KINDS`` for the picture."""
        if picture is None:
            raise gr.Error("Give a picture first.", title="Nothing to download", duration=5)
        assert kind in KINDS
        path: Path = keepsake(self.bench, picture, dials, kind)
        return gr.update(value=str(path))

    def _look(self, picture: Picture | None, dials: Dials) -> tuple[Any, str, str]:
        view = None if picture is None else self.bench.look(picture, dials)
        image = None if view is None else view.image
        found = None if view is None else view.detections
        took = None if view is None else view.milliseconds
        return image, words.readout(found, took), words.table(view, dials)
