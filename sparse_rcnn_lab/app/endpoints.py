"""The app as named endpoints, one per tab: docs/app.md shows how to call them.

The names of the parameters are part of the interface: those of ViewState's fields, and further
ones. ``gr.api`` would derive everything from type hints, but passes a visitor's path to the
function unchecked; invisible components accept only what was uploaded.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.downloads import as_jpeg, coco_results, download, new_file
from sparse_rcnn_lab.app.events import explained, path_alone
from sparse_rcnn_lab.app.state import ViewState, parse_number
from sparse_rcnn_lab.app.user_inputs import InputImage, read_input
from sparse_rcnn_lab.app.video import annotate, open_clip
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

Found = dict[str, Any]


class Endpoints:
    """Adds the endpoints to the current page, invisibly."""

    def __init__(self, viewer: Viewer, start: ViewState) -> None:
        self.viewer = viewer
        with gr.Column(visible=False):
            image = gr.Image(type="filepath", label="image")
            video = gr.Video(label="video")
            for given in (image, video):
                given.preprocess = path_alone
            state = {
                field.name: _component(field.name, getattr(start, field.name))
                for field in fields(start)
            }
            other = {
                f"other_{name}": _component(f"other_{name}", getattr(start, name))
                for name in ("model", "num_proposals", "stage")
            }
            rate = {"frames_per_second": gr.Number(15, label="frames_per_second")}
            drawn, second = (
                gr.Image(type="filepath", format="jpeg", label=label)
                for label in ("annotated", "other annotated")
            )
            clip, page = gr.Video(label="annotated"), gr.File(label="page")
            found = gr.JSON(label="detections")
            self._button = gr.Button()
        one = {"image": image, **state}
        self._add(self.models, {}, [found])
        self._add(self.live, one, [drawn, found])
        self._add(self.photo, one, [drawn, found])
        self._add(self.video, {"video": video, **state, **rate}, [clip, found], "video")
        self._add(self.compare, {**one, **other}, [drawn, second, found])
        self._add(self.explore, one, [page])

    def _add(
        self,
        function: Callable[..., Any],
        inputs: dict[str, Any],
        outputs: list[Any],
        concurrency_id: str | None = None,
    ) -> None:
        """Adds an endpoint with the function's name; it gets the file, the state and the rest."""
        size = len(fields(ViewState))

        def call(*values: Any) -> Any:
            if not values:
                return function()
            path, *more = values
            if path is None:
                kind, file = next(iter(inputs)), "clip.mp4" if "video" in inputs else "photo.jpg"
                raise LabError(f"{kind} is missing. Give a file: handle_file('{file}').")
            return function(path, ViewState.parse(*more[:size]), *more[size:])

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in inputs]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self._button.click(
            explained(call, loud=True),
            list(inputs.values()),
            outputs,
            api_name=function.__name__,
            api_description=function.__doc__,
            concurrency_id=concurrency_id,
            show_progress="hidden",
        )

    def models(self) -> list[Found]:
        """The models for the other endpoints; a published one is downloaded at its first use."""
        return [{"name": name, "label": label} for label, name in self.viewer.models.choices()]

    def live(self, path: str, state: ViewState) -> tuple[str, Found]:
        """One frame, treated like the webcam's: stages after the chosen one do not run."""
        view = self.viewer.view_frame(self._read(path).pixels, state)
        target = new_file("frame.jpg")
        target.write_bytes(as_jpeg(view.image))
        found = [] if view.detections is None else view.detections.to_coco()
        return str(target), {"milliseconds": round(view.milliseconds, 1), "annotations": found}

    def photo(self, path: str, state: ViewState) -> tuple[str, Found]:
        """An image with its boxes, and the detections as a COCO file."""
        return self._annotated(self._read(path), state)

    def video(self, path: str, state: ViewState, frames_per_second: Any) -> tuple[str, Found]:
        """A video with its boxes."""
        target = new_file("detections.mp4")
        rate = parse_number("frames_per_second", frames_per_second) or 15.0
        steps = annotate(self.viewer, open_clip(path, self.viewer.limits), state, rate, target)
        (last,) = deque(steps, maxlen=1)
        told: Found = {"seconds": round(last.done, 3), "frames": last.frames}
        return str(target), told | ({"cut": last.cut} if last.cut else {})

    def compare(self, path: str, state: ViewState, *other: Any) -> tuple[str, str, Found]:
        """An image twice: with the state, and with the model, proposals and stage of other_."""
        image = self._read(path)
        one = self._annotated(image, state)
        two = self._annotated(image, state.using(*other))
        return one[0], two[0], {"one": one[1], "two": two[1]}

    def explore(self, path: str, state: ViewState) -> str:
        """The explorer of an image as one HTML page that opens without a network."""
        return str(download(self.viewer, self._read(path), state, "page"))

    def _annotated(self, image: InputImage, state: ViewState) -> tuple[str, Found]:
        path = download(self.viewer, image, state, "image")
        return str(path), coco_results(self.viewer, image, state)

    def _read(self, path: str) -> InputImage:
        return read_input(path, self.viewer.limits)


def _component(name: str, value: Any) -> Any:
    """The component for a field; its value is the parameter's default."""
    if isinstance(value, tuple):
        return gr.JSON(list(value), label=name)
    return (gr.Textbox if isinstance(value, str) else gr.Number)(value, label=name)
