"""The app's work without a page: from an image and a ViewState to detections, readouts, files."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from app_models import checkpoint, state
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sparse_rcnn_lab import Intervention, LabError, load_trace, shipped_models
from sparse_rcnn_lab.app import readouts
from sparse_rcnn_lab.app import viewer as viewer_module
from sparse_rcnn_lab.app.downloads import KINDS, as_jpeg, coco_results, download
from sparse_rcnn_lab.app.readouts import cost_sentence
from sparse_rcnn_lab.app.state import PROPOSALS, SHOWN, ViewState
from sparse_rcnn_lab.app.user_inputs import (
    EXAMPLES,
    Limits,
    draw_sample,
    examples,
    knows_shapes,
    read_frame,
    read_input,
)
from sparse_rcnn_lab.app.viewer import Viewer, models_to_offer, select_marks
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models.load import CHECKPOINTS
from sparse_rcnn_lab.models.releases import RELEASES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def nano():
    """A trained model: it finds a heart, a square, a circle and two triangles in ``image``."""
    return Viewer(["nano-shapes"], "cpu")


@pytest.fixture(scope="module")
def image():
    return read_input(EXAMPLES / "shapes_1.png")


def test_stage_and_threshold_only_draw_again(tiny, image, monkeypatch):
    """Catches a model run at every move of a slider."""
    runs = []
    detector = tiny.models[tiny.models.first]
    trace = detector.trace
    monkeypatch.setattr(
        detector, "trace", lambda *a, **k: runs.append(k["num_proposals"]) or trace(*a, **k)
    )
    for stage, threshold in ((6, 0.0), (3, 0.5), (0, 0.1)):
        tiny.view(image, state(tiny, stage=stage, threshold=threshold))
    tiny.view(image, state(tiny, num_proposals=3))
    tiny.view(image, state(tiny))
    assert runs == [8, 3]


def test_the_controls_mean_what_they_say(tiny, image):
    """Catches an off-by-one stage, proposals ignored, a threshold from another stage, an image
    that no longer follows the controls."""
    trace = tiny.models[tiny.models.first].trace(image.pixels, num_proposals=5)
    for stage in (1, 4, 6):
        view = tiny.view(image, state(tiny, num_proposals=5, stage=stage, threshold=0.012))
        wanted = trace.detections(stage, 0.012)
        assert len(view.detections) == len(wanted) and view.state.num_proposals == 5
        torch.testing.assert_close(view.detections.boxes, wanted.boxes)
    assert tiny.view(image, state(tiny, stage=0)).detections is None
    views = [tiny.view(image, state(tiny, stage=s, show=show)) for s in (1, 6) for show in SHOWN]
    assert len({view.image.tobytes() for view in views}) == 4
    assert views[0].image.size == image.shown.size == (640, 640)


def test_images_are_told_apart_by_their_pixels():
    """Catches a trace kept under a file name, shown for the next image."""
    one, two = (read_input(EXAMPLES / f"shapes_{i}.png") for i in (1, 2))
    assert one.key != two.key
    assert one.key == read_input(Image.open(EXAMPLES / "shapes_1.png")).key


def test_kept_traces_are_bounded(tiny, monkeypatch):
    """Catches memory that grows with every image of a long class."""
    monkeypatch.setattr(viewer_module, "_TRACES", 2)
    for seed in range(4):
        tiny.view(read_input(draw_sample("easy", seed)[0]), state(tiny))
    assert len(tiny._traces) == 2


def test_the_classes_control(nano, image):
    """Catches a filter that leaves other classes, or that hides proposals of the chosen one."""
    everything = state(nano, num_proposals=20, threshold=0.3)
    some = replace(everything, classes=("triangle", "heart"))
    assert sorted(nano.view(image, some).detections.names()) == ["heart", "triangle", "triangle"]
    assert len(nano.view(image, everything).detections) == 5
    marks = [
        len(select_marks(nano.trace(image, at)[0], replace(at, show=PROPOSALS))[0])
        for at in (everything, some)
    ]
    assert marks[0] == 20 and 3 <= marks[1] < 20


def test_a_live_frame_is_the_photo_at_that_stage(nano, image, monkeypatch):
    """Catches a webcam that answers another stage, number or class than the controls say, and one
    that runs stages which are not asked for."""
    runs = []
    runtime = nano.models[nano.models.first].runtime
    run, last = runtime.run_stages, runtime.last_stage
    for at in (
        state(nano, stage=2, num_proposals=5, threshold=0.05),
        state(nano, stage=6, num_proposals=20, threshold=0.3, classes=("heart", "triangle")),
        state(nano, stage=3, num_proposals=20, threshold=0.2, show=PROPOSALS),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                runtime, "run_stages", lambda *a, **k: runs.append(k.get("stop")) or run(*a, **k)
            )
            patch.setattr(runtime, "last_stage", lambda *a: runs.append(6) or last(*a))
            seen = nano.view_frame(image.pixels, at)
        view = nano.view(image, at)
        assert seen.detections.names() == view.detections.names() != []
        torch.testing.assert_close(
            seen.detections.boxes, view.detections.boxes, atol=1e-2, rtol=1e-4
        )
    assert nano.view_frame(image.pixels, state(nano, stage=0)).detections is None
    assert [stop for stop in runs if stop] == [2, 6, 3]


def test_a_frame_lets_an_image_go_first(tiny, image, monkeypatch):
    """Catches webcams that keep somebody's photo waiting, and a frame that waits for ever."""
    seen = []

    def asked_for(*_, **__):
        with tiny.turn(frame=True):
            seen.append("frame")

    trace = tiny.models[tiny.models.first].trace

    def slow(*args, **kwargs):
        frame.start()
        time.sleep(0.1)
        seen.append("image")
        return trace(*args, **kwargs)

    frame = threading.Thread(target=asked_for)
    monkeypatch.setattr(tiny.models[tiny.models.first], "trace", slow)
    tiny.full_trace(image.pixels, state(tiny))
    frame.join(timeout=5)
    assert seen == ["image", "frame"]
    # Images without end: the stream goes on all the same.
    monkeypatch.setattr(tiny, "_waiting", 1)
    asked_for()
    assert seen[-1] == "frame"


