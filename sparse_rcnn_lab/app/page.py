"""The page: tabs at the left, controls and numbers at the right, one image for all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import readouts, teach_tab
from sparse_rcnn_lab.app.control_panel import ControlPanel, ModelControls, Values
from sparse_rcnn_lab.app.endpoints import Endpoints
from sparse_rcnn_lab.app.events import AT_ONCE, ON_CLICK, clamp_numbers, explained, in_words
from sparse_rcnn_lab.app.explore_tab import Explorations, ExploreTab
from sparse_rcnn_lab.app.image_tabs import CompareTab, PhotoTab
from sparse_rcnn_lab.app.live_tab import LiveTab
from sparse_rcnn_lab.app.source import Source
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.teach_tab import TeachTab
from sparse_rcnn_lab.app.video_tab import VideoTab
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.views.draw import as_image
from sparse_rcnn_lab.views.explorer import html_page

TITLE = "Sparse R-CNN lab"
LEAD = "A fixed set of learned proposals becomes detections in stages. Turn the proposals down."
THRESHOLD = 0.3
_PACE = (
    '<div class="lab-readout"><div><b id="lab-fps">–</b><span>frames/s</span></div>'
    '<div><b id="lab-latency">–</b><span>ms latency</span></div></div>'
)
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
_HERE = Path(__file__).parent
_SCRIPTS = ("page.js", "explore.js", "webcam.js")
# A file that was just made is taken at once, without a second click.
_PRESS = """() => setTimeout(() => {
  const link = document.querySelector('a#lab-file, #lab-file a, a[download]#lab-file');
  (link || document.querySelector('#lab-file')).click();
}, 100)"""


def build_page(viewer: Viewer, explorations: Explorations) -> gr.Blocks:
    """The page for the viewer's models."""
    clamp_numbers()
    name = viewer.models.first
    detector = viewer.models[name]
    start = ViewState(name, detector.num_proposals, detector.num_stages, THRESHOLD)
    # What Gradio was handed stays for ten minutes, what it made for its frames no longer.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{LEAD}</p>", elem_id="lab-head", padding=False)
        Page(viewer, start, explorations).connect(page)
        Endpoints(viewer, start)
    return page


def looks() -> dict[str, Any]:
    """How the page looks and what it runs in the browser: arguments of Gradio's ``launch``.

    Neutral greys, so that the colours on the image are the only ones; the reader's own fonts.
    """
    scripts = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return {
        "theme": gr.themes.Default(
            primary_hue="teal", neutral_hue="slate", radius_size="md", font=_FONTS, font_mono=_MONO
        ),
        "css": (_HERE / "app.css").read_text(encoding="utf-8"),
        "head": f"<style>{html_page.css()}</style><script>{scripts}</script>{teach_tab.head()}",
    }


