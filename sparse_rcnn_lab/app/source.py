"""Where pictures come from: upload, clipboard, an example, a drawn sample. Under three tabs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.bench import Bench
from sparse_rcnn_lab.app.events import path_alone
from sparse_rcnn_lab.app.pictures import (
    DIFFICULTIES,
    Picture,
    examples,
    knows_shapes,
    read_picture,
    sample,
)


class Source:
    """Lays the strip out in the current block."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._keys: set[str] | None = None
        names = bench.models[bench.first].class_names
        files = examples(names)
        self.first = read_picture(files[0]) if files else None
        self.picture = gr.State(self.first, time_to_live=3600)
        with gr.Row(elem_id="lab-input", equal_height=True):
            self.file = gr.Image(
                str(files[0]) if files else None,
                type="filepath",
                format="png",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Your picture",
                height=190,
                buttons=[],
                placeholder="Drop a picture here\n- or -\nClick to choose one",
                elem_id="lab-source",
            )
            self.file.preprocess = path_alone
            with gr.Column(min_width=220):
                gr.HTML('<span class="lab-caption">Examples</span>', padding=False)
                self.gallery = gr.Gallery(
                    [str(path) for path in files],
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

    def read(self, path: str | None) -> Picture | None:
        """The picture that was given."""
        return None if path is None else read_picture(path, self.bench.limits)

    def switch(self, model: str, picture: Picture | None) -> dict[Any, Any]:
        """Another model: its examples, and one of them in the place of an example of the last."""
        names = self.bench.models[model].class_names
        files = examples(names)
        changed: dict[Any, Any] = {
            self.gallery: gr.update(value=[str(path) for path in files]),
            self.samples: gr.update(visible=knows_shapes(names)),
        }
        if picture is None or picture.key in self._example_keys():
            changed[self.picture] = read_picture(files[0])
            changed[self.file] = str(files[0])
        return changed

    def example(self, model: str, event: gr.SelectData) -> tuple[str, Any]:
        """The example that was clicked; deselected, so that a second click works too."""
        files = examples(self.bench.models[model].class_names)
        return str(files[event.index]), gr.update(selected_index=None)

    def drawn(self, difficulty: str) -> Any:
        """A new sample."""
        image, seed = sample(difficulty)
        gr.Info(f"Drawn from seed {seed} ({difficulty}).", duration=3)
        return image

    def _example_keys(self) -> set[str]:
        if self._keys is None:
            self._keys = {read_picture(path).key for path in examples(())}
        return self._keys
