"""Draw, the models and Live in a browser, with Chromium's own webcam.

One server and one page for all of it: each test begins where the last one left, in another tab.
"""

import pytest
from app_models import LOOK, another_frame, choose_model, count, explored, press, tab
from browser import keep_shot

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser


def test_draw(page):
    """Catches a pad whose strokes are not seen by the model, or that cannot be used without a
    pointer."""
    tab(page, "draw")
    page.wait_for_selector("#lab-pad-drawn:visible")
    press(page, "threshold", "Home")
    count(page, "8")  # an empty sheet: every proposal passes a threshold of 0
    x, y, wide, high = page.locator("#lab-pad-drawn").bounding_box().values()
    page.mouse.move(x + wide / 4, y + high / 4)
    page.mouse.down()
    for dx, dy in ((0.4, 0), (0.4, 0.4), (0, 0.4), (0.02, 0.02)):
        page.mouse.move(x + wide / 4 + dx * high, y + high / 4 + dy * high, steps=4)
    page.mouse.up()
    page.focus("#lab-pad-drawn")
    page.keyboard.press("h")
    page.evaluate(  # a second finger, which would pull the first one's line over to itself
        "() => { for (const kind of ['pointerdown', 'pointerup'])"
        " document.querySelector('#lab-pad-drawn').dispatchEvent("
        "new PointerEvent(kind, { pointerId: 7, isPrimary: false, bubbles: true })) }"
    )
    assert page.evaluate("labPad.strokes") == 2
    # What is said while the app is away goes when it is back.
    page.evaluate("() => { window.there = fetch; window.fetch = () => Promise.reject(Error()) }")
    page.keyboard.press("c")
    note = "(words) => document.querySelector('#lab-pad-note').innerText.includes(words)"
    page.wait_for_function(note, arg="does not answer")
    page.evaluate("() => { window.fetch = there }")
    page.wait_for_function(note, arg="looks at the drawing")
    page.wait_for_function(
        "() => document.getElementById('lab-pad-boxes').getContext('2d')"
        ".getImageData(0, 0, 512, 384).data.some((v) => v)"
    )
    keep_shot(page, "app-draw")
    page.click("#lab-pad-snap")
    explored(page, "x.trace().width === 512")


def test_models(page):
    """Catches controls of the model before, and a page that breaks where one cannot be fetched."""
    tab(page, "explore")
    choose_model(page, "other")
    twelve = "() => document.querySelector('#lab-lead').innerText.includes('12')"
    page.wait_for_function(twelve, polling=LOOK)
    explored(page, "x.trace().classes.join() === 'ace,king'")
    tab(page, "photo")
    assert page.get_attribute("#lab-proposals input[type=range]", "max") == "12"
    choose_model(page, "r50_3x_100")
    page.wait_for_selector("text=r50_3x_100 cannot be used now")
    page.wait_for_selector("#lab-face-name:has-text('other')")
    count(page, "12")
    page.click(".toast-close")  # it lies over the model's face
    choose_model(page, "tiny")
    page.wait_for_selector("#lab-face-name:has-text('tiny')")
    page.wait_for_function("() => document.querySelector('#lab-proposals input').max === '8'")


def test_live(page):
    """Catches a stream that stops, that no control reaches, that says nothing where nothing is
    found, or whose snapshot is lost or not shown as the image that the other tabs are about."""
    tab(page, "live")
    page.wait_for_selector("#lab-snap[disabled]")
    page.wait_for_selector("#lab-keep-image[disabled]")
    assert "circle" in page.inner_text("#lab-knows")
    page.click("#lab-camera-on")
    another_frame(page)
    page.wait_for_function("() => Number(document.querySelector('#lab-fps').innerText) > 0")
    width, height, values = page.evaluate("""() => {
      const canvas = document.querySelector('#lab-live');
      const { data } = canvas.getContext('2d').getImageData(0, 0, 640, 480);
      return [canvas.width, canvas.height, new Set(data).size];
    }""")
    assert width >= 640 and abs(width / height - 4 / 3) < 0.01 and values > 30
    press(page, "threshold", "Home")
    count(page, "8")
    press(page, "threshold", "End")
    count(page, "0")
    # As if nothing had been found for longer than it waits.
    page.evaluate(
        "() => { const now = performance.now.bind(performance);"
        " performance.now = () => now() + 4000 }"
    )
    page.wait_for_selector("#lab-live-nothing:visible")
    keep_shot(page, "app-live-nothing")
    page.click("#lab-live-nothing button:has-text('Lower')")
    page.wait_for_function("() => document.querySelector('#lab-threshold input').value === '0.3'")
    press(page, "threshold", "Home")
    page.fill("#lab-proposals input[type=number]", "3")
    page.keyboard.press("Enter")
    count(page, "3")
    page.wait_for_selector("#lab-live-nothing", state="hidden")
    page.click("#lab-snap")
    explored(page, "x.trace().width === 640 && x.trace().height === 480")
    # Nothing is sent, and the camera rests, while another tab is open; both go on afterwards.
    running = "() => document.querySelector('#lab-video').srcObject !== null"
    page.wait_for_function(f"() => !({running})()")
    page.wait_for_timeout(300)  # what was sent before is told of late
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.wait_for_timeout(500)
    assert not [address for address in sent if "/lab/frame" in address]
    tab(page, "live")
    another_frame(page)
    # Stopped for good: another tab and back does not start it.
    page.click("#lab-camera-off")
    assert not page.evaluate(running)
    tab(page, "photo")
    tab(page, "live")
    page.wait_for_selector("#lab-camera-on")
    page.wait_for_timeout(400)
    assert not page.evaluate(running)
    # Stopped before its first frame: nothing is wrong with the camera.
    page.evaluate(
        "() => { const video = lab.part('lab-video'); video.play = () => { delete video.play;"
        " const begun = video.play(); lab.part('lab-camera-off').click(); return begun } }"
    )
    page.click("#lab-camera-on")
    page.wait_for_function("() => !Object.hasOwn(lab.part('lab-video'), 'play')")
    page.wait_for_timeout(600)
    assert "cannot be used" not in page.inner_text("#lab-live-note")


