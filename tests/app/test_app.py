"""The demo app: its work without a page, then the page in a browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from app_models import checkpoint, dials
from PIL import Image

from sparse_rcnn_lab.app import bench as bench_module
from sparse_rcnn_lab.app import costs, series, words
from sparse_rcnn_lab.app import models as models_module
from sparse_rcnn_lab.app.bench import SHOWN, Bench, marked
from sparse_rcnn_lab.app.costs import cost
from sparse_rcnn_lab.app.frames import as_jpeg, look_at
from sparse_rcnn_lab.app.keepsakes import KINDS, coco_results, keepsake
from sparse_rcnn_lab.app.limits import Limits
from sparse_rcnn_lab.app.models import models_to_offer
from sparse_rcnn_lab.app.pictures import (
    EXAMPLES,
    examples,
    knows_shapes,
    read_frame,
    read_picture,
    sample,
)
from sparse_rcnn_lab.app.server import Address
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.detect.trace_file import load_trace
from sparse_rcnn_lab.models.load import CHECKPOINTS, shipped_models
from sparse_rcnn_lab.models.published import RELEASES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(tmp_path):
    return Bench([checkpoint(tmp_path)], "cpu")


@pytest.fixture(scope="module")
def nano():
    """A trained model: it finds a heart, a square, a circle and two triangles in ``picture``."""
    return Bench(["nano-shapes"], "cpu")


@pytest.fixture
def picture():
    return read_picture(EXAMPLES / "shapes_1.png")


def test_stage_and_threshold_only_draw_again(tiny, picture, monkeypatch):
    """Catches a model run at every move of a slider."""
    runs = []
    detector = tiny.models[tiny.first]
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
    detector = tiny.models[tiny.first]
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
        tiny.look(read_picture(sample("easy", seed)[0]), dials(tiny))
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
def test_examples_fit_the_model(classes, prefix):
    """Catches cells shown to a model of playing cards."""
    assert {path.name.split("_")[0] for path in examples(classes)} == prefix
    assert knows_shapes(classes) == (classes == CLASS_NAMES)


def test_every_example_has_its_source_and_they_stay_small():
    """Catches a picture added without its licence, or one of several megabytes."""
    files = [path for path in EXAMPLES.iterdir() if path.suffix != ".md"]
    said = (EXAMPLES / "SOURCE.md").read_text(encoding="utf-8")
    assert files and all(f"`{path.name}`" in said for path in files)
    assert sum(path.stat().st_size for path in files) < 300_000


def test_samples_repeat_from_their_seed():
    """Catches a seed that is shown but not the one that was used."""
    image, seed = sample("hard")
    assert sample("hard", seed)[0].tobytes() == image.tobytes()


def test_empty_states_say_what_to_do(tiny, picture):
    """Catches an empty table without a word."""
    assert "Drop a picture" in words.table(None, dials(tiny))
    nothing = dials(tiny, threshold=1.0, stage=2)
    text = words.table(tiny.look(picture, nothing), nothing)
    assert "lower the threshold" in text and "raise the stage" in text and "1.00" in text
    last = dials(tiny, threshold=1.0)
    text = words.table(tiny.look(picture, last), last)
    assert "raise the stage" not in text
    # Who gives a dog to a model of shapes is told so.
    assert "looks for circle, square" in text and "for anything else choose another model" in text
    start = dials(tiny, stage=0)
    assert "8 learned proposals" in words.table(tiny.look(picture, start), start)


def test_class_names_cannot_break_the_page(tmp_path, picture):
    """Catches names from a checkpoint written into the page as HTML."""
    bench = Bench([checkpoint(tmp_path, classes=("<img src=x onerror=alert(1)>",))], "cpu")
    at = dials(bench)
    text = words.table(bench.look(picture, at), at)
    assert "&lt;img" in text and "<img" not in text
    at = dials(bench, threshold=1.0)
    text = words.table(bench.look(picture, at), at)
    assert "&lt;img" in text and "<img" not in text


def test_models_to_offer(monkeypatch):
    """Catches a checkpoint that is not shown first, and a misspelt name answered by a crash."""
    shipped = ["nano-shapes", "small-cards"]
    monkeypatch.setattr(models_module, "shipped_models", lambda: shipped)
    published = list(RELEASES)
    assert models_to_offer(None, None) == [*shipped, *published]
    assert models_to_offer("small-cards", None) == [*shipped[::-1], *published]
    assert models_to_offer(None, "runs/mine") == ["runs/mine", *shipped, *published]
    assert models_to_offer("r50_3x_300", None)[0] == "r50_3x_300"
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
    options = ("model", "checkpoint", "host", "port", "share", "device", "max-size", "concurrency")
    for option in (*options, "ssl-certfile", "ssl-keyfile"):
        assert f"--{option}" in done.stdout


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
        "import sparse_rcnn_lab.app.words, sparse_rcnn_lab.app.filming, sparse_rcnn_lab.app.server"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)


def test_a_broken_picture_is_explained(tiny, tmp_path):
    """Catches Gradio's bare "Error" for a file that is no picture."""
    gr = pytest.importorskip("gradio")
    from sparse_rcnn_lab.app.events import explained

    path = tmp_path / "notes.jpg"
    path.write_text("these are notes")
    with pytest.raises(gr.Error) as caught:
        explained(read_picture)(path)
    assert "notes.jpg" in caught.value.message and "JPEG or PNG" in caught.value.message


