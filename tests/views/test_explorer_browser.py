"""The explorer's page in headless Chromium, as somebody who was sent the file has it."""

import json
from dataclasses import replace

import pytest
import torch
from browser import Watched, keep_shot
from small_model import small_model
from test_explorer_payload import made_trace

from sparse_rcnn_lab import Ablation, Detector, Intervention, explore
from sparse_rcnn_lab.intervene.intervention import Change
from sparse_rcnn_lab.views.explorer.explore import Explorer
from sparse_rcnn_lab.views.explorer.html_page import iframe

pytestmark = pytest.mark.browser

CALM = {"reduced_motion": "reduce"}
HERE = "document.querySelector('.srl').parentElement.explorer"


@pytest.fixture(scope="module")
def trace():
    """Three proposals that end as detections, at places of their own; the rest does not."""
    trace = made_trace(12, 3, size=(90, 120))
    trace.logits[:] = trace.logits - 6
    ends = torch.tensor([[5.0, 5, 35, 40], [50, 10, 80, 40], [85, 45, 115, 85]])
    for row, end in enumerate(ends):
        trace.boxes[3:, row] = end
        trace.logits[2:, row, row] = torch.tensor([1.0, 1.5, 2.0, 2.5])[: trace.num_stages - 2]
    generator = torch.Generator().manual_seed(0)
    roi = torch.rand(6, 12, 7, 7, 32, generator=generator)
    matches = torch.full((6, 12), -1)
    matches[2:, :3] = torch.arange(3)
    return replace(
        trace,
        class_names=("dog", "cat", "a bird with a rather long name"),
        roi_features=roi,
        filtered_features=roi.relu() ** 2,
        gt_boxes=ends + 1,
        gt_labels=torch.arange(3),
        matches=matches,
    )


def opened(browser, tmp_path, view, width=1280, height=860, change=("", ""), **context):
    """The view's page, where ``change`` replaces something in its text."""
    path = tmp_path / "page.html"
    path.write_text(str(view.to_html()).replace(*change), encoding="utf-8")
    watched = Watched(browser, width, height, **{**CALM, **context})
    watched.page.goto(path.as_uri())
    ready(watched.page)
    return watched


def ready(page):
    page.wait_for_selector(".srl-canvas:visible")
    page.wait_for_function(f"() => {HERE}.image() || !{HERE}.trace().payload.image")
    page.wait_for_function(f"() => {HERE}.frames > 0")


def state(page):
    return page.evaluate(f"() => {HERE}.state")


def pixels(page):
    return page.evaluate(f"() => {HERE}.drawNow() ?? {HERE}.picture.canvas.toDataURL()")


def until(page, condition):
    page.wait_for_function(f"() => {{ const x = {HERE}; return {condition} }}")


def on_page(page, row):
    """Top left and bottom right of a proposal's box, pixels of the page."""
    return page.evaluate(
        f"row => {{ const x = {HERE}; const s = Math.round(x.state.position);"
        " const at = x.picture.toScreen(x.trace().box(s, row));"
        " const b = x.picture.canvas.getBoundingClientRect();"
        " return [at[0] + b.x, at[1] + b.y, at[2] + b.x, at[3] + b.y] }",
        row,
    )


def overlaps(labels):
    return [
        (a["text"], b["text"])
        for i, a in enumerate(labels)
        for b in labels[:i]
        if a["x"] < b["x"] + b["width"]
        and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"]
        and b["y"] < a["y"] + a["height"]
    ]


