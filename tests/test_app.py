"""The demo app: its work without a page, then the page in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
import torch
from PIL import Image

from sparse_rcnn_lab.app import bench as bench_module
from sparse_rcnn_lab.app import words
from sparse_rcnn_lab.app.bench import (
    EXAMPLES,
    SHOWN,
    Bench,
    Dials,
    models_to_offer,
    read_picture,
)
from sparse_rcnn_lab.checkpoint import save_checkpoint
from sparse_rcnn_lab.data.shapes import CLASS_NAMES
from sparse_rcnn_lab.device import pick_device
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.model.detector import SparseRCNN
from sparse_rcnn_lab.recipes import recipe

ROOT = Path(__file__).parent.parent


def checkpoint(folder, name="tiny", classes=CLASS_NAMES):
    torch.manual_seed(0)
    config = recipe(
        "nano",
        model__num_classes=len(classes),
        model__num_proposals=8,
        model__dim=16,
        model__ffn_dim=32,
        model__dynamic_dim=4,
    ).model
    return str(save_checkpoint(folder / f"{name}.safetensors", SparseRCNN(config), classes, name))


@pytest.fixture
def tiny(tmp_path):
    return Bench([checkpoint(tmp_path)], "cpu")


@pytest.fixture
def picture():
    return read_picture(EXAMPLES / "shapes_1.png")


def dials(bench, **changes):
    start = {"proposals": 8, "stage": 6, "threshold": 0.0, "show": SHOWN[0], **changes}
    return Dials(bench.models[0], **start)


def test_stage_and_threshold_only_draw_again(tiny, picture, monkeypatch):
    """Catches a model run at every move of a slider."""
    runs = []
    detector = tiny.detector(tiny.models[0])
    trace = detector.trace
    monkeypatch.setattr(
        detector, "trace", lambda *a, **k: runs.append(k["num_proposals"]) or trace(*a, **k)
    )
    for stage, threshold in ((6, 0.0), (3, 0.5), (0, 0.1)):
        tiny.look(picture, dials(tiny, stage=stage, threshold=threshold))
    tiny.look(picture, dials(tiny, proposals=3))
    tiny.look(picture, dials(tiny))
    assert runs == [8, 3]


def test_the_dials_mean_what_they_say(tiny, picture):
    """Catches an off-by-one stage, proposals ignored, a threshold from another stage."""
    detector = tiny.detector(tiny.models[0])
    trace = detector.trace(picture.pixels, num_proposals=5)
    for stage in (1, 4, 6):
        view = tiny.look(picture, dials(tiny, proposals=5, stage=stage, threshold=0.012))
        wanted = trace.detections(stage, 0.012)
        assert len(view.detections) == len(wanted) and view.proposals == 5
        torch.testing.assert_close(view.detections.boxes, wanted.boxes)
    assert tiny.look(picture, dials(tiny, stage=0)).detections is None


def test_every_stage_looks_different(tiny, picture):
    """Catches a picture that is kept and no longer follows the dials."""
    shown = {
        tiny.look(picture, dials(tiny, stage=s, show=show)).image.tobytes()
        for s in (1, 6)
        for show in SHOWN
    }
    assert len(shown) == 4
    assert tiny.look(picture, dials(tiny)).image.size == picture.shown.size == (640, 640)


def test_pictures_are_told_apart_by_their_pixels(tiny):
    """Catches a trace kept under a file name, shown for the next picture."""
    one, two = (read_picture(EXAMPLES / f"shapes_{i}.png") for i in (1, 2))
    assert one.key != two.key
    assert one.key == read_picture(Image.open(EXAMPLES / "shapes_1.png")).key


def test_kept_traces_are_bounded(tiny, monkeypatch):
    """Catches memory that grows with every picture of a long class."""
    monkeypatch.setattr(bench_module, "_TRACES", 2)
    for seed in range(4):
        tiny.look(read_picture(tiny.sample("easy", seed)[0]), dials(tiny))
    assert len(tiny._traces) == 2


@pytest.mark.parametrize(
    ("classes", "prefix"),
    [
        (CLASS_NAMES, {"shapes"}),
        (("RBC", "WBC", "Platelets"), {"cells"}),
        (("king", "ace"), {"cards"}),
        (("zebra",), {"shapes", "cells", "cards"}),
    ],
)
def test_examples_fit_the_model(tmp_path, classes, prefix):
    """Catches cells shown to a model of playing cards."""
    bench = Bench([checkpoint(tmp_path, classes=classes)], "cpu")
    found = bench.examples(bench.models[0])
    assert {path.name.split("_")[0] for path in found} == prefix
    assert bench.draws_samples(bench.models[0]) == (classes == CLASS_NAMES)


def test_every_example_has_its_source_and_they_stay_small():
    """Catches a picture added without its licence, or one of several megabytes."""
    files = [path for path in EXAMPLES.iterdir() if path.suffix != ".md"]
    said = (EXAMPLES / "SOURCE.md").read_text(encoding="utf-8")
    assert files and all(f"`{path.name}`" in said for path in files)
    assert sum(path.stat().st_size for path in files) < 300_000


def test_samples_repeat_from_their_seed(tiny):
    """Catches a seed that is shown but not the one that was used."""
    image, seed = tiny.sample("hard")
    assert tiny.sample("hard", seed)[0].tobytes() == image.tobytes()


def test_empty_states_say_what_to_do(tiny, picture):
    """Catches an empty table without a word."""
    assert "Drop a picture" in words.table(None, dials(tiny))
    nothing = dials(tiny, threshold=1.0, stage=2)
    text = words.table(tiny.look(picture, nothing), nothing)
    assert "lower the threshold" in text and "raise the stage" in text and "1.00" in text
    last = dials(tiny, threshold=1.0)
    assert "raise the stage" not in words.table(tiny.look(picture, last), last)
    start = dials(tiny, stage=0)
    assert "8 learned proposals" in words.table(tiny.look(picture, start), start)


def test_class_names_cannot_break_the_page(tmp_path, picture):
    """Catches names from a checkpoint written into the page as HTML."""
    bench = Bench([checkpoint(tmp_path, classes=("<img src=x onerror=alert(1)>",))], "cpu")
    at = dials(bench)
    text = words.table(bench.look(picture, at), at)
    assert "&lt;img" in text and "<img" not in text


def test_models_to_offer(monkeypatch):
    """Catches a checkpoint that is not shown first, and a misspelt name answered by a crash."""
    shipped = ["nano-shapes", "small-cards"]
    monkeypatch.setattr(bench_module, "shipped_models", lambda: shipped)
    assert models_to_offer(None, None) == shipped
    assert models_to_offer("small-cards", None) == shipped[::-1]
    assert models_to_offer(None, "runs/mine") == ["runs/mine", *shipped]
    with pytest.raises(LabError, match="nano-shapes"):
        models_to_offer("nano", None)
    with pytest.raises(LabError, match="--checkpoint"):
        Bench([], "cpu")


def test_a_device_that_is_not_there():
    """Catches torch's own page of text."""
    with pytest.raises(LabError, match="--device"):
        pick_device("cuda:99")


