"""The downloads of an image: with its boxes, as a film, detections, the trace, the explorer."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.video import film_of
from sparse_rcnn_lab.app.viewer import Viewer, select_detections, select_marks
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.detect.trace_file import save_trace
from sparse_rcnn_lab.intervene.intervention import Intervention
from sparse_rcnn_lab.views.draw import draw_marks, encoded
from sparse_rcnn_lab.views.explorer.explore import Explorer, explore
from sparse_rcnn_lab.views.film import save_film
from sparse_rcnn_lab.views.playground.playground_page import playground

# kind -> file name
KINDS = {
    "image": "detections.jpg",
    "film": "stages.webp",
    "video": "stages.mp4",
    "json": "detections.json",
    "trace": "image.trace",
    "page": "explorer.html",
    "playground": "playground.html",
}


def download(
    viewer: Viewer, image: InputImage, state: ViewState, kind: str, explored: str = ""
) -> Path:
    """Writes one of ``KINDS`` for an image. Raises LabError for another kind.

    explored: what the tab Explore shows, as ``explore.js`` sends it (``still``). The files then
    show this, with everything that was changed there.
    """
    if kind not in KINDS:
        raise LabError(f"There is no download {kind!r}. Choose {', '.join(KINDS)}.")
    path = new_file(KINDS[kind])
    if kind == "playground":
        playground(viewer.models[state.model], path)
        return path
    if explored or kind == "page":
        with viewer.turn():
            explorer, state = _reopened(viewer, image, state, json.loads(explored or "{}"))
        trace = explorer.trace
    else:
        if kind in ("image", "json"):
            trace, _ = viewer.trace(image, state)
        else:
            trace = viewer.full_trace(image.pixels, state)
        state = state.clamped(viewer.models[state.model])
    if kind == "image":
        marks, _ = select_marks(trace, state)
        _save(draw_marks(image.shown, marks, (trace.size[1], trace.size[0])), path)
    elif kind == "json":
        write_text(path, json.dumps(_coco(trace, state), indent=1) + "\n")
    elif kind == "trace":
        save_trace(trace, path)
    elif kind == "film":
        save_film(trace, path, threshold=state.threshold, stage_seconds=1.0)
    elif kind == "video":
        film_of(trace, state.threshold, path)
    else:
        explorer.to_html(path)
    return path


def coco_results(viewer: Viewer, image: InputImage, state: ViewState) -> dict[str, object]:
    """The detections as a COCO file: ``images``, ``categories``, ``annotations`` with scores.

    ``annotations`` alone is COCO's results format. Boxes are x, y, width, height in pixels of the
    original image.
    """
    state = state.clamped(viewer.models[state.model])
    return _coco(viewer.trace(image, state)[0], state)


def _coco(trace: Trace, state: ViewState) -> dict[str, object]:
    height, width = trace.size
    rows = select_detections(trace, state).to_coco() if state.stage else []
    return {
        "info": {
            "model": trace.model_name,
            "num_proposals": trace.num_proposals,
            "stage": state.stage,
            "threshold": state.threshold,
        },
        "images": [{"id": 0, "width": width, "height": height, "file_name": "image"}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(trace.class_names)],
        "annotations": [
            {"id": number, **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(rows)
        ],
    }


def explorer_of(viewer: Viewer, image: InputImage, state: ViewState, **options: Any) -> Explorer:
    """The explorer of an image with all proposals of the model, in which changes are run."""
    options = {"threshold": state.threshold, **options}
    return explore(image.pixels, viewer.models[state.model], **options)


def _reopened(
    viewer: Viewer, image: InputImage, state: ViewState, told: dict[str, Any]
) -> tuple[Explorer, ViewState]:
    """The explorer as it is on screen, and the state of the controls that corresponds to it."""
    changed = Intervention.from_message(told.pop("intervention", {}))
    explorer = explorer_of(viewer, image, state, **told)
    if not changed.changes_nothing():
        explorer.try_out(changed)
    if not told:
        return explorer, state
    threshold, stage = told["threshold"], told.get("stage", explorer.trace.num_stages)
    return explorer, replace(state, stage=stage, threshold=threshold, classes=())


def new_file(name: str, kind: str = "made") -> Path:
    """A path for a new file in the app's own folder. Those of kind ``made`` are later removed."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    place = folder / kind / secrets.token_hex(16)
    place.mkdir(parents=True, mode=0o700)
    return place / name


def on_page(image: Image.Image) -> str:
    """Writes an image for the page and returns its path.

    Gradio would name the file after its pixels and write it again for the next visitor with the
    same image, while it is being sent to the first.
    """
    path = new_file("detections.jpg")
    _save(image, path)
    return str(path)


def as_jpeg(image: Image.Image) -> bytes:
    """An image as the bytes of a JPEG file, for frames and images inside the page."""
    return encoded(image, quality=85)


def _save(image: Image.Image, path: Path) -> None:
    with write_whole(path) as temporary:
        image.save(temporary, "JPEG", quality=92)
