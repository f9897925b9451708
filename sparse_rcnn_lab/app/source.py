"""Where images come from: the strip of examples and given images, and how more are given.

``page.js`` lets images be dropped and pasted anywhere; they arrive through the same button.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from sparse_rcnn_lab.app.downloads import new_file
from sparse_rcnn_lab.app.events import in_words
from sparse_rcnn_lab.app.model_tiles import square
from sparse_rcnn_lab.app.user_inputs import (
    InputImage,
    draw_sample,
    examples,
    knows_shapes,
    read_input,
)
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

_HOUR = 3600  # seconds
_KEPT = 24  # a visitor's images in the strip, at most


class Given(NamedTuple):
    """An image of the strip. path: its file.  face: a small square, as a data URI."""

    path: str
    face: str


class Source:
    """Lays the strip out in the current block.

    image: the image of all tabs.  given: the visitor's own images, newest first.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        names = viewer.models[viewer.models.first].class_names
        files = [str(path) for path in viewer.models.examples(viewer.models.first)]
        self.first = read_input(files[0]) if files else None
        self.image = gr.State(self.first, time_to_live=_HOUR)
        self.given = gr.State([], time_to_live=_HOUR)
        self.strip = gr.HTML(
            _strip([], files, files[0] if files else ""),
            apply_default_css=False,
            elem_id="lab-strip",
        )
        self.open = gr.UploadButton(
            "Open images", file_count="multiple", size="sm", min_width=110, elem_id="lab-open"
        )
        self.draw = gr.Button(
            "Draw one",
            size="sm",
            min_width=90,
            visible=knows_shapes(names),
            elem_id="lab-draw",
        )
        self.picked = gr.Textbox(elem_id="lab-picked", elem_classes="lab-hidden", container=False)
        self.outputs = [self.image, self.given, self.strip, self.draw]

    def take(self, paths: list[str] | None, given: list[Given], model: str) -> dict[Any, Any]:
        """Takes files: the first that is an image is shown, and all images join the strip.

        Raises LabError when none is an image; warns about the others that are not.
        """
        image, new, wrong = None, [], []
        for path in paths or []:
            try:
                read = read_input(path, self.viewer.limits)
            except LabError as error:
                wrong.append(error)
                continue
            image = image or read
            new.append(Given(_copied(path), square(read.shown)))
        if image is None:
            raise wrong[0] if wrong else LabError("No file was given.")
        for one in wrong:
            gr.Warning(f"Left out: {in_words(one)}", duration=15)
        return self._shown(image, [*new, *given][:_KEPT], model, new[0].path)

    def pick(self, chosen: str, given: list[Given], model: str) -> dict[Any, Any]:
        """Takes the image of the strip that was clicked. chosen: its index, and maybe more text."""
        files = [*(one.path for one in given), *map(str, self.viewer.models.examples(model))]
        place = chosen.split(" ")[0]
        if not place.isdigit() or int(place) >= len(files):
            raise LabError(f"The strip has {len(files)} images, found {chosen!r:.40}.")
        path = files[int(place)]
        if not Path(path).is_file():
            raise LabError(f'"{Path(path).name}" was given an hour ago and is gone. Open it again.')
        return self._shown(read_input(path, self.viewer.limits), given, model, path)

    def sample(self, given: list[Given], model: str) -> dict[Any, Any]:
        """Takes a newly drawn image of shapes."""
        return self._shown(read_input(draw_sample("normal")[0]), given, model, "")

    def snapshot(self, image: InputImage, given: list[Given], model: str) -> dict[Any, Any]:
        """Takes a frame of the camera, or a drawing."""
        return self._shown(image, given, model, "")

    def switch(self, model: str, image: InputImage | None, given: list[Given]) -> dict[Any, Any]:
        """Shows another model's examples; one of them replaces an example of the last model."""
        files = [str(path) for path in self.viewer.models.examples(model)]
        shapes = knows_shapes(self.viewer.models[model].class_names)
        changed: dict[Any, Any] = {self.draw: gr.update(visible=shapes)}
        if image is None or image.key in {read_input(path).key for path in examples(())}:
            return changed | self._shown(read_input(files[0]), given, model, files[0])
        return changed | {self.strip: _strip(given, files, "")}

    def _shown(
        self, image: InputImage, given: list[Given], model: str, path: str
    ) -> dict[Any, Any]:
        files = list(map(str, self.viewer.models.examples(model)))
        return {self.image: image, self.given: given, self.strip: _strip(given, files, path)}


def _copied(path: str) -> str:
    """A copy that the strip can use for an hour, as Gradio removes its own sooner."""
    copy = new_file(Path(path).name, "given")
    shutil.copyfile(path, copy)
    for folder in copy.parent.parent.iterdir():
        with suppress(OSError):  # another visitor's request has removed it
            if folder.stat().st_mtime < time.time() - _HOUR:
                shutil.rmtree(folder)
    return str(copy)


def _strip(given: list[Given], files: list[str], current: str) -> str:
    own = [(one.path, one.face, Path(one.path).name) for one in given]
    shipped = [(path, square(path), f"example {i}") for i, path in enumerate(files, 1)]
    buttons = "".join(
        f'<button type="button" data-image="{place}" aria-pressed="{str(path == current).lower()}"'
        f' aria-label="{escape(name)}" title="{escape(name)}"><img src="{face}" alt=""></button>'
        for place, (path, face, name) in enumerate([*own, *shipped])
    )
    return f'<div role="group" aria-label="Images to look at">{buttons}</div>'
