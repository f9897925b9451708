"""How the app's functions are hung on the page: settings of events, words for errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from starlette.responses import JSONResponse

from sparse_rcnn_lab.core.errors import LabError

log = logging.getLogger("sparse_rcnn_lab.app")

# A control that moves: the last value counts, whether by mouse, arrow keys or number box.
AT_ONCE: dict[str, Any] = {
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}
ON_CLICK: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}


def in_words(error: Exception) -> str:
    """What to say of an error, on the page; what the log needs goes there."""
    if isinstance(error, LabError):
        log.warning("%s", error)
        return str(error)
    log.error("A request failed.", exc_info=error)
    return (
        f"The app itself went wrong ({type(error).__name__}). Nothing of yours is lost; the "
        "terminal that it runs in says more."
    )


def problem(text: str, status: int) -> JSONResponse:
    """Tells a script of the page why it does not get what it asked for."""
    return JSONResponse({"problem": text}, status)


def failed(error: Exception) -> JSONResponse:
    """The same in an error's own words: 400 for a mistake in the request, 500 for the app's."""
    return problem(in_words(error), 400 if isinstance(error, LabError) else 500)


def explained(function: Callable[..., Any], loud: bool = False) -> Callable[..., Any]:
    """Shows an error's own words on the page, once, and writes it to the log; all stays as it was.

    loud: the event counts as failed, for endpoints and for what comes after it.
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
    """A number typed beyond a slider's range counts as the range's end, as its box then shows.

    Gradio would raise while it reads the value, outside of :func:`explained`, and print a traceback
    for every key. On its classes: an update of a slider's range makes a new object of it, and a
    class of our own would have Gradio write a ``.pyi`` file beside this one.
    """
    for kind in (gr.Slider, gr.Number):
        kind.preprocess = _clamped


def _clamped(self: Any, payload: Any) -> Any:
    if not isinstance(payload, int | float):  # an empty box; what is no number is said later
        return payload
    low, high = self.minimum, self.maximum
    payload = payload if low is None else max(payload, low)
    return payload if high is None else min(payload, high)


def path_alone(payload: Any) -> str | None:
    """For ``preprocess``: the uploaded file's path. Gradio would open the file itself and answer a
    broken one with a bare "Error".
    """
    return None if payload is None else payload.path
