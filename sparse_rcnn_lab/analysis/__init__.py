"""Experiments on proposals and stages: functions from traces, or a detector and data, to tables.

Over a data set, each shown as it goes, kept by content, and going on where it was stopped:

>>> curve = analysis.ap_curve(detector, data, n=[1, 5, 10, 20])
>>> print(analysis.verdicts(detector, data))

From traces that somebody has: :func:`careers_of`, :func:`verdicts_of`, :func:`outcome`,
:func:`stop_stage`. The figures of all tables are in :mod:`sparse_rcnn_lab.views.figures`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Imported at first use: a table can be read, and a trace judged, without the training's modules.
_HOMES = {
    "table": ("Table",),
    "statistics": ("Careers", "careers_of"),
    "outcomes": ("Verdicts", "verdicts_of"),
    "detection_errors": ("Outcome", "outcome"),
    "stopping": ("settled", "stop_stage"),
    "experiments.ap_curve": ("ap_curve", "random_orders"),
    "experiments.rank_proposals": ("rank_proposals", "reordered"),
    "experiments.trace_dataset": ("careers", "traces_of", "verdicts"),
    "experiments.ablations": ("switch_costs", "usual_switches"),
    "experiments.cross_stage_readout": ("lens",),
    "experiments.proposal_pruning": ("funnel", "usual_schedules"),
    "experiments.early_exit": ("adaptive_stop",),
    "experiments.initialisation": ("initialisation_lab", "kmeans_boxes"),
    "experiments.learned_box_gradients": ("box_pulls",),
    "experiments.snapshots": ("keep_snapshots", "snapshots"),
    "experiments.matching_instability": ("matching_film", "matching_flips"),
    "flips": ("flips_of", "proposals_of_objects"),
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