def demo(*options):
    return subprocess.run(
        [sys.executable, str(ROOT / "apps" / "demo.py"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_help_names_every_option():
    """Catches a script that does not start, or an option that help forgets."""
    done = demo("--help")
    assert done.returncode == 0, done.stderr
    for option in ("--model", "--checkpoint", "--host", "--port", "--share", "--device"):
        assert option in done.stdout


def test_a_busy_port_names_a_free_one():
    """Catches Gradio moving to another port in silence, or a traceback."""
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo("--port", str(port), "--no-browser")
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr and "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_bench_works_without_gradio():
    """Catches an import of gradio that training machines do not have."""
    code = (
        "import sys; sys.modules['gradio'] = None\n"
        "import sparse_rcnn_lab.app.bench, sparse_rcnn_lab.app.words, sparse_rcnn_lab.views.figures"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)


def test_a_broken_picture_is_explained(tiny, tmp_path):
    """Catches Gradio's bare "Error" for a file that is no picture."""
    gr = pytest.importorskip("gradio")
    from sparse_rcnn_lab.app.photo import explained

    path = tmp_path / "notes.jpg"
    path.write_text("these are notes")
    with pytest.raises(gr.Error) as caught:
        explained(read_picture)(path)
    assert "notes.jpg" in caught.value.message and "JPEG or PNG" in caught.value.message


LAUNCH = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90_000  # milliseconds; a shared machine may be busy


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.browser
def test_the_page_in_a_browser(chromium, tiny, tmp_path):
    """Catches a page that needs the network, logs errors, or whose dials do nothing by keyboard."""
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    from sparse_rcnn_lab.app.page import serve

    port = free_port()
    page_server = serve(tiny, port=port, block=False)
    try:
        with playwright.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=LAUNCH)
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            errors, strangers = [], []
            page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: errors.append(str(e)))
            page.on(
                "request",
                lambda r: (
                    None
                    if r.url.startswith(("data:", "blob:"))
                    or urlparse(r.url).hostname in ("127.0.0.1", "localhost")
                    else strangers.append(r.url)
                ),
            )
            page.goto(f"http://127.0.0.1:{port}/", timeout=PATIENCE)
            use_the_page(page, tmp_path)
            assert strangers == []
            assert errors == []
            browser.close()
    finally:
        page_server.close()


def use_the_page(page, tmp_path):
    def picture():
        return page.get_attribute("#lab-result img", "src")

    def changed(before):
        page.wait_for_function(
            "old => { const i = document.querySelector('#lab-result img');"
            " return i && i.src !== old && i.complete && i.naturalWidth > 0 }",
            arg=before,
        )
        return picture()

    first = picture()  # detected without a click
    assert page.inner_text("#lab-count").isdigit()
    # Somebody's own picture.
    own = tmp_path / "own.png"
    Image.new("RGB", (200, 100), (30, 90, 160)).save(own)
    page.click("#lab-source button[aria-label='Remove Image']")
    page.wait_for_selector("#lab-source input[type=file]", state="attached")
    page.set_input_files("#lab-source input[type=file]", str(own))
    page.wait_for_function(
        "() => { const i = document.querySelector('#lab-result img');"
        " return i && i.naturalWidth === 2 * i.naturalHeight }"
    )
    now = picture()
    assert now != first
    # The keyboard alone: all proposals, then stage 5, 4 and fewer proposals.
    page.focus("#lab-show input[type=radio] >> nth=1")
    page.keyboard.press("Space")
    now = changed(now)
    for slider, key in (("stage", "ArrowLeft"), ("stage", "ArrowLeft"), ("proposals", "ArrowLeft")):
        page.focus(f"#lab-{slider} input[type=range]")
        page.keyboard.press(key)
        now = changed(now)
    assert page.input_value("#lab-stage input[type=range]") == "4"
    assert page.input_value("#lab-proposals input[type=range]") == "7"
    # The threshold decides what counts.
    page.focus("#lab-threshold input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '7'")
    page.focus("#lab-threshold input[type=range]")
    page.keyboard.press("End")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '0'")
    assert "lower the threshold" in page.inner_text("#lab-list")
