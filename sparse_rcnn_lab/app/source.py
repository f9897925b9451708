"""Where images come from: upload, clipboard, an example, a drawn sample. Under three tabs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.events import path_alone
from sparse_rcnn_lab.app.user_inputs import (
    DIFFICULTIES,
    InputImage,
    draw_sample,
    examples,
    knows_shapes,
    read_input,
)
from sparse_rcnn_lab.app.viewer import Viewer


class Source:
    """Lays the strip out in the current block."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        names = viewer.models[viewer.models.first].class_names
        files = [str(path) for path in examples(names)]
        self.first = read_input(files[0]) if files else None
        self.image = gr.State(self.first, time_to_live=3600)
        with gr.Row(elem_id="lab-input", equal_height=True):
            self.file = gr.Image(
                files[0] if files else None,
                type="filepath",
                format="png",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Your image",
                height=190,
                buttons=[],
                placeholder="Drop an image here\n- or -\nClick to choose one",
                elem_id="lab-source",
            )
            self.file.preprocess = path_alone
            with gr.Column(min_width=220):
                gr.HTML('<span class="lab-caption">Examples</span>', padding=False)
                self.gallery = gr.Gallery(
                    files,
                    label="Examples",
                    show_label=False,
                    columns=3,
                    height=104,
                    allow_preview=False,
                    interactive=False,
                    object_fit="cover",
                    buttons=[],
                    elem_id="lab-examples",
                )
                with gr.Row(visible=knows_shapes(names), elem_id="lab-samples") as self.samples:
                    self.difficulty = gr.Dropdown(
                        list(DIFFICULTIES),
                        value="normal",
                        label="Difficulty of the sample",
                        container=False,
                        min_width=100,
                    )
                    self.draw = gr.Button(
                        "Draw a sample", elem_id="lab-draw", size="md", min_width=130
                    )
        self.outputs = [self.file, self.image, self.gallery, self.samples]

    def read(self, path: str | None) -> InputImage | None:
        """The image that was given."""
        return None if path is None else read_input(path, self.viewer.limits)

    def switch(self, model: str, image: InputImage | None) -> dict[Any, Any]:
        """Another model: its examples, and one of them in the place of an example of the last."""
        names = self.viewer.models[model].class_names
        files = [str(path) for path in examples(names)]
        changed: dict[Any, Any] = {
            self.gallery: gr.update(value=files),
            self.samples: gr.update(visible=knows_shapes(names)),
        }
        if image is None or image.key in self._example_keys:
            changed |= {self.image: read_input(files[0]), self.file: files[0]}
        return changed

    def example(self, model: str, event: gr.SelectData) -> tuple[str, Any]:
        """The example that was clicked; deselected, so that a second click works too."""
        files = examples(self.viewer.models[model].class_names)
        return str(files[event.index]), gr.update(selected_index=None)

    def sample(self, difficulty: str) -> Any:
        """A new sample."""
        image, seed = draw_sample(difficulty)
        gr.Info(f"Drawn from seed {seed} ({difficulty}).", duration=3)
        return image

    @cached_property
    def _example_keys(self) -> set[str]:
        return {read_input(path).key for path in examples(())}
