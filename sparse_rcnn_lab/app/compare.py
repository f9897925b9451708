"""The tab *Compare*: the same picture twice, with two models or two settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.dials import Values, as_number, proposals_slider, stage_slider
from sparse_rcnn_lab.app.keepsakes import on_page
from sparse_rcnn_lab.app.pictures import Picture


class CompareTab:
    """Lays the tab out in the current block: the left side follows the dials of the page."""

    def __init__(self, bench: Bench, start: Dials) -> None:
        self.bench = bench
        # Of the models at hand: a download is started with the dial of the page.
        self.loaded = gr.State(start.model)
        with gr.Row(elem_id="lab-sides"):
            self.left, self.left_text = _side("left", "Left: the dials of the page")
            self.right, self.right_text = _side("right", "Right: the dials below")
        with gr.Group(elem_id="lab-other"), gr.Row():
            self.model = gr.Dropdown(
                bench.models.choices(),
                value=start.model,
                label="Model on the right",
                info="The same one with other dials, or another one.",
                filterable=False,
                elem_id="lab-other-model",
            )
            self.proposals = proposals_slider(
                bench.models[start.model].num_proposals,
                max(1, start.proposals // 2),
                "lab-other-proposals",
            )
            self.stage = stage_slider(
                bench.models[start.model].num_stages, start.stage, "lab-other-stage"
            )

    def inputs(self) -> list[Any]:
        """The controls of the right side."""
        return [self.loaded, self.proposals, self.stage]

    def outputs(self) -> list[Any]:
        """What :meth:`refresh` may change."""
        return [self.left, self.left_text, self.right, self.right_text]

    def refresh(self, values: Values, picture: Picture | None, dials: Dials) -> dict[Any, Any]:
        """Both sides for a picture."""
        if picture is None:
            empty = words.NO_PICTURE
            return {self.left: None, self.left_text: empty, self.right: None, self.right_text: ""}
        other = replace(
            dials,
            model=values[self.loaded],
            proposals=round(as_number("proposals", values[self.proposals]) or 1),
            stage=round(as_number("stage", values[self.stage])),
        )
        one, two = (self.bench.look(picture, side) for side in (dials, other))
        return {
            self.left: on_page(one.image),
            self.left_text: words.side(one, dials.model),
            self.right: on_page(two.image),
            self.right_text: words.side(two, other.model),
        }

    def switch(self, name: str) -> dict[Any, Any]:
        """Another model on the right; all of its proposals, its last stage."""
        detector = self.bench.models[name]
        n, last = detector.num_proposals, detector.num_stages
        return {
            self.loaded: name,
            self.proposals: gr.update(maximum=n, value=n),
            self.stage: gr.update(maximum=last, value=last),
        }


def _side(name: str, caption: str) -> tuple[gr.Image, gr.HTML]:
    with gr.Column(min_width=140):
        gr.HTML(f'<span class="lab-caption">{caption}</span>', padding=False)
        image = gr.Image(
            type="filepath",
            show_label=False,
            container=False,
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id=f"lab-side-{name}",
            elem_classes="lab-side",
            alt_text=f"The picture with the boxes of the {name} side",
        )
        text = gr.HTML("", elem_id=f"lab-side-{name}-text", padding=False)
    return image, text
