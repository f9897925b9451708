"""What the explorer's page is given: small, true to the trace, and harmless whatever it holds."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import small_model

from sparse_rcnn_lab import (
    Ablation,
    Detector,
    Intervention,
    LabError,
    Session,
    Trace,
    explore,
    load,
    recipe,
    save_trace,
    shipped_models,
)
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.views.explorer import explore as exploring
from sparse_rcnn_lab.views.explorer.explore import Explorer
from sparse_rcnn_lab.views.explorer.html_page import HERE, MODULES, iframe, script
from sparse_rcnn_lab.views.explorer.payload import CLASSES_KEPT, payload
from sparse_rcnn_lab.views.static import STATIC_VARIABLE, is_static

RECORD = ("attention", "roi_features", "filtered_features")
OFF = Ablation(self_attention=False)


def unpack(packed):
    data = base64.b64decode(packed["data"])
    kind = np.dtype(packed["type"]).newbyteorder("<")
    return np.frombuffer(data, kind).reshape(packed["shape"])


def made_trace(n=30, classes=80, dim=32, stages=6, size=(80, 120), attention=True):
    """A trace of random numbers, with an image of noise, the worst case for its size."""
    generator = torch.Generator().manual_seed(n)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    h, w = size
    corners = rand(stages + 1, n, 2) * torch.tensor([0.6 * w, 0.6 * h])
    sides = rand(stages + 1, n, 2) * torch.tensor([0.4 * w, 0.4 * h]) + 1
    image = (rand(3, h, w) * 255).to(torch.uint8)
    maps = (rand(stages, 2, n, n) * 5).softmax(-1) if attention else None
    return Trace(
        boxes=torch.cat([corners, corners + sides], dim=-1),
        logits=rand(stages, n, classes) * 8 - 6,
        features=rand(stages + 1, n, dim) - 0.5,
        fpn_level=(rand(stages, n) * 4).long() + 2,
        proposal_ids=torch.arange(n),
        size=size,
        scale=(1.0, 1.0),
        class_names=tuple(f"class {i}" for i in range(classes)),
        model_name="made",
        attention=maps,
        image=image,
    )


def options_of(view):
    """What a saved page is told to show."""
    data = re.search(r'id="data">(.*?)</script>', str(view.to_html()), re.S)[1]
    return json.loads(data)["options"]


@pytest.fixture
def detector():
    return Detector(small_model(), ("a", "b", "c"), "small")


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    return Image.fromarray(noise)


def test_a_large_page_stays_small():
    """Catches a field that grows the page of 300 proposals and 80 classes beyond 410 kB."""
    text = Explorer(made_trace(300, dim=256, size=(800, 1200))).to_html()
    assert len(str(text).encode()) < 410_000


def test_numbers_survive_the_packing():
    """Catches a transposed array, a wrong scale, a class index taken for another proposal's."""
    trace = made_trace()
    made = payload(trace)
    found = unpack(made["boxes"]) * made["box_step"]
    np.testing.assert_allclose(found, trace.boxes, atol=made["box_step"])
    scores, labels = trace.scores().topk(CLASSES_KEPT, dim=-1)
    np.testing.assert_allclose(unpack(made["scores"]) / 65535, scores, atol=1e-5)
    np.testing.assert_array_equal(unpack(made["labels"]), labels)
    np.testing.assert_array_equal(unpack(made["levels"]), trace.fpn_level)
    mean = trace.attention.mean(1)
    partners = torch.from_numpy(unpack(made["attention"]["index"]).astype(np.int64))
    weights = unpack(made["attention"]["weight"]) / 255
    np.testing.assert_allclose(weights, mean.gather(-1, partners), atol=2e-3)
    assert (np.diff(weights, axis=-1) <= 0).all()


def test_similarities_are_cosines():
    """Catches a proposal that is most like itself, and pairs of stages in another order."""
    trace = made_trace()
    made = payload(trace)["features"]
    unit = torch.nn.functional.normalize(trace.features, dim=-1)
    pairs = [(a, b) for a in range(7) for b in range(a + 1, 7)]
    wanted = torch.stack([(unit[a] * unit[b]).sum(-1) for a, b in pairs], dim=-1)
    np.testing.assert_allclose(unpack(made["between"]) / 127, wanted, atol=5e-3)
    near = unpack(made["near"])
    rows = np.arange(trace.num_proposals)
    assert not (near == rows[None, :, None]).any()
    best = (unit[3] @ unit[3].T).fill_diagonal_(-2).argmax(-1)
    np.testing.assert_array_equal(near[3, :, 0], best)


