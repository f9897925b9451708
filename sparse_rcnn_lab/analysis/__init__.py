"""What proposals and stages do: tables made from traces, or from a detector and data.

>>> import sparse_rcnn_lab as srl
>>> from sparse_rcnn_lab import analysis
>>> detector, data = srl.load("nano-shapes"), srl.Shapes(4)
>>> found = analysis.object_outcomes(detector, data, cache=False, progress=False)
>>> len(found.stages), len(found.objects) == sum(len(drawn.boxes) for drawn in data)
(6, True)

An analysis over a data set shows its progress, is cached by content, and continues where it was
stopped (:class:`RunOptions`). These need only traces: :func:`judge_detections`,
:func:`object_outcomes_of`, :func:`proposal_statistics_of`, :func:`matched_proposals`. The figures
of all tables are in :mod:`sparse_rcnn_lab.views.figures`.

This room imports core and ``detect.files``, and so no model: a trace that somebody sent can be
judged. ``experiments`` runs or trains detectors: it may import core, data, detect, models, runtime
and training.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Imported at first use, so that a table is read, or a trace judged, without the training's modules.
_HOMES = {
    "table": ("Table",),
    "detection_errors": ("JudgedDetections", "judge_detections"),
    "outcomes": ("ObjectOutcomes", "matched_proposals", "object_outcomes_of"),
    "statistics": ("ProposalStatistics", "proposal_statistics_of"),
    "experiments.cache": ("RunOptions",),
    "experiments.trace_dataset": ("object_outcomes", "proposal_statistics", "traces_of"),
    "experiments.ap_curve": ("ap_curve", "random_orders"),
    "experiments.ranking": ("rank_proposals", "reordered"),
    "experiments.ablations": ("ablation_costs", "usual_ablations"),
    "experiments.cross_stage_readout": ("cross_stage_readout",),
    "experiments.proposal_pruning": ("proposal_pruning", "usual_schedules"),
    "experiments.early_exit": ("early_exit",),
    "experiments.learned_box_gradients": ("learned_box_gradients",),
    "experiments.matching_instability": (
        "keep_snapshots",
        "matches_over_training",
        "matching_instability",
    ),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
