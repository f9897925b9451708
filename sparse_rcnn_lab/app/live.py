"""The tab *Live*: boxes on the webcam's picture while it runs."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import Bench
from sparse_rcnn_lab.app.dials import DialParts, as_dials
from sparse_rcnn_lab.app.events import in_words
from sparse_rcnn_lab.app.frames import LastFrames, as_jpeg, look_at
from sparse_rcnn_lab.app.pictures import Picture, read_frame, read_picture
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.views.draw import as_image

EVERY = 0.02  # seconds between looks at the camera; live.js says when a frame is taken
_SIZE = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}, "facingMode": "environment"}}


class LiveTab:
    """Lays the tab out in the current block; :meth:`connect` wires it to the dials."""

    def __init__(self, bench: Bench, people: int) -> None:
        """people: how many webcams may run at once."""
        self.bench = bench
        self.people = people
        self.frames = LastFrames()
        with gr.Column(elem_id="lab-live-stage"):
            self.camera = gr.Image(
                sources=["webcam"],
                streaming=True,
                show_label=False,
                container=False,
                buttons=[],
                elem_id="lab-camera",
                webcam_options=gr.WebcamOptions(mirror=False, constraints=_SIZE),
            )
            self.result = gr.Image(
                interactive=False,
                show_label=False,
                container=False,
                buttons=[],
                elem_id="lab-live",
                alt_text="The webcam's picture with the boxes that the detector found",
            )
        # The bytes as they come and go: no file a frame, and no decoding that we do not bound.
        self.camera.preprocess = _from_data
        self.result.postprocess = _as_data
        with gr.Row(elem_id="lab-live-row"):
            self.note = gr.HTML(
                words.LIVE_HINT, elem_id="lab-live-note", padding=False, min_width=220
            )
            self.snap = gr.Button(
                "Snapshot: explore this frame", elem_id="lab-snap", size="md", min_width=220
            )

    def connect(self, dials: DialParts, readout: gr.HTML) -> None:
        """Starts a stream from the camera through the dials to the picture."""
        self.camera.stream(
            self._frame,
            [self.camera, *dials.inputs()],
            [self.result, readout],
            stream_every=EVERY,
            time_limit=None,
            # Its own queue: a stream holds its place as long as it runs.
            concurrency_id="live",
            concurrency_limit=self.people,
            show_progress="hidden",
            api_visibility="private",
        )

    def first_readout(self) -> str:
        """The numbers when the tab is opened: the next frame fills them."""
        return words.readout(None, None, words.LIVE_MS)

    def snapshot(self, request: gr.Request) -> Picture:
        """The frame that the camera sent last. Raises LabError when it is not running."""
        frame = self.frames.of(str(request.session_hash))
        if frame is None:
            raise LabError("There is no frame to keep yet. Start the webcam first.")
        return read_picture(as_image(read_frame(frame, self.bench.limits)), self.bench.limits)

    def _frame(
        self, request: gr.Request, sent: tuple[bytes, str] | None, *turned: Any
    ) -> tuple[Any, Any]:
        """One frame. Whatever goes wrong is said in its place; the stream goes on."""
        if sent is None:
            return gr.skip(), gr.skip()
        data, stamp = sent
        try:
            pixels = read_frame(data, self.bench.limits)
            self.frames.keep(str(request.session_hash), data)
            seen = look_at(self.bench, pixels, as_dials(*turned))
        except Exception as error:
            return gr.skip(), words.problem(in_words(error))
        numbers = words.readout(seen.found, seen.milliseconds, words.LIVE_MS)
        return (as_jpeg(seen.image), stamp), numbers


def _from_data(payload: ImageData | None) -> tuple[bytes, str] | None:
    """The JPEG that the camera sent, as bytes, and the time it was taken at (live.js)."""
    if payload is None or not payload.url or not payload.url.startswith("data:image/jpeg;"):
        return None
    kind, _, data = payload.url.partition("base64,")
    stamp = re.search(r";t=(\d{1,12}(\.\d{1,6})?);", kind)
    try:
        return base64.b64decode(data, validate=True), stamp[1] if stamp else ""
    except binascii.Error:
        return b"", ""


def _as_data(value: tuple[bytes, str] | None) -> ImageData | None:
    """The JPEG inside the answer, with the time at which its frame was taken."""
    if value is None:
        return None
    data, stamp = value
    mark = f";t={stamp}" if stamp else ""
    return ImageData(url=f"data:image/jpeg{mark};base64,{base64.b64encode(data).decode()}")
