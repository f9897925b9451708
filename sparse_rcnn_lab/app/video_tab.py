"""The tab *Video*: a video goes in and comes out with boxes."""

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
from sparse_rcnn_lab.app.state import ViewState, parse_number
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.video import annotate, open_clip, sample_video
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

_TELL = 0.4  # seconds between two images of the progress
VIDEOS_AT_ONCE = 2  # videos that are processed at the same time
_HINT = "Drop a video, or make a sample; the controls of the page act on every frame."


class VideoTab:
    """Lays the tab out in the current block; :meth:`connect` connects it to the controls."""

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
            self.result = gr.Video(
                label="With boxes",
                interactive=False,
                buttons=["download"],
                autoplay=True,
                height=300,
                min_width=240,
                visible=False,
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
                min_width=240,
                elem_id="lab-video-preview",
                alt_text="The frame that is being worked on",
            )
        self.state = gr.HTML(readouts.working(_HINT), elem_id="lab-video-state")
        with gr.Row(elem_id="lab-video-row"):
            self.sample = gr.Button("Make a sample", elem_id="lab-video-sample", min_width=90)
            self.start = gr.Button(
                "Detect",
                variant="primary",
                interactive=False,
                elem_id="lab-video-start",
                min_width=90,
            )
            self.stop = gr.Button("Stop", interactive=False, elem_id="lab-video-stop", min_width=90)
        words = "How many frames per second to detect in, at most those of the video."
        self.rate = slider("lab-video-rate", "Frames per second", words, 1, 60, value=15, step=1)

    def connect(self, controls: ControlPanel, image: gr.State) -> None:
        """Connects the buttons."""
        shown = [self.preview, self.result, self.state, self.stop]
        self.source.change(
            self._given, self.source, [self.start, self.state, self.result], **ON_CLICK
        )
        self.start.click(
            self._detect,
            [self.source, self.rate, *controls.inputs],
            shown,
            concurrency_id="video",
            concurrency_limit=VIDEOS_AT_ONCE,
            show_progress="hidden",
            api_visibility="private",
        )
        # Not in the queue of videos, since it must be handled while one runs.
        self.stop.click(self._stop, None, None, **ON_CLICK, queue=False)
        self.sample.click(explained(self._sample), image, self.source, **ON_CLICK)

    def _detect(
        self, request: gr.Request, path: str | None, rate: Any, *moved: Any
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Yields the frames as they are done, then the file. Stop keeps what is done."""
        idle = gr.update(visible=False, value=None)
        can, cannot = gr.update(interactive=True), gr.update(interactive=False)
        if path is None:  # it was removed at this moment
            yield idle, gr.skip(), readouts.working(_HINT), cannot
            return
        session = str(request.session_hash)
        stop = self._stops[session] = threading.Event()
        target = new_file("detections.mp4")
        try:
            clip = open_clip(path, self.viewer.limits)
            told, last = 0.0, None
            state = ViewState.parse(*moved)
            per_second = parse_number("frames per second", rate)
            for last in annotate(self.viewer, clip, state, per_second, target, stop.is_set):
                if time.monotonic() - told > _TELL:
                    told = time.monotonic()
                    shown = gr.update(visible=True, value=last.image)
                    yield shown, idle, readouts.working(readouts.pace(last), last), can
            if last is None:
                raise LabError("Stopped before the first frame.")
            how = "Stopped" if stop.is_set() else "Done"
            text = f"{how}: {last.done:.1f} of {last.total:.1f} s, {last.frames} frames"
            text += f", {last.frames / last.took:.0f} frames/s. {last.cut}".rstrip()
            made = gr.update(value=str(target), visible=True)
            yield idle, made, readouts.working(text, last), cannot
        except Exception as error:
            yield idle, gr.skip(), readouts.working(in_words(error)), cannot
        finally:
            if self._stops.get(session) is stop:
                del self._stops[session]

    def _given(self, path: str | None) -> tuple[Any, Any, Any]:
        """Updates the tab after a video was given or removed, and clears the last result."""
        text = _HINT if path is None else "Ready. Detect applies the controls to every frame."
        gone = gr.update(value=None, visible=False)
        return gr.update(interactive=path is not None), readouts.working(text), gone

    def _stop(self, request: gr.Request) -> None:
        running = self._stops.get(str(request.session_hash))
        if running is not None:
            running.set()

    def _sample(self, image: InputImage | None) -> str:
        if image is None:
            raise LabError("The sample pans across the image of the other tabs. Give one first.")
        return str(sample_video(image, new_file("sample.mp4")))
