"""The app in a browser: Explore, Photo, Compare and Video, by mouse and by keyboard.

One server and one page for all of it: each test begins where the last one left, in another tab.
"""

import json

import pytest
from app_models import EXPLORER, changed, count, explored, press, source_of, tab
from browser import PATIENCE, Watched, keep_shot
from PIL import Image

from sparse_rcnn_lab import load_trace

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser


def test_it_opens_explored_and_fits(page):
    """Catches a front door without an image, a laptop's window that hides a control of the
    explorer, or a place in it that has to be scrolled."""
    explored(page, "x.state.stage === 6 && x.trace().count === 8 && x.image()")
    assert "same 8 boxes" in page.inner_text("#lab-lead")
    hidden = page.evaluate(
        "() => [...document.querySelectorAll('.srl-transport, .srl-controls, .srl-canvas,"
        " .srl-editcard, .srl-tabcard')].filter(e => e.checkVisibility()"
        " && e.getBoundingClientRect().bottom > innerHeight).map(e => e.className)"
    )
    assert hidden == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    inner = page.evaluate(
        "() => { const out = []; for (let e = document.querySelector('.srl'); e !== document.body;"
        " e = e.parentElement) if (!['visible', 'clip'].includes(getComputedStyle(e).overflowY))"
        " out.push(e.className); return out }"
    )
    assert inner == []  # nothing between the explorer and the page scrolls or clips
    keep_shot(page, "app-explore")


def test_it_opens_before_gradio(browser, url):
    """Catches a front page that waits for Gradio's own, which takes seconds to build: the explorer
    must be there without it, and work."""
    watched = Watched(browser, 390, 844, reduced_motion="reduce")
    watched.page.route("**/assets/*.js", lambda route: route.abort())
    watched.page.goto(url, timeout=PATIENCE)
    explored(watched.page, "x.image()")
    watched.page.click("#lab-try-five")
    explored(watched.page, "x.trace().count === 5 && !x.changes.waiting")
    keep_shot(watched.page, "app-opening")
    watched.context.close()


def test_explore_runs_in_the_app(page):
    """Catches an explorer that only plays a recording: what is changed in it must run, be refused
    in words, and go on after the app has let go of the image."""
    page.click("#lab-try-five")
    explored(page, "x.trace().count === 5 && !x.changes.waiting")
    page.evaluate(f"() => {{ {EXPLORER}.motion.jump(2); {EXPLORER}.choose(3) }}")
    page.evaluate(f"() => {EXPLORER}.editing.place(3, [10, 12, 50, 40])")
    explored(page, "x.edited()?.box(2, 3)?.every((v, i) => Math.abs(v - [10, 12, 50, 40][i]) < .1)")
    page.locator(".srl-check", has_text="self-attention").locator("input").uncheck()
    explored(page, "x.edited()?.attention(3, 0).length === 0")
    page.get_by_label("Proposal to swap filters with").fill("99")
    page.get_by_role("button", name="swap filters with").click()
    page.wait_for_selector(".srl-notice:has-text('Proposal 99 does not exist')")
    assert page.locator(".srl-changes li").count() == 3
    assert page.evaluate(f"() => Boolean({EXPLORER}.trace().roiAfter)")  # filters are recorded
    page.locator(".srl-editcard button", has_text="undo").click()
    explored(page, "!x.changes.waiting && x.changes.undoable === 2")
    page.locator(".srl-editcard button", has_text="reset").click()
    explored(page, "!x.edited()")
    # The app has forgotten the image, and nobody opens it again.
    page.evaluate(
        "() => { const [ask, later] = [fetch, setTimeout];"
        " window.fetch = async (url) => (window.fetch = ask, new Response('{}', { status: 410 }));"
        " window.setTimeout = (work, ms) => later(work, ms === 30000 ? 0 : ms);"
        " const again = document.getElementById('lab-explore-again');"
        " again.click = () => { delete again.click; window.setTimeout = later } }"
    )
    page.locator(".srl-check", has_text="freeze boxes").locator("input").click()
    page.wait_for_selector(".srl-notice:has-text('does not answer')")
    explored(page, "!x.changes.waiting && !x.edited()")


