"""What the page says about a view, as HTML: the numbers beside the dials, and the table."""

from __future__ import annotations

from html import escape

from sparse_rcnn_lab.app.bench import SHOWN, Dials, View
from sparse_rcnn_lab.boxes import xyxy_to_xywh
from sparse_rcnn_lab.views import style

_ROWS = 100


def readout(view: View | None) -> str:
    """Detections and milliseconds, in boxes that keep their width."""
    found = "–" if view is None or view.detections is None else str(len(view.detections))
    took = "–" if view is None else f"{view.milliseconds:.0f}"
    what = "detection" if found == "1" else "detections"
    return (
        '<div class="lab-readout" role="status">'
        f'<div><b id="lab-count">{found}</b><span>{what}</span></div>'
        f"<div><b>{took}</b><span>ms for all stages</span></div></div>"
    )


def table(view: View | None, dials: Dials) -> str:
    """The detections as a table; without any, what to do about it."""
    if view is None:
        return _hint("Drop a picture on the page, take one with the camera, or click an example.")
    if view.detections is None:
        return _hint(
            f"Stage 0: the {view.proposals} learned proposals, the same for every picture and "
            "still without a score. Move the stage to 1 and watch them go."
        )
    found = view.detections
    if len(found) == 0:
        ways = ["lower the threshold"]
        ways += ["raise the stage"] if view.stage < view.num_stages else []
        ways += ["show all proposals"] if dials.show == SHOWN[0] else []
        advice = " or ".join(ways)
        return _hint(
            f"No proposal scores {dials.threshold:.2f} or more at stage {view.stage}: {advice}."
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
        for name in ("class", "score", "proposal", "left", "top", "width", "height")
    )
    return (
        '<div class="lab-table" tabindex="0" role="region" aria-label="Detections, best first">'
        f"<table><caption>Detections, best first; left, top, width and height in pixels of the "
        f"picture</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows[:_ROWS])}</tbody>"
        f"</table>{rest}</div>"
    )


def _hint(text: str) -> str:
    return f'<p class="lab-hint">{text}</p>'
