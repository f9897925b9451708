"""The controls: at the same place in every tab, and with the same values for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import readouts
from sparse_rcnn_lab.app.state import SHOWN, ViewState
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.detect.detector import Detector

Values = Mapping[Any, Any]  # what Gradio hands over: the value of each component


class ControlPanel:
    """Lays the controls out in the current block, standing at ``start``.

    model: what was chosen.  loaded: the model that everything runs with, another one only while
    the chosen one is being fetched.  inputs: the controls in the order of ViewState's fields.
    quick: those that act at once; a change of the model changes more than the view.
    """

    def __init__(self, viewer: Viewer, start: ViewState) -> None:
        detector = viewer.models[start.model]
        self.model = gr.Dropdown(
            viewer.models.choices(),
            value=start.model,
            label="Model",
            info=readouts.finds(detector.class_names),
            filterable=False,
            elem_id="lab-model",
        )
        self.num_proposals = proposals_slider(detector, start.num_proposals, "lab-proposals")
        self.stage = stage_slider(detector, start.stage, "lab-stage")
        self.threshold = gr.Slider(
            0,
            1,
            value=start.threshold,
            step=0.01,
            label="Score threshold",
            info="The minimum score, 0 to 1, that counts as a detection.",
            elem_id="lab-threshold",
            buttons=[],
        )
        self.show = gr.Radio(
            list(SHOWN),
            value=start.show,
            label="Show",
            info="All proposals are coloured by stage, detections by class.",
            elem_id="lab-show",
        )
        self.classes = gr.Dropdown(
            list(detector.class_names),
            value=[],
            multiselect=True,
            label="Classes",
            info="Only these; all of them when none is named.",
            elem_id="lab-classes",
        )
        self.loaded = gr.State(start.model)
        self.quick = [self.num_proposals, self.stage, self.threshold, self.show, self.classes]
        self.inputs = [self.loaded, *self.quick]

    def read(self, values: Values) -> ViewState:
        """The state among the values of an event."""
        return ViewState.parse(*(values[part] for part in self.inputs))

    def switch(self, name: str, detector: Detector, before: ViewState) -> dict[Any, Any]:
        """Another model takes over, with all of its proposals; the stage stays where it was."""
        return {
            self.loaded: name,
            self.model: gr.update(info=readouts.finds(detector.class_names)),
            self.classes: gr.update(choices=list(detector.class_names), value=[]),
            **switch_sliders(self.num_proposals, self.stage, detector, before.stage),
        }


def proposals_slider(detector: Detector, value: int, elem_id: str) -> gr.Slider:
    """How many proposals to use."""
    return gr.Slider(
        1,
        detector.num_proposals,
        value=value,
        step=1,
        label="Proposals",
        info="How many of the learned proposals look at the image.",
        elem_id=elem_id,
        buttons=[],
    )


def stage_slider(detector: Detector, value: int, elem_id: str) -> gr.Slider:
    """The stage to stop at."""
    return gr.Slider(
        0,
        detector.num_stages,
        value=value,
        step=1,
        label="Stage",
        info="0: the learned proposals. Each stage moves every box and scores it again.",
        elem_id=elem_id,
        buttons=[],
    )


def switch_sliders(
    num_proposals: gr.Slider, stage: gr.Slider, detector: Detector, at_stage: int
) -> dict[Any, Any]:
    """Both sliders for another model, at all of its proposals and at most ``at_stage``."""
    n, last = detector.num_proposals, detector.num_stages
    return {
        num_proposals: gr.update(maximum=n, value=n),
        stage: gr.update(maximum=last, value=min(at_stage, last)),
    }
