"""The labeller in Chromium: what hands do, and what is kept of it."""

import json
from pathlib import Path

import pytest
from browser import Watched, keep_shot

from sparse_rcnn_lab import LabError, Shapes
from sparse_rcnn_lab.views.bundle import joined
from sparse_rcnn_lab.views.draw import as_image, data_uri, encoded
from sparse_rcnn_lab.views.labeller import label
from sparse_rcnn_lab.views.style import CLASS_COLORS

PROPOSALS = [
    {"name": "mug", "box": [20, 20, 60, 60], "score": 0.9},
    {"name": "", "box": [120, 30, 180, 90], "score": 0.6},
]
_PAGE = """<!doctype html><meta charset=utf-8><meta name=viewport content="width=device-width">
<style>body {{ margin: 8px }} {css}</style><div id=place></div><script type=module>
{script}
const frames = {frames};
window.saved = {{}};
window.refuse = 0;
const save = async (frame) => {{
  if (window.refuse > 0) {{
    window.refuse -= 1;
    throw Object.assign(new Error("The app does not answer."), {{ refused: window.forGood }});
  }}
  window.saved[frame.id] = JSON.parse(JSON.stringify(frame.boxes));
}};
window.labeller = createLabeller(document.getElementById("place"), {{
  frames, classes: {classes}, colors: {colors}, theme: "{theme}", save,
  propose: async (frame) => {{
    window.asked = (window.asked ?? 0) + 1;
    return frame.id === 1 ? {proposals} : [];
  }},
}});
</script>"""


def frames(count: int) -> list:
    """Drawings of 200 x 200 pixels as the page wants them."""
    return [
        {"id": number, "url": data_uri(encoded(as_image(sample.image), quality=90)), "width": 200,
         "height": 200, "labelled": False, "boxes": []}
        for number, sample in enumerate(Shapes(count, seed=2, size=200), 1)
    ]  # fmt: skip


def opened(browser, tmp_path: Path, classes=("mug", "keys"), theme="light", **context) -> Watched:
    text = _PAGE.format(
        css=label.css(), script=joined(label.files()), frames=json.dumps(frames(3)), theme=theme,
        classes=json.dumps(classes), colors=json.dumps(CLASS_COLORS),
        proposals=json.dumps(PROPOSALS),
    )  # fmt: skip
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    watched = Watched(browser, **{"width": 900, "height": 760, **context})
    watched.page.goto((tmp_path / "page.html").as_uri())
    watched.page.wait_for_function("window.labeller?.state.proposals.length === 2")
    return watched


def in_a_notebook(browser, tmp_path: Path) -> Watched:
    """A widget's view, its clock stopped. The page's ``sent``, ``hear(answer)``, ``leave()``, and
    ``again()``, which shows one more view, are the kernel's side and the notebook's."""
    script = joined([*label.files(), label._HERE / "js" / "widget.js"])
    values = {"frames": frames(1), "classes": ["mug"], "colors": CLASS_COLORS, "theme": "light"}
    (tmp_path / "page.html").write_text(
        f"""<!doctype html><meta charset=utf-8><style>{label.css()}</style><div id=place></div>
        <script type=module>{script}
        const values = {json.dumps(values)}, el = document.getElementById("place");
        window.sent = [];
        const get = (name) => values[name], send = (message) => sent.push(message);
        const on = (_, hear) => {{ window.hear = hear; }};
        const model = {{ get, send, on, off: () => {{}} }};
        window.again = () => {{ window.leave = render({{ model, el }}); }};
        again();
        </script>""",
        encoding="utf-8",
    )
    seen = Watched(browser, 900, 760)
    seen.page.clock.install()
    seen.page.goto((tmp_path / "page.html").as_uri())
    seen.page.wait_for_selector(".srl-sheet")
    return seen