def test_the_group_puts_rivals_side_by_side():
    """Catches a rival that overlaps nothing, one named twice, and cosines of other pairs."""
    trace = made_trace(30, 3)
    trace.logits[:] = -5
    trace.logits[-1, :13, 0] = torch.arange(13, 0, -1.0)
    far = torch.arange(30.0)[:, None] * 100 + torch.tensor([0.0, 0, 10, 10])
    trace.boxes[-1] = far
    trace.boxes[-1, 20] = far[4] + 1  # a duplicate of the fifth
    trace.boxes[-1, 21] = far[4] + 2  # one that overlaps it less
    made = payload(trace)["features"]
    rows = unpack(made["group"]).tolist()
    assert rows == [0, 1, 2, 3, 4, 20, 5, 6, 7, 8, 9, 10, 11]
    unit = torch.nn.functional.normalize(trace.features, dim=-1)
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    wanted = torch.stack([(unit[:, a] * unit[:, b]).sum(-1) for a, b in pairs], dim=-1)
    np.testing.assert_allclose(unpack(made["group_cosine"]) / 127, wanted, atol=5e-3)


def test_iou_is_with_the_object_a_proposal_ends_at():
    """Catches IoU with another object, or of another stage."""
    trace = made_trace(8, 3)
    truth = trace.boxes[-1, :2].clone()
    matches = torch.full((6, 8), -1)
    matches[-1, 5] = 1
    trace = replace(trace, gt_boxes=truth, gt_labels=torch.tensor([0, 2]), matches=matches)
    made = payload(trace)["truth"]
    iou = unpack(made["iou"]) / 255
    assert iou[-1, 0] == iou[-1, 1] == 1
    wanted = box_ops.paired_iou(trace.boxes[:, 5], truth[1].expand(7, 4))
    np.testing.assert_allclose(iou[:, 5], wanted, atol=3e-3)
    assert unpack(made["target"])[5] == 1


def test_what_is_missing_is_said():
    """Catches a view that stays empty without a word of what to record."""
    made = payload(replace(made_trace(attention=False), image=None))
    assert made["attention"] is None and made["image"] is None and made["roi"] is None
    assert {"attention", "roi", "filters", "image", "matches"} <= made["missing"].keys()
    assert all("record" in made["missing"][name] for name in ("attention", "roi", "filters"))
    assert "features" not in made["missing"]


def test_numbers_that_are_none_are_left_out_and_said():
    """Catches NaN in JSON, which no browser reads, and boxes that vanish in silence."""
    trace = made_trace()
    trace.boxes[4, 7] = float("nan")
    trace.boxes[2, 3, 1] = float("inf")
    trace.logits[1, 2] = float("nan")
    trace.features[3, 4] = float("nan")
    explorer = Explorer(trace)
    made = payload(trace)
    boxes = unpack(made["boxes"])
    assert (boxes[4, 7] == -32768).all() and (boxes[2, 3] == -32768).all()
    assert (boxes == -32768).sum() == 8
    boxes_note, scores_note, features_note = made["notes"]
    assert "2 proposals" in boxes_note and "stage 2, 4" in boxes_note
    assert "Scores of 1 proposal " in scores_note and "Features of 1 proposal " in features_note
    assert "NaN" not in json.dumps(made, allow_nan=False).replace("(NaN)", "")
    assert str(explorer.to_html())


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_any_number_of_proposals(n):
    """Catches a top-k of more proposals than there are."""
    made = payload(made_trace(n, 2, dim=4, stages=2))
    assert unpack(made["boxes"]).shape == (3, n, 4)
    assert unpack(made["features"]["near"]).shape[:2] == (3, n)


