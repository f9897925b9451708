"""The tab *Live*: boxes on the webcam's image while it runs.

The page's own script (``webcam.js``) runs the camera and sends its frames to :class:`Webcams`, one
request per frame. With Gradio's stream everything but the model takes twice the time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import time
from dataclasses import dataclass, field

import gradio as gr
from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sparse_rcnn_lab.app import readouts
from sparse_rcnn_lab.app.events import failed, problem
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage, Limits, read_frame, read_input
from sparse_rcnn_lab.app.viewer import View, Viewer
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.views.draw import as_image

PATH = "/lab/frame"
_GONE = 5.0  # seconds without a frame after which a webcam's place is free
_STAGE = """
<div id="lab-live-stage"><video id="lab-video" muted playsinline></video>
<canvas id="lab-live" role="img"
 aria-label="The webcam's image with the boxes that the detector found"></canvas>
<div id="lab-live-start"><button id="lab-camera-on" type="button">Start the camera</button></div>
<div id="lab-live-nothing" role="status" hidden><p></p></div>
</div>"""
_ROW = """
<div id="lab-live-controls"><button id="lab-camera-off" type="button" disabled>Stop</button>
<button id="lab-camera-turn" type="button" hidden>Switch camera</button>
<select id="lab-cameras" aria-label="Camera" hidden></select>
<p class="lab-hint" id="lab-live-note"
 role="status">The controls act on the running image; no frame is kept.</p></div>"""


class LiveTab:
    """Lays the tab out in the current block.

    knows: what the model finds, shown before the start.  snap: puts the frame into the explorer.
    """

    def __init__(self, detector: Detector) -> None:
        gr.HTML(_STAGE, apply_default_css=False)
        self.knows = gr.HTML(readouts.finds(detector.class_names), elem_id="lab-knows")
        with gr.Row(elem_id="lab-live-row"):
            gr.HTML(_ROW, apply_default_css=False, min_width=220)
            self.snap = gr.Button(
                "Explore this frame", elem_id="lab-snap", size="md", min_width=160
            )


def read_still(address: str, limits: Limits) -> InputImage:
    """A frame or drawing that the browser sent as a data URI. Raises LabError if there is none."""
    _, _, data = address.partition("base64,")
    if not data:
        raise LabError("There is nothing to keep yet. Start the camera, or draw, first.")
    try:
        frame = base64.b64decode(data, validate=True)
    except binascii.Error:
        frame = b""
    return read_input(as_image(read_frame(frame, limits)), limits)


@dataclass
class _Webcam:
    """A running webcam. turn: its frames are processed one after the other."""

    last: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Webcams:
    """Answers frames: a JPEG comes in, its boxes go out, and nothing is kept.

    people: how many webcams may run at once.
    """

    def __init__(self, viewer: Viewer, people: int) -> None:
        self.viewer = viewer
        self.people = people
        self._running: dict[str, _Webcam] = {}
        self._threads = CapacityLimiter(people)

    async def answer(self, request: Request) -> Response:
        """``POST PATH?who=ID&state=JSON`` with a JPEG; state: the values of ViewState's fields.

        Returns JSON: ``boxes``, best first, each left, top, right, bottom, colour, label, opacity
        and line width; and, in the headers, ``lab-found`` (detections), ``lab-milliseconds`` (of
        the model) and ``lab-busy`` (milliseconds for the whole frame, without waiting for its
        turn). Or a ``problem`` in words, with a status of 4xx or 5xx.
        """
        if request.headers.get("content-type") != "image/jpeg":
            return problem("A frame must be image/jpeg.", 415)
        try:
            state = _read_state(request.query_params.get("state", ""))
            webcam = self.admitted(request.query_params.get("who", ""))
            if webcam is None:
                places = f"All {self.people} places for webcams" if self.people > 1 else "The place"
                return problem(f"{places} are taken. Frames go on when one is free.", 503)
            if not self.viewer.models.is_loaded(state.model):
                return problem(f"{state.model} is being loaded.", 503)
            data = await request.body()
            # Two at once would only compete for the interpreter.
            async with webcam.turn:
                seen = await to_thread.run_sync(self._look, data, state, limiter=self._threads)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            return failed(error)
        view, busy = seen
        headers = {
            "lab-found": "-" if view.detections is None else str(len(view.detections)),
            "lab-milliseconds": f"{view.milliseconds:.0f}",
            "lab-busy": f"{busy:.0f}",
            "cache-control": "no-store",
        }
        boxes = [
            [*(round(side, 1) for side in m.box), m.color, m.label, m.opacity, m.width]
            for m in view.marks
            if all(map(math.isfinite, m.box))
        ]
        return JSONResponse({"boxes": boxes}, headers=headers)

    def admitted(self, who: str) -> _Webcam | None:
        """This webcam, which keeps its place while frames come; None when all are taken."""
        now = time.monotonic()
        for name, one in list(self._running.items()):
            # Not while its frame is being processed, which takes large models some time.
            if now - one.last > _GONE and not one.turn.locked():
                del self._running[name]
        who = who[:40]
        if who not in self._running and len(self._running) >= self.people:
            return None
        webcam = self._running.setdefault(who, _Webcam())
        webcam.last = now
        return webcam

    def _look(self, data: bytes, state: ViewState) -> tuple[View, float]:
        start = time.perf_counter()
        view = self.viewer.view_frame(read_frame(data, self.viewer.limits), state)
        return view, 1000 * (time.perf_counter() - start)


def _read_state(text: str) -> ViewState:
    """The state that was sent with a frame. Raises a LabError that says what is expected."""
    try:
        return ViewState.parse(*json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise LabError(
            "webcam.js sends the state as [model, num_proposals, stage, threshold, show, "
            f"[classes]]; found {text[:200]!r}."
        ) from None
