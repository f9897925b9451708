"""What can be taken home from a picture: the picture, its detections, the trace, the page."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path

from PIL import Image

from sparse_rcnn_lab.app.bench import Bench, Dials, of_classes
from sparse_rcnn_lab.app.pictures import Picture
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.detect.trace_file import save_trace
from sparse_rcnn_lab.views.explorer.explore import explore
from sparse_rcnn_lab.views.explorer.view import Explorer

# name of a kind -> name of the file
KINDS = {
    "picture": "detections.jpg",
    "json": "detections.json",
    "trace": "picture.trace",
    "page": "explorer.html",
}


def fresh_file(name: str) -> Path:
    """A place for a new file in the app's own folder, which is emptied by and by."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    place = folder / "made" / secrets.token_hex(16)
    place.mkdir(parents=True, mode=0o700)
    return place / name


def on_page(image: Image.Image) -> str:
    """Writes a picture for the page; the path.

    Gradio would name the file after its pixels and write it again for the next visitor with the
    same picture, while it is being sent to the first.
    """
    path = fresh_file(KINDS["picture"])
    _save(image, path)
    return str(path)


def _save(image: Image.Image, path: Path) -> None:
    with write_whole(path) as temporary:
        image.save(temporary, "JPEG", quality=92)


def keepsake(bench: Bench, picture: Picture, dials: Dials, kind: str) -> Path:
    """Writes one of ``KINDS`` for a picture. Raises LabError for another kind."""
    if kind not in KINDS:
        raise LabError(f"There is no download {kind!r}. Choose {', '.join(KINDS)}.")
    path = fresh_file(KINDS[kind])
    if kind == "picture":
        _save(bench.look(picture, dials).image, path)
    elif kind == "json":
        write_text(path, json.dumps(coco_results(bench, picture, dials), indent=1) + "\n")
    elif kind == "trace":
        save_trace(bench.full_trace(picture, dials), path)
    else:
        explorer_of(bench, picture, dials).to_html(path)
    return path


def coco_results(bench: Bench, picture: Picture, dials: Dials) -> dict[str, object]:
    """The detections as a COCO file: ``images``, ``categories``, ``annotations`` with scores.

    ``annotations`` alone is COCO's results format. Boxes are x, y, width, height in pixels of the
    original picture.
    """
    dials = dials.fitting(bench.models[dials.model])
    trace, _ = bench.trace(picture, dials.model, dials.proposals)
    height, width = trace.size
    annotations = []
    if dials.stage:
        found = of_classes(trace.detections(dials.stage, dials.threshold), dials)
        for number, row in enumerate(found.to_coco()):
            w, h = row["bbox"][2:]
            annotations.append({"id": number, **row, "area": w * h, "iscrowd": 0})
    return {
        "info": {
            "model": trace.model_name,
            "proposals": trace.num_proposals,
            "stage": dials.stage,
            "threshold": dials.threshold,
        },
        "images": [{"id": 0, "width": width, "height": height, "file_name": "picture"}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(trace.class_names)],
        "annotations": annotations,
    }


def explorer_of(bench: Bench, picture: Picture, dials: Dials, theme: str = "auto") -> Explorer:
    """The explorer of a picture."""
    return explore(bench.full_trace(picture, dials), threshold=dials.threshold, theme=theme)
