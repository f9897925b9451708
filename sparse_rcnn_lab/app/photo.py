"""The tab *Photo*: a picture, its detections, and examples to start from."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import DIFFICULTIES, Bench, Dials, Picture, read_picture
from sparse_rcnn_lab.app.dials import DialParts, as_dials
from sparse_rcnn_lab.errors import LabError

_AT_ONCE = {"trigger_mode": "always_last", "show_progress": "hidden", "api_visibility": "private"}
_EVENT = {"show_progress": "minimal", "api_visibility": "private"}


def explained(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a LabError's own words on the page in place of a traceback."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except LabError as error:
            raise gr.Error(str(error), title="This did not work", print_exception=False) from None

    return call


class PhotoTab:
    """Lays the tab out in the current block; :meth:`connect` wires it to the dials."""

    def __init__(self, bench: Bench, start: Dials) -> None:
        self.bench = bench
        files = bench.examples(start.model)
        first = read_picture(files[0]) if files else None
        image, self.first_readout, self.first_table = self._show(first, start)
        self.picture = gr.State(first, time_to_live=3600)
        self.result = gr.Image(
            image,
            format="jpeg",
            type="pil",
            label="Detections",
            show_label=False,
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id="lab-result",
            alt_text="Your picture with the boxes that the detector found",
        )
        with gr.Row(elem_id="lab-input", equal_height=True):
            self.source = gr.Image(
                str(files[0]) if files else None,
                type="filepath",
                format="png",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                label="Your picture",
                height=240,
                buttons=[],
                placeholder="Drop a picture here\n- or -\nClick to choose one",
                elem_id="lab-source",
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            # Gradio opens the file itself and would answer a broken one with a bare "Error".
            self.source.preprocess = lambda payload: None if payload is None else payload.path
            with gr.Column(min_width=220):
                gr.HTML(
                    '<span class="lab-caption">Examples</span>',
                    padding=False,
                    elem_id="lab-caption",
                )
                self.gallery = gr.Gallery(
                    [str(path) for path in files],
                    label="Examples",
                    show_label=False,
                    columns=3,
                    height=128,
                    allow_preview=False,
                    interactive=False,
                    object_fit="cover",
                    buttons=[],
                    elem_id="lab-examples",
                )
                with gr.Row(
                    visible=bench.draws_samples(start.model), elem_id="lab-samples"
                ) as self.samples:
                    self.difficulty = gr.Dropdown(
                        list(DIFFICULTIES),
                        value="normal",
                        label="Difficulty",
                        container=False,
                        min_width=100,
                    )
                    self.draw = gr.Button(
                        "Draw me a sample", elem_id="lab-draw", size="md", min_width=160
                    )

    def connect(self, dials: DialParts, readout: gr.HTML, table: gr.HTML) -> None:
        """Wires pictures and dials to the result, ``readout`` and ``table``."""
        view = [self.result, readout, table]
        look = [self.picture, *dials.inputs()]
        self.source.change(
            explained(self._take), [self.source, *dials.inputs()], [self.picture, *view], **_EVENT
        )
        for dial in dials.quick():
            dial.change(explained(self._turn), look, view, **_AT_ONCE)
        dials.model.change(
            explained(self._switch),
            [self.picture, dials.model, dials.stage, dials.threshold, dials.show],
            [
                dials.proposals,
                dials.stage,
                self.gallery,
                self.samples,
                self.source,
                self.picture,
                *view,
            ],
            **_EVENT,
        )
        self.gallery.select(
            explained(self._example), dials.model, [self.source, self.gallery], **_EVENT
        )
        self.draw.click(explained(self._sample), self.difficulty, self.source, **_EVENT)

    def _show(self, picture: Picture | None, dials: Dials) -> tuple[Any, str, str]:
        view = None if picture is None else self.bench.look(picture, dials)
        image = None if view is None else view.image
        return image, words.readout(view), words.table(view, dials)

    def _take(self, path: str | None, *dials: Any) -> tuple[Any, ...]:
        picture = None if path is None else read_picture(path)
        return picture, *self._show(picture, as_dials(*dials))

    def _turn(self, picture: Picture | None, *dials: Any) -> tuple[Any, ...]:
        return self._show(picture, as_dials(*dials))

    def _switch(
        self, picture: Picture | None, model: str, stage: int, threshold: float, show: str
    ) -> tuple[Any, ...]:
        """Another model: its number of proposals, its examples, and a picture it knows."""
        detector = self.bench.detector(model)
        files = [str(path) for path in self.bench.examples(model)]
        source: Any = gr.skip()
        if picture is None or picture.key in self._example_keys():
            source, picture = files[0], read_picture(files[0])
        stage = min(int(stage or 0), detector.num_stages)
        n = detector.num_proposals
        dials = as_dials(model, n, stage, threshold, show)
        return (
            gr.update(maximum=n, value=n),
            gr.update(maximum=detector.num_stages, value=stage),
            gr.update(value=files),
            gr.update(visible=self.bench.draws_samples(model)),
            source,
            picture,
            *self._show(picture, dials),
        )

    def _example_keys(self) -> set[str]:
        files = {path for model in self.bench.models for path in self.bench.examples(model)}
        return {read_picture(path).key for path in files}

    def _example(self, model: str, event: gr.SelectData) -> tuple[str, Any]:
        # Deselected at once, so that a second click on the same example works too.
        return str(self.bench.examples(model)[event.index]), gr.update(selected_index=None)

    def _sample(self, difficulty: str) -> Any:
        image, seed = self.bench.sample(difficulty)
        gr.Info(f"Drawn from seed {seed} ({difficulty}).", duration=3)
        return image
