"""The dials: at the same place in every tab, and the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials


@dataclass(frozen=True)
class DialParts:
    """The controls of the page."""

    model: gr.Radio
    proposals: gr.Slider
    stage: gr.Slider
    threshold: gr.Slider
    show: gr.Radio

    def inputs(self) -> list[Any]:
        """The controls as the inputs of an event; :func:`as_dials` takes their values."""
        return [self.model, self.proposals, self.stage, self.threshold, self.show]

    def quick(self) -> list[Any]:
        """Those that act at once; a change of the model changes more than the view."""
        return [self.proposals, self.stage, self.threshold, self.show]


def build_dials(bench: Bench, start: Dials) -> DialParts:
    """Lays the dials out, standing at ``start``."""
    detector = bench.detector(start.model)
    model = gr.Radio(
        [(_short(name), name) for name in bench.models],
        value=start.model,
        label="Model",
        info="What it was trained on decides what it can find.",
        visible=len(bench.models) > 1,
        elem_id="lab-model",
    )
    proposals = gr.Slider(
        1,
        detector.num_proposals,
        value=start.proposals,
        step=1,
        label="Proposals",
        info="How many of the learned proposals look at the picture.",
        elem_id="lab-proposals",
        buttons=[],
    )
    stage = gr.Slider(
        0,
        detector.num_stages,
        value=start.stage,
        step=1,
        label="Stage",
        info="0: the learned proposals. Each stage moves every box and scores it again.",
        elem_id="lab-stage",
        buttons=[],
    )
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
    return DialParts(model, proposals, stage, threshold, show)


def as_dials(model: str, proposals: float, stage: float, threshold: float, show: str) -> Dials:
    """The values of the controls; a number box that was emptied counts as its lowest value."""
    return Dials(model, int(proposals or 1), int(stage or 0), float(threshold or 0.0), show)


def _short(name: str) -> str:
    """A shipped name as it is; of a path the last part."""
    return name.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