def test_the_classes_dial(nano, picture):
    """Catches a filter that leaves other classes, or that hides proposals of the chosen one."""
    everything = dials(nano, proposals=20, threshold=0.3)
    some = replace(everything, classes=("triangle", "heart"))
    assert sorted(nano.look(picture, some).detections.names()) == ["heart", "triangle", "triangle"]
    assert len(nano.look(picture, everything).detections) == 5
    marks = [
        len(marked(nano.trace(picture, nano.first, 20)[0], replace(at, show=SHOWN[1]))[0])
        for at in (everything, some)
    ]
    assert marks[0] == 20 and 3 <= marks[1] < 20


def test_a_live_frame_is_the_photo_at_that_stage(nano, picture):
    """Catches a webcam that answers another stage, number or class than the dials say."""
    for at in (
        dials(nano, stage=2, proposals=5, threshold=0.05),
        dials(nano, stage=6, proposals=20, threshold=0.3, classes=("heart", "triangle")),
        dials(nano, stage=3, proposals=20, threshold=0.2, show=SHOWN[1]),
    ):
        seen, view = look_at(nano, picture.pixels, at), nano.look(picture, at)
        assert seen.found.names() == view.detections.names() != []
        torch.testing.assert_close(seen.found.boxes, view.detections.boxes, atol=1e-2, rtol=1e-4)
    assert look_at(nano, picture.pixels, dials(nano, stage=0)).found is None


def test_stages_that_are_not_asked_for_do_not_run(tiny, picture, monkeypatch):
    """Catches a stage dial that saves nothing on a webcam."""
    runs = []
    model = tiny.models[tiny.first].model
    run = model.run_stages
    monkeypatch.setattr(model, "run_stages", lambda *a, **k: runs.append(k["stop"]) or run(*a, **k))
    for stage in (4, 1, 0):
        look_at(tiny, picture.pixels, dials(tiny, stage=stage))
    assert runs == [4, 1, 1]


def test_dials_out_of_range_are_met_or_explained(tiny, picture):
    """Catches a crash when another model has fewer stages, proposals or other classes."""
    view = tiny.look(picture, dials(tiny, proposals=999, stage=99, classes=("zebra",)))
    assert (view.proposals, view.stage) == (8, 6) and len(view.detections)
    for wrong in ({"threshold": 7.0}, {"threshold": float("nan")}, {"show": "everything"}):
        with pytest.raises(LabError, match=next(iter(wrong))):
            tiny.look(picture, dials(tiny, **wrong))


def test_frames_that_are_none(tiny):
    """Catches a decoder's own error, or a picture that expands to gigabytes, from a webcam."""
    for data in (b"", b"not a picture"):
        with pytest.raises(LabError, match="camera"):
            read_frame(data, tiny.limits)
    with pytest.raises(LabError, match="megapixels"):
        read_frame(as_jpeg(Image.new("RGB", (4000, 4000))), tiny.limits)


def test_limits_say_what_to_do(tmp_path):
    """Catches a huge picture that is decoded before anybody looks at its size."""
    path = tmp_path / "wide.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(LabError, match=r'"wide.png" has 9000x9000 pixels .*up to 50'):
        read_picture(path, Limits())
    heavy = tmp_path / "heavy.bmp"
    heavy.write_bytes(bytes(2_000_000))
    with pytest.raises(LabError, match="--max-size"):
        read_picture(heavy, Limits(upload_mb=1))
    with pytest.raises(LabError, match="--max-size"):
        Limits(upload_mb=0)


def test_series_show_every_state_and_budget(tiny, picture):
    """Catches a strip that stops early, or numbers that belong to another picture of it."""
    at = dials(tiny, threshold=0.012)
    panels = list(series.states(tiny, picture, at))
    assert [p.title for p in panels[:2]] == ["learned proposals", "stage 1"]
    assert [p.title for p in panels[-2:]] == ["stage 6", "detections"] and len(panels) == 8
    found = len(tiny.look(picture, replace(at, stage=6)).detections)
    assert panels[6].text.startswith(f"{found} detection")
    (last,) = series.budgets(tiny, picture, at)  # the model has 8 proposals, fewer than 10
    assert last.title == "all 8 proposals" and last.text.endswith("ms")
    page = series.as_html(iter(panels), 100)
    assert page.count("<figure>") == 8 and page.count("data:image/jpeg;base64,") == 8