def test_a_state_within_what_the_model_has(tiny, image):
    """Catches a crash when another model has fewer stages, proposals or other classes."""
    view = tiny.view(image, state(tiny, num_proposals=999, stage=99, classes=("zebra",)))
    assert (view.state.num_proposals, view.state.stage, view.state.classes) == (8, 6, ())
    assert len(view.detections)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, [1], "1e999", "many"])
@pytest.mark.parametrize("place", ["num_proposals", "stage", "threshold"])
def test_what_is_no_number_is_named(value, place):
    """Catches an infinity or a list that ends in an error of Python."""
    sent = {"model": "nano", "num_proposals": 3, "stage": 4, "threshold": 0.5, place: value}
    with pytest.raises(LabError, match=f"^{place} must be a number, found"):
        ViewState.parse(**sent)


def test_empty_number_boxes_count_as_their_minimum():
    """Catches a page that fails while somebody types."""
    assert ViewState.parse("nano", None, "", None) == ViewState("nano", 1, 0, 0.0)


def test_examples_and_samples(tmp_path):
    """Catches cells shown to a model of playing cards, an example without its licence or of
    megabytes, and a seed that is shown but not the one that was used."""
    for classes, topics in (
        (CLASS_NAMES, {"shapes"}),
        (("RBC", "WBC", "Platelets"), {"cells"}),
        (("king", "ace"), {"cards"}),
        (("person", "sofa"), {"everyday"}),
        (("zebra",), {"shapes", "cells", "cards", "everyday"}),
    ):
        assert {path.name.split("_")[0] for path in examples(classes)} == topics
        assert knows_shapes(classes) == (classes == CLASS_NAMES)
    files = [path for path in EXAMPLES.iterdir() if path.suffix != ".md"]
    said = (EXAMPLES / "SOURCE.md").read_text(encoding="utf-8")
    assert files and all(f"`{path.name}`" in said for path in files)
    assert sum(path.stat().st_size for path in files) < 500_000
    drawn, seed = draw_sample("hard")
    assert draw_sample("hard", seed)[0].tobytes() == drawn.tobytes()


def test_limits_say_what_to_do(tmp_path):
    """Catches a huge image that is decoded before anybody looks at its size, and a decoder's own
    error for what a webcam sends."""
    path = tmp_path / "wide.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(LabError, match=r'"wide.png" has 9000x9000 pixels .*up to 50'):
        read_input(path, Limits())
    heavy = tmp_path / "heavy.bmp"
    heavy.write_bytes(bytes(2_000_000))
    with pytest.raises(LabError, match="--max-size"):
        read_input(heavy, Limits(upload_mb=1))
    with pytest.raises(LabError, match="--max-size"):
        Limits(upload_mb=0)
    # The last one has damage that its own decoder answers with an error of Python.
    for data in (b"", b"not an image", b"P6\nno 30\n255\n" + bytes(90)):
        with pytest.raises(LabError, match="camera"):
            read_frame(data, Limits())
    text = PngInfo()
    text.add_text("a", "0" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "text.png", pnginfo=text)
    Image.new("RGB", (8, 8)).save(tmp_path / "program.jpg", "EPS")  # Ghostscript would run it
    for name, words in (("text.png", "not an image"), ("program.jpg", "is EPS, a program")):
        with pytest.raises(LabError, match=f"{name}.*{words}"):
            read_input(tmp_path / name, Limits())
    with pytest.raises(LabError, match="megapixels"):
        read_frame(as_jpeg(Image.new("RGB", (4000, 4000))), Limits())


