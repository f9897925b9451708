"""The page: model and images at the top, tabs on the left, controls and numbers on the right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import model_tiles, readouts, teach_tab
from sparse_rcnn_lab.app.control_panel import ControlPanel, ModelControls, Values
from sparse_rcnn_lab.app.draw_tab import DrawTab
from sparse_rcnn_lab.app.endpoints import Endpoints
from sparse_rcnn_lab.app.events import AT_ONCE, ON_CLICK, clamp_numbers, explained, in_words
from sparse_rcnn_lab.app.explore_tab import PATH as EXPLORE_PATH
from sparse_rcnn_lab.app.explore_tab import Explorations, ExploreTab
from sparse_rcnn_lab.app.image_tabs import CompareTab, PhotoTab
from sparse_rcnn_lab.app.keep_bar import KeepBar
from sparse_rcnn_lab.app.live_tab import LiveTab, read_still
from sparse_rcnn_lab.app.source import Source
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.video_tab import VideoTab
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.models.releases import RELEASES
from sparse_rcnn_lab.views.explorer import html_page

TITLE = "Sparse R-CNN lab"
THRESHOLD = 0.5
_PACE = (
    '<div class="lab-readout"><div><b id="lab-fps">–</b><span>frames/s</span></div>'
    '<div><b id="lab-latency">–</b><span>ms latency</span></div></div>'
)
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
_HERE = Path(__file__).parent
_SCRIPTS = ("page.js", "explore.js", "webcam.js", "draw.js")


def build_page(viewer: Viewer, explorations: Explorations) -> tuple[gr.Blocks, Opening]:
    """The page for the viewer's models, and what the browser shows until Gradio has built it."""
    clamp_numbers()
    name = viewer.models.first
    detector = viewer.models[name]
    start = ViewState(name, detector.num_proposals, detector.num_stages, THRESHOLD)
    # Gradio removes files after ten minutes: those it was given, and those it made of frames.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        parts = Page(viewer, start, explorations)
        parts.connect(page)
        Endpoints(viewer, start)
    return page, _opening(parts, detector)


def looks() -> dict[str, Any]:
    """The look of the page, as arguments of Gradio's ``launch``.

    It has neutral greys, so that the image has the only colours, and the reader's own fonts. Help
    and labels are dark enough to be read (WCAG AA).
    """
    theme = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", radius_size="md", font=_FONTS, font_mono=_MONO
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        color_accent="*primary_700",
        link_text_color="*primary_700",
    )
    return {"theme": theme, "css": (_HERE / "app.css").read_text(encoding="utf-8")}


@dataclass(frozen=True)
class Opening:
    """What is put into Gradio's page before it is sent: what the browser fetches at once (links),
    the scripts that run before Gradio's (head), and what is shown until Gradio is ready (body).
    """

    links: str
    head: str
    body: str


def _opening(parts: Page, detector: Detector) -> Opening:
    """The front page without Gradio, so that the explorer works at once: the introduction, the
    names of the tabs, and what ``explore.js`` shows.
    """
    scripts = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    first = parts.explore.first
    looks = (_HERE / "opening.css").read_text(encoding="utf-8")
    head = (
        f"<style>{html_page.css()}{looks}</style>"
        f"<script>window.labFirst = {json.dumps(first)};\n{scripts}</script>{teach_tab.head()}"
    )
    if not first:
        return Opening("", head, "")
    at = f".{EXPLORE_PATH}"
    links = (
        f'<link rel="modulepreload" href="{at}/module.js"><link rel="preload" as="fetch" '
        f'crossorigin href="{at}/{json.loads(first)["token"]}">'
    )
    tabs = "".join(f"<span>{tab.label}</span>" for tab in parts.tab.values())
    body = (
        f'<div id="lab-opening"><div id="lab-opening-lead">{readouts.lead(TITLE, detector)}</div>'
        f'<div id="lab-opening-tabs" aria-hidden="true">{tabs}</div>'
        '<div id="lab-opening-explorer"></div></div>'
    )
    return Opening(links, head, body)


