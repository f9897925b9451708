"""The progress of a run of ``teach``: the files that hold it, and how they are read."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.training.run_folder import RunFolder, read_json

STATE, WATCH, ALIVE, STOP = "teach.json", "watch.jsonl", "alive", "stop"
DEAD = 20.0  # seconds without a heartbeat after which a run counts as dead


def is_alive(folder: Path) -> bool:
    """Whether a process is at work in a run folder."""
    try:
        return time.time() - (folder / ALIVE).stat().st_mtime < DEAD
    except OSError:
        return False


def read_progress(folder: Path) -> dict[str, Any]:
    """The progress of a run, for a page that polls it: plain values that json can hold.

    ``phase`` ("waiting" before there is a file), ``step`` of ``steps``, ``seconds_left``, ``loss``
    (at most 150 rows of a step and the loss of each stage), ``ap50_curve`` (such a row per
    evaluation), and all of ``teach.json`` but the recipe and the location of the images.
    """
    try:
        state = read_json(folder / STATE)
    except LabError:
        return {"phase": "waiting", "step": 0, "loss": [], "ap50_curve": []}
    for key in ("recipe", "data"):
        state.pop(key, None)
    run = RunFolder(folder)
    metrics, looks = run.rows("metrics"), run.rows("evaluations")
    step = metrics[-1]["step"] if metrics else 0
    recent = [row["seconds"] for row in metrics[-30:]]
    left = (state.get("steps", 0) - step) * float(np.mean(recent)) if recent else None
    stride = max(1, math.ceil(len(metrics) / 150))
    return {
        **state,
        "step": step,
        "seconds_left": left if state["phase"] == "training" else None,
        "loss": [
            [row["step"], *(round(v, 3) for v in row["loss_per_stage"])]
            for row in metrics[::stride]
        ],
        "ap50_curve": [
            [row["step"], *(round(max(0.0, s["AP50"]), 3) for s in row["stages"])] for row in looks
        ],
    }