def test_empty_states_say_what_to_do(tiny, image):
    """Catches an empty table without a word."""
    assert "Drop an image" in readouts.table(None)
    text = readouts.table(tiny.view(image, state(tiny, threshold=1.0, stage=2)))
    assert "lower the threshold" in text and "raise the stage" in text and "1.00" in text
    text = readouts.table(tiny.view(image, state(tiny, threshold=1.0)))
    assert "raise the stage" not in text
    # Who gives a dog to a model of shapes is told so.
    assert "looks for circle, square" in text and "for anything else, choose another model" in text
    assert "8 learned proposals" in readouts.table(tiny.view(image, state(tiny, stage=0)))


def test_class_names_cannot_break_the_page(folder, image):
    """Catches names from a checkpoint written into the page as HTML."""
    viewer = Viewer([checkpoint(folder, "x", classes=("<img src=x onerror=alert(1)>",))], "cpu")
    for threshold in (0.0, 1.0):
        text = readouts.table(viewer.view(image, state(viewer, threshold=threshold)))
        assert "&lt;img" in text and "<img" not in text


def test_the_cost_is_the_measured_one():
    """Catches an AP of another stage, or one that was made up for a model without a record."""

    def cost(model, number, stage, total=20, last=6):
        return cost_sentence(ViewState(model, number, stage, 0.3), total, last)

    assert cost("nano-shapes", 20, 6) == "AP 0.88 on 500 drawn images."
    assert "stage 3: AP 0.85 instead of 0.88" in cost("nano-shapes", 20, 3)
    assert "10 of 20 proposals, stage 6: AP 0.86 instead" in cost("nano-shapes", 10, 6)
    assert "stage 5: no measurable loss, AP 0.88" in cost("nano-shapes", 20, 5)
    assert "about 0.86" in cost("nano-shapes", 12, 6)  # 2 of 5 steps from 0.857 to 0.873
    assert cost("runs/mine", 20, 6) == "" == cost("nano-shapes", 20, 0)
    # A checkpoint of the same name that has more proposals was not measured.
    assert cost("nano-shapes", 50, 6, total=100) == ""


def test_the_measured_curves_are_the_shipped_models():
    """Catches a model that was exchanged, or added, while its curve stayed."""
    curves = json.loads(Path(readouts.__file__).with_name("curves.json").read_text("utf-8"))
    for name in shipped_models():
        record = json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))
        stages = {entry["stage"]: entry["AP"] for entry in record["evaluation"]["stages"]}
        full = curves[name]["AP"][max(curves[name]["AP"], key=int)]
        assert full == pytest.approx([stages[s] for s in sorted(stages)], abs=0.002)


def test_downloads(tiny, image, tmp_path, monkeypatch):
    """Catches a download that is empty, of another stage, or that needs the network."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    at = state(tiny, threshold=0.012, stage=4)
    made = {kind: download(tiny, image, at, kind) for kind in KINDS}
    assert Image.open(made["image"]).size == image.shown.size
    assert load_trace(made["trace"]).attention is not None
    page = made["page"].read_text(encoding="utf-8")
    assert "data:image" in page and "http://" not in page.replace("http://www.w3.org/", "")
    assert all(path.is_relative_to(tmp_path) for path in made.values())
    with pytest.raises(LabError, match="trace"):
        download(tiny, image, at, "../../secret")

    from pycocotools.coco import COCO

    coco = COCO(str(made["json"]))
    found = tiny.view(image, at).detections
    assert len(coco.anns) == len(found) == len(coco_results(tiny, image, at)["annotations"])
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)


def test_what_was_explored_is_kept(tiny, image, tmp_path, monkeypatch):
    """Catches a file of the image as it was, after something was changed in Explore, or of the
    controls that the other tabs have."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    changed = Intervention().drop([5, 6, 7])
    told = {"intervention": changed.to_message(), "threshold": 0.0, "stage": 3, "chosen": 2}
    made = {
        kind: download(tiny, image, state(tiny, threshold=0.9), kind, json.dumps(told))
        for kind in ("json", "trace", "page", "image")
    }
    found = json.loads(made["json"].read_text(encoding="utf-8"))
    assert found["info"] == {"model": "tiny", "num_proposals": 5, "stage": 3, "threshold": 0.0}
    assert len(found["annotations"]) == 5
    assert load_trace(made["trace"]).proposal_ids.tolist() == [0, 1, 2, 3, 4]
    page = made["page"].read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["edited"]["ids"]["shape"] == [5] and data["options"]["chosen"] == 2
    assert data["answer"]["intervention"]["changes"][0]["proposals"] == [5, 6, 7]
    with pytest.raises(LabError, match="Proposal 99 does not exist"):
        told["intervention"] = Intervention().drop(99).to_message()
        download(tiny, image, state(tiny), "page", json.dumps(told))