def test_budgets_of_a_larger_model(tmp_path, picture):
    """Catches the same number twice, or all proposals left out."""
    bench = Bench([checkpoint(tmp_path, proposals=50)], "cpu")
    panels = list(series.budgets(bench, picture, dials(bench, proposals=50)))
    assert [p.title for p in panels] == ["10 proposals", "all 50 proposals"]


def test_keepsakes(tiny, picture, tmp_path, monkeypatch):
    """Catches a download that is empty, of another stage, or that needs the network."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    at = dials(tiny, threshold=0.012, stage=4)
    made = {kind: keepsake(tiny, picture, at, kind) for kind in KINDS}
    assert Image.open(made["picture"]).size == picture.shown.size
    assert load_trace(made["trace"]).attention is not None
    page = made["page"].read_text(encoding="utf-8")
    assert "data:image" in page and "http://" not in page.replace("http://www.w3.org/", "")
    assert all(path.is_relative_to(tmp_path) for path in made.values())
    with pytest.raises(LabError, match="trace"):
        keepsake(tiny, picture, at, "../../secret")

    from pycocotools.coco import COCO

    coco = COCO(str(made["json"]))
    found = tiny.look(picture, at).detections
    assert len(coco.anns) == len(found) == len(coco_results(tiny, picture, at)["annotations"])
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)


def test_the_cost_is_the_measured_one():
    """Catches an AP of another stage, or one that was made up for a model without a record."""
    assert cost("nano-shapes", 20, 20, 6, 6) == "AP 0.88 on 500 drawn pictures."
    assert "stage 3: AP 0.85 instead of 0.88" in cost("nano-shapes", 20, 20, 3, 6)
    assert "10 of 20 proposals, stage 6: AP 0.86 instead" in cost("nano-shapes", 10, 20, 6, 6)
    between = cost("nano-shapes", 12, 20, 6, 6)
    assert "about 0.86" in between  # 2 of 5 steps from 0.857 to 0.873
    assert cost("runs/mine", 20, 20, 6, 6) == "" == cost("nano-shapes", 20, 20, 0, 6)


@pytest.mark.parametrize("name", shipped_models())
def test_the_measured_curve_is_the_shipped_models(name):
    """Catches a model that was exchanged while its curve stayed."""
    record = json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))
    stages = {entry["stage"]: entry["AP"] for entry in record["evaluation"]["stages"]}
    curve = json.loads(Path(costs.__file__).with_name("curves.json").read_text(encoding="utf-8"))
    full = curve[name]["AP"][max(curve[name]["AP"], key=int)]
    assert full == pytest.approx([stages[s] for s in sorted(stages)], abs=0.002)


def test_addresses(tmp_path):
    """Catches a page that opens to the network by itself, and half a certificate."""
    assert Address().host == "127.0.0.1"
    assert Address("0.0.0.0", 1234, certfile="a", keyfile="b").url == "https://127.0.0.1:1234"
    with pytest.raises(LabError, match="--ssl-keyfile"):
        Address(port=50_123, certfile="a").check()
    broken = tmp_path / "cert.pem"
    broken.write_text("no certificate")
    with pytest.raises(LabError, match="PEM"):
        Address(port=50_123, certfile=str(broken), keyfile=str(broken)).check()


def test_an_error_of_the_app_itself_is_told_and_logged(caplog):
    """Catches a bare "Error" on the page, or one that leaves no word in the log."""
    gr = pytest.importorskip("gradio")
    from sparse_rcnn_lab.app.events import explained

    def wrong():
        raise KeyError("boxes")

    with pytest.raises(gr.Error) as caught:
        explained(wrong)()
    assert "KeyError" in caught.value.message and "terminal" in caught.value.message
    assert any("KeyError" in str(record.exc_info) for record in caplog.records)


def test_a_frame_lets_a_picture_go_first(tiny, picture, monkeypatch):
    """Catches webcams that keep somebody's photo waiting, and a frame that waits for ever."""
    seen = []

    def asked_for(*_, **__):
        with tiny.turn(frame=True):
            seen.append("frame")

    trace = tiny.models[tiny.first].trace

    def slow(*args, **kwargs):
        frame.start()
        time.sleep(0.1)
        seen.append("picture")
        return trace(*args, **kwargs)

    frame = threading.Thread(target=asked_for)
    monkeypatch.setattr(tiny.models[tiny.first], "trace", slow)
    tiny.full_trace(picture, dials(tiny))
    frame.join(timeout=5)
    assert seen == ["picture", "frame"]
    # Pictures without end: the stream goes on all the same.
    tiny._awaited = 1
    asked_for()
    assert seen[-1] == "frame"
