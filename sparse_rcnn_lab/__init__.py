"""sparse_rcnn_lab: understand, teach and try Sparse R-CNN (arXiv 2011.12450).

>>> import sparse_rcnn_lab as srl
>>> detector = srl.load("nano-shapes")
>>> print(detector("photo.jpg", threshold=0.5))
>>> trace = detector.trace("photo.jpg")  # every proposal through every stage
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Spinning OpenMP threads make two threads far slower than one as soon as anything else runs; this
# has to be set before torch is imported and leaves a user's own choice alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.version import __version__

if TYPE_CHECKING:
    from sparse_rcnn_lab.comparison import Difference, difference
    from sparse_rcnn_lab.config import Recipe
    from sparse_rcnn_lab.data.coco import CocoFolder, open_data
    from sparse_rcnn_lab.data.shapes import Shapes
    from sparse_rcnn_lab.detector import Detector
    from sparse_rcnn_lab.exploring import explore
    from sparse_rcnn_lab.exporting import export
    from sparse_rcnn_lab.model.switches import Switches
    from sparse_rcnn_lab.recipes import RECIPES, recipe
    from sparse_rcnn_lab.session import Session
    from sparse_rcnn_lab.trace import Detections, Trace
    from sparse_rcnn_lab.training.engine import Run, fit
    from sparse_rcnn_lab.training.evaluate import Evaluation, evaluate
    from sparse_rcnn_lab.training.ground_truth import with_ground_truth
    from sparse_rcnn_lab.views.explorer.experiment import Experiment
    from sparse_rcnn_lab.zoo import load, shipped_models

__all__ = [
    "RECIPES",
    "CocoFolder",
    "Detections",
    "Detector",
    "Difference",
    "Evaluation",
    "Experiment",
    "LabError",
    "Recipe",
    "Run",
    "Session",
    "Shapes",
    "Switches",
    "Trace",
    "__version__",
    "difference",
    "evaluate",
    "explore",
    "export",
    "fit",
    "load",
    "open_data",
    "recipe",
    "shipped_models",
    "with_ground_truth",
]

# Imported at first use: torch takes seconds, and `sparse-rcnn-lab --help` does not need it.
_HOMES = {
    "comparison": ("Difference", "difference"),
    "config": ("Recipe",),
    "recipes": ("RECIPES", "recipe"),
    "data.coco": ("CocoFolder", "open_data"),
    "data.shapes": ("Shapes",),
    "detector": ("Detector",),
    "exploring": ("explore",),
    "exporting": ("export",),
    "model.switches": ("Switches",),
    "session": ("Session",),
    "trace": ("Detections", "Trace"),
    "training.engine": ("Run", "fit"),
    "training.evaluate": ("Evaluation", "evaluate"),
    "training.ground_truth": ("with_ground_truth",),
    "views.explorer.experiment": ("Experiment",),
    "zoo": ("load", "shipped_models"),
}

if not TYPE_CHECKING:  # a type checker reads the imports above instead

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