def test_panels_show_every_stage_and_budget(tiny, image):
    """Catches a row that stops early, the same number twice, numbers of another image of it."""
    tabs = pytest.importorskip("sparse_rcnn_lab.app.image_tabs", exc_type=ImportError)
    at = state(tiny, threshold=0.012)
    panels = list(tabs.stage_panels(tiny, image, at))
    assert [p.title for p in panels[:2]] == ["learned proposals", "stage 1"]
    assert [p.title for p in panels[-2:]] == ["stage 6", "detections"] and len(panels) == 8
    found = len(tiny.view(image, replace(at, stage=6)).detections)
    assert panels[6].text.startswith(f"{found} detection")
    budgets = list(tabs.budget_panels(tiny, image, at))  # the model has 8 proposals
    assert [p.goes for p in budgets] == [f"data-proposals={n}" for n in (1, 2, 3, 5, 8)]
    assert budgets[0].title == "1 proposal" and budgets[-1].title == "all 8 proposals"
    assert budgets[-1].text.endswith("ms")  # no AP was measured with this model
    page = tabs.as_html(iter(panels), 100)
    assert page.count("<button") == 8 and page.count("data:image/jpeg;base64,") == 8


@pytest.mark.parametrize("name", ["cells", "shapes/cats.safetensors", "small-everyday-mine"])
def test_a_model_of_yours_is_called_so(name):
    """Catches a run folder that is taken for a model that ships, for a part of its name."""
    pytest.importorskip("gradio")
    from sparse_rcnn_lab.app.draw_tab import DrawTab
    from sparse_rcnn_lab.app.model_tiles import face

    assert face(name) == (name.rpartition("/")[2], "a model of yours", "")
    assert face("small-cells")[0] == "Blood cells"
    models = SimpleNamespace(names=(name, "nano-shapes"))
    assert DrawTab(models).model == "nano-shapes"


def test_a_model_let_go_while_it_is_loaded(folder, monkeypatch):
    """Catches a visitor's model that stays in memory for ever, or that visitor's error."""
    viewer, load = Viewer([checkpoint(folder)], "cpu"), viewer_module.load
    taught = checkpoint(folder, "taught")

    def slow(name, *more, **options):
        for number in range(viewer_module._PRIVATE):
            viewer.models.add(f"of visitor {number}")
        return load(name, *more, **options)

    monkeypatch.setattr(viewer_module, "load", slow)
    viewer.models.add(taught)
    assert viewer.models[taught].num_proposals == 8
    assert list(viewer.models._loaded) == [viewer.models.first]


def test_models_to_offer(monkeypatch):
    """Catches a checkpoint that is not shown first, a misspelt name answered by a crash, and
    torch's own page of text for a device that is not there."""
    there = ["nano-shapes", "small-cards", "small-everyday"]
    monkeypatch.setattr(viewer_module, "shipped_models", lambda: there)
    shipped, published = ["small-everyday", "nano-shapes", "small-cards"], list(RELEASES)
    assert models_to_offer(None, None) == [*shipped, *published]
    assert models_to_offer("small-cards", None) == [shipped[2], *shipped[:2], *published]
    assert models_to_offer(None, "runs/mine") == ["runs/mine", *shipped, *published]
    assert models_to_offer("r50_3x_300", None)[0] == "r50_3x_300"
    with pytest.raises(LabError, match="nano-shapes"):
        models_to_offer("nano", None)
    with pytest.raises(LabError, match="--checkpoint"):
        Viewer([], "cpu")
    with pytest.raises(LabError, match="--device"):
        pick_device("cuda:99")
