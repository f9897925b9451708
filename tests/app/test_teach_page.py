"""The tab Teach in Chromium: frames of a camera, boxes, the link that brings all of it back."""

import json
import shutil
import time
from pathlib import Path

import pytest
from app_models import checkpoint, served
from browser import Watched, keep_shot

from benchmarks.hand import Hand, Labelling
from benchmarks.household import scenes, write_coco
from benchmarks.newcomer import give

pytest.importorskip("gradio", reason="needs the demo extra")


def open_teach(page, address: str) -> None:
    page.goto(address)
    page.wait_for_function("window.lab?.loaded || document.querySelector('#lab-tab-teach-button')")
    page.click("#lab-tab-teach-button")
    page.wait_for_selector("#lab-step-show")


@pytest.mark.timeout(300)
def test_show_and_box(browser, tmp_path, monkeypatch):
    """Catches frames or boxes that are not kept, and a link that does not bring them back."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "cache"))
    with served([checkpoint(tmp_path)]) as address:
        seen = Watched(browser, 1366, 768, reduced_motion="reduce")
        page = seen.page
        open_teach(page, address)
        page.evaluate(
            "() => { const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);"
            " window.asked = 0; media.getUserMedia = async (what) => { window.asked += 1;"
            " await new Promise((done) => setTimeout(done, 500)); return ask(what) } }"
        )
        # Pressed twice while the browser asks: a second stream would run on for ever.
        page.get_by_text("Start the camera", exact=True).locator("visible=true").dblclick()
        page.wait_for_function("document.querySelector('.lab-teach-video').videoWidth > 0")
        assert page.evaluate("asked") == 1
        begun = []
        page.route("**/new", lambda route: (begun.append(1), time.sleep(1), route.continue_()))
        for _ in range(2):
            page.wait_for_timeout(400)  # a held key takes no more frames than that
            page.keyboard.press("Space")
        page.wait_for_function("labTeach.state().frames.length === 2")
        assert len(begun) == 1  # two visitors would lose a frame each
        keep_shot(page, "teach-show")
        page.click("#lab-step-box")
        sheet = page.locator(".srl-sheet").bounding_box()
        for corner in ((0.1, 0.1), (0.5, 0.6)):
            page.mouse.move(*(sheet[k] + sheet[s] * c for k, s, c in zip("xy", SIDES, corner)))  # noqa: B905
            page.mouse.down() if corner[0] < 0.3 else page.mouse.up()
        page.wait_for_selector(".srl-name:visible")
        page.keyboard.type("thing")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('.srl-labeller').dataset.saved === 'true'")
        page.wait_for_function("labTeach.state().frames[0].boxes.length === 1")
        link = page.locator(".lab-link").input_value()
        (labels,) = Path(tmp_path / "cache" / "teach").glob("*/labels.json")
        kept = json.loads(labels.read_text())
        assert [c["name"] for c in kept["categories"]] == ["thing"]
        x, y, width, height = kept["annotations"][0]["bbox"]
        row = kept["images"][0]
        assert (x / row["width"], y / row["height"]) == pytest.approx((0.1, 0.1), abs=0.01)
        assert (width / row["width"], height / row["height"]) == pytest.approx((0.4, 0.5), abs=0.01)
        hint = page.locator(".lab-box-hint")
        assert not hint.get_by_role("button", name="Go to Train").is_visible()
        page.get_by_role("button", name="Next image").click()
        page.get_by_role("button", name="Nothing here").click()
        assert "All 2 images are labelled" in hint.text_content()
        hint.get_by_role("button", name="Go to Train").click()
        assert page.evaluate("labTeach.state().step") == "train"
        page.wait_for_function("document.querySelector('.srl-labeller').dataset.saved === 'true'")
        keep_shot(page, "teach-train")
        seen.clean()

        # What it was taught, as a training leaves it: opened on a phone, used live, then explored.
        run = labels.parent / "runs" / "001"
        run.mkdir(parents=True)
        model = Path(checkpoint(tmp_path, "taught", ("thing",), proposals=5))
        (run / "model.safetensors").write_bytes(model.read_bytes())
        (run / "val.json").write_bytes(labels.read_bytes())
        shutil.copytree(labels.parent / "images", run / "images")
        judgement = {"threshold": 0.3, "words": "It finds 1 of 1.", "classes": []}
        done = {"phase": "done", "seconds": 9, "done_steps": 9, "judgement": judgement}
        done |= {"steps": 20, "stopped": True, "time_over": True}
        (run / "teach.json").write_text(json.dumps(done))
        used = Watched(browser, 390, 844, color_scheme="dark", reduced_motion="reduce")
        used.page.goto(f"{link}&__theme=dark")  # opens the tab by itself
        used.page.wait_for_selector("#lab-step-use:not([disabled])")
        used.page.wait_for_function("labTeach.state().frames.length === 2")
        assert used.page.evaluate("labTeach.state().frames[0].boxes[0].name") == "thing"
        assert used.page.evaluate("document.querySelector('.lab-teach').scrollWidth") <= 390
        keep_shot(used.page, "teach-phone-dark")
        used.page.set_viewport_size({"width": 1366, "height": 768})
        used.page.click("#lab-step-train")
        assert "time was up after 9 of 20 steps" in used.page.locator(".lab-told").text_content()
        used.page.click("#lab-step-use")
        used.page.get_by_role("button", name="Live point").click()
        used.page.wait_for_function("document.querySelector('#lab-live-stage.lab-shown')")
        assert used.page.evaluate("lab.loaded").endswith("runs/001/model.safetensors")
        assert used.page.locator("#lab-proposals input[type=range]").get_attribute("max") == "5"
        assert used.page.locator("#lab-threshold input[type=range]").input_value() == "0.3"
        assert used.page.locator("#lab-face-name").text_content() == "thing"
        assert used.page.locator("#lab-strip img").count() == 2  # its own frames, no example
        keep_shot(used.page, "teach-live")
        used.page.click("#lab-tab-teach-button")
        with used.page.expect_download() as coming:
            used.page.get_by_role("button", name="One page that detects").click()
        page_file = Path(coming.value.path())
        assert coming.value.suggested_filename.endswith(".html")
        assert b"<html" in page_file.read_bytes()[:200] and page_file.stat().st_size > 5_000_000
        used.page.get_by_role("button", name="Explore a frame").click()
        used.page.wait_for_function(
            "lab.part('lab-explorer')?.explorer?.base?.().count === 5", timeout=60_000
        )
        used.clean()


# Of the first question for what was shown, no answer; a training that goes on, and on.
TROUBLED = """() => {
  const there = window.fetch, run = { phase: 'training', step: 1, steps: 9, seconds_left: 119.7 };
  let lost = true;
  window.fetch = async (url, ...more) => {
    const address = String(url), json = (value) => new Response(JSON.stringify(value));
    if (address.includes('/run?')) return json({ ...run, watch: [] });
    if (!address.endsWith('/state')) return there(url, ...more);
    if (lost) return (lost = false, Promise.reject(Error()));
    return json({ ...await (await there(url, ...more)).json(), run });
  };
}"""
GIVEN = """(batches) => Promise.all(batches.map(async (names) => labTeach.give(
  await Promise.all(names.map(async (name, shade) => {
    const paper = Object.assign(document.createElement('canvas'), { width: 64, height: 48 });
    paper.getContext('2d').fillText(name, 5, 20);
    return new File([await new Promise((done) => paper.toBlob(done))], name);
  })))))"""


@pytest.mark.timeout(300)
def test_trouble_on_the_way(browser, tmp_path, monkeypatch):
    """Catches batches that take each other's files away, pictures that open another one, a chosen
    file that cannot be chosen again, what was shown not coming back after a lost answer, an own
    link lost to an unknown one, words that vanish, and a page that needs a browser's memory."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "cache"))
    with served([checkpoint(tmp_path)]) as address:
        seen = Watched(browser, 1366, 768, reduced_motion="reduce")
        page = seen.page
        open_teach(page, address)
        page.evaluate(GIVEN, [["a.png", "b.png"], ["c.png"]])
        assert page.evaluate("labTeach.state().frames.length") == 3
        page.evaluate(GIVEN, [["d.png"]])
        page.evaluate("() => { labTeach.state().frames.splice(0, 1); labTeach.go('show') }")
        page.click(".lab-shots button >> nth=1")
        assert page.evaluate("labTeach.state().at") == 1
        page.click("#lab-step-train")
        assert "at least two labelled images" in page.inner_text(".lab-ready")
        page.click("#lab-step-show")
        chooser = page.locator(".lab-panel-show input[type=file]").first
        chooser.set_input_files({"name": "a.zip", "mimeType": "application/zip", "buffer": b"none"})
        page.wait_for_selector(".lab-teach-said.lab-bad")
        assert chooser.evaluate("(one) => one.files.length") == 0
        own = page.evaluate("localStorage.getItem('lab-teach')")
        open_teach(page, f"{address}?teach=unknown")
        page.wait_for_selector(".lab-teach-said.lab-bad")
        assert page.evaluate("localStorage.getItem('lab-teach')") == own
        assert page.evaluate("location.search") == ""  # loaded again, the page finds the own
        seen.errors.clear()  # the browser's word on what was refused
        page.add_init_script(f"({TROUBLED})()")
        open_teach(page, address)
        page.wait_for_function("labTeach.state().frames.length === 4")
        page.wait_for_selector("#lab-step-train:has-text('2:00 left')")
        page.click("#lab-step-show")
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia ="
            " () => Promise.reject(new DOMException('no', 'NotAllowedError')) }"
        )
        page.get_by_text("Start the camera", exact=True).locator("visible=true").click()
        page.wait_for_selector(".lab-teach-said:has-text('may not use')")
        page.wait_for_timeout(2500)
        assert "may not use" in page.inner_text(".lab-teach-said")
        page.add_init_script(
            "for (const name of ['getItem', 'setItem']) { const there = Storage.prototype[name];"
            " Storage.prototype[name] = function (key, ...more) {"
            " if (key === 'lab-teach') throw Error('blocked');"
            " return there.call(this, key, ...more) } }"
        )
        open_teach(page, address)
        seen.clean()


