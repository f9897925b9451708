"""The app in a browser, with Chromium's own webcam: every tab, by mouse and by keyboard."""

from __future__ import annotations

import json

import pytest
from app_models import checkpoint, served
from browser import LAUNCH, PATIENCE, Watched, keep_shot
from PIL import Image

from sparse_rcnn_lab.detect.trace_file import load_trace

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

WEBCAM = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    patch = pytest.MonkeyPatch()
    patch.setenv("SPARSE_RCNN_LAB_CACHE", str(folder / "cache"))
    patch.setenv("SPARSE_RCNN_LAB_WEIGHTS_URL", str(folder / "nothing"))
    models = [checkpoint(folder), checkpoint(folder, "other", ("ace", "king"), proposals=12)]
    with served([*models, "r50_3x_100"]) as address:
        yield address
    patch.undo()


@pytest.fixture(scope="module")
def browser(chromium):
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=LAUNCH + WEBCAM)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, url):
    watched = Watched(browser, 1280, 800, permissions=["camera"], accept_downloads=True)
    watched.page.goto(url, timeout=PATIENCE)
    watched.page.wait_for_selector("#lab-result img")
    yield watched
    watched.clean()


def tab(page, name):
    page.click(f"#lab-tab-{name}-button")


def source_of(page, place="#lab-result"):
    return page.get_attribute(f"{place} img", "src")


def changed(page, before, place="#lab-result"):
    page.wait_for_function(
        "([place, old]) => { const i = document.querySelector(place + ' img');"
        " return i && i.src !== old && i.complete && i.naturalWidth > 0 }",
        arg=[place, before],
    )
    return source_of(page, place)


def press(page, slider, key):
    page.focus(f"#lab-{slider} input[type=range]")
    page.keyboard.press(key)


def start_camera(page):
    tab(page, "live")
    page.click("#lab-camera-on")
    another_frame(page)


def another_frame(page):
    """Waits for a frame that is shown from now on."""
    page.evaluate(
        "() => new Promise((done) => document.addEventListener('lab-frame', () => done(),"
        " { capture: true, once: true }))"
    )


def test_photo(opened, tmp_path):
    """Catches controls that do nothing by keyboard, an upload that is not shown, empty parts."""
    page = opened.page
    first = source_of(page)  # detected without a click
    assert page.inner_text("#lab-count").isdigit()
    own = tmp_path / "own.png"
    Image.new("RGB", (200, 100), (30, 90, 160)).save(own)
    page.click("#lab-source button[aria-label='Remove Image']")
    page.wait_for_selector("#lab-source input[type=file]", state="attached")
    page.set_input_files("#lab-source input[type=file]", str(own))
    page.wait_for_function(
        "() => { const i = document.querySelector('#lab-result img');"
        " return i && i.naturalWidth > 0 && i.naturalWidth === 2 * i.naturalHeight }"
    )
    now = source_of(page)
    assert now != first
    # The keyboard alone: all proposals, then stage 5, 4 and fewer proposals.
    page.focus("#lab-show input[type=radio] >> nth=1")
    page.keyboard.press("Space")
    now = changed(page, now)
    for slider, key in (("stage", "ArrowLeft"), ("stage", "ArrowLeft"), ("proposals", "ArrowLeft")):
        press(page, slider, key)
        now = changed(page, now)
    assert page.input_value("#lab-stage input[type=range]") == "4"
    assert page.input_value("#lab-proposals input[type=range]") == "7"
    # The threshold decides what counts; the number box works as the slider does.
    press(page, "threshold", "Home")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '7'")
    page.fill("#lab-threshold input[type=number]", "1")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '0'")
    assert "lower the threshold" in page.inner_text("#lab-list")
    page.click("#lab-part-stages-button")
    page.wait_for_selector("#lab-stages figure >> nth=7")
    page.click("#lab-part-budgets-button")
    page.wait_for_selector("#lab-budgets figure")
    assert "all 8 proposals" in page.inner_text("#lab-budgets")


def test_downloads(opened):
    """Catches a button that needs two clicks, or gives the file of another one."""
    page = opened.page
    press(page, "threshold", "Home")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '8'")
    for kind, suffix in (("json", ".json"), ("trace", ".trace"), ("page", ".html")):
        with page.expect_download() as waiting:
            page.click(f"#lab-download-{kind}")
        path = waiting.value.path()
        assert waiting.value.suggested_filename.endswith(suffix)
        if kind == "json":
            assert len(json.loads(path.read_text())["annotations"]) == 8
        if kind == "trace":
            assert load_trace(path).num_proposals == 8
        if kind == "page":
            assert "Content-Security-Policy" in path.read_text(encoding="utf-8")


