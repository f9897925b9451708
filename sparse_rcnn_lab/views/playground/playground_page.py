"""``playground``: assembles a detector, the explorer and a runtime into one html file."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.example_images import EXAMPLES, example_topics, examples
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.runtime.export.compact import compact
from sparse_rcnn_lab.runtime.graph_writer import require_onnx
from sparse_rcnn_lab.runtime.onnx_graphs import write_pyramid, write_stage
from sparse_rcnn_lab.views.bundle import joined
from sparse_rcnn_lab.views.draw import data_uri
from sparse_rcnn_lab.views.explorer import html_page
from sparse_rcnn_lab.views.explorer.payload import page_style

HERE = Path(__file__).parent
VENDOR = HERE / "vendor"
_MODULE, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz"
# In this order each file uses only what is before it: the page's files, after the explorer's, and
# those of its worker thread.
PAGE = ("engine", "live", "pad", "playground")
WORKER = ("pixels", "detector", "rerun", "payload", "worker")
# A browser's tab has memory for this many weights, with the graph and its computations.
MOST_PARAMETERS = 60_000_000

_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; worker-src blob:; "
    "script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; base-uri 'none'; form-action 'none'"
)
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<header id="top">
<h1>{name}</h1>
<div id="sources"></div>
<p id="told"></p>
</header>
<p id="status" role="status">Loading the page…</p>
<noscript><style>#status {{ display: none; }}</style>
<p class="problem">The detector runs in this page: allow JavaScript for it.</p></noscript>
<main id="view"></main>
<footer>{about}</footer>
<script>
onerror = function (text) {{
  if (document.body.dataset.ready) return;
  var status = document.getElementById("status");
  status.className = "problem";
  status.textContent = "This browser cannot run the page (" + text + "). Open it in a newer "
    + "one: Chrome or Edge 94, Firefox 114, Safari 16.4, or later.";
}};
</script>
<script nomodule>onerror("it does not support modules");</script>
<script type="application/json" id="about">{data}</script>
<script type="text/plain" id="worker">{worker}</script>
{parts}
<script type="module">
{script}
</script>
</body>
</html>
"""


