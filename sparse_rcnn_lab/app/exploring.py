"""The tab *Explore*: the interactive explorer of the picture that the other tabs show."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.keepsakes import explorer_of
from sparse_rcnn_lab.app.pictures import Picture

_THEME = "() => new URLSearchParams(location.search).get('__theme') || 'auto'"


class ExploreTab:
    """Lays the tab out in the current block."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.page = gr.HTML(words.NO_PICTURE, elem_id="lab-explorer", padding=False)
        self.shown = gr.State(None)  # what the page was made of
        self.theme = gr.Textbox("auto", visible=False)

    def connect(self, page: gr.Blocks) -> None:
        """Asks the browser for the theme."""
        page.load(None, None, self.theme, js=_THEME, api_visibility="private")

    def inputs(self) -> list[Any]:
        """What :meth:`refresh` wants to know."""
        return [self.shown, self.theme]

    def outputs(self) -> list[Any]:
        """What :meth:`refresh` may change."""
        return [self.page, self.shown]

    def refresh(self, values: Any, picture: Picture | None, dials: Dials) -> dict[Any, Any]:
        """The explorer; it stays as it is unless picture, model or proposals changed."""
        if picture is None:
            return {self.page: words.NO_PICTURE, self.shown: None}
        theme = values[self.theme] if values[self.theme] in ("light", "dark") else "auto"
        made_of = (picture.key, dials.model, dials.proposals, theme)
        if values[self.shown] == made_of:
            return {self.shown: made_of}
        frame = explorer_of(self.bench, picture, dials, theme).to_iframe()  # page.css: how high
        return {self.page: frame, self.shown: made_of}
