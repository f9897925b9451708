"""The tab *Explore*: the explorer of the page's image, whose changes run here.

The page's own script (``explore.js``) shows it and sends changes to :class:`Explorations`, one
request per change; a request holds all changes, so that nothing of a visitor has to be kept.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sparse_rcnn_lab.app.downloads import explorer_of
from sparse_rcnn_lab.app.events import failed, problem
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views.explorer import html_page
from sparse_rcnn_lab.views.explorer.explore import Explorer

PATH = "/lab/explore"
_KEPT = 8  # images whose pyramids stay in memory, for all visitors together


@dataclass
class _Kept:
    token: str
    explorer: Explorer
    stays: bool  # every page begins with this image
    turn: threading.Lock = field(default_factory=threading.Lock)  # a session runs one at a time


class Explorations:
    """The images that are being explored, and the routes for the page's script."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, image: InputImage, state: ViewState, stays: bool = False) -> str:
        """A token for this image with this model; it stays the same while the image is kept.

        stays: the image is kept as long as the app runs.
        """
        of = image.key, state.model
        with self._lock:
            if of in self._kept:
                self._kept.move_to_end(of)
                return self._kept[of].token
        with self.viewer.turn():
            kept = _Kept(secrets.token_urlsafe(16), explorer_of(self.viewer, image, state), stays)
        with self._lock:
            kept = self._kept.setdefault(of, kept)  # another thread may have been quicker
            while len(self._kept) > _KEPT:
                del self._kept[next(of for of, one in self._kept.items() if not one.stays)]
        return kept.token

    async def module(self, request: Request) -> Response:
        """``GET PATH/module.js``: the explorer's script."""
        return Response(html_page.script(), media_type="text/javascript")

    async def answer(self, request: Request) -> Response:
        """``GET PATH/TOKEN``: what to show.  ``POST`` with ``{"intervention"}``: ``{"edited"}``, or
        a ``problem`` in words; 410 means that the image is no longer kept and must be opened again.
        """
        token = request.path_params["token"]
        kept = next((one for one in list(self._kept.values()) if one.token == token), None)
        if kept is None:
            return problem("The app no longer keeps this image. Open it again.", 410)
        if request.method == "GET":
            return JSONResponse(kept.explorer.start)
        try:
            message = json.loads(await request.body())
            return JSONResponse(await to_thread.run_sync(self._run, kept, message))
        except ClientDisconnect:
            return Response(status_code=400)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
            return problem("A change must be a JSON object with an intervention.", 400)
        except LabError as error:  # an ordinary answer, which says why it cannot be done
            return problem(str(error), 200)
        except Exception as error:
            return failed(error)

    def _run(self, kept: _Kept, message: dict[str, Any]) -> dict[str, Any]:
        with kept.turn, self.viewer.turn():
            return kept.explorer.answer(message)


class ExploreTab:
    """The interactive explorer of the image that the other tabs show.

    first: what the page shows at first, for its script.
    """

    def __init__(
        self, explorations: Explorations, image: InputImage | None, start: ViewState
    ) -> None:
        self.explorations = explorations
        self.first = "" if image is None else self._told(image, start, stays=True)
        gr.HTML('<div id="lab-explorer-place"></div>', apply_default_css=False, padding=False)
        self.shown = gr.Textbox(self.first, elem_id="lab-explored", elem_classes="lab-hidden")
        self.again = gr.Button("Open again", elem_id="lab-explore-again", elem_classes="lab-hidden")
        self.inputs: list[Any] = []
        self.outputs = [self.shown]
        self.shown.change(
            None,
            self.shown,
            None,
            js="(told) => window.labExplore.show(told)",
            api_visibility="private",
        )

    def refresh(self, image: InputImage | None, state: ViewState) -> dict[Any, Any]:
        """The image for the page's script; nothing changes unless image or model have changed."""
        return {self.shown: "" if image is None else self._told(image, state)}

    def _told(self, image: InputImage, state: ViewState, stays: bool = False) -> str:
        """The message to the script. Its nonce makes a repeated message arrive."""
        told = {
            "token": self.explorations.open(image, state, stays),
            "of": f"{image.key} {state.model}",
            "proposals": state.num_proposals,
            "threshold": state.threshold,
            "nonce": secrets.token_hex(4),
        }
        return json.dumps(told)