def test_what_a_list_of_images_is(tmp_path, capsys):
    """Catches an array that becomes an image of each of its rows, a name that becomes a class of
    each of its letters, and a wrong path that keeps a part of the list for the next call."""
    image = Shapes(1, size=64)[0].image
    pixels = image.permute(1, 2, 0).numpy()
    for number, one in enumerate((image, pixels, as_image(image), [image], pixels[None])):
        labels = label.label(one, "mug", out=tmp_path / str(number), model=None)
        assert repr(labels) == "Labels(1 images, 0 labelled, 0 boxes; mug)"
    with pytest.raises(LabError, match="No image at"):
        label.label([image, tmp_path / "no.jpg"], out=tmp_path / "list", model=None)
    with pytest.raises(LabError, match="folder of images, or a list of them; found None"):
        label.label(None, out=tmp_path / "list", model=None)
    assert "2 images" in repr(label.label([image] * 2, out=tmp_path / "list", model=None))
    label.label([image], out=tmp_path / "list", model=None)
    assert "Opened again: the 2 images" in capsys.readouterr().out


def at(page, x: float, y: float) -> tuple[float, float]:
    """Where a place of the image is on the page."""
    box = page.locator(".srl-sheet").bounding_box()
    return box["x"] + x * box["width"] / 200, box["y"] + y * box["height"] / 200


def drag(page, start, end, **options) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=4)
    page.mouse.up(**options)


def boxes(page, frame: int = 1) -> list:
    page.wait_for_function("labeller.root.dataset.saved === 'true'")
    found = page.evaluate(f"window.saved[{frame}] ?? null")
    return found and [(one["name"], [round(v) for v in one["box"]]) for one in found]


def near(found, name, box) -> None:
    assert found[0] == name and found[1] == pytest.approx(box, abs=2), found


def test_mouse(browser, tmp_path):
    """Catches a box in the wrong pixels, a click that draws, a drag that moves the wrong box."""
    seen = opened(browser, tmp_path)
    page = seen.page
    drag(page, (100, 120), (150, 170))
    near(boxes(page)[0], "mug", [100, 120, 150, 170])
    drag(page, (150, 170), (160, 190))  # its corner
    drag(page, (120, 140), (110, 130))  # its inside
    near(boxes(page)[0], "mug", [90, 110, 150, 180])
    page.mouse.click(*at(page, 5, 195))  # nothing is there: released
    drag(page, (100, 120), (110, 130))  # drawn inside a box that is not chosen
    assert len(boxes(page)) == 2
    page.mouse.click(*at(page, 40, 40))  # a proposal
    near(boxes(page)[2], "mug", [20, 20, 60, 60])
    page.get_by_role("button", name="keys").click()  # for the next one
    page.mouse.click(*at(page, 150, 60))
    assert [name for name, _ in boxes(page)] == ["mug", "mug", "mug", "keys"]
    drag(page, (190, 100), (400, 190))  # out of the image: cut off there
    near(boxes(page)[4], "keys", [190, 100, 200, 190])
    for place in (1, 2):
        page.get_by_role("button", name="Next image").click()
        assert page.evaluate("labeller.state.at") == place
    assert page.get_by_role("button", name="Next image").is_disabled()
    page.locator(".srl-strip-of-images button").first.click()
    keep_shot(page, "labeller-light")
    seen.clean()


def test_a_class_is_for_the_next_box(browser, tmp_path):
    """Catches a box that is renamed by who takes the next class; and one that cannot be renamed."""
    seen = opened(browser, tmp_path)
    page = seen.page
    keys, mug = (page.get_by_role("button", name=name) for name in ("keys", "mug"))
    drag(page, (20, 100), (60, 140))
    drag(page, (60, 140), (70, 150))  # adjusted, and still not picked
    said = page.locator(".srl-labelled")
    keys.click()
    assert said.inner_text() == "Next box: keys. To rename a box, click it first."
    drag(page, (62, 142), (100, 180))  # it was let go: this draws
    assert "2 boxes" in said.inner_text()
    page.keyboard.press("1")
    assert [name for name, _ in boxes(page)] == ["mug", "keys"]
    page.keyboard.press("b")
    page.keyboard.press("Delete")  # its neighbour is chosen now, and not picked either
    page.keyboard.press("2")
    assert [name for name, _ in boxes(page)] == ["mug", "keys"]
    page.mouse.click(*at(page, 90, 170))
    mug.click()
    assert [name for name, _ in boxes(page)] == ["mug", "mug"]
    page.mouse.click(*at(page, 40, 120))
    page.keyboard.press("2")
    assert [name for name, _ in boxes(page)] == ["keys", "mug"]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert [name for name, _ in boxes(page)] == ["mug", "keys"]
    page.mouse.click(*at(page, 90, 170))
    page.keyboard.press("b")  # made after one that was picked
    page.keyboard.press("1")
    assert [name for name, _ in boxes(page)] == ["mug", "keys", "keys"]
    seen.clean()


