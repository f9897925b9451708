"""The tab *Draw*: a pad on which shapes are detected while somebody draws. ``draw.js`` is the pad;
its frames are answered like the camera's, with the boxes alone.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from sparse_rcnn_lab.app.viewer import ModelList, short_name

_COLORS = {
    "red": "#d9483b",
    "yellow": "#eab308",
    "green": "#2f9e5f",
    "blue": "#2f74c0",
    "violet": "#7c4dbd",
}


class DrawTab:
    """Lays the tab out in the current block.

    model: the one that knows drawn shapes; None: the page's own model looks at the drawing.
    """

    def __init__(self, models: ModelList) -> None:
        # By the last part of a path: a folder above it with such a name may hold any model.
        self.model = next((name for name in models.names if "shapes" in short_name(name)), None)
        colors = "".join(
            f'<button type="button" data-color="{color}" aria-pressed="{str(i == 0).lower()}" '
            f'aria-label="{name}" title="{name}" style="background:{color}"></button>'
            for i, (name, color) in enumerate(_COLORS.items())
        )
        text = (
            "Draw a circle, a triangle, a square or a star; a closed line is filled. "
            f"{short_name(self.model)} looks at the drawing, whatever model the other tabs have."
            if self.model
            else "The model of the page looks at the drawing."
        )
        gr.HTML(
            '<div id="lab-pad"><canvas id="lab-pad-drawn" width="512" height="384" tabindex="0" '
            'role="img" aria-label="Drawing pad. Keys C, T, S and H draw a circle, a triangle, a '
            'square and a heart at a random place."></canvas>'
            '<canvas id="lab-pad-boxes" width="512" height="384" aria-hidden="true"></canvas></div>'
            f'<div id="lab-pad-row"><div role="group" aria-label="Colour">{colors}</div>'
            '<button type="button" id="lab-pad-undo" disabled>Undo</button>'
            '<button type="button" id="lab-pad-clear" disabled>Clear</button>'
            f'<p class="lab-hint" id="lab-pad-note" role="status">{escape(text)}</p></div>',
            apply_default_css=False,
        )
        self.snap = gr.Button("Explore this drawing", elem_id="lab-pad-snap", interactive=True)
        gr.HTML(f'<span id="lab-pad-model" hidden>{escape(self.model or "")}</span>', padding=False)
