"""The explorer as a widget outside a running JupyterLab: in marimo, and in what nbconvert makes of
a notebook that was saved without its widgets' state."""

import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from time import monotonic, sleep

import pytest
from browser import Watched, keep_shot, open_browser

pytest.importorskip("anywidget", reason="needs the notebooks extra: anywidget")
pytest.importorskip("playwright", reason="needs the dev extra: playwright")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

CODE = """from pathlib import Path
import sparse_rcnn_lab as srl
example = Path(srl.__file__).parent / "data" / "examples" / "shapes_2.png"
view = srl.explore(example, "nano-shapes", fly=False)
"""


def test_what_nbconvert_makes_of_it(tmp_path, chromium):
    """Catches a page with a hole where the explorer was, or one that has to ask a network."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    nbconvert = pytest.importorskip("nbconvert")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE + "view")])
    # As Lab saves it, where its setting "Save Widget State Automatically" is off.
    client(notebook, timeout=300, kernel_name="python3", store_widget_state=False).execute()
    (output,) = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data
    exporter = nbconvert.HTMLExporter(mathjax_url="", require_js_url="", jquery_url="")
    text, _ = exporter.from_notebook_node(notebook)
    path = tmp_path / "look.html"
    path.write_text(text, encoding="utf-8")
    with open_browser(chromium) as browser:
        watched = Watched(browser, reduced_motion="reduce")
        watched.page.goto(path.as_uri())
        frame = watched.page.frame_locator("iframe")
        frame.locator(".srl-canvas:visible").focus()
        watched.page.keyboard.press("End")
        frame.locator(".srl-stage", has_text="stage 6").wait_for()
        watched.page.keyboard.press("ArrowLeft")
        frame.locator(".srl-stage", has_text="stage 5").wait_for()
        keep_shot(watched.page, "nbconvert")
        watched.context.close()


def test_in_marimo(tmp_path, chromium):
    """Catches a widget that marimo does not know, or whose changes do not reach the kernel."""
    pytest.importorskip("marimo")
    indented = "".join(f"    {line}\n" for line in CODE.splitlines())
    (tmp_path / "look.py").write_text(
        "import marimo\napp = marimo.App()\n\n@app.cell\ndef _():\n"
        f"{indented}    view\n    return (view,)\n\nif __name__ == '__main__':\n    app.run()\n",
        encoding="utf-8",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "-q", "run", "look.py", "--headless", "--no-token"]
    home = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, **home},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = monotonic() + 120
        while monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(url, timeout=5)
                break
            sleep(0.5)
        with open_browser(chromium) as browser:
            watched = Watched(browser, reduced_motion="reduce")
            page = watched.page
            page.goto(url)
            page.locator(".srl-canvas:visible").focus()
            page.keyboard.press("ArrowLeft")
            page.locator(".srl-stage", has_text="stage 5").wait_for()
            page.locator(".srl-check", has_text="self-attention").locator("input").uncheck()
            page.locator(".srl-changes li", has_text="self-attention off").wait_for()
            page.locator(".srl-result:visible").wait_for()  # the kernel's answer
            keep_shot(page, "marimo")
            watched.context.close()
    finally:
        server.terminate()
        server.wait(20)