def test_proposals_on_what_is_labelled_go(browser, tmp_path):
    """Catches a dashed box left on an object that has its box, and one that undo does not bring
    back; and proposals for something else that go with it."""
    seen = opened(browser, tmp_path)
    page = seen.page
    left = "labeller.state.proposals.map((one) => one.box[0]).join()"
    drag(page, (112, 36), (172, 96))  # IoU 0.6 with the unnamed one
    page.wait_for_function(f"{left} === '20'")
    page.keyboard.press("Control+z")
    page.wait_for_function(f"{left} === '20,120'")
    drag(page, (130, 40), (160, 70))  # a mug in what may be something else
    assert page.evaluate(left) == "20,120"
    page.get_by_role("button", name="keys").click()
    drag(page, (10, 12), (80, 80))  # keys around a mug
    assert page.evaluate(left) == "20,120"
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate(left) == "20,120"  # also where other boxes stay
    page.get_by_role("button", name="mug").click()
    drag(page, (10, 12), (80, 80))  # the mug itself, IoU 0.34
    assert page.evaluate(left) == "120"
    page.keyboard.press("Delete")  # that was none
    assert page.evaluate(left) == "120"
    page.get_by_role("button", name="Nothing here").click()
    assert page.evaluate(left) == ""
    seen.clean()


def test_keys_alone(browser, tmp_path):
    """Catches a labeller that somebody without a mouse cannot use, or cannot take back."""
    seen = opened(browser, tmp_path)
    page = seen.page
    page.locator(".srl-sheet").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    near(boxes(page)[0], "mug", [20, 20, 60, 60])
    page.keyboard.press("Enter")  # the box: from now on it is meant
    page.keyboard.press("2")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Alt+ArrowDown")
    near(boxes(page)[0], "keys", [30, 20, 70, 61])
    page.keyboard.press("b")
    assert len(boxes(page)) == 2
    page.keyboard.press("Delete")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert len(boxes(page)) == 1
    for _ in range(3):
        page.keyboard.press("Control+z")
    near(boxes(page)[0], "mug", [20, 20, 60, 60])
    page.keyboard.press("Control+y")
    near(boxes(page)[0], "keys", [20, 20, 60, 60])
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    assert boxes(page, 2) == [] and page.evaluate("labeller.state.frames[1].labelled")
    page.keyboard.press("n")
    page.keyboard.type("my  glasses")
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    assert boxes(page, 2)[0][0] == "my glasses"
    seen.clean()


def test_a_finger_and_no_class_yet(browser, tmp_path):
    """Catches a page that scrolls in place of drawing, and a first box that has no name."""
    seen = opened(browser, tmp_path, (), "dark", width=390, height=780, has_touch=True)
    page = seen.page
    session = seen.context.new_cdp_session(page)
    start, end = at(page, 60, 110), at(page, 140, 160)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        sent = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": sent})

    touch("touchStart", start)
    for share in (0.3, 0.6, 1):
        touch("touchMove", tuple(a + share * (b - a) for a, b in zip(start, end, strict=True)))
    touch("touchEnd")
    page.wait_for_selector(".srl-name:visible")
    page.keyboard.type("mug")
    page.keyboard.press("Enter")
    near(boxes(page)[0], "mug", [60, 110, 140, 160])
    assert page.evaluate("scrollY") == 0
    heights = [b.bounding_box()["height"] for b in page.locator(".srl-bar button:visible").all()]
    assert min(heights) >= 44
    keep_shot(page, "labeller-dark-phone")
    seen.clean()


