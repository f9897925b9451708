"""One row of buttons under all tabs, for what can be kept of the tab's image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.control_panel import Values
from sparse_rcnn_lab.app.downloads import download
from sparse_rcnn_lab.app.events import ON_CLICK, explained
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

# kind, one of downloads.KINDS -> the text on its button
_LABELS = {
    "image": "Image with boxes · JPEG",
    "film": "Film · WebP",
    "video": "Film · MP4",
    "json": "Boxes · COCO json",
    "trace": "All stages · trace",
    "page": "Explorer · HTML",
    "playground": "Model to run · HTML",
}
# A file that was just made is downloaded at once, without a second click.
_PRESS = """() => setTimeout(() => {
  const link = document.querySelector('a#lab-file, #lab-file a, a[download]#lab-file');
  (link || document.querySelector('#lab-file')).click();
}, 100)"""


class KeepBar:
    """Lays the row out in the current block.

    still: what only the browser knows when a button is pressed: in Live and Draw the image as a
    data URI; in Explore what was changed and is shown, as JSON; "" in other tabs.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        with gr.Row(elem_id="lab-keep"):
            gr.HTML('<span class="lab-caption">Keep</span>', padding=False, min_width=40)
            self.buttons = {
                kind: gr.Button(label, size="sm", min_width=60, elem_id=f"lab-keep-{kind}")
                for kind, label in _LABELS.items()
            }
        self.file = gr.DownloadButton("Download", elem_id="lab-file", elem_classes="lab-hidden")
        self.still = gr.Textbox(elem_id="lab-still", elem_classes="lab-hidden", container=False)

    def connect(
        self,
        inputs: set[Any],
        image: Callable[[Values], InputImage | None],
        state: Callable[[Values], ViewState],
    ) -> None:
        """Connects the buttons. image, state: those of the open tab."""

        def write(kind: str, values: Values) -> Any:
            of = image(values)
            if of is None:
                raise LabError("There is no image to keep yet. Give one first.")
            told = values[self.still] or ""
            explored = told if told.startswith("{") else ""
            path = download(self.viewer, of, state(values), kind, explored)
            return gr.update(value=str(path))

        for kind, button in self.buttons.items():
            # The browser first sends its frame; then it is used.
            taken = button.click(
                None, None, self.still, js="() => lab.still()", api_visibility="private"
            )
            made = taken.then(
                explained(partial(write, kind), loud=True),
                {self.still, *inputs},
                self.file,
                **ON_CLICK,
            )
            made.success(None, None, None, js=_PRESS, api_visibility="private")