def playground(
    detector: Detector | str | Path,
    path: str | Path,
    *,
    exact: bool = False,
    images: Sequence[str | Path] | None = None,
) -> Path:
    """Writes one html file that detects in any recent browser: no Python, no server, no network.

    It opens from disk, detects in photographs, drawings and the camera's images, and has the
    explorer with all its interventions (:func:`sparse_rcnn_lab.explore`). Returns the path.

    detector: a :class:`Detector`, or the name or path of one.  path: the file, which must end in
    ``.html``.  exact: keep float32 weights, in a file nearly twice as large; else they are rounded
    to float16, unless they fit into 16 bits already, as those of the shipped models do.
    images: JPEG or PNG files that the page offers, the first one at once; default: shipped ones
    that fit the model.

    It needs the extra ``export``. Raises LabError where the package onnx is missing, the model is
    too large for a browser's tab or its backbone cannot be exported, or the file cannot be written.

    >>> import sparse_rcnn_lab as srl
    >>> srl.playground("nano-shapes", "nano-shapes.html")  # doctest: +SKIP
    PosixPath('nano-shapes.html')
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise LabError(f'A page ends in .html, found "{path}". Call it {path.stem}.html.')
    require_onnx()
    if not isinstance(detector, Detector):
        detector = load(str(detector))
    count = sum(parameter.numel() for parameter in detector.model.parameters())
    if count > MOST_PARAMETERS:
        raise LabError(
            f"{detector.name or 'This model'} has {count / 1e6:.0f} million weights; a browser's "
            f"tab has memory for about {MOST_PARAMETERS / 1e6:.0f}. Use the app, or a model of the "
            "presets nano or small."
        )
    write_text(path, page(detector, exact=exact, images=images))
    return path


def page(
    detector: Detector, *, exact: bool = False, images: Sequence[str | Path] | None = None
) -> str:
    """The text of the file; see :func:`playground`."""
    parts, lossless = _graphs(detector, exact)
    parts |= {
        "runtime": _encoded(gzip.compress((VENDOR / _MODULE).read_bytes(), mtime=0)),
        "wasm": _encoded((VENDOR / _WASM).read_bytes()),
    }
    name = detector.name or "My detector"
    own, worker = (joined([HERE / "js" / f"{one}.js" for one in part]) for part in (PAGE, WORKER))
    return _SHELL.format(
        policy=_POLICY,
        title=html.escape(f"{name}: a detector in a page"),
        css=html_page.css() + (HERE / "playground.css").read_text(encoding="utf-8"),
        name=html.escape(name),
        about=_footer(detector, lossless),
        data=html_page.embedded(_about(detector, images)),
        worker=worker,
        parts="\n".join(
            f'<script type="text/plain" data-part="{name}">{text}</script>'
            for name, text in parts.items()
        ),
        script=f"{html_page.script()}\n{own}",
    )


def _graphs(detector: Detector, exact: bool) -> tuple[dict[str, str], bool]:
    """The graphs as text, by name; and whether no weight was rounded."""
    model, lossless, found = detector.model, True, {}
    for index in range(detector.num_stages + 1):  # one at a time, for their memory
        if index:
            name, graph = f"stage_{index}", write_stage(model, index - 1, switches=True)
        else:
            name, graph = "pyramid", write_pyramid(model, fold=False)
        lossless = compact(graph, exact) and lossless
        found[name] = _encoded(gzip.compress(graph.SerializeToString(), 6, mtime=0))
    return found, lossless


def _about(detector: Detector, images: Sequence[str | Path] | None) -> dict[str, Any]:
    """What detector.js and payload.js need to know about the model."""
    config, proposals = detector.config, detector.model.proposals
    want = config.input
    if images is not None:
        shown = [Path(one) for one in ([images] if isinstance(images, str | Path) else images)]
    elif example_topics(detector.class_names):
        shown = examples(detector.class_names)
    else:
        shown = sorted(EXAMPLES.glob("everyday_*"))
    return {
        "model": detector.name or "my detector",
        "class_names": list(detector.class_names),
        "stages": detector.num_stages,
        "num_proposals": detector.num_proposals,
        "dim": config.dim,
        "heads": config.num_heads,
        "roi_size": config.roi_size,
        "overlap": config.overlap_attention,
        "input": {
            "short_side": want.short_side,
            "long_side": want.long_side,
            "multiple": want.multiple,
            "antialias": want.antialias,
            "mean": want.mean,
            "std": want.std,
        },
        "boxes": _numbers(box_ops.cxcywh_to_xyxy(proposals.boxes.detach())),
        "features": _numbers(proposals.features.detach()),
        "style": page_style(detector.num_stages, detector.num_proposals),
        "examples": [{"name": one.stem.replace("_", " "), "data": _uri(one)} for one in shown],
    }


def _footer(detector: Detector, lossless: bool) -> str:
    source = str(detector.info.get("source", ""))
    weights = "" if lossless else "Weights rounded to float16. "
    return html.escape(
        "Sparse R-CNN (arXiv 2011.12450) runs in this page; nothing is sent anywhere. "
        f"{weights}{f'Trained on: {source}. ' if source else ''}"
        f"Made by sparse_rcnn_lab {__version__}; runs on onnxruntime-web "
        f"{json.loads((VENDOR / 'SOURCE.json').read_text())['version']} (Microsoft, MIT)."
    )


def _numbers(values: Any) -> str:
    return _encoded(values.cpu().float().contiguous().numpy().astype(np.dtype("<f4")).tobytes())


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _uri(path: Path) -> str:
    kinds = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
    if path.suffix.lower() not in kinds or not path.is_file():
        raise LabError(f'"{path}" is not a JPEG or PNG file, so the page cannot show it.')
    return data_uri(path.read_bytes(), kinds[path.suffix.lower()])