def test_an_image_of_any_shape():
    """Catches a side rounded to 0 pixels."""
    for size in ((4000, 10), (10, 4000), (1, 1), (900, 1600)):
        uri = payload(replace(made_trace(4, 2), size=size, image=torch.zeros(3, *size).byte()))
        head, data = uri["image"].split(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert head.startswith("data:image/") and 1 <= max(image.size) <= 960


def test_class_names_cannot_break_the_page():
    """Catches a class named like the end of a script, which would end the page's data."""
    bad = '</script><img src=x onerror="alert(1)">'
    trace = replace(made_trace(4, 2), class_names=(bad, "<!--"), model_name=bad)
    text = str(Explorer(trace).to_html())
    assert bad not in text and "<!--" not in text
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(data)["payload"]["classes"] == [bad, "<!--"]
    assert "<script" not in iframe(text)


def test_the_module_is_one_whole():
    """Catches a file of js/ that is not joined, an import left over, and a name used twice."""
    assert {path.stem for path in (HERE / "js").glob("*.js")} == set(MODULES)
    text = script()
    assert not re.search(r"^import ", text, re.M)
    assert re.findall(r"^export .*", text, re.M) == ["export default { render, serverLink };"]
    whole = "\n".join((HERE / "js" / f"{name}.js").read_text("utf-8") for name in MODULES)
    names = re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", whole, re.M)
    assert sorted(names) == sorted(set(names))
    assert not re.search(r"fetch\(|XMLHttpRequest|localStorage|https?://|innerHTML", text)


def test_an_intervention_runs_in_the_session(detector, image):
    """Catches an edit at another stage, an ablation not passed on, a repeated stage lost."""
    view = explore(image, detector)
    base = view.base
    changed = Intervention(repeat=2).edit(2, (5.0, 6.0, 40.0, 50.0), stage=1).drop(4, 2)
    trace = view.try_out(changed)
    assert view.trace is trace is view.edited and view.base is base
    assert trace.num_stages == base.num_stages + 2
    assert 4 not in trace.proposal_ids.tolist()
    torch.testing.assert_close(trace.boxes[1, trace.row(2)], torch.tensor([5.0, 6.0, 40.0, 50.0]))
    off = view.try_out(Intervention(ablation=OFF, start=1))
    torch.testing.assert_close(off.features[1], base.features[1])
    assert not torch.allclose(off.features[2], base.features[2])
    assert view.undo().num_stages == base.num_stages + 2
    assert view.reset() is base and view.edited is None


def test_a_saved_page_shows_what_was_on_screen(detector, image):
    """Catches a page that flies to the last stage when another one was looked at."""
    pytest.importorskip("anywidget")
    view = explore(image, detector)
    last = view.base.num_stages

    def saved():
        options = options_of(view)
        return options["stage"], options["fly"], options["color"]

    view.widget.color = "stage"
    assert saved() == (last, True, "stage")
    view.widget.stage = 1
    assert saved() == (1, False, "stage")


def test_a_widget_made_after_a_change(detector, image):
    """Catches a notebook that lists what was changed before it was shown, beside the trace without
    it; and a tab set to what there is none of, at which the page stands still."""
    traitlets = pytest.importorskip("traitlets")
    pytest.importorskip("anywidget")
    view = explore(image, detector)
    view.try_out(Intervention(repeat=1))
    assert view.widget.edited["stages"] == view.widget.stage == view.base.num_stages + 1
    with pytest.raises(traitlets.TraitError, match="similarity"):
        view.widget.tab = "likeness"


def test_the_page_and_the_notebook_share_a_history(detector, image):
    """Catches a change that the page only tried on the way and that undo goes back to, and one
    that it made and that undo leaves."""
    view = explore(image, detector)
    one, two = Intervention(repeat=1), Intervention(repeat=2)
    view._receive({"intervention": one.to_message(), "history": []})
    assert view.intervention == one
    view.undo()
    assert view.edited is None
    view.try_out(one)
    history = [*view._answer()["history"], one.to_message()]
    view._receive({"intervention": two.to_message(), "history": history})
    assert view.undo().num_stages == view.base.num_stages + 1
    assert view.undo() is view.base


def test_an_answer_keeps_nothing(detector, image):
    """Catches an app whose visitors see each other's changes, and a change that is refused."""
    view = explore(image, detector, num_proposals=3)
    edited = view.answer({"intervention": Intervention(repeat=1).to_message()})["edited"]
    assert edited["stages"] == view.base.num_stages + 1 and view.edited is None
    assert view.answer({"intervention": Intervention(start=2).to_message()}) == {"edited": None}
    with pytest.raises(LabError, match="does not exist; there are 3"):
        view.answer({"intervention": Intervention().drop(3).to_message()})


@pytest.mark.parametrize(("whole", "real"), [(np.int64, np.float32), (torch.tensor, torch.tensor)])
def test_numbers_of_numpy_and_torch_are_taken(whole, real):
    """Catches a page that JSON refuses to write for what an array or a tensor holds."""
    view = Explorer(made_trace(4, 2), stage=whole(2), chosen=whole(3), threshold=real(0.5))
    options = options_of(view)
    assert (options["stage"], options["chosen"], options["threshold"]) == (2, 3, 0.5)


def test_an_option_that_there_is_not(detector, image):
    """Catches a misspelt option that is accepted and does nothing."""
    with pytest.raises(LabError, match=r'no option "treshold"\. It has stage'):
        Explorer(made_trace(4, 2), treshold=0.9)


@pytest.mark.parametrize(("value", "still"), [("", False), ("0", False), ("1", True)])
def test_one_meaning_of_static(monkeypatch, value, still):
    """Catches a 0 that is off for the lessons and on for the explorer."""
    pytest.importorskip("anywidget")
    monkeypatch.setenv(STATIC_VARIABLE, value)
    assert is_static() == still
    shown = Explorer(made_trace(4, 2))._repr_mimebundle_()
    data = shown if still else shown[0]
    assert "text/html" in data
    assert ("application/vnd.jupyter.widget-view+json" in data) != still


def test_changes_made_before_stay(detector, image):
    """Catches an explorer that throws away what was changed in the session it was given, or does
    without a word not run the detector it was given beside."""
    session = Session(detector, image)
    session.edit(1, feature="zero", stage=1)
    kept = session.run()
    view = explore(session)
    assert view.base is kept
    trace = view.try_out(Intervention().edit(3, feature="zero", stage=2))
    assert not trace.features[1, 1].any() and not trace.features[2, 3].any()
    with pytest.raises(LabError, match="its own detector"):
        explore(session, "nano-shapes")
    session.set_image(image)
    with pytest.raises(LabError, match="another image"):
        view.try_out(Intervention(ablation=OFF))


def test_messages_are_read_back_whole():
    """Catches a field that is lost on the way to the page and back."""
    off = Ablation(False, (1,), "mean", ((1, 2),), True, True)
    whole = Intervention((), off, 2, 3).edit(1, (0.0, 1.0, 2.0, 3.0), "zero", 2).drop([3, 4])
    message = json.loads(json.dumps(whole.to_message()))
    assert Intervention.from_message(message) == whole


@pytest.mark.parametrize(
    "broken",
    [
        {"changes": [{}]},
        {"changes": [{"proposals": [1], "stage": 0, "box": [0, 0, "x", 1], "feature": None}]},
        {"changes": [{"proposals": [1, 2], "stage": 0, "box": None, "feature": "zero"}]},
        {"changes": [{"proposals": [1], "stage": -1, "drop": True}]},
        {"ablation": {"swap_filters": [[1]]}},
        {"ablation": {"self_attention": "no"}},
        {"ablation": {"hands": []}},
        {"start": "first"},
    ],
)
def test_messages_that_mean_nothing(broken):
    """Catches a message that ends in a traceback of the kernel, or is taken for something else."""
    with pytest.raises(LabError):
        Intervention.from_message(broken)


def test_what_is_recorded_unasked(detector, image, monkeypatch):
    """Catches looks that an image and a small model do not fill, a recording that is not shown,
    and hundreds of MB kept of a large model that nobody asked for."""

    def maps(view):
        return view._payload["roi"] is not None

    assert maps(explore(image, detector))
    assert not maps(explore(image, detector, roi=False))
    assert maps(explore(detector.trace(image, record=RECORD)))
    assert not maps(explore(detector.trace(image, record=RECORD), roi=False))
    assert not maps(explore(Session(detector, image)))
    assert maps(explore(Session(detector, image, record=RECORD)))
    assert all(exploring._is_small(load(name).model.config) for name in shipped_models())
    assert not exploring._is_small(recipe("r50_1x_100").model)
    monkeypatch.setattr(exploring, "SMALL", 10)
    assert not maps(explore(image, detector)) and maps(explore(image, detector, roi=True))


def test_an_impossible_change_leaves_what_was_shown(detector, image):
    """Catches a wrong edit that takes the earlier ones with it."""
    view = explore(image, detector)
    frozen = Intervention(ablation=Ablation(freeze_boxes=True))
    good = view.try_out(frozen)
    for bad in (frozen.edit(99, feature="zero"), frozen.edit(1, (500.0, 500.0, 600.0, 600.0))):
        with pytest.raises(LabError):
            view.try_out(bad)
    assert view.trace is good and view.intervention == frozen


def test_a_recorded_trace_says_what_it_needs(tmp_path, detector):
    """Catches controls that do nothing, and options that are taken without a look."""
    trace = made_trace()
    path = save_trace(trace, tmp_path / "a.trace")
    view = explore(path)
    assert "30 proposals" in repr(view)
    with pytest.raises(LabError, match="recorded trace"):
        view.try_out(Intervention(ablation=OFF))
    for wrong in ({"stage": 7}, {"chosen": 30}, {"color": "blue"}, {"threshold": 2.0}):
        with pytest.raises(LabError, match=next(iter(wrong)) if "chosen" not in wrong else "30"):
            explore(trace, **wrong)
    with pytest.raises(LabError, match="recording"):
        explore(trace, detector)
    assert (
        view.to_html(tmp_path / "new" / "a.html").read_text(encoding="utf-8").endswith("</html>\n")
    )
