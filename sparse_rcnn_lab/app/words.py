"""What the page says about a view, as HTML: the numbers beside the dials, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sparse_rcnn_lab.app.bench import SHOWN, Dials, View
from sparse_rcnn_lab.app.costs import cost
from sparse_rcnn_lab.app.filming import Progress
from sparse_rcnn_lab.app.models import short_name
from sparse_rcnn_lab.core.boxes import xyxy_to_xywh
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.views import style

_ROWS = 100
_NAMES = 12  # of classes, before "and … more"
PHOTO_MS = "ms for all stages"
LIVE_MS = "ms to this stage"


def readout(found: Detections | None, milliseconds: float | None, unit: str = PHOTO_MS) -> str:
    """Detections and milliseconds, in boxes that keep their width."""
    count = "–" if found is None else str(len(found))
    took = "–" if milliseconds is None else f"{milliseconds:.0f}"
    what = "detection" if count == "1" else "detections"
    return (
        '<div class="lab-readout" role="status">'
        f'<div><b id="lab-count">{count}</b><span>{what}</span></div>'
        f'<div><b id="lab-ms">{took}</b><span>{unit}</span></div></div>'
    )


def finds(class_names: Sequence[str]) -> str:
    """What a model can find."""
    return f"Finds {_some(class_names)}."


def _some(class_names: Sequence[str]) -> str:
    names = ", ".join(class_names[:_NAMES])
    more = len(class_names) - _NAMES
    return f"{names}{f' and {more} more' if more > 0 else ''}"


def costs(dials: Dials, num_proposals: int, num_stages: int) -> str:
    """What the dials cost or save, from what was measured with the model."""
    text = cost(dials.model, dials.proposals, num_proposals, dials.stage, num_stages)
    return f'<div class="lab-cost">{escape(text) or "&nbsp;"}</div>'


def side(view: View, model: str) -> str:
    """One side of a comparison, in a line."""
    count = "no scores yet"
    if view.detections is not None:
        n = len(view.detections)
        count = f"{n} detection{'s' * (n != 1)}"
    name = escape(short_name(model))
    return (
        f'<div class="lab-side-text"><b>{count}</b> <span>{view.milliseconds:.0f} ms · {name} · '
        f"{view.proposals} proposals · stage {view.stage}</span></div>"
    )


def working(text: str, done: Progress | None = None) -> str:
    """The state of a video, with a bar that is always there."""
    share = 0.0
    if done is not None and done.total:
        share = min(1.0, done.done / done.total)
    return (
        f'<div class="lab-working" role="status"><progress max="1" value="{share:.3f}" '
        f'aria-label="How far the video is"></progress><p class="lab-hint">{escape(text)}</p></div>'
    )


def pace(done: Progress) -> str:
    """How far a video is, how fast it goes, and how long it will take."""
    speed = done.frames / max(done.took, 1e-6)
    left = max(0.0, done.total - done.done) * done.took / max(done.done, 1e-6)
    return f"{done.done:.1f} of {done.total:.1f} s, {speed:.0f} frames/s, about {left:.0f} s to go."


def table(view: View | None, dials: Dials) -> str:
    """The detections as a table; without any, what to do about it."""
    if view is None:
        return NO_PICTURE
    if view.detections is None:
        return hint(
            f"Stage 0: the {view.proposals} learned proposals, the same for every picture and "
            "still without a score. Move the stage to 1 and watch them go."
        )
    found = view.detections
    if len(found) == 0:
        ways = ["lower the threshold"]
        ways += ["raise the stage"] if view.stage < view.num_stages else []
        ways += ["show all proposals"] if dials.show == SHOWN[0] else []
        ways += ["show all classes"] if dials.classes else []
        return hint(
            f"No proposal scores {dials.threshold:.2f} or more at stage {view.stage}: "
            f"{' or '.join(ways)}. This model looks for {_some(found.class_names)}; for anything "
            "else choose another model."
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
    more = len(rows) - _ROWS
    rest = f'<p class="lab-hint">and {more} more</p>' if more > 0 else ""
    head = "".join(
        f"<th scope='col'>{name}</th>"
        for name in ("class", "score", "proposal", "x", "y", "w", "h")
    )
    return (
        '<div class="lab-table" tabindex="0" role="region" aria-label="Detections, best first">'
        f"<table><caption>Best first; x, y: the upper left corner, w, h: the size, "
        f"in pixels</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows[:_ROWS])}</tbody>"
        f"</table>{rest}</div>"
    )


def hint(text: str) -> str:
    """A quiet line."""
    return f'<p class="lab-hint">{escape(text)}</p>'


NO_PICTURE = hint("Drop a picture on the page, paste one, or click an example below.")
LIVE_STAGE = (
    '<div id="lab-live-stage"><video id="lab-video" muted playsinline></video>'
    '<canvas id="lab-live" role="img" '
    'aria-label="The webcam\'s picture with the boxes that the detector found"></canvas>'
    '<div id="lab-live-start"><button id="lab-camera-on" type="button">Start the camera</button>'
    "</div></div>"
)
LIVE_ROW = (
    '<div id="lab-live-controls"><button id="lab-camera-off" type="button" disabled>Stop</button>'
    '<select id="lab-cameras" aria-label="Camera" hidden></select>'
    '<p class="lab-hint" id="lab-live-note" role="status">'
    "The dials act on the running picture; no frame is kept.</p></div>"
)
VIDEO_HINT = "Drop a video, or try the sample; every frame is detected with the dials of the page."
