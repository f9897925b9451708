"""The dials: at the same place in every tab, and the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.detector import Detector

Values = Mapping[Any, Any]  # what Gradio hands over: the value of each component


@dataclass(frozen=True)
class DialParts:
    """The controls of the page.

    model: what was chosen.  loaded: the model that everything runs with, another one only while
    the chosen one is being fetched.
    """

    model: gr.Dropdown
    loaded: gr.State
    proposals: gr.Slider
    stage: gr.Slider
    threshold: gr.Slider
    classes: gr.Dropdown
    show: gr.Radio

    def inputs(self) -> list[Any]:
        """The controls as the inputs of an event; :func:`as_dials` takes their values."""
        return [self.loaded, *self.quick()]

    def quick(self) -> list[Any]:
        """Those that act at once; a change of the model changes more than the view."""
        return [self.proposals, self.stage, self.threshold, self.show, self.classes]

    def read(self, values: Values) -> Dials:
        """The dials among the values of an event."""
        return as_dials(*(values[part] for part in self.inputs()))

    def switch(self, detector: Detector, name: str, before: Dials) -> dict[Any, Any]:
        """What to show when another model takes over; the stage stays where it was."""
        n, last = detector.num_proposals, detector.num_stages
        return {
            self.loaded: name,
            self.model: gr.update(info=words.finds(detector.class_names)),
            self.proposals: gr.update(maximum=n, value=n),
            self.stage: gr.update(maximum=last, value=min(before.stage, last)),
            self.classes: gr.update(choices=list(detector.class_names), value=[]),
        }

    def stay(self, name: str) -> dict[Any, Any]:
        """Back to the model that was there before, which another could not replace."""
        return {self.model: name}


def build_dials(bench: Bench, start: Dials) -> DialParts:
    """Lays the dials out, standing at ``start``."""
    detector = bench.models[start.model]
    model = gr.Dropdown(
        bench.models.choices(),
        value=start.model,
        label="Model",
        info=words.finds(detector.class_names),
        filterable=False,
        elem_id="lab-model",
    )
    proposals = proposals_slider(detector.num_proposals, start.proposals, "lab-proposals")
    stage = stage_slider(detector.num_stages, start.stage, "lab-stage")
    threshold = gr.Slider(
        0,
        1,
        value=start.threshold,
        step=0.01,
        label="Score threshold",
        info="The least score, 0 to 1, that counts as a detection.",
        elem_id="lab-threshold",
        buttons=[],
    )
    show = gr.Radio(
        list(SHOWN),
        value=start.show,
        label="Show",
        info="All proposals are coloured by stage, detections by class.",
        elem_id="lab-show",
    )
    classes = gr.Dropdown(
        list(detector.class_names),
        value=[],
        multiselect=True,
        label="Classes",
        info="Only these; all of them when none is named.",
        elem_id="lab-classes",
    )
    loaded = gr.State(start.model)
    return DialParts(model, loaded, proposals, stage, threshold, classes, show)


def proposals_slider(most: int, value: int, elem_id: str) -> gr.Slider:
    """How many proposals to use."""
    return gr.Slider(
        1,
        most,
        value=value,
        step=1,
        label="Proposals",
        info="How many of the learned proposals look at the picture.",
        elem_id=elem_id,
        buttons=[],
    )


def stage_slider(last: int, value: int, elem_id: str) -> gr.Slider:
    """The stage to stop at."""
    return gr.Slider(
        0,
        last,
        value=value,
        step=1,
        label="Stage",
        info="0: the learned proposals. Each stage moves every box and scores it again.",
        elem_id=elem_id,
        buttons=[],
    )


def as_dials(
    model: str,
    proposals: float | None,
    stage: float | None,
    threshold: float | None,
    show: str = SHOWN[0],
    classes: list[str] | None = None,
) -> Dials:
    """The values of the controls; a number box that was emptied counts as its lowest value.

    Raises LabError, naming the control, for what is no number.
    """
    return Dials(
        model,
        round(as_number("proposals", proposals) or 1),
        round(as_number("stage", stage)),
        as_number("threshold", threshold),
        show,
        tuple(classes or ()),
    )


def as_number(name: str, value: Any) -> float:
    """The value of a number box, 0 where it is empty. Raises LabError where it is no number."""
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise LabError(f"{name} must be a number, found {value!r}.")
    return number
