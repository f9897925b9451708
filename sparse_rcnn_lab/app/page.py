"""The page: tabs at the left, dials and numbers at the right, one picture for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.api import Api
from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.compare import CompareTab
from sparse_rcnn_lab.app.dials import Values, build_dials
from sparse_rcnn_lab.app.events import AT_ONCE, ON_CLICK, ON_LOAD, clip_numbers, explained, in_words
from sparse_rcnn_lab.app.exploring import ExploreTab
from sparse_rcnn_lab.app.live import LiveTab
from sparse_rcnn_lab.app.photo import PhotoTab
from sparse_rcnn_lab.app.source import Source
from sparse_rcnn_lab.app.video import VideoTab
from sparse_rcnn_lab.views.draw import as_image

TITLE = "Sparse R-CNN lab"
LEAD = "A fixed set of learned proposals becomes detections in stages. Turn the proposals down."
THRESHOLD = 0.3
TABS = {
    "live": "Live",
    "photo": "Photo",
    "video": "Video",
    "compare": "Compare",
    "explore": "Explore",
}
_PACE = (
    '<div class="lab-readout"><div><b id="lab-fps">–</b><span>frames/s</span></div>'
    '<div><b id="lab-latency">–</b><span>ms latency</span></div></div>'
)


def build_page(bench: Bench) -> gr.Blocks:
    """The page for the bench's models."""
    clip_numbers()
    detector = bench.models[bench.first]
    start = Dials(bench.first, detector.num_proposals, detector.num_stages, THRESHOLD)
    # What Gradio was handed stays for ten minutes, what it made for its frames no longer.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{LEAD}</p>", elem_id="lab-head", padding=False)
        Page(bench, start).connect(page)
        Api(bench, start)
    return page