def test_the_tour(page):
    """Catches a step that points at nothing or waits for ever, one that tells of other proposals
    than there are, and changes that a tour leaves, or takes away."""
    page.evaluate(f"() => {EXPLORER}.useFirst(3)")
    explored(page, "x.trace().count === 3")
    page.click("#lab-tour")
    page.wait_for_selector(".srl-tour:visible")
    explored(page, "x.trace().count === 8")
    for step in range(1, 7):
        assert page.inner_text(".srl-tour small") == f"{step} of 6"
        assert page.locator(".srl-pointed:visible").count() == 1
        if step == 5:
            page.wait_for_selector(".srl-tour p:has-text('Pulled off after stage 2')")
        if step == 6:
            page.wait_for_selector(".srl-tour p:has-text('detection')")
            explored(page, "x.edited()?.attention(3, 0).length === 0")
        keep_shot(page, f"app-tour-{step}")
        page.locator(".srl-tour button", has_text="Done" if step == 6 else "Next").click()
    explored(page, "x.trace().count === 3 && x.state.stage === 6 && x.changes.undoable === 1")
    page.locator(".srl-editcard button", has_text="undo").click()
    explored(page, "!x.edited()")
    page.click("#lab-tour")
    page.keyboard.press("Escape")
    assert page.locator(".srl-tour").is_hidden()


def test_images_are_given(page, tmp_path):
    """Catches several images of which one is lost, a drop that leaves the page, a broken file that
    takes the place of a good one, and an error that is said twice."""
    for name, color in (("one", (30, 90, 160)), ("two", (160, 90, 30))):
        Image.new("RGB", (200, 100), color).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.jpg").write_text("these are notes")
    before = page.locator("#lab-strip button").count()
    files = [str(tmp_path / name) for name in ("one.png", "notes.jpg", "two.png")]
    page.set_input_files("#lab-input input[type=file]", files)
    explored(page, "x.trace().width === 200")
    page.wait_for_selector("text=is not an image that Pillow can read")
    assert page.locator(".toast-body").count() == 1
    assert page.locator("#lab-strip button").count() == before + 2
    page.click("#lab-strip [title='example 2']")
    explored(page, "x.trace().width === 128")
    page.click("#lab-strip [title='two.png']")
    explored(page, "x.trace().width === 200")
    # Dropped on the picture itself.
    page.evaluate(
        "async () => { const c = Object.assign(document.createElement('canvas'),"
        " { width: 90, height: 60 }); c.getContext('2d').fillRect(0, 0, 90, 60);"
        " const blob = await new Promise((done) => c.toBlob(done));"
        " const dataTransfer = new DataTransfer();"
        " dataTransfer.items.add(new File([blob], 'dropped.png', { type: 'image/png' }));"
        " const at = document.querySelector('.srl-canvas:not([hidden])');"
        " const options = { dataTransfer, bubbles: true, cancelable: true };"
        " at.dispatchEvent(new DragEvent('drop', options)) }"
    )
    explored(page, "x.trace().width === 90")
    page.click("#lab-strip [title='example 1']")
    explored(page, "x.trace().width === 128")


def test_an_image_that_does_not_come(page):
    """Catches a tab that stays empty because the app was away for a moment."""
    page.evaluate(
        "() => { window.there = fetch; window.fetch = (...asked) => String(asked[0])"
        ".includes('lab/explore/') ? Promise.reject(Error()) : there(...asked) }"
    )
    page.click("#lab-strip [title='example 2']")
    page.wait_for_selector("#lab-say:has-text('does not answer')")
    page.evaluate("() => { window.fetch = there }")
    page.click("#lab-strip [title='example 2']")
    page.wait_for_selector("#lab-explorer .srl-canvas:visible")