class Page:
    """Lays everything out; one function, :meth:`_refresh`, fills the open tab."""

    def __init__(self, viewer: Viewer, start: ViewState, explorations: Explorations) -> None:
        self.viewer = viewer
        detector = viewer.models[start.model]
        self.where = gr.State("explore")
        self.tab: dict[str, gr.Tab] = {}
        with gr.Row(elem_id="lab-head"):
            self.lead = gr.HTML(
                readouts.lead(TITLE, detector), apply_default_css=False, elem_id="lab-lead"
            )
            with gr.Row(elem_id="lab-input"):
                self.source = Source(viewer)
            gr.HTML(model_tiles.head(viewer.models), apply_default_css=False, elem_id="lab-choice")
        gr.HTML(
            f'{model_tiles.dialog(viewer.models)}<p id="lab-say" role="status" hidden></p>',
            apply_default_css=False,
            elem_classes="lab-away",
        )
        with gr.Row(elem_id="lab-page"):
            with gr.Column(scale=3, min_width=320, elem_id="lab-left"):
                with gr.Tabs(
                    selected="explore", elem_id="lab-tabs", overflow_behavior="wrap"
                ) as self.tabs:
                    with self._tab("explore"):
                        self.explore = ExploreTab(explorations, self.source.first, start)
                    with self._tab("live"):
                        self.live = LiveTab(detector)
                    with self._tab("photo"):
                        self.photo = PhotoTab(viewer)
                    with self._tab("draw"):
                        self.drawing = DrawTab(viewer.models)
                    with self._tab("video"):
                        self.video = VideoTab(viewer)
                    with self._tab("compare"):
                        self.compare = CompareTab(viewer, start)
                    with self._tab("teach"):
                        gr.HTML(teach_tab.html(), apply_default_css=False, padding=False)
                self.keep = KeepBar(viewer)
            with gr.Column(scale=2, min_width=300, elem_id="lab-right"):
                self.numbers = gr.HTML(readouts.numbers(None), elem_id="lab-numbers", padding=False)
                gr.HTML(_PACE, elem_id="lab-pace", padding=False)
                self.cost = gr.HTML(
                    readouts.cost(start, detector), elem_id="lab-cost", padding=False
                )
                with gr.Group(elem_id="lab-controls"):
                    self.controls = ControlPanel(viewer, start)
                self.table = gr.HTML(readouts.table(None), elem_id="lab-list", padding=False)
        self.image_tabs: dict[str, PhotoTab | CompareTab] = {
            "photo": self.photo,
            "compare": self.compare,
        }

    def _tab(self, name: str) -> gr.Tab:
        self.tab[name] = gr.Tab(name.capitalize(), id=name, elem_id=f"lab-tab-{name}")
        return self.tab[name]

    def connect(self, page: gr.Blocks) -> None:
        """Connects the parts with each other."""
        source, controls, photo, compare = self.source, self.controls, self.photo, self.compare
        tabs = (photo, compare, self.explore)
        inputs = {self.where, source.image, source.given, *controls.inputs}.union(
            *(one.inputs for one in tabs)
        )
        view = [
            self.numbers,
            self.cost,
            self.table,
            *(part for one in tabs for part in one.outputs),
        ]
        for name, tab in self.tab.items():
            opened = tab.select(
                partial(self._open, name), None, [self.where, self.numbers], **AT_ONCE
            )
            if name == "draw":  # after its model is loaded
                opened.then(
                    None, None, None, js="() => window.labPad.start()", api_visibility="private"
                )
        for name, tab in photo.parts.items():
            tab.select(partial(_same, name), None, photo.part, **AT_ONCE)
        # One event for everything that moves, so that the last request is the last one shown.
        moved = (self.where, photo.part, *controls.quick, *compare.inputs[1:])
        gr.on([part.change for part in moved], explained(self._refresh), inputs, view, **AT_ONCE)
        self.explore.again.click(explained(self._refresh), inputs, view, **AT_ONCE)
        for happens, given, function in (
            (source.open.upload, source.open, source.take),
            (source.picked.change, source.picked, source.pick),
            (source.draw.click, None, source.sample),
        ):
            happens(
                explained(partial(self._take, function, given)),
                {given, *inputs} - {None},
                [*source.outputs, *view],
                **ON_CLICK,
            )
        for side in (controls, compare.other):
            switched = side.model.change(
                partial(self._switch, side),
                {side.model, *inputs},
                list(
                    dict.fromkeys(
                        [
                            *(side.model, compare.other.model, self.lead, self.live.knows),
                            *(*side.inputs, *compare.inputs, *source.outputs, *view),
                        ]
                    )
                ),
                show_progress="full",
                show_progress_on=self.lead if side is controls else side.model,
                trigger_mode="always_last",  # another model may be chosen while one is loaded
                api_visibility="private",
            )
            if side is controls:
                switched.then(
                    None, side.model, None, js="(name) => lab.model(name)", api_visibility="private"
                )
        self.keep.connect(inputs, self._image, controls.read)
        # Tells the camera's script the values of the controls, at once and whenever one is moved.
        values = [controls.model, *controls.quick]
        gr.on(
            [page.load, *(part.change for part in values)],
            None,
            values,
            None,
            js="(...values) => window.labLive.move(...values)",
            api_visibility="private",
        )
        for button in (self.live.snap, self.drawing.snap):
            taken = button.click(
                None, None, self.keep.still, js="() => lab.still()", api_visibility="private"
            )
            taken.then(
                explained(self._snapshot),
                {self.keep.still, *inputs},
                [self.tabs, self.where, *source.outputs, *view],
                **ON_CLICK,
            )
        self.video.connect(controls, source.image)

    def _refresh(self, values: Values) -> dict[Any, Any]:
        """Fills the open tab; the others are filled when they are opened."""
        state, image = self.controls.read(values), values[self.source.image]
        shown: dict[Any, Any] = {self.cost: readouts.cost(state, self.viewer.models[state.model])}
        if values[self.where] == "explore":
            return shown | self.explore.refresh(image, state)
        tab = self.image_tabs.get(values[self.where])
        if tab is None:  # the browser shows Live and Draw itself, and a video waits for its button
            return shown
        view = None if image is None else self.viewer.view(image, state)
        shown |= {self.numbers: readouts.numbers(view), self.table: readouts.table(view)}
        return shown | (tab.empty if view is None else tab.refresh(values, image, view))

    def _open(self, name: str) -> tuple[str, Any]:
        """Opens another tab. Live's numbers are empty until the next frame fills them."""
        if name == "draw" and self.drawing.model:
            self.viewer.models[self.drawing.model]  # loads the model
        live = name in ("live", "draw")
        return name, readouts.numbers(None, readouts.LIVE_MS) if live else gr.skip()

    def _take(self, function: Any, given: Any, values: Values) -> dict[Any, Any]:
        """Takes another image. function: that of the source; given: the component that it reads."""
        what = [] if given is None else [values[given]]
        model = values[self.controls.loaded]
        changed = function(*what, values[self.source.given], model)
        return {**changed, **self._refresh({**values, **changed})}

    def _image(self, values: Values) -> InputImage | None:
        """The image of the open tab: the page's image, the camera's frame, or the drawing."""
        if values[self.where] in ("live", "draw"):
            return read_still(values[self.keep.still], self.viewer.limits)
        return values[self.source.image]

    def _snapshot(self, values: Values) -> dict[Any, Any]:
        model = values[self.controls.loaded]
        if values[self.where] == "draw":
            model = self.drawing.model or model
        image = read_still(values[self.keep.still], self.viewer.limits)
        changed = self.source.snapshot(image, values[self.source.given], model)
        now = {self.where: "explore", **changed}
        return {
            **now,
            self.tabs: gr.Tabs(selected="explore"),
            **self._refresh({**values, **now}),
        }

    def _switch(
        self,
        side: ModelControls,
        values: Values,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> dict[Any, Any]:
        """Switches the model of the page or of a side; if it is not available, nothing changes."""
        name, before = values[side.model], values[side.loaded]
        if name == before:
            return {side.model: gr.skip()}
        detector = self._fetched(name, progress)
        if detector is None:
            return {side.model: before}
        changed, now = side.switch(name, detector, values)
        if side is self.controls:
            other = self.compare.other
            if values[other.loaded] == before:  # the other side follows while it has the same model
                more, _ = other.switch(name, detector, values)
                fewer = max(1, detector.num_proposals // 2)
                more[other.num_proposals] = gr.update(maximum=detector.num_proposals, value=fewer)
                offered = self.viewer.models.choices()
                if name in self.viewer.models.private:  # Gradio refuses values it does not list
                    offered.append(("what you taught", name))
                changed |= {**more, other.model: gr.update(choices=offered, value=name)}
                now |= {other.loaded: name, other.num_proposals: fewer}
            image, given = values[self.source.image], values[self.source.given]
            source = self.source.switch(name, image, given)
            changed |= source | {
                self.lead: readouts.lead(TITLE, detector),
                self.live.knows: readouts.finds(detector.class_names),
            }
            now |= source
        return {**changed, **self._refresh({**values, **now})}

    def _fetched(self, name: str, progress: gr.Progress) -> Detector | None:
        """The model, downloaded if necessary; None, after a message, when it is not available."""
        try:
            progress(0.0, desc=f"{name} is being loaded")
            return self.viewer.models[name]
        except Exception as error:
            words = in_words(error)
            if name in RELEASES and isinstance(error.__cause__, OSError):
                words = (
                    f"It has to be downloaded once ({RELEASES[name].megabytes} MB), but its server "
                    "cannot be reached from here. The terminal shows its address and what else you "
                    "can do. The other models need no connection."
                )
            gr.Warning(f"{name} cannot be used now. {words}", duration=20)
            return None


def _same(value: str) -> str:
    return value
