"""How the app's functions are connected to the page: settings of events, messages for errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from starlette.responses import JSONResponse

from sparse_rcnn_lab.core.errors import LabError

log = logging.getLogger("sparse_rcnn_lab.app")

# For a control that is moved: the last value counts, by mouse, arrow keys or number box.
AT_ONCE: dict[str, Any] = {
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}
ON_CLICK: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}


def in_words(error: Exception) -> str:
    """The message for an error on the page; the details go to the log."""
    if isinstance(error, LabError):
        log.warning("%s", error)
        return str(error)
    log.error("A request failed.", exc_info=error)
    return (
        f"The app itself failed ({type(error).__name__}). Nothing of yours is lost; the terminal "
        "that it runs in has the details."
    )


def problem(text: str, status: int) -> JSONResponse:
    """The response that tells a script of the page why a request failed."""
    return JSONResponse({"problem": text}, status)


def failed(error: Exception) -> JSONResponse:
    """The same with an error's message: 400 for a mistake in the request, 500 for the app's own."""
    return problem(in_words(error), 400 if isinstance(error, LabError) else 500)


def explained(function: Callable[..., Any], loud: bool = False) -> Callable[..., Any]:
    """Shows an error's message on the page, once, and logs it; everything stays as it was.

    loud: the event counts as failed, for endpoints and for the events after it.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            words = in_words(error)
            if loud:
                title = "This did not work"
                raise gr.Error(words, title=title, print_exception=False) from None
            gr.Warning(words, duration=15)
            return gr.skip()

    return call


def clamp_numbers() -> None:
    """Clamps a number typed beyond a slider's range to the range, as its box then shows.

    Gradio would raise while it reads the value, outside of :func:`explained`, and print a traceback
    for every key. This patches Gradio's classes, since an update of a slider's range creates a new
    object, and for a class of our own Gradio would write a ``.pyi`` file beside this one.
    """
    for kind in (gr.Slider, gr.Number):
        kind.preprocess = _clamped


def _clamped(self: Any, payload: Any) -> Any:
    if not isinstance(payload, int | float):  # an empty box; other non-numbers are reported later
        return payload
    low, high = self.minimum, self.maximum
    payload = payload if low is None else max(payload, low)
    return payload if high is None else min(payload, high)


def path_alone(payload: Any) -> str | None:
    """For ``preprocess``: the path of the uploaded file. Gradio would open the file itself and
    answer a broken one with a bare "Error".
    """
    return None if payload is None else payload.path
