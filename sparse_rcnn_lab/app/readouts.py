"""The page's texts about a view, as HTML: numbers, the table, and the cost of the controls."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.app.state import DETECTIONS, ViewState
from sparse_rcnn_lab.app.video import Progress
from sparse_rcnn_lab.app.viewer import View, short_name
from sparse_rcnn_lab.core.boxes import xyxy_to_xywh
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.views import style

_MAX_ROWS = 100
_MAX_NAMES = 12  # of classes, before "and … more"
PHOTO_MS = "ms for all stages"
LIVE_MS = "ms to this stage"


def count_detections(view: View) -> str:
    """``1 detection`` or ``3 detections``."""
    count = 0 if view.detections is None else len(view.detections)
    return f"{count} detection{'s' * (count != 1)}"


def numbers(view: View | None, unit: str = PHOTO_MS) -> str:
    """Detections and milliseconds, in boxes that keep their width."""
    found = None if view is None else view.detections
    count = "–" if found is None else str(len(found))
    took = "–" if view is None else f"{view.milliseconds:.0f}"
    what = "detection" if count == "1" else "detections"
    return (
        '<div class="lab-readout" role="status">'
        f'<div><b id="lab-count">{count}</b><span>{what}</span></div>'
        f'<div><b id="lab-ms">{took}</b><span>{unit}</span></div></div>'
    )


def lead(title: str, detector: Detector) -> str:
    """The head of the page: the method in one sentence, with something to try."""
    stages = {4: "four", 6: "six"}.get(detector.num_stages, str(detector.num_stages))
    return (
        f"<h1>{escape(title)}</h1><p>The same {detector.num_proposals} boxes, the "
        f"<b>proposals</b>, start on every image; {stages} <b>stages</b> move them to the objects "
        "and name these. "
        '<span class="lab-acts"><button id="lab-try-five" type="button">Try it with five</button> '
        '<button id="lab-tour" type="button">Take the tour</button></span></p>'
    )


def finds(class_names: Sequence[str]) -> str:
    """A sentence on what a model can find."""
    return f"Finds {_some(class_names)}."


def _some(class_names: Sequence[str]) -> str:
    names = ", ".join(class_names[:_MAX_NAMES])
    more = len(class_names) - _MAX_NAMES
    return f"{names}{f' and {more} more' if more > 0 else ''}"


def cost(state: ViewState, detector: Detector) -> str:
    """What the controls cost or save, from measurements with the model."""
    state = state.clamped(detector)
    text = cost_sentence(state, detector.num_proposals, detector.num_stages)
    return f'<div class="lab-cost">{escape(text) or "&nbsp;"}</div>'


def cost_sentence(state: ViewState, num_proposals: int, num_stages: int) -> str:
    """COCO AP with these proposals and this stage, or "" for a model without measurements.

    curves.json has it for some numbers of proposals, at every stage; between them it is
    interpolated and the sentence says "about".
    """
    number, stage = state.num_proposals, state.stage
    now = measured_ap(state, num_proposals)
    full = measured_ap(replace(state, num_proposals=num_proposals, stage=num_stages), num_proposals)
    if now is None or full is None:
        return ""
    record = _curves()[state.model]
    if (number, stage) == (num_proposals, num_stages):
        return f"AP {full:.2f} on {record['images']}."
    about = "" if str(number) in record["AP"] else "about "
    loss = f"AP {about}{now:.2f} instead of {full:.2f}"
    if full - now < 0.005:
        loss = f"no measurable loss, AP {full:.2f}"
    return f"{number} of {num_proposals} proposals, stage {stage}: {loss} on {record['images']}."


def measured_ap(state: ViewState, num_proposals: int) -> float | None:
    """COCO AP of a model with ``num_proposals`` in all, at the state's proposals and stage."""
    record = _curves().get(state.model)
    if record is None or state.stage == 0 or str(num_proposals) not in record["AP"]:
        return None
    points = sorted((int(n), stages[state.stage - 1]) for n, stages in record["AP"].items())
    return _between(points, state.num_proposals)


