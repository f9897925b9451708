"""The lessons: paired, without outputs, and running from top to bottom from any folder."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="needs the notebooks extra: jupytext")
pytest.importorskip("nbclient", reason="needs the notebooks extra: JupyterLab")

import jupytext
import nbclient
import nbformat
from jupyter_client.manager import KernelManager

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.course.lessons import lesson_pages
from sparse_rcnn_lab.course.lessons.lesson_setup import FAST_VARIABLE
from sparse_rcnn_lab.course.lessons.notebook_files import (
    as_text,
    build,
    execute,
    lesson_scripts,
    sync,
)
from sparse_rcnn_lab.views import figures
from sparse_rcnn_lab.views.static import STATIC_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = lesson_scripts(ROOT / "notebooks")
each = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])


def test_there_are_nine():
    """Catches a lesson that was lost or numbered twice."""
    assert [script.name[:2] for script in SCRIPTS] == [f"0{i}" for i in range(1, 10)]


@each
def test_notebook_is_its_script_without_outputs(script):
    """Catches a notebook saved with outputs, or edited without its script (run: python -m
    sparse_rcnn_lab.course.lessons sync)."""
    assert script.with_suffix(".ipynb").read_text(encoding="utf-8") == as_text(build(script))


@each
def test_running_a_lesson_leaves_its_script(script):
    """Catches a JupyterLab that writes metadata to the script as it saves what was run."""
    notebook = nbformat.reads(as_text(build(script)), as_version=4)  # with the pair's metadata
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    for cell in notebook.cells:
        cell.metadata["execution"] = {"iopub.status.busy": "2026"}
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="1")]
    saved = jupytext.writes(notebook, fmt="py:percent")
    assert saved == script.read_text(encoding="utf-8")


@each
def test_lesson_has_its_parts(script):
    """Catches a lesson without aim, needs, exercises with folded answers, or what to read next."""
    text = script.read_text(encoding="utf-8")
    for part in ("**Aim.**", "**You will see**", "**Needs**", "## Exercises", "## Read next"):
        assert part in text, part
    assert len(re.findall(r"^# \*\*\d\.\*\*", text, re.M)) in (3, 4)
    answers = text.count("<details><summary>Answer</summary>")
    assert answers >= 1 and text.count("</details>") == answers
    assert "class " not in re.sub(r"^#.*$", "", text, flags=re.M), "model code in a notebook"


@each
def test_links_lead_somewhere(script):
    """Catches a link to a lesson or page that was renamed."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", script.read_text(encoding="utf-8")):
        assert (script.parent / target).exists(), target


@each
def test_names_in_the_text_exist(script):
    """Catches a text or answer that names a function of another name."""
    there = {"srl": srl, "analysis": analysis, "lessons": lessons, "figures": figures}
    said = re.findall(rf"\b({'|'.join(there)})\.(\w+)", script.read_text(encoding="utf-8"))
    assert [f"{of}.{name}" for of, name in said if not hasattr(there[of], name)] == []


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all lessons, since it takes longer to start than most of them to run."""
    manager = KernelManager()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def one_kernel(kernel, monkeypatch):
    """``execute`` takes the kernel, with its names, folder and environment begun anew."""

    class Client(nbclient.NotebookClient):
        def __init__(self, notebook, **options):
            super().__init__(notebook, km=kernel, **options)

        def execute(self, env):
            told = {name: env[name] for name in (FAST_VARIABLE, STATIC_VARIABLE)}
            place = self.resources["metadata"]["path"]
            code = f"import os\nos.environ.update({told!r})\nos.chdir({place!r})\n"
            code += "from sparse_rcnn_lab.views.figures import canvas\ncanvas.DPI = 50\n%reset -f"
            self.nb.cells.insert(0, nbformat.v4.new_code_cell(code))
            try:
                super().execute(env=env)
            finally:
                del self.nb.cells[0]
                self.kc.stop_channels()  # which it leaves open where the kernel is not its own

    monkeypatch.setattr(nbclient, "NotebookClient", Client)


@each
def test_lesson_runs(script, one_kernel, tmp_path):
    """Catches a lesson that a change of the package has broken, or that only runs in its folder."""
    notebook, _ = execute(script, fast=True, folder=tmp_path)
    warned = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert warned == []


def test_sync_writes_what_changed(tmp_path):
    """Catches notebooks that are rewritten each time, or not at all."""
    script = tmp_path / "01_x.py"
    script.write_text("# %% [markdown]\n# # Title\n\n# %%\n1 + 1\n", encoding="utf-8")
    (path,) = sync(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    assert sync(tmp_path) == []


def test_formulas_become_mathml():
    """Catches a page that needs MathJax from the network, and a price taken for a formula."""
    pytest.importorskip("latex2mathml")
    shown = lesson_pages.with_mathml("with $N = 50$ and\n\n$$a_b$$\n\nbut `cost $x$` stays")
    assert shown.count("<math") == 2 and "`cost $x$` stays" in shown and "$N" not in shown


def test_gallery_stands_alone(tmp_path, one_kernel):
    """Catches a page that loads something from elsewhere, or shows a dead widget."""
    pytest.importorskip("latex2mathml")
    source = tmp_path / "notebooks"
    source.mkdir()
    (source / "01_small.py").write_text(
        "# %% [markdown]\n# # Small\n#\n# **Aim.** See $x^2$.\n\n# %%\n"
        "import sparse_rcnn_lab as srl\nfrom sparse_rcnn_lab.course import lessons\n"
        "srl.explore(lessons.example('shapes_1.png'), 'nano-shapes')\n\n# %%\n"
        "lessons.lines({'a': [1]}, [1], title='t', across='x', up='y')\n\n# %%\n"
        "from tqdm.notebook import tqdm\nlist(tqdm([1, 2]))\n",
        encoding="utf-8",
    )
    index, *pages = lesson_pages.make_gallery(source, tmp_path / "out", fast=True)
    names = [page.name for page in pages]
    assert names == ["01_small_explorer_1.html", "01_small.html"]
    text = (tmp_path / "out" / "01_small.html").read_text(encoding="utf-8")
    assert (
        "<math" in text
        and "Plotly.newPlot" in text
        and '<iframe sandbox="allow-scripts" srcdoc' in text
    )
    assert "widget-view" not in text
    for page in (index, *pages):
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', html), page.name
