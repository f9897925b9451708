"""The tab *Video*: a file in, the same with boxes out; and a film of one frame's stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import readouts
from sparse_rcnn_lab.app.control_panel import ControlPanel, slider
from sparse_rcnn_lab.app.downloads import new_file
from sparse_rcnn_lab.app.events import ON_CLICK, explained, in_words
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.video import annotate, film_of, open_clip, sample_video
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

_TELL = 0.4  # seconds between two images of the progress
VIDEOS_AT_ONCE = 2  # videos that are worked on at the same time
_HINT = "Drop a video, or try the sample; the controls of the page act on every frame."


class VideoTab:
    """Lays the tab out in the current block; :meth:`connect` wires it to the controls."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._stops: dict[str, threading.Event] = {}
        with gr.Row(elem_id="lab-videos", equal_height=True):
            self.source = gr.Video(
                sources=["upload"],
                include_audio=True,
                label="Your video",
                buttons=[],
                min_width=240,
                height=300,
                elem_id="lab-video-in",
            )
            with gr.Column(min_width=240):
                self.result = gr.Video(
                    label="With boxes",
                    interactive=False,
                    buttons=["download"],
                    autoplay=True,
                    height=300,
                    elem_id="lab-video-out",
                )
                self.preview = gr.Image(
                    format="jpeg",
                    type="pil",
                    label="Working",
                    interactive=False,
                    visible=False,
                    buttons=[],
                    height=300,
                    elem_id="lab-video-preview",
                    alt_text="The frame that is being worked on",
                )
        self.state = gr.HTML(readouts.working(_HINT), elem_id="lab-video-state")
        with gr.Row(elem_id="lab-video-row"):
            self.sample = gr.Button("Sample", elem_id="lab-video-sample", min_width=90)
            self.start = gr.Button(
                "Detect", variant="primary", elem_id="lab-video-start", min_width=90
            )
            self.stop = gr.Button("Stop", elem_id="lab-video-stop", min_width=90)
        with gr.Accordion("Frames, and a film of one of them", open=False):
            help_text = "How many to detect in; the video has at most its own."
            self.rate = slider(
                "lab-video-rate", "Frames a second", help_text, 1, 60, value=15, step=1
            )
            with gr.Row(equal_height=True):
                self.second = gr.Number(
                    0,
                    minimum=0,
                    step=0.1,
                    label="Second",
                    info="The frame at this time, slowed down: a second for each stage.",
                    elem_id="lab-film-second",
                )
                self.film = gr.Button("Film its stages", elem_id="lab-film-make", min_width=160)
            self.filmed = gr.Video(
                label="Stages",
                interactive=False,
                buttons=["download"],
                autoplay=True,
                loop=True,
                height=320,
                elem_id="lab-film",
            )

    def connect(self, controls: ControlPanel, image: gr.State) -> None:
        """Wires the buttons."""
        shown = [self.preview, self.result, self.state]
        self.start.click(
            self._detect,
            [self.source, self.rate, *controls.inputs],
            shown,
            concurrency_id="video",
            concurrency_limit=VIDEOS_AT_ONCE,
            show_progress="hidden",
            api_visibility="private",
        )
        # Not in the queue of videos: it has to come while one runs.
        self.stop.click(self._stop, None, None, **ON_CLICK, queue=False)
        self.sample.click(explained(self._sample), image, self.source, **ON_CLICK)
        self.film.click(
            explained(self._film),
            [self.source, self.second, image, *controls.inputs],
            self.filmed,
            **ON_CLICK,
        )

    def _detect(
        self, request: gr.Request, path: str | None, rate: float, *moved: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        """The frames as they are done, then the file. Stop keeps what is done."""
        idle = gr.update(visible=False, value=None)
        if path is None:
            yield idle, gr.skip(), readouts.working("Give a video first, or take the sample.")
            return
        session = str(request.session_hash)
        stop = self._stops[session] = threading.Event()
        target = new_file("detections.mp4")
        try:
            clip = open_clip(path, self.viewer.limits)
            told, last = 0.0, None
            hidden = gr.update(visible=False, value=None)
            state = ViewState.parse(*moved)
            for last in annotate(self.viewer, clip, state, rate, target, stop.is_set):
                if time.monotonic() - told > _TELL:
                    told = time.monotonic()
                    shown = gr.update(visible=True, value=last.image)
                    yield shown, hidden, readouts.working(readouts.pace(last), last)
            if last is None:
                raise LabError("Stopped before the first frame.")
            how = "Stopped" if stop.is_set() else "Done"
            text = f"{how}: {last.done:.1f} of {last.total:.1f} s, {last.frames} frames"
            text += f", {last.frames / last.took:.0f} frames/s. {last.cut}".rstrip()
            yield idle, gr.update(value=str(target), visible=True), readouts.working(text, last)
        except Exception as error:
            yield idle, gr.update(visible=True), readouts.working(in_words(error))
        finally:
            if self._stops.get(session) is stop:
                del self._stops[session]

    def _stop(self, request: gr.Request) -> None:
        running = self._stops.get(str(request.session_hash))
        if running is not None:
            running.set()

    def _sample(self, image: InputImage | None) -> str:
        if image is None:
            raise LabError("The sample goes across the image of the tab Photo; there is none.")
        return str(sample_video(image))

    def _film(
        self, path: str | None, second: float | None, image: InputImage | None, *moved: Any
    ) -> str:
        """Of the video's frame; without a video, of the image in the tab Photo."""
        if path is not None:
            pixels = open_clip(path, self.viewer.limits).frame(float(second or 0))
        elif image is not None:
            pixels = image.pixels
        else:
            raise LabError("Give a video first, or a image in the tab Photo.")
        target = new_file("stages.mp4")
        return str(film_of(self.viewer, pixels, ViewState.parse(*moved), target))
