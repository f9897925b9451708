"""For training on one's own pictures: what to start from, how large, and a look at the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.models.recipes import recipe
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.panels import detection_panels


def shipped(name: str) -> Path:
    """The checkpoint file of a model by name, for ``fit(start_from=)``."""
    return locate(name)


def input_of(name: str, side: int) -> InputConfig:
    """The input of a recipe for pictures that are fitted into ``side`` x ``side`` pixels."""
    return replace(recipe(name).model.input, short_side=side, long_side=side)


def samples(data: DetectionData, count: int = 8, *, columns: int = 4) -> Page:
    """The first pictures of a data set with their labels. Raises LabError when it is empty."""
    shown = [data[i] for i in range(min(count, len(data)))]
    if not shown:
        raise LabError("The data set has no pictures to show.")
    found = [
        Detections(
            boxes=sample.boxes,
            scores=torch.ones(len(sample.boxes)),
            labels=sample.labels,
            proposals=torch.arange(len(sample.boxes)),
            size=(sample.image.shape[1], sample.image.shape[2]),
            class_names=tuple(data.class_names),
        )
        for sample in shown
    ]
    return detection_panels(
        found,
        [sample.image for sample in shown],
        [sample.name for sample in shown],
        columns=columns,
        title="Pictures with their labels",
        word="labelled",
        scores=False,
    )
