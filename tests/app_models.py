"""Two tiny models and a served page for the tests of the app, and what they do there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sparse_rcnn_lab import recipe
from sparse_rcnn_lab.app.state import DETECTIONS, ViewState
from sparse_rcnn_lab.app.user_inputs import Limits
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES
from sparse_rcnn_lab.models.checkpoint import save_checkpoint

EXPLORER = "document.getElementById('lab-explorer')?.explorer"
LOOK = 100  # milliseconds between two looks: at every frame, the page would draw for them alone


def checkpoint(folder: Path, name: str = "tiny", classes=CLASS_NAMES, proposals: int = 8) -> str:
    torch.manual_seed(0)
    config = recipe(
        "nano",
        model__num_classes=len(classes),
        model__num_proposals=proposals,
        model__dim=16,
        model__ffn_dim=32,
        model__dynamic_dim=4,
    ).model
    return str(save_checkpoint(folder / f"{name}.safetensors", SparseRCNN(config), classes, name))


def state(viewer: Viewer, **changes) -> ViewState:
    start = {"num_proposals": 8, "stage": 6, "threshold": 0.0, "show": DETECTIONS, **changes}
    return ViewState(viewer.models.first, **start)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(names: list[str], limits: Limits | None = None, **address) -> Iterator[str]:
    """The address of a page with these models, while the block runs."""
    from sparse_rcnn_lab.app.server import Address, serve

    at = Address(**{"port": free_port(), **address})
    page = serve(Viewer(names, "cpu", limits), at)
    try:
        yield at.url
    finally:
        page.close()


def explored(page, condition):
    page.wait_for_function(
        f"() => {{ const x = {EXPLORER}; return x?.frames > 0 && ({condition}) }}", polling=LOOK
    )


def tab(page, name):
    page.click(f"#lab-tab-{name}-button")


def count(page, text):
    found = "(n) => document.querySelector('#lab-count').innerText === n"
    page.wait_for_function(found, arg=text, polling=LOOK)


def source_of(page, place="#lab-result"):
    return page.get_attribute(f"{place} img", "src")


def changed(page, before, place="#lab-result"):
    page.wait_for_function(
        "([place, old]) => { const i = document.querySelector(place + ' img');"
        " return i && i.src !== old && i.complete && i.naturalWidth > 0 }",
        arg=[place, before],
        polling=LOOK,
    )
    return source_of(page, place)


def press(page, slider, key):
    page.focus(f"#lab-{slider} input[type=range]")
    page.keyboard.press(key)


def another_frame(page):
    """Waits for a frame that is shown from now on."""
    page.evaluate(
        "() => new Promise((done) => document.addEventListener('lab-frame', () => done(),"
        " { capture: true, once: true }))"
    )


def choose_model(page, name):
    page.click("#lab-face")
    page.click(f"#lab-models [data-model*='{name}']")