def test_models(opened):
    """Catches controls of the model before, and a page that breaks where one cannot be fetched."""
    page = opened.page

    def choose(name):
        page.click("#lab-model input")
        page.click(f"#lab-model [role=option]:has-text('{name}')")

    choose("other")
    page.wait_for_function("() => document.querySelector('#lab-model').innerText.includes('ace')")
    assert page.get_attribute("#lab-proposals input[type=range]", "max") == "12"
    choose("r50_3x_100")
    page.wait_for_selector("text=r50_3x_100 cannot be used now")
    page.wait_for_function(
        "() => document.querySelector('#lab-model input').value.includes('other')"
    )
    assert page.get_attribute("#lab-proposals input[type=range]", "max") == "12"
    press(page, "threshold", "Home")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '12'")


def test_numbers_out_of_range(opened, capfd):
    """Catches a number typed into a slider's box that fills the terminal, or is not acted on; also
    with another model, whose sliders are new objects to Gradio."""
    page = opened.page

    def typed(slider, value, count):
        page.fill(f"#lab-{slider} input[type=number]", value)
        page.wait_for_function(
            "(n) => document.querySelector('#lab-count').innerText === n", arg=count
        )

    press(page, "threshold", "Home")
    for most in ("8", "12"):
        typed("proposals", "", "1")
        typed("proposals", "5000", most)
        typed("threshold", "7", "0")
        typed("threshold", "-7", most)
        typed("stage", "-3", "–")
        typed("stage", "66", most)
        if most == "8":
            page.click("#lab-model input")
            page.click("#lab-model [role=option]:has-text('other')")
            page.wait_for_selector("#lab-proposals input[type=range][max='12']")
    assert page.query_selector(".toast-body") is None
    assert "Traceback" not in capfd.readouterr().err


def test_compare_and_explore(opened):
    """Catches sides that show the same, and an explorer that only plays a recording: what is
    changed in it must run in the app, and be refused in words."""
    page = opened.page
    tab(page, "compare")
    press(page, "threshold", "Home")
    page.wait_for_function(
        "() => ['left', 'right'].map((s) => document.querySelector(`#lab-side-${s}-text b`)"
        "?.innerText).join() === '8 detections,4 detections'"
    )
    before = source_of(page, "#lab-side-right")
    press(page, "other-proposals", "ArrowLeft")
    changed(page, before, "#lab-side-right")
    tab(page, "explore")
    page.wait_for_selector("#lab-explorer :text('8 proposals')")
    explorer = "document.getElementById('lab-explorer').explorer"
    page.evaluate(f"() => {{ {explorer}.motion.jump(2); {explorer}.choose(3) }}")
    page.evaluate(f"() => {explorer}.editing.place(3, [10, 12, 50, 40])")
    page.wait_for_function(
        f"() => {explorer}.edited()?.box(2, 3).every("
        "(v, i) => Math.abs(v - [10, 12, 50, 40][i]) < 0.1)"
    )
    page.locator(".srl-check", has_text="self-attention").locator("input").uncheck()
    page.wait_for_function(f"() => {explorer}.edited()?.attention(3, 0).length === 0")
    page.get_by_label("Proposal to swap filters with").fill("99")
    page.get_by_role("button", name="swap filters with").click()
    page.wait_for_selector(".srl-notice:has-text('Proposal 99 does not exist')")
    assert page.locator(".srl-changes li").count() == 2
    assert page.evaluate(f"() => Boolean({explorer}.trace().roiAfter)")  # filters are recorded


def test_video(opened):
    """Catches a video that never ends, or cannot be played in the browser."""
    page = opened.page
    tab(page, "video")
    page.click("#lab-video-start")
    page.wait_for_selector("text=Give a video first")
    page.click("#lab-video-sample")
    page.wait_for_selector("#lab-video-in video")
    page.click("#lab-video-start")
    page.wait_for_selector("#lab-video-state:has-text('Done: 4.0 of 4.0 s')")
    page.wait_for_function(
        "() => document.querySelector('#lab-video-out video')?.videoWidth === 640"
    )