def test_a_kernel_that_does_not_answer(browser, tmp_path):
    """Catches a notebook's page that says "Saving …" for ever, and never tries again; and one that
    is shown a second time without what was drawn."""
    seen = in_a_notebook(browser, tmp_path)
    page = seen.page
    drag(page, (100, 120), (150, 170))
    said = page.locator(".srl-labelled")
    assert "Saving" in said.inner_text() and page.evaluate("sent.length") == 1
    page.clock.fast_forward(61_000)
    page.wait_for_function("document.body.innerText.includes('kernel does not answer')")
    page.clock.fast_forward(2_000)
    page.wait_for_function("sent.length === 2")
    page.evaluate("hear({ serial: sent[1].serial, answer: {} })")
    page.wait_for_function("document.body.innerText.includes('All saved')")
    assert [one["name"] for one in page.evaluate("sent[1].boxes")] == ["mug"]
    page.evaluate("again()")
    page.wait_for_function("document.body.innerText.match(/labelled, 1 box/g)?.length === 2")
    seen.clean()


def test_what_a_widget_shows_again(tmp_path):
    """Catches a page that is shown or loaded again without the boxes and classes made since: with
    its next change it would save over them."""
    pytest.importorskip("anywidget")
    images = [sample.image for sample in Shapes(2, size=64)]
    labels = label.label(images, ["mug", "pen"], out=tmp_path, model=None)
    widget = labels.widget
    boxes = [{"name": name, "box": [4.0, 4.0, 30.0, 30.0]} for name in ("mug", "cup")]
    labels._answer({"kind": "label", "id": 2, "boxes": boxes, "labelled": True})
    assert widget.get_state()["frames"][1]["boxes"] == boxes
    assert [frame["labelled"] for frame in widget.frames] == [False, True]
    assert widget.classes == ["mug", "pen", "cup"]
    labels._answer({"kind": "classes", "names": ["jug", "cup"], "renamed": {"mug": "jug"}})
    assert [box["name"] for box in widget.frames[1]["boxes"]] == ["jug", "cup"]
    assert widget.classes == ["jug", "cup"] and widget.frames[1]["labelled"]
    labels.set(1, [("cup", (1, 1, 20, 20))])
    assert len(labels.widget.frames[0]["boxes"]) == 1


def test_what_cannot_be_saved_is_tried_again(browser, tmp_path):
    """Catches boxes that are lost while the app is away, and a page that does not say so."""
    seen = opened(browser, tmp_path)
    page = seen.page
    page.evaluate("window.refuse = 2")
    drag(page, (100, 120), (150, 170))
    page.wait_for_function("document.querySelector('.srl-labelled').textContent.includes('not')")
    assert "does not answer" in page.locator(".srl-labelled").text_content().replace("’", "'")
    drag(page, (10, 120), (50, 170))
    assert len(boxes(page)) == 2  # after it answers again
    assert "All saved" in page.locator(".srl-labelled").text_content()
    seen.clean()


def test_a_view_that_is_gone_sends_nothing_again(browser, tmp_path):
    """Catches a cell that was run again while a box was saved: its first view would send that box
    once more, a minute later, over what was drawn in the second."""
    seen = in_a_notebook(browser, tmp_path)
    page = seen.page
    drag(page, (100, 120), (150, 170))
    assert page.evaluate("sent.length") == 1
    drag(page, (10, 20), (50, 70))  # waits for the first one's answer
    page.evaluate("leave()")
    page.wait_for_function("sent.length === 2")
    assert len(page.evaluate("sent[1].boxes")) == 2
    page.clock.fast_forward(61_000)
    page.clock.fast_forward(61_000)
    page.wait_for_timeout(50)
    assert page.evaluate("sent.length") == 2
    seen.clean()


