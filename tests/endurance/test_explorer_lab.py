"""The explorer in a real JupyterLab: what a person does there reaches the kernel and comes back."""

import json
import os
import subprocess
import sys

import pytest
from browser import Watched, keep_shot, open_browser
from jupyter_lab import QUERY, jupyter_lab

pytest.importorskip("jupyterlab", reason="needs the notebooks extra: JupyterLab")
pytest.importorskip("anywidget", reason="needs the notebooks extra: anywidget")
pytest.importorskip("playwright", reason="needs the dev extra: playwright")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = (
    "import sparse_rcnn_lab as srl\n"
    "from pathlib import Path\n"
    "example = Path(srl.__file__).parent / 'data' / 'examples' / 'shapes_2.png'\n"
    "view = srl.explore(example, 'nano-shapes', fly=False, chosen=12)\n"
    "view",
    "print('KERNEL', json.dumps({'stage': view.widget.stage, 'chosen': view.widget.chosen,\n"
    "    'intervention': view.intervention.to_message(), 'box': view.trace.boxes[3, 12].tolist(),\n"
    "    'edited': view.edited is not None}))",
)
STATE = "() => document.querySelector('.srl').parentElement.explorer"


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that serves a folder with one notebook."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell{i}",
            "metadata": {},
            "outputs": [],
            "source": ("import json\n" if i == 0 else "") + source,
        }
        for i, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "look.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with jupyter_lab(tmp_path, tmp_path / "home") as files:
        yield f"{files}look.ipynb?{QUERY}"


def in_kernel(page, count):
    """What the second cell prints, run for the ``count``-th time."""
    page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        "n => { const c = document.querySelectorAll('.jp-Notebook .jp-Cell')[1];"
        "  return c && c.querySelector('.jp-InputPrompt').innerText.includes(`[${n}]`)"
        "    && c.querySelector('.jp-OutputArea-output')?.innerText.includes('KERNEL') }",
        arg=count,
    )
    text = page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-OutputArea-output")
    return json.loads(text.inner_text().split("KERNEL", 1)[1])


def wait(page, condition):
    page.wait_for_function(f"() => {{ const x = ({STATE})(); return {condition} }}")


def box_on_screen(page):
    """Corners of the chosen box, pixels of the page."""
    page.locator(".srl-canvas").last.scroll_into_view_if_needed()
    return page.evaluate(
        f"() => {{ const x = ({STATE})(); const t = x.trace(); const s = x.state;"
        " const at = x.picture.toScreen(t.box(Math.round(s.position), t.row(s.chosen)));"
        " const b = x.picture.canvas.getBoundingClientRect();"
        " return [at[0] + b.x, at[1] + b.y, at[2] + b.x, at[3] + b.y] }"
    )


def pixels(page):
    return page.evaluate(f"() => ({STATE})().picture.canvas.toDataURL()")