def test_the_page(browser, trace, tmp_path):
    """Catches a page that errs, asks the network, or whose keys, mouse and tabs change nothing."""
    watched = opened(browser, tmp_path, Explorer(trace, roi=True))
    page = watched.page
    assert state(page)["stage"] == 6  # calm: no flight, the end at once
    labels = page.evaluate(f"() => {HERE}.labels")
    assert [label["text"] for label in labels][:1] == ["dog .92"] and len(labels) == 3
    assert overlaps(labels) == []

    # By key: every stage is another image.
    page.locator(".srl-canvas").last.focus()
    seen = {pixels(page)}
    for stage in range(5, -1, -1):
        page.keyboard.press("ArrowLeft")
        assert state(page)["stage"] == stage
        seen.add(pixels(page))
    assert len(seen) == 7
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert state(page)["chosen"] == 0
    page.keyboard.press("ArrowDown")
    assert state(page)["chosen"] in (1, 2)
    page.keyboard.press("Escape")
    assert state(page)["chosen"] is None

    # By mouse: hover previews, a click chooses; by point of the features as well.
    x1, y1, _, y2 = on_page(page, 1)
    page.mouse.move(x1, (y1 + y2) / 2)
    assert state(page)["hovered"] == 1
    # While nothing is chosen, the cards show what is under the pointer.
    page.wait_for_function("() => document.querySelector('.srl-title').innerText.includes('cat')")
    page.mouse.move(2, 2)
    page.wait_for_function("() => document.querySelector('.srl-title').innerText[0] === '3'")
    assert page.locator(".srl-film").count() == 3  # a film of each detection
    label = page.locator(".srl-film span").first
    label.evaluate("e => { e.style.width = '60px'; e.textContent = 'motorbike .99' }")
    assert label.evaluate("e => e.scrollWidth <= e.clientWidth")  # it wraps: no score is cut off
    page.mouse.move(x1, (y1 + y2) / 2)
    page.mouse.click(x1, (y1 + y2) / 2)
    assert state(page)["chosen"] == 1
    page.wait_for_function("() => document.querySelector('.srl-title').innerText.includes('cat')")
    page.wait_for_function(
        "() => document.querySelector('.srl-live').innerText.includes('Proposal 1: cat')"
    )
    x, y = page.evaluate(f"() => {HERE}.scatter.place(2)")
    page.locator(".srl-scatter").click(position={"x": x, "y": y})
    assert state(page)["chosen"] == 2

    # Every tab and every colour shows something of its own.
    shown = set()
    for name in ("RoI", "filters", "similarity", "attention"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(60)
        shown.add(page.inner_html(".srl-panel"))
        keep_shot(page, f"page-{name}")
    assert len(shown) == 4 and not any("record=" in html for html in shown)

    # Similarity among proposals: a cell chooses, and each stage has a matrix of its own.
    page.get_by_role("tab", name="similarity").click()
    matrices = set()
    for stage in (0, 3, 6):
        page.evaluate(f"s => {HERE}.motion.jump(s)", stage)
        page.wait_for_timeout(60)
        matrices.add(page.evaluate("() => document.querySelector('.srl-among').toDataURL()"))
    assert len(matrices) == 3
    page.locator(".srl-among").click(position={"x": 8, "y": 8})
    assert state(page)["chosen"] == page.evaluate(f"() => {HERE}.trace().group[0]")
    colours = set()
    for kind in ("class", "score", "match", "proposal", "stage"):
        page.get_by_label("Colour").select_option(kind)
        colours.add(pixels(page))
    assert len(colours) == 5

    # The threshold decides what is a detection; "one" leaves the chosen alone.
    page.evaluate(f"() => {HERE}.store.set({{ threshold: 0.99 }})")
    until(page, "x.root.querySelector('.srl-status').innerText.includes('0 detections')")
    page.evaluate(f"() => {HERE}.store.set({{ threshold: 0.3 }})")
    for name in ("all", "detections", "one"):
        page.locator(".srl-segments button", has_text=name).first.click()
        assert state(page)["show"] == name
    assert page.evaluate(f"() => {HERE}.picture.rowsAt(0, 0).length") <= 1
    assert page.locator(".srl-edit").is_hidden()
    watched.clean()


def test_a_click_means_the_best_of_rivals(browser, trace, tmp_path):
    """Catches a faint or second-best box that is chosen because it is a little smaller, a small box
    that cannot be reached in a large one, and a drag that was no click and chooses."""
    trace = replace(trace, boxes=trace.boxes.clone(), logits=trace.logits.clone())
    boxes = {3: [6.0, 6, 34, 39], 4: [15, 15, 22, 22], 5: [6, 6, 34, 38]}
    for row, box in boxes.items():
        trace.boxes[4, row] = torch.tensor(box)
        trace.logits[3, row] = torch.tensor([-1.0 if row == 5 else 0.5, -6, -6])
    watched = opened(browser, tmp_path, Explorer(trace, stage=4))
    page = watched.page
    assert page.evaluate(f"() => {HERE}.trace().score(4, 3)") > 0.3  # a detection, like 0
    left, top, right, bottom = on_page(page, 0)
    place = (left + 0.25 * (right - left), top + 0.85 * (bottom - top))
    chosen = []
    for _ in range(4):
        page.mouse.click(*place)
        chosen.append(state(page)["chosen"])
    assert chosen[:2] == [0, 3] and 5 in chosen[2:]
    x1, y1, x2, y2 = on_page(page, 4)
    page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
    assert state(page)["chosen"] == 4
    page.mouse.click(*place)
    assert state(page)["chosen"] == 0
    page.mouse.move(left + 2, top + 2)
    page.mouse.down()
    page.mouse.move(*place, steps=3)
    page.mouse.up()
    assert state(page)["chosen"] == 0
    watched.clean()


def test_first_sight_is_a_flight(browser, trace, tmp_path):
    """Catches a page that starts at its end, never moves, or does not stop with its labels."""
    short = replace(  # three stages: a second and a half each
        trace,
        **{name: getattr(trace, name)[:4] for name in ("boxes", "features")},
        **{name: getattr(trace, name)[:3] for name in ("logits", "fpn_level", "attention")},
        **dict.fromkeys(("roi_features", "filtered_features", "matches")),
    )
    watched = opened(browser, tmp_path, Explorer(short), reduced_motion="no-preference")
    page = watched.page
    until(page, "x.state.playing && x.state.position > 0.3 && x.state.position % 1")
    keep_shot(page, "page-flight")
    until(page, "!x.state.playing && x.state.position === 3 && x.labels.length === 3")
    # Space plays again, and stops in between at a whole stage.
    page.locator(".srl-canvas").last.focus()
    page.keyboard.press("Space")
    until(page, "x.state.playing && x.state.position > 1.2")
    page.keyboard.press("Space")
    until(page, "!x.state.playing && x.state.position % 1 === 0 && x.state.position < 3")
    watched.clean()


def test_similarity_on_half_a_screen(browser, trace, tmp_path):
    """Catches its three parts one below the other, most of them out of sight, or over another."""
    watched = opened(browser, tmp_path, Explorer(trace, chosen=2, tab="similarity"), 700, 860)
    parts = watched.page.evaluate(
        "() => [...document.querySelectorAll('.srl-beside > div')].map(e =>"
        " [e.getBoundingClientRect().top, e.scrollWidth - e.clientWidth])"
    )
    tops, over = zip(*parts, strict=True)
    assert len(parts) == 3 and len(set(tops)) == 1 and max(over) <= 1
    shown, whole = watched.page.evaluate(
        "() => { const p = document.querySelector('.srl-panel');"
        " return [p.clientHeight, p.scrollHeight] }"
    )
    assert whole <= shown
    watched.clean()


@pytest.mark.parametrize("width", [900, 1000, 1100])
def test_words_are_whole_beside_an_image(browser, trace, tmp_path, width):
    """Catches "bottorr" and "qu…" at the widths of a notebook's output, and buttons that belong
    together on two lines."""
    trace = replace(trace, logits=trace.logits.clone(), class_names=("queen", "nine", "ten"))
    trace.logits[:, 3] = -6
    trace.logits[torch.arange(6), 3, torch.tensor([0, 1, 2, 0, 1, 2])] = -4
    view = Explorer(trace, stage=2, chosen=3)
    view._options["live"] = True  # the controls that a kernel answers
    sends = ("get: (name) =>", "send: () => {}, get: (name) =>")
    watched = opened(browser, tmp_path, view, width, 900, sends)
    page = watched.page
    page.wait_for_selector(".srl-edit:visible")
    cut = page.evaluate(
        "() => [...document.querySelectorAll('.srl-class')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"
    )
    assert cut == [] and page.locator(".srl-class").count() == 6
    room = page.evaluate(
        "() => [...document.querySelectorAll('.srl-numbers input')].map(e => {"
        " const c = getComputedStyle(e), p = getComputedStyle(e, '::placeholder');"
        " const g = document.createElement('canvas').getContext('2d');"
        " g.font = `${p.fontSize} ${c.fontFamily}`;"
        " return e.clientWidth - parseFloat(c.paddingLeft) - parseFloat(c.paddingRight)"
        "   - g.measureText(e.placeholder).width })"
    )
    assert (
        min(room) >= 0
        and page.evaluate(
            "() => getComputedStyle(document.querySelector('.srl-numbers input')).appearance"
        )
        == "textfield"
    )  # no arrows that take the room
    tops = [page.get_by_role("button", name=f"{sign}1 stage").bounding_box() for sign in "−+"]
    assert tops[0]["y"] == tops[1]["y"]
    keep_shot(page, f"page-live-{width}")
    watched.clean()


# A page whose kernel is this test: what it sends is kept, and ``hear`` brings an answer.
KERNEL = """model: { send: (message) => (window.sent ??= []).push(message),
 on: (name, f) => { if (name === 'change:answer')
   window.hear = (answer, edited) => { Object.assign(values, { answer, edited }); f(); } },
 get: (name) =>"""


def test_each_control_means_what_python_reads(browser, tmp_path):
    """Catches a message whose fields Python names differently, a change that replaces another, and
    an answer that the page shows as something else."""
    detector = Detector(small_model(), ("a", "b", "c"), "small")
    image = (torch.rand(3, 60, 90) * 255).to(torch.uint8)
    view = explore(image, detector, stage=1, chosen=2, fly=False)
    view._options["live"] = True
    watched = opened(browser, tmp_path, view, 1280, 900, ("model: { get: (name) =>", KERNEL))
    page = watched.page

    def answered(changes):
        message = page.evaluate("() => window.sent.shift()")
        view._receive(message)
        told = [view._answer(message["serial"]), view._edited_payload()]
        page.evaluate("([answer, edited]) => window.hear(answer, edited)", told)
        until(page, "!x.changes.waiting")
        page.wait_for_function(
            "n => document.querySelectorAll('.srl-changes li').length === n", arg=changes
        )

    for side, value in (("left", 10), ("top", 12), ("right", 50), ("bottom", 40)):
        page.get_by_label(f"{side}, pixels").fill(str(value))
        page.get_by_label(f"{side}, pixels").press("Enter")
        answered(1)
    page.get_by_role("button", name="zero its feature").click()
    answered(1)
    page.get_by_label("Proposal to swap filters with").fill("4")
    page.get_by_role("button", name="swap filters with").click()
    answered(2)
    page.locator(".srl-check", has_text="self-attention").locator("input").uncheck()
    answered(3)
    page.get_by_label("First stage that the ablations act on").select_option("2")
    answered(3)
    page.get_by_role("button", name="+1 stage").click()
    answered(4)
    page.evaluate(f"() => {HERE}.choose(3)")
    page.get_by_role("button", name="drop it").click()
    answered(5)
    edit = Change((2,), 1, (10.0, 12.0, 50.0, 40.0), "zero")
    off = Ablation(self_attention=False, swap_filters=((2, 4),))
    whole = Intervention((edit, Change((3,), 1, drop=True)), off, start=2, repeat=1)
    assert view.intervention == whole
    assert page.evaluate(f"() => {HERE}.trace().stages") == view.trace.num_stages
    page.get_by_label("Take back: proposal 3 dropped, after stage 1").click()
    answered(4)
    assert view.intervention.changes == (edit,)
    page.locator(".srl-editcard button", has_text="undo").click()
    answered(5)
    assert view.intervention == whole
    page.locator(".srl-editcard button", has_text="reset").click()
    answered(0)
    assert view.edited is None
    watched.clean()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (2400, "dark")])
