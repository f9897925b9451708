"""The images that ship with the package, by the classes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES as SHAPES

EXAMPLES = Path(__file__).parent / "examples"
# Which examples a model knows something about, by its class names.
_KNOWN = {
    "shapes": set(SHAPES),
    "cards": {"nine", "ten", "jack", "queen", "king", "ace"},
    "cells": {"RBC", "WBC", "red cell", "white cell"},
    "everyday": {"person", "cat", "bus", "motorbike", "motorcycle", "horse"},
}
_LAST = "cells_1.jpg"  # two boxes on one cell make a bad first impression


def example_topics(class_names: Sequence[str]) -> list[str]:
    """The topics of shipped images that a model knows: "shapes", "cards", "cells", "everyday"."""
    names = set(class_names)
    return [topic for topic, known in _KNOWN.items() if names & known]


def examples(class_names: Sequence[str]) -> list[Path]:
    """The shipped images that fit a model's classes; all of them when none does."""
    files = sorted(p for p in EXAMPLES.glob("*") if p.suffix in (".jpg", ".png"))
    files.sort(key=lambda path: path.name == _LAST)
    topics = example_topics(class_names)
    return [p for p in files if p.name.split("_")[0] in topics] or files


def knows_shapes(class_names: Sequence[str]) -> bool:
    """Whether a model with these classes knows the drawn shapes."""
    return bool(set(class_names) & _KNOWN["shapes"])