def test_the_explorer_in_jupyterlab(chromium, lab, tmp_path):
    """Catches keys that Lab takes away, edits that never reach the kernel or come back undrawn,
    a page that asks the network, and one that freezes when its kernel dies."""
    with open_browser(chromium) as browser:
        watched = Watched(browser, 1500, 1100)
        page = watched.page
        page.goto(lab)
        page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content")
        page.wait_for_function(
            "() => document.querySelector('#jp-main-statusbar')?.innerText.includes(') | Idle')"
        )
        page.locator(".jp-Notebook .jp-Cell").nth(0).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".srl-canvas:visible")
        wait(page, "x.image() && x.state.stage === 6")
        keep_shot(page, "lab-opened")

        # Lab's own shortcuts would move to another cell.
        page.locator(".srl-canvas").last.focus()
        for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft"):
            page.keyboard.press(key)
        wait(page, "x.state.position === 3 && x.link")
        kernel = in_kernel(page, 2)
        assert (kernel["stage"], kernel["chosen"], kernel["edited"]) == (3, 12, False)

        # Drag the chosen box by its inside; the kernel runs stages 4 to 6 with it.
        before = pixels(page)
        x1, y1, x2, y2 = box_on_screen(page)
        page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2)
        page.mouse.down()
        page.mouse.move((x1 + x2) / 2 - 60, (y1 + y2) / 2 + 40, steps=6)
        page.mouse.up()
        keep_shot(page, "lab-dragged")
        wait(page, "x.edited() && !x.changes.waiting && x.changes.undoable === 1")
        assert pixels(page) != before
        dragged = in_kernel(page, 3)
        (edit,) = dragged["intervention"]["changes"]
        assert (edit["proposals"], edit["stage"]) == ([12], 3)
        assert dragged["box"] == pytest.approx(edit["box"], abs=0.02)
        assert dragged["box"][0] < kernel["box"][0] and dragged["box"][1] > kernel["box"][1]

        # Type it: Lab must not swallow the Enter, nor the digits.
        left = page.get_by_label("left, pixels")
        left.press("Control+a")
        left.press_sequentially("21")
        left.press("Enter")
        wait(page, "!x.changes.waiting && x.changes.undoable === 2")
        assert page.evaluate(f"() => ({STATE})().trace().box(3, 12)[0]") == pytest.approx(21, abs=1)

        # Switch off self-attention: another last stage, in kernel and image.
        before = pixels(page)
        page.locator(".srl-check", has_text="self-attention").locator("input").uncheck()
        wait(page, "!x.changes.waiting && x.changes.undoable === 3")
        assert page.evaluate(f"() => ({STATE})().trace().attention(6, 0).length") == 0
        assert in_kernel(page, 4)["intervention"]["ablation"]["self_attention"] is False
        page.locator(".srl-segments button", has_text="side by side").click()
        wait(page, "x.state.compare === 'both'")
        page.wait_for_timeout(300)
        keep_shot(page, "lab-side-by-side")
        assert page.locator(".srl-canvas:visible").count() == 2

        # A theme of Lab's, then all changes taken back.
        page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
        page.wait_for_selector(".srl[data-theme=dark]")
        page.locator(".srl-editcard button", has_text="undo").click()
        wait(page, "!x.changes.waiting && x.changes.undoable === 2")
        page.locator(".srl-editcard button", has_text="reset").click()
        wait(page, "!x.edited() && !x.changes.waiting")
        assert in_kernel(page, 5)["edited"] is False
        assert watched.errors == []

        # A dead kernel: said, and the recording still moves.
        page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".cm-content").click()
        page.keyboard.press("Control+End")
        page.keyboard.type("\nimport os; os.kill(os.getpid(), 19)")
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(500)
        page.locator(".srl-check", has_text="freeze boxes").locator("input").check()
        page.wait_for_function(
            "() => document.querySelector('.srl-notice').innerText.includes('does not answer')"
        )
        page.locator(".srl-canvas").last.focus()
        page.keyboard.press("Home")
        wait(page, "x.state.position === 0")
        keep_shot(page, "lab-kernel-gone")
        assert watched.strangers == []
        watched.context.close()


def test_a_notebook_opened_again(chromium, lab, tmp_path):
    """Catches "Loading widget..." where a notebook was saved with its widgets' state: the recording
    must be there, and move, without running anything."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    path = tmp_path / "again.ipynb"
    notebook = nbformat.read(tmp_path / "look.ipynb", as_version=4)
    del notebook.cells[1:]
    client(notebook, timeout=300, store_widget_state=True).execute()
    assert path.write_text(nbformat.writes(notebook), encoding="utf-8") < 1_000_000
    # What a person has run is trusted on their machine.
    trusts = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "home" / "JUPYTER_DATA_DIR")}
    trust = [sys.executable, "-m", "jupyter", "trust", str(path)]
    subprocess.run(trust, env=trusts, check=True, stdout=subprocess.DEVNULL)
    with open_browser(chromium) as browser:
        watched = Watched(browser, 1440, 900, reduced_motion="reduce")
        page = watched.page
        page.goto(lab.replace("look.ipynb", "again.ipynb"))
        page.wait_for_function(  # its style sheet has come: one of two pictures is hidden
            "() => [...document.querySelectorAll('.srl-canvas')]"
            ".filter((c) => c.checkVisibility()).length === 1"
        )
        page.locator(".srl-canvas:visible").focus()
        page.keyboard.press("ArrowLeft")
        wait(page, "x.state.stage === 5 && x.image()")
        keep_shot(page, "lab-again")
        high = page.evaluate("() => document.querySelector('.srl').getBoundingClientRect().height")
        assert high <= 900  # the whole of it in a laptop's window
        assert watched.strangers == []
        watched.context.close()
