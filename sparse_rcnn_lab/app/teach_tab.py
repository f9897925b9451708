"""The tab *Teach*: the routes behind it. Its view is ``teach.js``, with the labeller.

Everything of a visitor is in a folder whose name only that visitor's link contains. Each answer is
sent after the data is on disk, so a page, app or machine that dies loses no frame and no box.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sparse_rcnn_lab.app.events import failed, problem
from sparse_rcnn_lab.app.teach_run import MINUTES, Trainings, at_end, unfinished
from sparse_rcnn_lab.app.teach_visitors import DAYS, Visitor, Visitors
from sparse_rcnn_lab.app.user_inputs import check_image_file, read_frame
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.coco.labelled_folder import read_labelled_folder, unpack
from sparse_rcnn_lab.data.coco.records import leads_out
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.models.checkpoint import MODEL_FILE
from sparse_rcnn_lab.models.releases import cache_folder
from sparse_rcnn_lab.training.run_folder import RunFolder, read_json
from sparse_rcnn_lab.training.teach.progress import STATE, read_progress
from sparse_rcnn_lab.training.teach.suggest import Suggestions
from sparse_rcnn_lab.training.teach.teaching import START
from sparse_rcnn_lab.views.bundle import joined
from sparse_rcnn_lab.views.explorer.explore import explore
from sparse_rcnn_lab.views.labeller import label as labeller
from sparse_rcnn_lab.views.playground.playground_page import playground
from sparse_rcnn_lab.views.style import CLASS_COLORS, STAGE_COLORS, stage_color

PATH = "/lab/teach"
GIVEN = "your files"  # the folder of what was uploaded, as messages name it
_AGAIN = 3  # how often a killed training is continued automatically
_HERE = Path(__file__).parent
_MESSAGE_BYTES = 4_000_000


def html() -> str:
    """The initial content of the tab; ``teach.js`` fills it."""
    return (
        '<div id="lab-teach"><p class="lab-hint">Teach it something: show it about twenty images, '
        "draw boxes, wait four minutes.</p></div>"
    )


def head() -> str:
    """The tab's script and style, for the page's head."""
    script = joined([*labeller.files(), _HERE / "teach.js"])
    css = labeller.css() + (_HERE / "teach.css").read_text(encoding="utf-8")
    counts = range(1, len(STAGE_COLORS) + 1)
    stages = [[stage_color(stage, n) for stage in range(1, n + 1)] for n in counts]
    values = {"days": DAYS, "start": START, "colors": CLASS_COLORS, "stages": stages}
    data = json.dumps(values)
    return (
        f"<style>{css}</style><script>window.labTeachValues = {data};</script>"
        f'<script type="module">{script}</script>'
    )


class Teaching:
    """Answers the tab. root: the folder of the visitors' folders; default: the cache folder."""

    def __init__(self, viewer: Viewer, root: Path | None = None) -> None:
        self.viewer = viewer
        self.start = START if START in viewer.models.names else viewer.models.first
        self.root = root or cache_folder() / "teach"
        self.trainings = Trainings()
        self.visitors = Visitors(self.root, self.trainings)

    def routes(self) -> list[Route]:
        """The routes for the page."""
        one = f"{PATH}/{{token}}"
        actions: dict[str, Callable[[Visitor, dict[str, Any]], Any]] = {
            "label": self._label,
            "classes": self._classes,
            "remove": self._remove,
            "propose": self._propose,
            "import": self._import,
            "train": self._train,
            "stop": self._stop,
            "use": self._use,
        }
        return [
            Route(f"{PATH}/new", self.begin, methods=["POST"]),
            Route(f"{one}/state", self.state),
            Route(f"{one}/run", self.run),
            Route(f"{one}/frame", self.frame, methods=["POST"]),
            Route(f"{one}/upload", self.upload, methods=["POST"]),
            Route(f"{one}/image/{{name}}", self.image),
            Route(f"{one}/download/{{kind}}", self.download),
            *(
                Route(f"{one}/{name}", self._action(work), methods=["POST"])
                for name, work in actions.items()
            ),
        ]

    # One address each

    async def begin(self, request: Request) -> Response:
        """Creates a visitor and returns the token."""
        return await _answered(lambda: {"token": self.visitors.new().token})

    async def state(self, request: Request) -> Response:
        """Everything that a page needs when it is opened, again or for the first time."""
        return await _answered(lambda: self._state(self._visitor(request)))

    async def run(self, request: Request) -> Response:
        """The state of the training; ``?watched=N``: with the watched proposals from entry N on."""
        watched = request.query_params.get("watched", "0")
        return await _answered(
            lambda: self._run(self._visitor(request), int(watched) if watched.isdigit() else 0)
        )

    async def frame(self, request: Request) -> Response:
        """Takes one frame of the camera: the body is a JPEG."""

        def keep(data: bytes) -> dict[str, Any]:
            visitor = self._visitor(request)
            self.visitors.check_disk()
            row = visitor.project.add(read_frame(data, self.viewer.limits), source="camera")
            return _row(visitor, row)

        data = await _body(request, self.viewer.limits.body_mb * 1_000_000)
        return data if isinstance(data, Response) else await _answered(lambda: keep(data))

    async def upload(self, request: Request) -> Response:
        """Stores one file, ``?name=folder/a.jpg``, until ``import``.

        ``&first=1`` with the first file removes what a cancelled upload has left.
        """
        data = await _body(request, self.viewer.limits.upload_mb * 1_000_000)
        if isinstance(data, Response):
            return data

        def keep() -> dict[str, Any]:
            visitor = self._visitor(request)
            self.visitors.check_disk()
            path = Path(request.query_params.get("name", "").replace("\\", "/"))
            name = path.as_posix()
            if not path.name or leads_out(name) or ":" in name or "\0" in name:
                raise LabError(f'"{path}" is not a name that a file can have here.')
            given = visitor.folder / GIVEN
            if "first" in request.query_params:
                shutil.rmtree(given, ignore_errors=True)
            target = given / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            return {}

        return await _answered(keep)

    async def image(self, request: Request) -> Response:
        """One of the visitor's images."""
        with suppress(LabError):
            visitor = self._visitor(request)
            name = request.path_params["name"]
            path = visitor.project.images / name
            if re.fullmatch(r"\d{6}\.jpg", name) and path.is_file():
                return FileResponse(path, headers={"cache-control": "private, max-age=86400"})
        return Response(status_code=404)

    async def download(self, request: Request) -> Response:
        """The data (COCO, as a zip), the model, or one html page with it."""
        try:
            visitor = self._visitor(request)
            path, name = await to_thread.run_sync(
                self._download, visitor, request.path_params["kind"]
            )
        except Exception as error:
            return failed(error)
        return FileResponse(path, filename=name)

    def _action(self, work: Callable[[Visitor, dict[str, Any]], Any]) -> Any:
        async def answer(request: Request) -> Response:
            data = await _body(request, _MESSAGE_BYTES)
            if isinstance(data, Response):
                return data
            if request.headers.get("content-type", "").split(";")[0] != "application/json":
                return problem("A message must be application/json.", 415)

            def act() -> Any:
                try:
                    message = json.loads(data)
                    assert isinstance(message, dict)
                except (ValueError, AssertionError, RecursionError):
                    raise LabError("A message of this page must be a json object.") from None
                return work(self._visitor(request), message)

            return await _answered(act)

        return answer

    # What they do

    def _label(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        boxes = message.get("boxes")
        if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
            raise LabError("boxes must be a list of {name, box}.")
        visitor.project.label(message.get("id", 0), boxes, bool(message.get("labelled", True)))
        return {"classes": visitor.project.class_names}

    def _classes(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        names, renamed = message.get("names"), message.get("renamed") or {}
        if not isinstance(names, list) or not isinstance(renamed, dict):
            raise LabError("names must be a list and renamed an object.")
        visitor.project.set_classes(names, renamed)
        return {"classes": visitor.project.class_names}

    def _remove(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        visitor.project.remove(message.get("id", 0))
        return {}

    def _propose(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        run = self._last_taught(visitor)
        model = str(run) if run else self.start
        if visitor.suggestions is None or visitor.suggested_by != model:
            from sparse_rcnn_lab.models.load import load

            detector = load(model) if run else self.viewer.models[model]
            visitor.suggestions = Suggestions(detector, taught=run is not None)
            visitor.suggested_by = model
        with self.viewer.turn():
            return labeller.offers_for(visitor.project, visitor.suggestions, message.get("id", 0))

    def _import(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        """Imports what was uploaded: photographs, zips, a labelled folder."""
        given = visitor.folder / GIVEN
        try:
            if not given.exists():
                raise LabError("Nothing has been given.")
            zips = [file for file in given.rglob("*") if file.suffix.lower() == ".zip"]
            for number, file in enumerate(sorted(zips)):
                self.visitors.check_disk()  # each zip may hold gigabytes
                unpack(file, given / f"unpacked{number}", 20 * self.viewer.limits.upload_mb)
                file.unlink()
            found = read_labelled_folder(_inner(given))
            for image in found.images:
                check_image_file(image.path, self.viewer.limits)
            notes = visitor.project.take_over(found)
        finally:
            shutil.rmtree(given, ignore_errors=True)
        return {**self._state(visitor), "notes": notes, "kind": found.kind}

    def _train(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        """Begins a training, from the visitor's last taught model where there is one."""
        self.visitors.check_disk()
        before = self._last_taught(visitor)
        minutes = message.get("minutes")
        minutes = float(minutes) if isinstance(minutes, int | float) else MINUTES
        runs = visitor.runs
        number = int(runs[-1].name) + 1 if runs else 1
        run = visitor.folder / "runs" / f"{number:03d}"
        start = str(before) if before else self.start
        self.trainings.ask(visitor.token, visitor.folder, run, start, min(max(minutes, 0.1), 60))
        run.mkdir(parents=True, exist_ok=True)
        return self._run(visitor, 0)

    def _stop(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        waited = self.trainings.stop(visitor.token)
        if waited and (waited / STATE).exists():  # it was to be continued
            text = "Stopped while it waited to continue. Train again to start from the last model."
            state = {**read_json(waited / STATE), "phase": "failed", "problem": text}
            write_text(waited / STATE, json.dumps(state) + "\n")
        elif waited:
            shutil.rmtree(waited, ignore_errors=True)
        return {}

    def _use(self, visitor: Visitor, message: dict[str, Any]) -> Any:
        """Loads the taught model for the page and returns its name."""
        run = self._last_taught(visitor)
        if run is None:
            raise LabError("Nothing is taught yet: train first.")
        name = f"{run / MODEL_FILE}"
        self.viewer.models.add(name, _shown(run))
        self.viewer.models[name]
        judgement = read_progress(run).get("judgement") or {}
        return {"model": name, "threshold": judgement.get("threshold", 0.5)}

    def _state(self, visitor: Visitor) -> dict[str, Any]:
        frames = labeller.frames_of(visitor.project, lambda row: _url(visitor, row))
        return {
            "frames": frames,
            "classes": visitor.project.class_names,
            "until": visitor.until,
            "run": self._run(visitor, 0),
            "taught": self._last_taught(visitor) is not None,
        }

    def _last_taught(self, visitor: Visitor) -> Path | None:
        """The newest run that has ended and has a model; that of a running one would change."""
        runs = visitor.runs
        if runs and not at_end(runs[-1]):  # a run may have ended while its process still runs
            waits_or_runs = self.trainings.place(visitor.token) is not None
            if waits_or_runs or self._goes_on(visitor, runs[-1]):
                runs.pop()
        return next((run for run in reversed(runs) if (run / MODEL_FILE).exists()), None)

    def _goes_on(self, visitor: Visitor, run: Path) -> bool:
        """Whether to continue a run that was killed, alone or with its app: not too often."""
        return unfinished(run) and visitor.resumed[run.name] < _AGAIN

    def _run(self, visitor: Visitor, watched: int) -> dict[str, Any] | None:
        runs = visitor.runs
        if not runs:
            return None
        run = runs[-1]
        place = self.trainings.place(visitor.token)
        if place is None and self._goes_on(visitor, run):
            visitor.resumed[run.name] += 1
            start = read_progress(run).get("start_from", self.start)
            minutes = read_progress(run).get("minutes", MINUTES)
            self.trainings.ask(visitor.token, visitor.folder, run, start, minutes)
            place = self.trainings.place(visitor.token)
        progress = read_progress(run)
        looks = RunFolder(run).rows("watch")
        if place is None and progress["phase"] not in ("done", "failed"):
            progress |= {"phase": "failed", "problem": _last_words(run)}
        progress.pop("start_from", None)
        return {**progress, "place": place, "name": run.name, "watch": looks[watched:]}

    def _download(self, visitor: Visitor, kind: str) -> tuple[Path, str]:
        if kind == "data":
            return visitor.project.archive(visitor.folder / "data.zip"), "taught-data.zip"
        run = self._last_taught(visitor)
        if run is None:
            raise LabError("Nothing is taught yet: train first.")
        if kind == "model":
            return run / MODEL_FILE, "taught-model.safetensors"
        if kind not in ("page", "playground"):
            raise LabError(f"There is no download {kind!r}: data, model, page, playground.")
        name, shown = f"{run / MODEL_FILE}", _shown(run)
        self.viewer.models.add(name, shown)
        if kind == "playground":
            page = playground(self.viewer.models[name], run / "playground.html", images=shown)
            return page, "taught-playground.html"
        val = CocoFolder(run / "val.json", "val", images=run / "images")
        with self.viewer.turn():
            view = explore(val[int(val.object_counts.argmax())], self.viewer.models[name])
        return Path(view.to_html(run / "explorer.html")), "taught-explorer.html"

    def _visitor(self, request: Request) -> Visitor:
        return self.visitors.get(request.path_params["token"])


def _row(visitor: Visitor, row: dict[str, Any]) -> dict[str, Any]:
    wanted = ("id", "width", "height", "labelled")
    return {**{key: row[key] for key in wanted}, "url": _url(visitor, row), "boxes": []}


def _url(visitor: Visitor, row: dict[str, Any]) -> str:
    """The address of a row's image below ``PATH``, which the page knows even behind a proxy."""
    return f"{visitor.token}/image/{row['file_name']}"


def _shown(run: Path) -> list[Path]:
    """The images with the most objects among those that a run did not learn from."""
    val = CocoFolder(run / "val.json", "val", images=run / "images")
    return [val.image_path(i) for i in (-val.object_counts).argsort()[:4]]


def _inner(folder: Path) -> Path:
    """The first folder with more in it than one folder, as zips and drops often nest them."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name.lower() in ("images",):
            return folder
        folder = inside[0]


def _last_words(run: Path) -> str:
    """The last words of a training that ended without reporting why."""
    with suppress(OSError):
        lines = (run / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        told = [line for line in lines if line.startswith("error:")]
        if told:
            return told[-1].removeprefix("error:").strip()
    return "The training ended by itself, perhaps out of memory. Train again from the beginning."


async def _body(request: Request, most: int) -> bytes | Response:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > 8 * most:
                break
            if size <= most:  # the rest is read too, as a client that is cut off sees no answer
                parts.append(part)
    except ClientDisconnect:
        return Response(status_code=400)
    if size > most:
        text = f"At most {most / 1e6:.0f} MB are accepted at once. Make it smaller."
        return problem(text, 413)
    return b"".join(parts)


async def _answered(work: Callable[[], Any]) -> Response:
    try:
        return JSONResponse(await to_thread.run_sync(work), headers={"cache-control": "no-store"})
    except Exception as error:
        return failed(error)
