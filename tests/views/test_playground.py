"""The playground's page in headless Chromium: from disk, offline, to the numbers of torch."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import Watched, keep_shot
from test_explorer_payload import RECORD, made_trace, unpack

from sparse_rcnn_lab import Ablation, Intervention, LabError, Session, Shapes, load, playground
from sparse_rcnn_lab.detect.images import resize_to
from sparse_rcnn_lab.runtime.export.compact import compact
from sparse_rcnn_lab.runtime.onnx_graphs import write_stage
from sparse_rcnn_lab.views.bundle import joined
from sparse_rcnn_lab.views.draw import as_image, encoded
from sparse_rcnn_lab.views.explorer.payload import payload
from sparse_rcnn_lab.views.playground.playground_page import HERE, page

pytest.importorskip("onnx", reason="needs the extra export")

READY = "body[data-ready]"
BOX, SCORE = 0.01, 1e-4  # the most that page and torch may be apart: pixels, and a score
IMAGES = Shapes(20, seed=3)
TRIED = (
    Intervention().edit(3, box=(10, 20, 90, 80), stage=2),
    Intervention().drop([4, 5, 0], stage=1).edit(7, feature="zero"),
    Intervention(ablation=Ablation(self_attention=False), start=2, repeat=2),
    Intervention(ablation=Ablation(heads=(1,), filters="rolled", swap_filters=((2, 9),)), start=1),
    Intervention(ablation=Ablation(filters="mean", freeze_features=True)),
    Intervention(ablation=Ablation(swap_filters=((2, 9),), freeze_boxes=True), start=3).drop(5, 4),
)


@pytest.fixture(scope="module")
def detector():
    return load("nano-shapes")


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory):
    return playground(detector, tmp_path_factory.mktemp("page") / "nano.html")


def opened(browser, file, **context):
    watched = Watched(browser, 1366, 768, reduced_motion="reduce", **context)
    watched.context.set_offline(True)
    watched.page.goto(file.as_uri())
    watched.page.wait_for_selector(READY)
    return watched


def uri(image):
    return base64.b64encode(encoded(as_image(image), "PNG")).decode()


STATES = """async ([png, tried]) => {
  const { engine } = globalThis.playground;
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  await engine.ask({ image: blob });
  const found = [];
  for (const run of tried) {
    await engine.ask({ run });
    const { ids, states } = await engine.ask({ states: true });
    const logits = states.slice(1).map((s) => [...s.logits]);
    found.push({ ids, boxes: states.map((s) => [...s.boxes]), logits });
  }
  return found;
}"""


def far(page, detector, image, tried):
    """How far page and torch are apart over all stages: pixels, and a score."""
    session = Session(detector, image)
    apart = []
    found = page.evaluate(STATES, [uri(image), [one.to_message() for one in tried]])
    for one, own in zip(tried, found, strict=True):
        trace = session.try_out(one)
        assert own["ids"] == trace.proposal_ids.tolist()
        boxes = torch.tensor(own["boxes"]).reshape(trace.boxes.shape)
        scores = torch.tensor(own["logits"]).reshape(trace.logits.shape).sigmoid()
        apart.append((boxes - trace.boxes).abs().max())
        apart.append((scores - trace.logits.sigmoid()).abs().max())
    return float(max(apart[::2])), float(max(apart[1::2]))


def test_from_disk_offline_it_says_what_torch_says(browser, file, detector):
    """Catches a page that asks the network, another resizing, a graph or a change that is off."""
    watched = opened(browser, file)
    for index in range(2):
        boxes, scores = far(watched.page, detector, IMAGES[index].image, (Intervention(), *TRIED))
        assert boxes <= BOX and scores <= SCORE, (index, boxes, scores)
    keep_shot(watched.page, "playground")
    watched.clean()


def test_overlap_says_what_torch_says(browser, tmp_path):
    """Catches confidence of another stage, and a moved box that others are not told of."""
    detector = load("nano-shapes", overlap_attention=8.0)
    watched = opened(browser, playground(detector, tmp_path / "page.html"))
    unbiased = Intervention(ablation=Ablation(overlap_bias=False), start=2)
    tried = (Intervention(), unbiased, *TRIED[:3])
    boxes, scores = far(watched.page, detector, IMAGES[0].image, tried)
    assert boxes <= BOX and scores <= SCORE, (boxes, scores)
    watched.page.get_by_label("overlap bias").uncheck()
    watched.page.wait_for_selector("text=overlap bias off")
    watched.clean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano-shapes", "small-everyday"])
def test_twenty_images(browser, tmp_path, name):
    """Catches an image size or a model of which the two numbers differ."""
    detector = load(name)
    watched = opened(browser, playground(detector, tmp_path / "page.html"))
    most = (0.0, 0.0)
    for index, sample in enumerate(IMAGES):
        image = sample.image if index % 2 else resize_to(sample.image, (211, 307 + index), True)
        tried = (Intervention(), TRIED[index % len(TRIED)])
        most = tuple(map(max, most, far(watched.page, detector, image, tried)))
    print(name, most)
    assert most[0] <= BOX and most[1] <= SCORE
    watched.clean()


def test_in_the_page_a_change_is_made_and_taken_back(browser, file):
    """Catches a link that the explorer does not use: a switch that changes nothing on screen."""
    watched = opened(browser, file)
    one = watched.page
    assert not one.get_by_label("overlap bias").count()  # this model has none
    one.get_by_label("self-attention").uncheck()
    one.wait_for_selector("text=self-attention off")
    one.wait_for_selector(".srl-result:not([hidden])")
    one.get_by_role("button", name="reset").click()
    one.wait_for_selector(".srl-result", state="hidden")
    one.get_by_role("button", name="Draw", exact=True).click()
    pad = one.locator(".play-pad").bounding_box()
    x, y = pad["x"] + pad["width"] / 2, pad["y"] + pad["height"] / 2
    one.mouse.move(x - 70, y - 70)
    one.mouse.down()
    for dx, dy in ((70, -70), (70, 70), (-70, 70), (-70, -66)):
        one.mouse.move(x + dx, y + dy, steps=6)
    one.mouse.up()
    one.wait_for_selector("text=/1 detection ·/")
    keep_shot(one, "playground-draw")
    one.get_by_role("button", name="Explore this one").click()
    one.wait_for_selector("#explorer .srl")
    one.evaluate(
        "() => { const paper = document.createElement('canvas'), g = paper.getContext('2d');"
        " setInterval(() => g.fillRect(0, 0, 9, 9), 50);"
        " const stream = paper.captureStream(); [window.track] = stream.getVideoTracks();"
        " navigator.mediaDevices.getUserMedia = async () => stream }"
    )
    one.get_by_role("button", name="Camera", exact=True).click()
    one.wait_for_selector("[data-ready=camera]")
    one.evaluate("track.dispatchEvent(new Event('ended'))")
    one.wait_for_selector("#status:has-text('disconnected')")
    watched.clean()


def test_what_a_browser_lacks_is_said(browser, file, tmp_path):
    """Catches a blank page, and a file that is no image taking the last one away."""
    old = Watched(browser)
    old.page.add_init_script("delete globalThis.DecompressionStream")
    old.page.goto(file.as_uri())
    old.page.wait_for_selector("text=/no DecompressionStream.*Firefox 114/")
    old.clean()
    watched = opened(browser, file)
    watched.page.get_by_role("button", name="Camera").click()
    watched.page.wait_for_selector("text=/camera.*Open a photograph/")
    (tmp_path / "no.jpg").write_bytes(b"no image")
    watched.page.set_input_files("input[type=file]", tmp_path / "no.jpg")
    watched.page.wait_for_selector('text="no.jpg" is not an image that this browser can read')
    assert watched.page.locator("#explorer .srl").is_visible()
    watched.clean()


MODULES = ("pixels", "detector", "payload")
SIZES = (((97, 64), (40, 51)), ((30, 41), (67, 90)), ((64, 40), (64, 23)))
RESIZED = """([bytes, [h, w], size, antialias]) => {
  const data = Uint8ClampedArray.from(atob(bytes), (c) => c.charCodeAt(0));
  return [...t.resized({ width: w, height: h, data }, size, antialias).data];
}"""


@pytest.fixture(scope="module")
def sheet(browser):
    watched = Watched(browser)
    names = "resized, payloadOf, planeOf, contrast, meanOverHeads"
    text = joined([HERE / "js" / f"{name}.js" for name in MODULES])
    watched.page.add_script_tag(content=f"{text}\nglobalThis.t = {{ {names} }};", type="module")
    yield watched.page
    watched.clean()


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_resized_to_the_same_bytes(sheet, sizes, antialias):
    """Catches another rounding than torch's or OpenCV's."""
    (h, w), size = sizes
    image = torch.randint(0, 256, (4, h, w), generator=torch.Generator().manual_seed(h))
    image[3] = 255
    image = image.to(torch.uint8)
    bytes_ = base64.b64encode(image.permute(1, 2, 0).contiguous().numpy().tobytes()).decode()
    found = np.array(sheet.evaluate(RESIZED, [bytes_, [h, w], list(size), antialias]))
    wanted = resize_to(image[:3], size, antialias).permute(1, 2, 0).numpy()
    assert (found.reshape(*size, 4)[..., :3] == wanted).all()


PAYLOAD = """({ about, states, size, roi, filtered, attention, levels }) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const n = floats(states[0].features).length / about.dim;
  const bins = about.roi_size ** 2;
  const run = { ids: Array.from({ length: n }, (_, i) => i), states: states.map((state, s) => ({
    boxes: floats(state.boxes), features: floats(state.features),
    ...(s ? { logits: floats(state.logits), levels: floats(levels[s - 1]),
      attention: t.meanOverHeads(floats(attention[s - 1]), about.heads, n, 1),
      roi: t.contrast(floats(roi[s - 1]), n, bins, about.dim),
      filtered: t.contrast(floats(filtered[s - 1]), n, bins, about.dim) } : {}),
  })) };
  const found = t.payloadOf(about, run, size, [1, 1], t.planeOf(run, about.dim));
  const plain = (_, value) => (ArrayBuffer.isView(value) ? [...value] : value);
  return JSON.parse(JSON.stringify(found, plain));
}"""


def flat(tensor):
    """Of each stage: float32 as text; as lists, playwright takes a minute for a million numbers."""
    return [base64.b64encode(one.float().numpy().tobytes()).decode() for one in tensor]


@pytest.mark.parametrize("recorded", ["random", "nano"])
def test_the_payload_is_pythons(sheet, detector, recorded):
    """Catches a plane, a neighbour, a share or a rounding that is not that of payload.py."""
    if recorded == "nano":
        trace = detector.trace(IMAGES[0].image, record=RECORD)
    else:
        before, after = torch.rand(2, 6, 17, 7, 7, 32)
        trace = replace(made_trace(17, 5), roi_features=before, filtered_features=after)
    wanted = payload(trace, roi=True, image=False)
    about = {
        "model": trace.model_name, "class_names": list(trace.class_names), "style": {},
        "dim": trace.features.shape[-1], "heads": trace.attention.shape[1], "roi_size": 7,
    }  # fmt: skip
    rows = zip(flat(trace.boxes), flat(trace.features), ["", *flat(trace.logits)], strict=True)
    found = sheet.evaluate(PAYLOAD, {
        "about": about, "size": list(trace.size), "levels": flat(trace.fpn_level - 2),
        "states": [dict(zip(("boxes", "features", "logits"), row, strict=True)) for row in rows],
        "roi": flat(trace.roi_features), "filtered": flat(trace.filtered_features),
        "attention": flat(trace.attention),
    })  # fmt: skip
    assert found["box_step"] == pytest.approx(wanted["box_step"])
    assert found["features"]["explained"] == pytest.approx(
        wanted["features"]["explained"], abs=2e-4
    )
    compared = 0
    for name in ("ids", "boxes", "scores", "labels", "levels", "features", "attention", "roi"):
        whole = "data" in wanted[name]
        ours = {name: found[name]} if whole else found[name]
        theirs = {name: wanted[name]} if whole else wanted[name]
        for key, value in theirs.items():
            if not isinstance(value, dict):
                continue
            assert ours[key]["shape"] == value["shape"], key
            apart = np.abs(np.array(ours[key]["data"], int) - unpack(value).ravel().astype(int))
            which = key in ("ids", "labels", "levels", "near", "group", "index")
            assert apart.max(initial=0) <= (0 if which else 1), (key, apart.max())
            compared += 1
    assert compared == 15


def test_weights_of_two_bytes(detector):
    """Catches a rounding where none is needed, and one that is not said."""
    assert compact(write_stage(detector.model, 0, switches=True), exact=False)
    with torch.no_grad():
        other = load("nano-shapes")
        other.model.stages[0].ffn_in.weight += 1e-5
    assert not compact(write_stage(other.model, 0, switches=True))
    graph = write_stage(other.model, 0, switches=True)
    assert compact(graph, exact=True)
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    assert 1 in kinds


def test_the_page_and_what_it_refuses(detector, tmp_path, monkeypatch):
    """Catches a class name that ends the page's data, and a page that cannot run."""
    detector = load("nano-shapes")
    detector.class_names = ("</script><b>", *detector.class_names[1:])
    text = page(detector, images=[])
    assert "</script><b>" not in text and "connect-src" not in text
    about = text.partition('id="about">')[2].partition("</script>")[0]
    assert json.loads(about)["class_names"][0] == "</script><b>"
    with pytest.raises(LabError, match=r"page\.html"):
        playground(detector, tmp_path / "page.txt")
    for images in ([tmp_path / "no.jpg"], tmp_path / "no.jpg", str(tmp_path / "no.jpg")):
        with pytest.raises(LabError, match=r'no\.jpg" is not a JPEG or PNG'):
            playground(detector, tmp_path / "page.html", images=images)
    monkeypatch.setattr("sparse_rcnn_lab.views.playground.playground_page.MOST_PARAMETERS", 1e6)
    with pytest.raises(LabError, match="million weights"):
        playground(detector, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
