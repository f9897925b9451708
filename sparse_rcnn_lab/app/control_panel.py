"""The controls, in the same place in every tab and with the same values for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.state import SHOWN, ViewState
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.detect.detector import Detector

Values = Mapping[Any, Any]  # what Gradio passes to a function: the value of each component


def slider(name: str, label: str, info: str, low: float, high: float, **options: Any) -> gr.Slider:
    """A slider with a number box and one line of help."""
    return gr.Slider(low, high, label=label, info=info, elem_id=name, buttons=[], **options)


class ModelControls:
    """Model, proposals and stage, laid out in the current block: for the page, and for the right
    side of a comparison.

    model: the chosen one.  loaded: the model that everything runs with, a different one only while
    the chosen one is being loaded.  inputs: the controls in the order of ViewState's fields.
    """

    def __init__(self, viewer: Viewer, start: ViewState, name: str, model: Any) -> None:
        detector = viewer.models[start.model]
        self.model = model
        help_text = "How many of the learned proposals are used, counted from the first."
        n, last = detector.num_proposals, detector.num_stages
        self.num_proposals = slider(
            f"{name}-proposals", "Proposals", help_text, 1, n, value=start.num_proposals, step=1
        )
        help_text = "0: the learned proposals. Each stage moves every box and scores it again."
        self.stage = slider(f"{name}-stage", "Stage", help_text, 0, last, value=start.stage, step=1)
        self.loaded = gr.State(start.model)
        self.inputs: list[Any] = [self.loaded, self.num_proposals, self.stage]

    def switch(
        self, name: str, detector: Detector, values: Values
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Switches to another model, with all of its proposals; the stage stays where it was.

        Returns what changes on the page, and the values from then on.
        """
        n, last = detector.num_proposals, detector.num_stages
        stage = min(values[self.stage] or 0, last)
        changed = {
            self.loaded: name,
            self.num_proposals: gr.update(maximum=n, value=n),
            self.stage: gr.update(maximum=last, value=stage),
        }
        return changed, {self.loaded: name, self.num_proposals: n, self.stage: stage}


class ControlPanel(ModelControls):
    """All controls. quick: those that act at once, which a change of the model does not."""

    def __init__(self, viewer: Viewer, start: ViewState) -> None:
        names = viewer.models[start.model].class_names
        # Set by the model's tile (page.js).
        box = gr.Textbox(start.model, elem_id="lab-model", elem_classes="lab-hidden")
        super().__init__(viewer, start, "lab", box)
        help_text = "Lowest score of a detection, 0 to 1."
        self.threshold = slider(
            "lab-threshold", "Score threshold", help_text, 0, 1, value=start.threshold, step=0.01
        )
        self.show = gr.Radio(
            list(SHOWN),
            value=start.show,
            label="Show",
            info="All proposals are coloured by stage, detections by class.",
            elem_id="lab-show",
        )
        self.classes = gr.Dropdown(
            list(names),
            value=[],
            multiselect=True,
            label="Classes",
            info="Show only these; all classes when none is chosen.",
            elem_id="lab-classes",
        )
        self.quick = [self.num_proposals, self.stage, self.threshold, self.show, self.classes]
        self.inputs = [self.loaded, *self.quick]

    def read(self, values: Values) -> ViewState:
        """The state in the values of an event."""
        return ViewState.parse(*(values[part] for part in self.inputs))

    def switch(
        self, name: str, detector: Detector, values: Values
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """The same, with the classes that the model finds, of which none is chosen."""
        changed, now = super().switch(name, detector, values)
        names = detector.class_names
        changed[self.classes] = gr.update(choices=list(names), value=[])
        return changed, {**now, self.classes: []}
