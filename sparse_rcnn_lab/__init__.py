"""sparse_rcnn_lab: understand, teach and try Sparse R-CNN (arXiv 2011.12450).

>>> import sparse_rcnn_lab as srl
>>> detector = srl.load("nano-shapes")
>>> detector("photo.jpg", threshold=0.5).names()
['circle', 'triangle', 'triangle', 'heart', 'square']
>>> trace = detector.trace("photo.jpg")  # every proposal through every stage
>>> trace.boxes.shape
torch.Size([7, 20, 4])
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Spinning OpenMP threads make two threads far slower than one as soon as anything else runs; this
# has to be set before torch is imported and leaves a user's own choice alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from sparse_rcnn_lab.core.errors import LabError

__version__ = "0.1.0"  # pyproject.toml reads it from here

if TYPE_CHECKING:
    from sparse_rcnn_lab.core.config import Recipe
    from sparse_rcnn_lab.core.detections import Detections
    from sparse_rcnn_lab.core.stage import Ablation
    from sparse_rcnn_lab.core.trace import Trace
    from sparse_rcnn_lab.data.coco.folder import CocoFolder, open_data
    from sparse_rcnn_lab.data.data_check import DataCheck, check
    from sparse_rcnn_lab.data.shapes.dataset import Shapes
    from sparse_rcnn_lab.detect.detector import Detector
    from sparse_rcnn_lab.detect.ground_truth import with_ground_truth
    from sparse_rcnn_lab.detect.trace_file import load_trace, save_trace
    from sparse_rcnn_lab.intervene.intervention import Intervention
    from sparse_rcnn_lab.intervene.session import Session
    from sparse_rcnn_lab.intervene.trace_diff import TraceDiff, trace_diff
    from sparse_rcnn_lab.models.load import load, shipped_models
    from sparse_rcnn_lab.models.recipes import RECIPES, recipe
    from sparse_rcnn_lab.runtime.export import export
    from sparse_rcnn_lab.runtime.export.parts import export_parts
    from sparse_rcnn_lab.training.evaluate import Evaluation, evaluate
    from sparse_rcnn_lab.training.fit import Run, fit
    from sparse_rcnn_lab.training.score_calibration import calibrate_scores
    from sparse_rcnn_lab.views.explorer.explore import explore
    from sparse_rcnn_lab.views.labeller.label import label
    from sparse_rcnn_lab.views.playground.playground_page import playground

__all__ = [
    "RECIPES",
    "Ablation",
    "CocoFolder",
    "DataCheck",
    "Detections",
    "Detector",
    "Evaluation",
    "Intervention",
    "LabError",
    "Recipe",
    "Run",
    "Session",
    "Shapes",
    "Trace",
    "TraceDiff",
    "__version__",
    "calibrate_scores",
    "check",
    "evaluate",
    "explore",
    "export",
    "export_parts",
    "fit",
    "label",
    "load",
    "load_trace",
    "open_data",
    "playground",
    "recipe",
    "save_trace",
    "shipped_models",
    "trace_diff",
    "with_ground_truth",
]

# Imported at first use: torch takes seconds, and `sparse-rcnn-lab --help` does not need it.
_HOMES = {
    "intervene.trace_diff": ("TraceDiff", "trace_diff"),
    "core.config": ("Recipe",),
    "models.recipes": ("RECIPES", "recipe"),
    "data.data_check": ("DataCheck", "check"),
    "data.coco.folder": ("CocoFolder", "open_data"),
    "data.shapes.dataset": ("Shapes",),
    "detect.detector": ("Detector",),
    "detect.trace_file": ("load_trace", "save_trace"),
    "views.explorer.explore": ("explore",),
    "views.labeller.label": ("label",),
    "views.playground.playground_page": ("playground",),
    "runtime.export": ("export",),
    "runtime.export.parts": ("export_parts",),
    "core.stage": ("Ablation",),
    "intervene.session": ("Session",),
    "core.detections": ("Detections",),
    "core.trace": ("Trace",),
    "training.fit": ("Run", "fit"),
    "training.evaluate": ("Evaluation", "evaluate"),
    "training.score_calibration": ("calibrate_scores",),
    "detect.ground_truth": ("with_ground_truth",),
    "intervene.intervention": ("Intervention",),
    "models.load": ("load", "shipped_models"),
}

if not TYPE_CHECKING:  # a type checker reads the imports above instead

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        if name in ("analysis", "data", "intervene", "models", "runtime", "training", "views"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
