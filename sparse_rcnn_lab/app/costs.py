"""What fewer proposals or fewer stages cost and save, as measured with the shipped models."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sparse_rcnn_lab.zoo import CHECKPOINTS


def cost(model: str, proposals: int, most: int, stage: int, last: int) -> str:
    """One sentence, or nothing for a model that was not measured.

    AP is COCO's on the pictures named in the model's own record.
    """
    record = _record(model)
    stages = {entry["stage"]: entry["AP"] for entry in record.get("stages", [])}
    if stage == 0 or stage not in stages or last not in stages:
        return ""
    text = f"AP {stages[stage]:.2f} at stage {stage}"
    if stage != last:
        text += f", {stages[last]:.2f} at stage {last}"
    text += f" (all {most} proposals, {record['num_images']} pictures)."
    return text


@cache
def _record(model: str) -> dict[str, Any]:
    """The evaluation that ships beside a model."""
    path = CHECKPOINTS / f"{model}.json"
    if "/" in model or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return dict(found.get("evaluation", {}))
