"""What can be kept of an image: with its boxes, as a film, detections, the trace, the explorer."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path

from PIL import Image

from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage
from sparse_rcnn_lab.app.video import film_of
from sparse_rcnn_lab.app.viewer import Viewer, select_detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.detect.trace_file import save_trace
from sparse_rcnn_lab.views.draw import encoded
from sparse_rcnn_lab.views.explorer.explore import Explorer, explore
from sparse_rcnn_lab.views.film import save_film
from sparse_rcnn_lab.views.playground.playground_page import playground

# kind -> name of the file
KINDS = {
    "image": "detections.jpg",
    "film": "stages.webp",
    "video": "stages.mp4",
    "json": "detections.json",
    "trace": "image.trace",
    "page": "explorer.html",
    "playground": "playground.html",
}


def download(viewer: Viewer, image: InputImage, state: ViewState, kind: str) -> Path:
    """Writes one of ``KINDS`` for an image. Raises LabError for another kind."""
    if kind not in KINDS:
        raise LabError(f"There is no download {kind!r}. Choose {', '.join(KINDS)}.")
    path = new_file(KINDS[kind])
    if kind == "image":
        _save(viewer.view(image, state).image, path)
    elif kind == "json":
        write_text(path, json.dumps(coco_results(viewer, image, state), indent=1) + "\n")
    elif kind == "trace":
        save_trace(viewer.full_trace(image.pixels, state), path)
    elif kind == "playground":
        playground(viewer.models[state.model], path)
    elif kind == "film":
        trace = viewer.full_trace(image.pixels, state)
        save_film(trace, path, threshold=state.threshold, stage_seconds=1.0)
    elif kind == "video":
        film_of(viewer, image.pixels, state, path)
    else:
        with viewer.turn():
            explorer_of(viewer, image, state).to_html(path)
    return path


def coco_results(viewer: Viewer, image: InputImage, state: ViewState) -> dict[str, object]:
    """The detections as a COCO file: ``images``, ``categories``, ``annotations`` with scores.

    ``annotations`` alone is COCO's results format. Boxes are x, y, width, height in pixels of the
    original image.
    """
    state = state.clamped(viewer.models[state.model])
    trace, _ = viewer.trace(image, state)
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


def explorer_of(viewer: Viewer, image: InputImage, state: ViewState) -> Explorer:
    """The explorer of an image with all proposals of the model; what is changed in it runs."""
    return explore(image.pixels, viewer.models[state.model], threshold=state.threshold)


def new_file(name: str, kind: str = "made") -> Path:
    """A place for a new file in the app's own folder. What was ``made`` goes by and by."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    place = folder / kind / secrets.token_hex(16)
    place.mkdir(parents=True, mode=0o700)
    return place / name


def on_page(image: Image.Image) -> str:
    """Writes an image for the page; the path.

    Gradio would name the file after its pixels and write it again for the next visitor with the
    same image, while it is being sent to the first.
    """
    path = new_file("detections.jpg")
    _save(image, path)
    return str(path)


def as_jpeg(image: Image.Image) -> bytes:
    """An image as the bytes of a JPEG file: frames, and images inside the page."""
    return encoded(image, quality=85)


def _save(image: Image.Image, path: Path) -> None:
    with write_whole(path) as temporary:
        image.save(temporary, "JPEG", quality=92)