def test_any_width_and_both_themes(browser, trace, tmp_path, width, scheme):
    """Catches a page wider than its screen, a theme that is ignored, clipped controls."""
    view = Explorer(trace, roi=True, chosen=2, tab="roi")
    watched = opened(browser, tmp_path, view, width, 800, color_scheme=scheme)
    page = watched.page
    assert page.get_attribute(".srl", "data-theme") == scheme
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "() => [...document.querySelectorAll('.srl button, .srl select, .srl canvas')]"
        ".filter(e => e.offsetParent && !e.closest('.srl-looks'))"
        ".map(e => [e.getBoundingClientRect(), e.outerHTML])"
        ".filter(([r]) => r.right > innerWidth + 1 || r.left < -1).map(([, html]) => html)"
    )
    assert outside == []
    paper = page.evaluate("() => getComputedStyle(document.querySelector('.srl')).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    keep_shot(page, f"page-{width}-{scheme}")
    watched.clean()


def test_inside_an_iframe(browser, trace, tmp_path):
    """Catches what a sandboxed frame forbids: storage, the parent's document, a module's origin."""
    path = tmp_path / "outer.html"
    path.write_text(
        f"<!doctype html><p>outer</p>{iframe(str(Explorer(trace).to_html()))}", encoding="utf-8"
    )
    watched = Watched(browser, **CALM)
    watched.page.goto(path.as_uri())
    frame = watched.page.frame_locator("iframe")
    frame.locator(".srl-canvas:visible").focus()
    watched.page.keyboard.press("End")  # whether or not the frame hears of the reduced motion
    frame.locator(".srl-stage", has_text="stage 6").wait_for()
    watched.page.keyboard.press("ArrowLeft")
    frame.locator(".srl-stage", has_text="stage 5").wait_for()
    watched.clean()


@pytest.mark.parametrize("kind", ["bare", "one", "many", "thin", "broken", "nothing", "names"])
def test_strange_traces(browser, trace, tmp_path, kind):
    """Catches a page that stays blank, or says nothing, for what a model or a person may give."""
    names = ('</script><script>alert("x")</script>', "<img src=x onerror=alert(1)>", "&amp;")
    strange = {
        "bare": lambda: replace(made_trace(12, 3, dim=0), attention=None, image=None),
        "one": lambda: made_trace(1, 2, dim=8),
        "many": lambda: made_trace(1000, 4, dim=8),
        "thin": lambda: made_trace(9, 3, size=(4000, 10)),
        "broken": lambda: replace(
            trace, boxes=trace.boxes.clone().index_fill_(1, torch.tensor([0]), float("nan"))
        ),
        "nothing": lambda: replace(trace, logits=trace.logits - 50),
        "names": lambda: replace(trace, class_names=names),
    }[kind]()
    watched = opened(browser, tmp_path, Explorer(strange))
    page = watched.page
    page.locator(".srl-canvas").last.focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowUp", "Home", "End", "Escape", "ArrowDown"):
        page.keyboard.press(key)
        page.wait_for_timeout(20)
    for name in ("RoI", "filters", "similarity", "attention"):
        page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(60)
    said = page.inner_text(".srl")
    wanted = {
        "bare": "record=",
        "thin": "squeezed",
        "broken": "not numbers",
        "nothing": "0 detections",
        "names": "</script>",
    }
    assert wanted.get(kind, "stage 6") in said
    keep_shot(page, f"strange-{kind}")
    watched.clean()


def live(browser, tmp_path, width=1280, height=900, **context):
    """A view with its page, and what answers the page's next message as a kernel does."""
    detector = Detector(small_model(), ("a", "b", "c"), "small")
    image = (torch.rand(3, 60, 90) * 255).to(torch.uint8)
    view = explore(image, detector, stage=1, chosen=2, fly=False)
    view._options["live"] = True
    change = ("model: { get: (name) =>", KERNEL)
    watched = opened(browser, tmp_path, view, width, height, change, **context)

    def answer():
        watched.page.wait_for_function("() => window.sent?.length")
        message = watched.page.evaluate("() => window.sent.shift()")
        view._receive(message)
        told = [view._answer(message["serial"]), view._edited_payload()]
        watched.page.evaluate("([answer, edited]) => window.hear(answer, edited)", told)

    return view, watched, answer


def test_the_keyboard_stays_in_the_explorer(browser, tmp_path):
    """Catches a button that goes when it is pressed and takes the focus along: in a notebook the
    next key would go elsewhere; and a list that is made anew while nothing in it changed."""
    view, watched, answer = live(browser, tmp_path)
    page = watched.page
    page.evaluate(f"() => {HERE}.store.set({{ threshold: 0.01 }})")
    inside = "() => !!document.activeElement.closest('.srl')"
    page.get_by_role("button", name="deselect").press("Enter")
    page.wait_for_function("() => document.querySelector('.srl-proposal .srl-item')")
    assert page.evaluate(inside)
    page.locator(".srl-proposal .srl-item").first.press("Enter")
    page.wait_for_function("() => !document.querySelector('.srl-proposal .srl-item')")
    assert page.evaluate(inside) and state(page)["chosen"] is not None
    page.get_by_role("button", name="zero its feature").press("Enter")
    answer()
    back = page.get_by_label("Take back: proposal")
    back.focus()
    page.evaluate(f"() => {HERE}.motion.jump(0)")
    until(page, "!x.changes.waiting && x.state.stage === 0")
    page.wait_for_timeout(60)
    assert page.evaluate("() => document.activeElement.ariaLabel").startswith("Take back")
    back.press("Enter")
    answer()
    page.wait_for_function("() => !document.querySelector('.srl-changes li')")
    assert page.evaluate(inside) and view.edited is None
    watched.clean()


def test_a_finger_pulls_a_box_down(browser, tmp_path):
    """Catches a page that scrolls in place of moving the box, and a second finger that takes it."""
    phone = {"has_touch": True, "is_mobile": True}
    _, watched, answer = live(browser, tmp_path, 390, 780, **phone)
    page = watched.page
    session = watched.context.new_cdp_session(page)
    left, top, right, bottom = on_page(page, 2)
    x, y = (left + right) / 2, (top + bottom) / 2

    def touch(kind, *points):
        sent = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": sent})

    picture = page.locator(".srl-canvas").last.bounding_box()
    down = 1 if y < picture["y"] + picture["height"] / 2 else -1
    touch("touchStart", (x, y))
    for far in range(4, 41, 4):
        touch("touchMove", (x, y + down * far))
        page.wait_for_timeout(20)
    at = f"{HERE}.picture.toScreen({HERE}.draft({HERE}.trace(), 2) ?? [])[1]"
    page.wait_for_function(f"top => Math.abs({at} - top) > 30", arg=top - picture["y"])
    now = page.evaluate(f"() => {HERE}.draft({HERE}.trace(), 2)[1]")
    end = (x, y + down * 40)
    touch("touchStart", end, (x + 60, y))
    touch("touchMove", end, (x + 90, y + 60))
    assert page.evaluate(f"() => {HERE}.draft({HERE}.trace(), 2)[1]") == now
    touch("touchEnd")
    answer()
    answer()
    until(page, "x.changes.undoable === 1 && !x.changes.waiting")
    assert page.evaluate("scrollY") == 0
    watched.clean()


def test_a_window_made_lower(browser, trace, tmp_path):
    """Catches an image that does not fit the window any more, until something else is touched."""
    watched = opened(browser, tmp_path, Explorer(trace), 1280, 1000)
    page = watched.page
    height = "() => document.querySelectorAll('.srl-canvas')[1].clientHeight"
    before = page.evaluate(height)
    page.set_viewport_size({"width": 1280, "height": 700})
    page.wait_for_function(f"h => ({height})() < h", arg=before)
    watched.clean()


def test_a_tour_that_is_left_takes_back_what_is_on_its_way(browser, tmp_path):
    """Catches a change that stays because its answer came after the tour had ended."""
    view, watched, answer = live(browser, tmp_path)
    page = watched.page
    page.evaluate(f"() => {HERE}.tour.start()")
    for _ in range(4):
        page.get_by_role("button", name="Next", exact=True).click()
    page.wait_for_function("() => window.sent?.length")
    page.get_by_role("button", name="Leave").click()
    answer()
    answer()
    until(page, "!x.changes.waiting && !x.edited()")
    assert view.edited is None
    watched.clean()


def test_many_stages_can_be_read(browser, tmp_path):
    """Catches numbers of 20 stages that are cut, lie on one another or make the page wider."""
    view = Explorer(made_trace(5, 3, stages=20), chosen=1, tab="similarity")
    watched = opened(browser, tmp_path, view, 390, 780)
    keep_shot(watched.page, "stages-20")
    cut = watched.page.evaluate(
        "() => [...document.querySelectorAll('.srl-strip b:not(.srl-class), .srl-matrix td')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"
    )
    assert cut == []
    assert watched.page.evaluate("() => document.documentElement.scrollWidth") <= 390
    watched.clean()


def test_notes_come_back(browser, trace, tmp_path):
    """Catches the words on what is not a number gone for good after another line stood there."""
    broken = trace.boxes.clone().index_fill_(1, torch.tensor([0]), float("nan"))
    watched = opened(browser, tmp_path, Explorer(replace(trace, boxes=broken)))
    page = watched.page
    said = page.locator(".srl-notice")
    page.evaluate(f"() => {HERE}.notice('Something else.')")
    assert said.inner_text() == "Something else."
    page.evaluate(f"() => {HERE}.notice('')")
    assert "not numbers" in said.inner_text()
    watched.clean()


@pytest.mark.parametrize(
    "since",
    [
        {"stage": 3, "chosen": 2, "threshold": 0.6, "tab": "similarity", "color": "score"},
        {"stage": 3, "chosen": None},
    ],
)
def test_a_second_view_begins_as_the_kernel_has_it(browser, trace, tmp_path, since):
    """Catches a view shown again that forgets what was set since, and flies past its stage."""
    values = "const values = Object.assign(JSON.parse("
    path = tmp_path / "page.html"
    text = str(Explorer(trace, chosen=1).to_html()).replace("const values = JSON.parse(", values)
    text = text.replace(".textContent)", f".textContent), {json.dumps(since)})")
    path.write_text(text, encoding="utf-8")
    watched = Watched(browser)
    watched.page.goto(path.as_uri())
    ready(watched.page)
    assert {**since, "position": 3, "playing": False}.items() <= state(watched.page).items()
    watched.clean()


def test_a_name_from_right_to_left(browser, trace, tmp_path):
    """Catches a score of .92 after a name in Arabic that is read as 92."""
    view = Explorer(replace(trace, class_names=("\u0643\u0644\u0628", "cat", "bird")), chosen=0)
    watched = opened(browser, tmp_path, view)
    point, last = watched.page.evaluate(
        "() => { const text = document.querySelector('.srl-title').firstChild;"
        " const left = (i) => { const range = document.createRange();"
        "   range.setStart(text, i); range.setEnd(text, i + 1);"
        "   return range.getBoundingClientRect().left };"
        " return [left(text.data.lastIndexOf('.')), left(text.data.length - 1)] }"
    )
    assert point < last
    watched.clean()


def test_a_slider_that_went_back(browser, tmp_path):
    """Catches an undo that also takes back a change made between two uses of the slider, the first
    of which ended where it began."""
    _, watched, answer = live(browser, tmp_path)
    page = watched.page
    bounds = page.get_by_label("Proposals", exact=True).bounding_box()
    y = bounds["y"] + bounds["height"] / 2

    def answered():
        while page.evaluate(f"() => {HERE}.changes.waiting"):
            answer()

    def slide(*shares):
        page.mouse.move(bounds["x"] + bounds["width"] - 8, y)
        page.mouse.down()
        for share in shares:
            page.mouse.move(bounds["x"] + share * bounds["width"], y, steps=3)
        page.mouse.up()
        answered()

    slide(0.5, 1.2)
    page.get_by_role("button", name="zero its feature").click()
    answered()
    slide(0.5)
    assert page.evaluate(f"() => {HERE}.changes.intervention.changes.length") == 2
    page.locator(".srl-editcard button", has_text="undo").click()
    answered()
    left = page.evaluate(f"() => {HERE}.changes.intervention.changes")
    assert [one["feature"] for one in left] == ["zero"]
    watched.clean()