class Page:
    """Lays everything out; one function, :meth:`_refresh`, fills the tab that is open."""

    def __init__(self, viewer: Viewer, start: ViewState, explorations: Explorations) -> None:
        self.viewer = viewer
        self.where = gr.State("photo")
        self.tab: dict[str, gr.Tab] = {}
        with gr.Row(elem_id="lab-page"):
            with gr.Column(scale=3, min_width=320, elem_id="lab-left"):
                source_here = gr.Column(elem_id="lab-source-place", render=False)
                with source_here:
                    self.source = Source(viewer)
                with gr.Tabs(selected="photo", elem_id="lab-tabs") as self.tabs:
                    with self._tab("live"):
                        self.live = LiveTab(viewer)
                    with self._tab("photo"):
                        self.photo = PhotoTab(viewer, self.source.first, start)
                    with self._tab("video"):
                        self.video = VideoTab(viewer)
                    with self._tab("compare"):
                        self.compare = CompareTab(viewer, start)
                    with self._tab("explore"):
                        self.explore = ExploreTab(explorations)
                    with self._tab("teach"):
                        self.teach = TeachTab(viewer)
                source_here.render()
            with gr.Column(scale=2, min_width=300, elem_id="lab-right"):
                self.numbers = gr.HTML(
                    self.photo.first_numbers, elem_id="lab-numbers", padding=False
                )
                gr.HTML(_PACE, elem_id="lab-pace", padding=False)
                self.cost = gr.HTML(
                    readouts.cost(start, viewer.models[start.model]),
                    elem_id="lab-cost",
                    padding=False,
                )
                with gr.Group(elem_id="lab-controls"):
                    self.controls = ControlPanel(viewer, start)
                self.table = gr.HTML(self.photo.first_table, elem_id="lab-list", padding=False)
        self.image_tabs: dict[str, PhotoTab | CompareTab | ExploreTab] = {
            "photo": self.photo,
            "compare": self.compare,
            "explore": self.explore,
        }

    def _tab(self, name: str) -> gr.Tab:
        self.tab[name] = gr.Tab(name.capitalize(), id=name, elem_id=f"lab-tab-{name}")
        return self.tab[name]

    def connect(self, page: gr.Blocks) -> None:
        """Wires the parts to each other."""
        source, controls, photo, compare = self.source, self.controls, self.photo, self.compare
        tabs = self.image_tabs.values()
        inputs = {self.where, source.image, *controls.inputs}.union(*(one.inputs for one in tabs))
        view = [
            self.numbers,
            self.cost,
            self.table,
            *(part for one in tabs for part in one.outputs),
        ]
        for name, tab in self.tab.items():
            tab.select(partial(self._open, name), None, [self.where, self.numbers], **AT_ONCE)
        for name, tab in photo.parts.items():
            tab.select(partial(_same, name), None, photo.part, **AT_ONCE)
        # One event for all that moves: the last one asked for is then the last one shown.
        moved = (self.where, photo.part, *controls.quick, *compare.inputs[1:])
        gr.on([part.change for part in moved], explained(self._refresh), inputs, view, **AT_ONCE)
        source.file.change(
            explained(self._take), {source.file, *inputs}, [source.image, *view], **ON_CLICK
        )
        source.gallery.select(
            explained(source.example), controls.loaded, [source.file, source.gallery], **ON_CLICK
        )
        source.draw.click(explained(source.sample), source.difficulty, source.file, **ON_CLICK)
        for side in (controls, compare.other):
            side.model.change(
                partial(self._switch, side),
                {side.model, *inputs},
                [side.model, *side.inputs, *source.outputs, *view],
                show_progress="full",
                show_progress_on=side.model,
                trigger_mode="always_last",  # another one may be chosen while one is fetched
                api_visibility="private",
            )
        for kind, button in photo.buttons.items():
            made = button.click(
                explained(partial(self._download, kind)), inputs, photo.file, **ON_CLICK
            )
            made.success(None, None, None, js=_PRESS, api_visibility="private")
        self.live.connect(page, controls)
        # The frame is the browser's: it comes first, and then what is done with it.
        taken = self.live.snap.click(
            None, None, self.live.still, js="() => window.labLive.still()", api_visibility="private"
        )
        taken.then(
            explained(self._snapshot),
            {self.live.still, *inputs},
            [self.tabs, self.where, source.file, source.image, *view],
            **ON_CLICK,
        )
        self.video.connect(controls, source.image)
        self.explore.again.click(explained(self._refresh), inputs, view, **AT_ONCE)
        self.teach.connect(controls.model)

    def _refresh(self, values: Values) -> dict[Any, Any]:
        """Fills the tab that is open; the others are filled when they are opened."""
        state, image = self.controls.read(values), values[self.source.image]
        shown: dict[Any, Any] = {self.cost: readouts.cost(state, self.viewer.models[state.model])}
        tab = self.image_tabs.get(values[self.where])
        if tab is None:  # the camera's script shows Live, and a video waits for its button
            return shown
        view = None if image is None else self.viewer.view(image, state)
        shown |= {self.numbers: readouts.numbers(view), self.table: readouts.table(view)}
        return shown | (tab.empty if view is None else tab.refresh(values, image, view))

    def _open(self, name: str) -> tuple[str, Any]:
        """Another tab. Live's numbers are empty until the next frame fills them."""
        return name, readouts.numbers(None, readouts.LIVE_MS) if name == "live" else gr.skip()

    def _take(self, values: Values) -> dict[Any, Any]:
        image = self.source.read(values[self.source.file])
        return {self.source.image: image, **self._refresh({**values, self.source.image: image})}

    def _snapshot(self, values: Values) -> dict[Any, Any]:
        image = self.live.snapshot(values[self.live.still])
        now = {self.where: "explore", self.source.image: image}
        return {
            **now,
            self.tabs: gr.Tabs(selected="explore"),
            self.source.file: as_image(image.pixels),
            **self._refresh({**values, **now}),
        }

    def _switch(
        self,
        side: ModelControls,
        values: Values,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> dict[Any, Any]:
        """Another model, for the page or a side. When it cannot be had, all stays as it was."""
        name, before = values[side.model], values[side.loaded]
        if name == before:
            return {side.model: gr.skip()}
        detector = self._fetched(name, progress)
        if detector is None:
            return {side.model: before}
        changed, now = side.switch(name, detector, values)
        if side is self.controls:
            source = self.source.switch(name, values[self.source.image])
            changed |= source
            now |= {part: source[part] for part in (self.source.image,) if part in source}
        return {**changed, **self._refresh({**values, **now})}

    def _fetched(self, name: str, progress: gr.Progress) -> Detector | None:
        """The model, fetched where it must be; None, after saying why, when it cannot be had."""
        try:
            progress(0.0, desc=f"{name} is being loaded")
            return self.viewer.models[name]
        except Exception as error:
            gr.Warning(f"{name} cannot be used now. {in_words(error)}", duration=20)
            return None

    def _download(self, kind: str, values: Values) -> Any:
        return self.photo.download(kind, values[self.source.image], self.controls.read(values))


def _same(value: str) -> str:
    return value