def test_renaming_reaches_what_is_taken_back(browser, tmp_path):
    """Catches a box that comes back with the name that its class had before, and a name that is
    ended by the Enter with which a word of Japanese or Chinese is chosen."""
    seen = opened(browser, tmp_path)
    page = seen.page
    drag(page, (20, 120), (60, 160))
    drag(page, (100, 120), (150, 170))
    page.keyboard.press("Control+z")
    page.get_by_role("button", name="mug").dblclick()
    page.wait_for_selector(".srl-name:visible")
    page.keyboard.type("tea  cup")
    page.evaluate(
        "document.querySelector('.srl-name').dispatchEvent("
        "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }))"
    )
    assert page.locator(".srl-name").is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+y")
    assert [name for name, _ in boxes(page)] == ["tea cup", "tea cup"]
    page.mouse.click(*at(page, 40, 40))  # proposed as a mug
    assert [name for name, _ in boxes(page)] == ["tea cup"] * 3
    assert page.evaluate("labeller.state.classes") == ["tea cup", "keys"]
    seen.clean()


def test_what_keys_do_is_seen_and_read_out(browser, tmp_path):
    """Catches a proposal that Tab came to and nothing shows, words for a screen reader from before
    the last change, and a box that gets smaller at the edge of its image."""
    seen = opened(browser, tmp_path)
    page = seen.page
    sheet = page.locator(".srl-sheet")
    sheet.focus()
    before = sheet.evaluate("(sheet) => sheet.toDataURL()")
    page.keyboard.press("Tab")
    assert sheet.evaluate("(sheet) => sheet.toDataURL()") != before
    assert "Proposal: mug" in sheet.get_attribute("aria-label")
    page.keyboard.press("b")
    assert sheet.get_attribute("aria-label") == "Image 1 of 3: mug. Chosen: mug"
    for _ in range(9):
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowDown")
    near(boxes(page)[0], "mug", [0, 140, 60, 200])
    for _ in range(9):
        page.keyboard.press("Shift+Alt+ArrowLeft")
    near(boxes(page)[0], "mug", [0, 140, 3, 200])
    seen.clean()


def test_what_a_drag_began_on_may_go(browser, tmp_path):
    """Catches a box on another image than the one it was drawn on, and one that takes the place of
    another because the one in hand was deleted."""
    seen = opened(browser, tmp_path)
    page = seen.page

    def during(key, start, end):
        page.mouse.move(*at(page, *start))
        page.mouse.down()
        page.mouse.move(*at(page, *end), steps=3)
        page.keyboard.press(key)
        page.mouse.up()

    drag(page, (20, 120), (60, 160))
    page.mouse.click(*at(page, 190, 190))
    drag(page, (100, 120), (150, 170))
    page.mouse.click(*at(page, 40, 140))
    during("Delete", (40, 140), (80, 120))
    assert boxes(page) == [("mug", [100, 120, 150, 170])]
    page.mouse.click(*at(page, 190, 190))
    during("PageDown", (10, 110), (50, 150))
    assert page.evaluate("labeller.state.frames.map((one) => one.boxes.length)") == [1, 0, 0]
    seen.clean()


def test_frames_that_come_and_go(browser, tmp_path):
    """Catches proposals that are asked for twice, an undo that does nothing because its image is
    gone, another image in sight once one was taken out, and "tried again" of what is not."""
    seen = opened(browser, tmp_path)
    page = seen.page
    drag(page, (20, 120), (60, 160))
    page.keyboard.press("PageDown")
    drag(page, (20, 120), (60, 160))
    page.keyboard.press("PageDown")
    asked = page.evaluate("asked")
    page.evaluate("labeller.add({ ...labeller.frames.current(), id: 4, boxes: [] })")
    assert page.evaluate("asked") == asked + 1
    page.evaluate("labeller.frames.drop(labeller.state.frames[1])")
    assert page.evaluate("labeller.frames.current().id") == 4
    page.keyboard.press("Control+z")
    assert page.evaluate("[labeller.frames.current().id, labeller.frames.canUndo()]") == [1, False]
    assert boxes(page) == []
    page.evaluate("window.refuse = 1; window.forGood = true")
    page.keyboard.press("b")
    page.wait_for_function("document.querySelector('.srl-labelled').textContent.includes('Not')")
    page.wait_for_function("labeller.state.unsaved === 0")
    assert "again" not in page.locator(".srl-labelled").inner_text()
    seen.clean()