def test_photo(page):
    """Catches controls that do nothing by keyboard, or forget what was set in Explore, grids that
    cannot be clicked, a layout that moves, a number beyond a slider's end that is not acted on."""
    page.evaluate(f"() => {EXPLORER}.store.set({{ threshold: 0.25 }})")
    tab(page, "photo")
    page.wait_for_function("() => document.querySelector('#lab-threshold input').value === '0.25'")
    page.wait_for_selector("#lab-result img")
    page.wait_for_selector("#lab-classes input")
    places = (
        "['#lab-controls', '#lab-proposals', '#lab-keep'].map((s) =>"
        " JSON.stringify(document.querySelector(s).getBoundingClientRect()))"
    )
    page.wait_for_timeout(500)  # Gradio builds a tab piece by piece
    before = page.evaluate(places)
    now = source_of(page)
    # The keyboard alone: all proposals, then stage 5, 4 and fewer proposals.
    page.focus("#lab-show input[type=radio] >> nth=1")
    page.keyboard.press("Space")
    now = changed(page, now)
    for slider in ("stage", "stage", "proposals"):
        press(page, slider, "ArrowLeft")
        now = changed(page, now)
    assert page.input_value("#lab-stage input[type=range]") == "4"
    press(page, "threshold", "Home")
    count(page, "7")
    page.fill("#lab-threshold input[type=number]", "1")
    page.keyboard.press("Enter")
    count(page, "0")
    assert "lower the threshold" in page.inner_text("#lab-list")
    assert page.evaluate(places) == before
    page.fill("#lab-threshold input[type=number]", "-7")
    for value, found in (("", "1"), ("5000", "8")):
        page.fill("#lab-proposals input[type=number]", value)
        count(page, found)
    page.click("#lab-part-stages-button")
    page.wait_for_selector("#lab-stages button >> nth=7")
    page.click("#lab-stages [data-stage='2']")
    page.wait_for_function("() => document.querySelector('#lab-stage input').value === '2'")
    changed(page, now)
    page.click("#lab-part-budgets-button")
    page.wait_for_selector("#lab-budgets button >> nth=4")
    assert "all 8 proposals" in page.inner_text("#lab-budgets")
    page.click("#lab-budgets [data-proposals='3']")
    count(page, "3")
    page.fill("#lab-proposals input[type=number]", "8")
    count(page, "8")


def test_keep(page):
    """Catches a button that needs two clicks, or gives the file of another one."""
    kinds = {"json": ".json", "trace": ".trace", "page": ".html", "film": ".webp", "video": ".mp4"}
    for kind, suffix in kinds.items():
        with page.expect_download() as waiting:
            page.click(f"#lab-keep-{kind}")
        path = waiting.value.path()
        assert waiting.value.suggested_filename.endswith(suffix)
        if kind == "json":
            assert len(json.loads(path.read_text())["annotations"]) == 8
        if kind == "trace":
            assert load_trace(path).num_proposals == 8
        if kind == "page":
            assert "Content-Security-Policy" in path.read_text(encoding="utf-8")
        if kind == "film":
            assert Image.open(path).n_frames > 6


def test_compare(page):
    """Catches sides that show the same."""
    tab(page, "compare")
    page.wait_for_function(
        "() => ['left', 'right'].map((s) => document.querySelector(`#lab-side-${s}-text b`)"
        "?.innerText).join() === '8 detections,4 detections'"
    )
    before = source_of(page, "#lab-side-right")
    press(page, "other-proposals", "ArrowLeft")
    changed(page, before, "#lab-side-right")


def test_video(page):
    """Catches a video that never ends, or cannot be played, a button that cannot work yet, the
    words of a state that is over, and a reload that leads to another tab."""
    tab(page, "video")
    page.wait_for_selector("#lab-video-start[disabled]")
    page.click("#lab-video-sample")
    page.wait_for_selector("#lab-video-in video")
    page.wait_for_selector("#lab-video-state:has-text('Ready')")
    for rate, frames in (("", 4), ("3", 12)):  # an emptied box counts as its minimum
        page.fill("#lab-video-rate input[type=number]", rate)
        page.click("#lab-video-start:not([disabled])")
        page.wait_for_selector(f"#lab-video-state:has-text('Done: 4.0 of 4.0 s, {frames} frames')")
    page.wait_for_function(
        "() => document.querySelector('#lab-video-out video')?.videoWidth === 640"
    )
    page.reload()
    page.wait_for_selector("#lab-video-start[disabled]")