def test_a_hand_labels(browser, tmp_path, monkeypatch):
    """Catches a labeller that the benchmark's hand does not understand any more: it stops where a
    box has another name than it meant, drawn or proposed (rightly, wrongly, without a name)."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Hand, "pause", lambda self, seconds: None)
    truths = write_coco(tmp_path / "data", scenes(1, 4))
    names = sorted({name for truth in truths for name, _ in truth})
    assert len(names) > 1

    def propose(route) -> None:
        frames = page.evaluate("labTeach.state().frames.map((frame) => frame.id)")
        place = frames.index(route.request.post_data_json["id"])
        offers = [{"name": name, "box": box, "score": 0.9} for name, box in truths[place]]
        if place % 3 == 1:
            offers = [{**o, "name": names[names.index(o["name"]) - 1]} for o in offers]
        elif place % 3 == 2:
            offers = [{**o, "name": ""} for o in offers]
        route.fulfill(json=offers if place else [])

    with served([checkpoint(tmp_path)]) as address:
        seen = Watched(browser, 1366, 768, reduced_motion="reduce")
        page = seen.page
        open_teach(page, address)
        page.route("**/propose", propose)
        give(page, tmp_path / "data" / "images", len(truths))
        page.click("#lab-step-box")
        labelled = Labelling(Hand(page)).all(truths)
        assert labelled.accepted + labelled.drawn == sum(map(len, truths))
        assert labelled.drawn >= len(truths[0]) and labelled.accepted > 2
        seen.clean()


SIDES = ("width", "height")