class Page:
    """Lays everything out; one function, :meth:`_refresh`, fills the tab that is open."""

    def __init__(self, bench: Bench, start: Dials) -> None:
        self.bench = bench
        self.where = gr.State("photo")
        with gr.Row(elem_id="lab-page"):
            with gr.Column(scale=3, min_width=320, elem_id="lab-left"):
                source_here = gr.Column(elem_id="lab-source-place", render=False)
                with source_here:
                    self.source = Source(bench)
                with gr.Tabs(selected="photo", elem_id="lab-tabs") as self.tabs:
                    self.tab: dict[str, gr.Tab] = {}
                    with self._tab("live"):
                        self.live = LiveTab(bench)
                    with self._tab("photo"):
                        self.photo = PhotoTab(bench, self.source.first, start)
                    with self._tab("video"):
                        self.video = VideoTab(bench)
                    with self._tab("compare"):
                        self.compare = CompareTab(bench, start)
                    with self._tab("explore"):
                        self.explore = ExploreTab(bench)
                source_here.render()
            with gr.Column(scale=2, min_width=300, elem_id="lab-right"):
                self.readout = gr.HTML(
                    self.photo.first_readout, elem_id="lab-numbers", padding=False
                )
                gr.HTML(_PACE, elem_id="lab-pace", padding=False)
                self.cost = gr.HTML(
                    words.costs(start, start.proposals, start.stage),
                    elem_id="lab-cost",
                    padding=False,
                )
                with gr.Group(elem_id="lab-dials"):
                    self.dials = build_dials(bench, start)
                self.table = gr.HTML(self.photo.first_table, elem_id="lab-list", padding=False)

    def connect(self, page: gr.Blocks) -> None:
        """Wires the parts to each other."""
        source, dials, photo = self.source, self.dials, self.photo
        look = {
            self.where,
            photo.part,
            source.picture,
            *dials.inputs(),
            *self.compare.inputs(),
            *self.explore.inputs(),
        }
        view = [
            self.readout,
            self.cost,
            self.table,
            *photo.outputs(),
            *self.compare.outputs(),
            *self.explore.outputs(),
        ]
        for name, tab in self.tab.items():
            tab.select(self._open(name), None, [self.where, self.readout], **AT_ONCE)
        for name, tab in photo.tabs.items():
            tab.select(_giving(name), None, photo.part, **AT_ONCE)
        # One event for all that turns: the last one asked for is then the last one shown.
        turned = (self.where, photo.part, *dials.quick(), *self.compare.inputs()[1:])
        gr.on([part.change for part in turned], explained(self._refresh), look, view, **AT_ONCE)
        source.file.change(
            explained(self._take), {source.file, *look}, [source.picture, *view], **ON_CLICK
        )
        source.gallery.select(
            explained(source.example), dials.loaded, [source.file, source.gallery], **ON_CLICK
        )
        source.draw.click(explained(source.drawn), source.difficulty, source.file, **ON_CLICK)
        everything = [
            dials.model,
            *dials.inputs(),
            source.file,
            source.picture,
            source.gallery,
            source.samples,
            *view,
        ]
        dials.model.change(
            self._switch,
            {dials.model, *look},
            everything,
            **{**ON_LOAD, "show_progress_on": dials.model, "trigger_mode": "once"},
        )
        self.compare.model.change(
            self._switch_other,
            {self.compare.model, *look},
            [self.compare.model, *self.compare.inputs(), *view],
            **{**ON_LOAD, "show_progress_on": self.compare.model},
        )
        for kind, button in photo.keep.items():
            button.click(explained(self._download(kind)), look, photo.file, **ON_CLICK).success(
                None, None, None, js=_PRESS, api_visibility="private"
            )
        self.live.connect(page, dials)
        # The frame is the browser's: it comes first, and then what is done with it.
        taken = self.live.snap.click(
            None, None, self.live.still, js="() => window.labLive.still()", api_visibility="private"
        )
        taken.then(
            explained(self._snapshot),
            {self.live.still, *look},
            [self.tabs, self.where, source.file, source.picture, *view],
            **ON_CLICK,
        )
        self.video.connect(dials, source.picture)
        self.explore.connect(page)

    def _tab(self, name: str) -> gr.Tab:
        self.tab[name] = gr.Tab(TABS[name], id=name, elem_id=f"lab-tab-{name}")
        return self.tab[name]

    def _refresh(self, values: Values) -> dict[Any, Any]:
        """Fills the tab that is open; the others are filled when they are opened."""
        picture, dials = values[self.source.picture], self.dials.read(values)
        detector = self.bench.models[dials.model]
        dials = dials.fitting(detector)
        cost = words.costs(dials, detector.num_proposals, detector.num_stages)
        shown: dict[Any, Any] = {self.cost: cost}
        where = values[self.where]
        if where == "live":
            return shown
        if where == "compare":
            shown |= self.compare.refresh(values, picture, dials)
        if where == "explore":
            shown |= self.explore.refresh(values, picture, dials)
        if where in ("photo", "compare", "explore"):
            part = values[self.photo.part] if where == "photo" else ""
            shown |= self.photo.refresh(part, picture, dials, self.readout, self.table)
        return shown

    def _open(self, name: str) -> Any:
        def opened() -> tuple[str, Any]:
            return name, self.live.first_readout() if name == "live" else gr.skip()

        return opened

    def _take(self, values: Values) -> dict[Any, Any]:
        picture = self.source.read(values[self.source.file])
        shown = self._refresh({**values, self.source.picture: picture})
        return {self.source.picture: picture, **shown}

    def _snapshot(self, values: Values) -> dict[Any, Any]:
        picture = self.live.snapshot(values[self.live.still])
        now = {**values, self.source.picture: picture, self.where: "explore"}
        return {
            self.tabs: gr.Tabs(selected="explore"),
            self.where: "explore",
            self.source.file: as_image(picture.pixels),
            self.source.picture: picture,
            **self._refresh(now),
        }

    def _switch(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> dict[Any, Any]:
        """Another model. When it cannot be had, all stays as it was."""
        dials, name = self.dials.read(values), values[self.dials.model]
        if name == dials.model:
            return {self.dials.model: gr.skip()}
        detector = self._fetched(name, progress)
        if detector is None:
            return self.dials.stay(dials.model)
        changed = self.dials.switch(detector, name, dials)
        changed |= self.source.switch(name, values[self.source.picture])
        now = {
            **values,
            self.dials.loaded: name,
            self.dials.proposals: detector.num_proposals,
            self.dials.stage: min(dials.stage, detector.num_stages),
            self.dials.classes: [],
            self.source.picture: changed.get(self.source.picture, values[self.source.picture]),
        }
        return {**changed, **self._refresh(now)}

    def _switch_other(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> dict[Any, Any]:
        side = self.compare
        name = values[side.model]
        detector = self._fetched(name, progress)
        if detector is None:
            return {side.model: values[side.loaded]}
        now = {
            **values,
            side.loaded: name,
            side.proposals: detector.num_proposals,
            side.stage: detector.num_stages,
        }
        return {**side.switch(name), **self._refresh(now)}

    def _fetched(self, name: str, progress: gr.Progress) -> Any:
        """The model, fetched where it must be; None, after saying why, when it cannot be had."""
        try:
            progress(0.0, desc=f"{name} is being loaded")
            return self.bench.models[name]
        except Exception as error:
            gr.Warning(f"{name} cannot be used now. {in_words(error)}", duration=20)
            return None

    def _download(self, kind: str) -> Any:
        def made(values: Values) -> Any:
            dials = self.dials.read(values)
            return self.photo.download(kind, values[self.source.picture], dials)

        return made


def _giving(name: str) -> Callable[[], str]:
    def given() -> str:
        return name

    return given


# A file that was just made is taken at once, without a second click.
_PRESS = """() => setTimeout(() => {
  const link = document.querySelector('a#lab-file, #lab-file a, a[download]#lab-file');
  (link || document.querySelector('#lab-file')).click();
}, 100)"""