# Two cameras that do not say where they look, as those of a laptop, and slow to begin.
TWO = """() => {
  const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
  media.enumerateDevices = async () => ['a', 'b'].map((deviceId) => (
    { kind: 'videoinput', label: deviceId, deviceId }));
  media.getUserMedia = async ({ video }) => {
    await new Promise((done) => setTimeout(done, 300));
    const stream = await real({ video: true });
    const deviceId = video.deviceId?.exact ?? 'a';
    stream.getVideoTracks()[0].getSettings = () => ({ deviceId });
    return stream;
  };
}"""
# Answers that come at once; and how many frames are about to be taken.
QUICK = """() => {
  const { fetch: real, setTimeout: set, clearTimeout: clear } = window, open = new Set();
  const headers = { 'lab-found': '0', 'lab-milliseconds': '1', 'lab-busy': '1' };
  window.real = { fetch: real, setTimeout: set, clearTimeout: clear };
  window.most = 0;
  window.fetch = async (url, ...more) => (url.includes?.('/frame')
    ? new Response('{"boxes": []}', { headers }) : real(url, ...more));
  window.setTimeout = (work, ...more) => {
    const id = set(() => { open.delete(id); work() }, ...more);
    if (work.name === 'take') open.add(id);
    most = Math.max(most, open.size);
    return id;
  };
  window.clearTimeout = (id) => { open.delete(id); clear(id) };
}"""
HANGS = """() => {
  const { timeout } = AbortSignal, { fetch: there } = window;
  AbortSignal.timeout = () => timeout.call(AbortSignal, 300);
  window.fetch = (url, ...more) => (url.includes?.('/frame')
    ? new Promise((_, no) => { more[0].signal.onabort = () => no(Error()) }) : there(url, ...more));
  window.real.mend = () => { AbortSignal.timeout = timeout };
}"""


def test_live_cameras_and_lines(page):
    """Catches another camera that is never reached, one that stays off for somebody who pressed
    twice, timers that grow in number with every second, and a line that was cut in silence."""
    tab(page, "live")
    page.evaluate(TWO)
    page.click("#lab-camera-on")
    another_frame(page)
    page.click("#lab-camera-turn")
    page.wait_for_function("() => lab.part('lab-cameras').value === 'b'")
    another_frame(page)
    for _ in range(2):
        page.click("#lab-camera-turn")
    another_frame(page)
    page.evaluate(QUICK)
    page.wait_for_timeout(3000)
    assert page.evaluate("most") == 1
    page.evaluate("() => Object.assign(window, real)")
    page.evaluate(HANGS)
    page.wait_for_selector("#lab-live-note:has-text('does not answer')")
    page.evaluate("() => { Object.assign(window, real); real.mend() }")
    another_frame(page)
    page.click("#lab-camera-off")


def test_live_without_a_camera(page):
    """Catches a camera that is refused or pulled out, and a page that says nothing of it."""
    for name, words in (
        ("NotAllowedError", "may not use"),
        ("NotFoundError", "No camera"),
        ("OverconstrainedError", "no longer there"),
    ):
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
    page.wait_for_timeout(600)
    assert page.evaluate("window.asked") == 1


def test_a_video_is_dropped(page):
    """Catches one that is refused because its tab was never open: as if there were one already."""
    page.evaluate(
        "() => { const dataTransfer = new DataTransfer();"
        " dataTransfer.items.add(new File(['none'], 'none.mp4', { type: 'video/mp4' }));"
        " const options = { dataTransfer, bubbles: true, cancelable: true };"
        " document.body.dispatchEvent(new DragEvent('drop', options)) }"
    )
    page.wait_for_selector("#lab-video-state:has-text('Ready')")