def _between(points: list[tuple[int, float]], x: int) -> float:
    """The value at ``x``, interpolated linearly between the points."""
    at = bisect_left(points, (x, -1.0))
    if at == 0 or points[at][0] == x:
        return points[at][1]
    (x1, y1), (x2, y2) = points[at - 1], points[at]
    return y1 + (y2 - y1) * (x - x1) / (x2 - x1)


@cache
def _curves() -> dict[str, Any]:
    path = Path(__file__).with_name("curves.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def side(view: View) -> str:
    """One side of a comparison in one line."""
    count = "no scores yet" if view.detections is None else count_detections(view)
    state = view.state
    return (
        f'<div class="lab-side-text"><b>{count}</b> <span>{view.milliseconds:.0f} ms · '
        f"{escape(short_name(state.model))} · {state.num_proposals} proposals · "
        f"stage&nbsp;{state.stage}</span></div>"
    )


def working(text: str, done: Progress | None = None) -> str:
    """The state of a video, with a progress bar that is always there."""
    share = min(1.0, done.done / done.total) if done is not None and done.total else 0.0
    return (
        f'<div class="lab-working" role="status"><progress max="1" value="{share:.3f}" '
        f'aria-label="Video progress"></progress><p class="lab-hint">{escape(text)}</p></div>'
    )


def pace(done: Progress) -> str:
    """How far a video is, how fast it goes, and how long it will take."""
    speed = done.frames / max(done.took, 1e-6)
    left = max(0.0, done.total - done.done) * done.took / max(done.done, 1e-6)
    return f"{done.done:.1f} of {done.total:.1f} s, {speed:.0f} frames/s, about {left:.0f} s to go."


def table(view: View | None) -> str:
    """The detections as a table; without any, what to do about it."""
    if view is None:
        return NO_IMAGE
    state, found = view.state, view.detections
    if found is None:
        return hint(
            f"Stage 0: the {state.num_proposals} learned proposals, the same for every image and "
            "still without a score. Move the stage to 1 and watch them go."
        )
    if len(found) == 0:
        ways = ["lower the threshold"]
        ways += ["raise the stage"] if state.stage < view.num_stages else []
        ways += ["show all proposals"] if state.show == DETECTIONS else []
        ways += ["show all classes"] if state.classes else []
        return hint(
            f"No proposal scores {state.threshold:.2f} or more at stage {state.stage}: "
            f"{' or '.join(ways)}. This model looks for {_some(found.class_names)}; for anything "
            "else, choose another model."
        )
    rows = []
    for name, label, score, box, proposal in zip(
        found.names(),
        found.labels.tolist(),
        found.scores.tolist(),
        xyxy_to_xywh(found.boxes).tolist(),
        found.proposals.tolist(),
        strict=True,
    ):
        chip = f'<i style="background:{style.class_color(label)}"></i>'
        cells = "".join(f"<td>{value:.0f}</td>" for value in box)
        rows.append(
            f"<tr><th scope='row'>{chip}{escape(name)}</th><td>{score:.2f}</td>"
            f"<td>{proposal}</td>{cells}</tr>"
        )
    more = len(rows) - _MAX_ROWS
    rest = f'<p class="lab-hint">and {more} more</p>' if more > 0 else ""
    head = "".join(
        f"<th scope='col'>{name}</th>"
        for name in ("class", "score", "proposal", "x", "y", "w", "h")
    )
    return (
        '<div class="lab-table" tabindex="0" role="region" aria-label="Detections, best first">'
        f"<table><caption>Best first; x, y: the upper left corner, w, h: the size, "
        f"in pixels</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows[:_MAX_ROWS])}"
        f"</tbody></table>{rest}</div>"
    )


def hint(text: str) -> str:
    """A line of muted text."""
    return f'<p class="lab-hint">{escape(text)}</p>'


NO_IMAGE = hint("Drop an image on the page, paste one, or click an example above.")