def test_live(opened):
    """Catches a stream that stops, that no control reaches, or whose snapshot is lost, or not shown
    as the image that the other tabs are about."""
    page = opened.page
    example = source_of(page, "#lab-source")
    start_camera(page)
    page.wait_for_function("() => Number(document.querySelector('#lab-fps').innerText) > 0")
    assert int(page.inner_text("#lab-latency")) > 0
    assert page.evaluate("() => document.querySelector('#lab-live').width") == 640
    # By keyboard, on the running stream: every proposal is a detection, then none, then three.
    for slider, key, count in (("threshold", "Home", "8"), ("threshold", "End", "0")):
        press(page, slider, key)
        page.wait_for_function(
            "(n) => document.querySelector('#lab-count').innerText === n", arg=count
        )
    press(page, "threshold", "Home")
    page.fill("#lab-proposals input[type=number]", "3")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '3'")
    keep_shot(page, "app-live")
    page.click("#lab-snap")
    page.wait_for_selector("#lab-explorer :text('640×480')")
    changed(page, example, "#lab-source")
    size = "(i) => [i.naturalWidth, i.naturalHeight]"
    assert page.eval_on_selector("#lab-source img", size) == [640, 480]
    # Nothing is sent, and the camera rests, while another tab is open; both go on afterwards.
    running = "() => document.querySelector('#lab-video').srcObject !== null"
    page.wait_for_function(f"() => !({running})()")
    page.wait_for_timeout(300)  # what was sent before is told of late
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.wait_for_timeout(700)
    assert not [address for address in sent if "/lab/frame" in address]
    tab(page, "live")
    another_frame(page)
    assert page.evaluate(running)
    # Stopped for good: another tab and back does not start it.
    page.click("#lab-camera-off")
    assert not page.evaluate(running)
    tab(page, "photo")
    tab(page, "live")
    page.wait_for_selector("#lab-camera-on")
    page.wait_for_timeout(600)
    assert not page.evaluate(running)


def test_live_without_a_camera(browser, url):
    """Catches a camera that is refused or pulled out, and a page that says nothing of it."""
    watched = Watched(browser)  # no permission is given, and nobody is there to ask
    page = watched.page
    page.goto(url, timeout=PATIENCE)
    page.wait_for_selector("#lab-result img")
    tab(page, "live")
    for name, words in (("NotAllowedError", "may not use"), ("NotFoundError", "No camera")):
        page.evaluate(
            "(name) => { navigator.mediaDevices.getUserMedia ="
            " () => Promise.reject(new DOMException('no', name)) }",
            name,
        )
        page.click("#lab-camera-on")
        page.wait_for_function(
            "(words) => document.querySelector('#lab-live-note').innerText.includes(words)",
            arg=words,
        )
        page.wait_for_selector("#lab-camera-on")
    # Somebody who thinks about it is asked once.
    page.evaluate(
        "() => { window.asked = 0; navigator.mediaDevices.getUserMedia ="
        " () => { window.asked += 1; return new Promise(() => {}) } }"
    )
    page.click("#lab-camera-on")
    page.wait_for_timeout(800)
    assert page.evaluate("window.asked") == 1
    watched.clean()


def test_a_snapshot_without_a_frame(opened):
    """Catches a button that fails without a word before the camera runs."""
    tab(opened.page, "live")
    opened.page.click("#lab-snap")
    opened.page.wait_for_selector("text=There is no frame to keep yet")


def test_a_failing_request_stops_nobody(opened, browser, url, tmp_path):
    """Catches one visitor's broken image that ends another one's webcam."""
    page = opened.page
    start_camera(page)
    other = Watched(browser, 390, 844)
    other.page.goto(url, timeout=PATIENCE)
    other.page.wait_for_selector("#lab-result img")
    broken = tmp_path / "notes.jpg"
    broken.write_text("these are notes")
    other.page.click("#lab-source button[aria-label='Remove Image']")
    other.page.wait_for_selector("#lab-source input[type=file]", state="attached")
    other.page.set_input_files("#lab-source input[type=file]", str(broken))
    other.page.wait_for_selector("text=is not an image that Pillow can read")
    assert other.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert other.strangers == []
    other.context.close()
    another_frame(page)
    another_frame(page)


def test_the_photo_page_fits_and_does_not_jump(opened):
    """Catches a page wider than a laptop, and a layout that moves while a control is moved."""
    page = opened.page
    places = (
        "['#lab-controls', '#lab-proposals', '#lab-downloads'].map((s) =>"
        " JSON.stringify(document.querySelector(s).getBoundingClientRect()))"
    )
    page.wait_for_selector("#lab-classes input")
    page.wait_for_timeout(1000)  # Gradio builds the page piece by piece
    before = page.evaluate(places)
    now = source_of(page)
    for slider, key in (("threshold", "Home"), ("stage", "Home"), ("threshold", "End")):
        press(page, slider, key)
        page.wait_for_timeout(300)
    changed(page, now)
    assert page.evaluate(places) == before
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
