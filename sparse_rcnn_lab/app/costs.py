"""What fewer proposals or fewer stages cost, as measured with the shipped models."""

from __future__ import annotations

import json
from bisect import bisect_left
from functools import cache
from pathlib import Path
from typing import Any


def cost(model: str, proposals: int, most: int, stage: int, last: int) -> str:
    """One sentence, or nothing for a model that was not measured.

    AP is COCO's. curves.json has it for some numbers of proposals, at every stage; between them
    the sentence says about.
    """
    record = _curves().get(model)
    if record is None or stage == 0 or str(most) not in record["AP"]:
        return ""
    curve = {int(n): stages for n, stages in record["AP"].items()}
    full = curve[most][last - 1]
    if (proposals, stage) == (most, last):
        return f"AP {full:.2f} on {record['pictures']}."
    about = "" if proposals in curve else "about "
    now = _between(sorted((n, stages[stage - 1]) for n, stages in curve.items()), proposals)
    return (
        f"{proposals} of {most} proposals, stage {stage}: AP {about}{now:.2f} instead of "
        f"{full:.2f} on {record['pictures']}."
    )


def _between(points: list[tuple[int, float]], x: int) -> float:
    """The value at ``x`` on straight lines through the points."""
    at = bisect_left(points, (x, -1.0))
    if at == 0 or points[at][0] == x:
        return points[at][1]
    (x1, y1), (x2, y2) = points[at - 1], points[at]
    return y1 + (y2 - y1) * (x - x1) / (x2 - x1)


@cache
def _curves() -> dict[str, Any]:
    path = Path(__file__).with_name("curves.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))
