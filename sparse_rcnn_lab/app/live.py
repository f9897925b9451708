"""The tab *Live*: boxes on the webcam's picture while it runs.

The page's own script (``live.js``) runs the camera and sends its frames to :class:`Webcams`, one
request a frame: Gradio's stream works too, and takes twice the time for what is not the model.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.dials import DialParts, as_dials
from sparse_rcnn_lab.app.events import in_words
from sparse_rcnn_lab.app.frames import Frame, as_jpeg, look_at
from sparse_rcnn_lab.app.pictures import Picture, read_frame, read_picture
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views.draw import as_image

PATH = "/lab/frame"
_GONE = 5.0  # seconds without a frame after which a webcam's place is free
_DIALS = "live.js sends the dials as [model, proposals, stage, threshold, show, [classes]]"


class LiveTab:
    """Lays the tab out in the current block; :meth:`connect` wires it to the dials."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        gr.HTML(words.LIVE_STAGE, padding=False)
        with gr.Row(elem_id="lab-live-row"):
            gr.HTML(words.LIVE_ROW, padding=False, min_width=220)
            self.snap = gr.Button(
                "Snapshot: explore this frame", elem_id="lab-snap", size="md", min_width=220
            )
        self.still = gr.Textbox(elem_id="lab-still", elem_classes="lab-hidden", container=False)

    def connect(self, page: gr.Blocks, dials: DialParts) -> None:
        """Tells the script where the dials stand, at once and whenever one is turned."""
        values = [dials.model, *dials.quick()]
        gr.on(
            [page.load, *(part.change for part in values)],
            None,
            values,
            None,
            js="(...values) => window.labLive.turn(...values)",
            api_visibility="private",
        )

    def first_readout(self) -> str:
        """The numbers when the tab is opened: the next frame fills them."""
        return words.readout(None, None, words.LIVE_MS)

    def snapshot(self, address: str) -> Picture:
        """The frame that was shown. Raises LabError when there was none."""
        kind, _, data = address.partition("base64,")
        if not kind.startswith("data:image/jpeg;"):
            raise LabError("There is no frame to keep yet. Start the camera first.")
        try:
            frame = base64.b64decode(data, validate=True)
        except binascii.Error:
            frame = b""
        return read_picture(as_image(read_frame(frame, self.bench.limits)), self.bench.limits)


@dataclass
class _Webcam:
    """One that runs. turn: its frames are worked on one after the other."""

    last: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Webcams:
    """Answers frames: a JPEG in, one with boxes out, and nothing kept.

    people: how many webcams may run at once.
    """

    def __init__(self, bench: Bench, people: int) -> None:
        self.bench = bench
        self.people = people
        self._running: dict[str, _Webcam] = {}
        self._threads = CapacityLimiter(people)

    async def answer(self, request: Request) -> Response:
        """``POST PATH?who=ID&dials=JSON`` with a JPEG.

        Gives a JPEG and, in the headers, ``lab-found`` (detections), ``lab-milliseconds`` (of the
        model) and ``lab-busy`` (milliseconds of all that the frame needed, once it had its turn);
        or a ``problem`` in words, as JSON, with a status of 4xx or 5xx.
        """
        if request.headers.get("content-type") != "image/jpeg":
            return _problem("A frame is sent as image/jpeg.", 415)
        try:
            dials = _read_dials(request.query_params.get("dials", ""))
            webcam = self.admitted(request.query_params.get("who", ""))
            if webcam is None:
                places = f"All {self.people} places for webcams" if self.people > 1 else "The place"
                return _problem(f"{places} are taken. Frames go on when one is free.", 503)
            if not self.bench.models.has(dials.model):
                return _problem(f"{dials.model} is being loaded.", 503)
            data = await request.body()
            # Two at once would only take the interpreter from each other.
            async with webcam.turn:
                seen = await to_thread.run_sync(self._look, data, dials, limiter=self._threads)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            return _problem(in_words(error), 400 if isinstance(error, LabError) else 500)
        frame, jpeg, busy = seen
        headers = {
            "lab-found": "-" if frame.found is None else str(len(frame.found)),
            "lab-milliseconds": f"{frame.milliseconds:.0f}",
            "lab-busy": f"{busy:.0f}",
            "cache-control": "no-store",
        }
        return Response(jpeg, headers=headers, media_type="image/jpeg")

    def admitted(self, who: str) -> _Webcam | None:
        """This webcam, which keeps its place while frames come; None when all are taken."""
        now = time.monotonic()
        for name in [name for name, one in self._running.items() if now - one.last > _GONE]:
            del self._running[name]
        who = who[:40]
        if who not in self._running and len(self._running) >= self.people:
            return None
        webcam = self._running.setdefault(who, _Webcam())
        webcam.last = now
        return webcam

    def _look(self, data: bytes, dials: Dials) -> tuple[Frame, bytes, float]:
        start = time.perf_counter()
        frame = look_at(self.bench, read_frame(data, self.bench.limits), dials)
        jpeg = as_jpeg(frame.image)
        return frame, jpeg, 1000 * (time.perf_counter() - start)


def _problem(text: str, status: int) -> Response:
    return JSONResponse({"problem": text}, status_code=status)


def _read_dials(text: str) -> Dials:
    """The dials of a frame. Raises LabError, naming what is expected."""
    try:
        values: Any = json.loads(text)
        dials = as_dials(*values)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise LabError(f"{_DIALS}; found {text[:200]!r}.") from None
    if not isinstance(dials.model, str) or not all(isinstance(c, str) for c in dials.classes):
        raise LabError(f"{_DIALS}; found {text[:200]!r}.")
    return dials
