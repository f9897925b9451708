"""The documents hold: links lead somewhere, the code in them runs, the commands exist."""

import contextlib
import inspect
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from app_models import served

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.models.load import CHECKPOINTS
from sparse_rcnn_lab.views import figures

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

named = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text("utf-8")) if kind == language]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub turns them into addresses."""
    text = FENCE.sub("", page.read_text("utf-8"))
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@named
def test_links_lead_somewhere(page):
    """Catches a page, an image or a heading that was renamed or never added."""
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r'(?:src|href)="([^"]+)"', text
    ):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def test_links_are_looked_at():
    """Catches a search that finds nothing, and so has nothing to say."""
    assert "the-published-coco-models" in anchors(ROOT / "docs" / "models.md")
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 9


# What a page's code needs besides photo.jpg, and what is made smaller so that it takes seconds: the
# published models are not there without a network.
SMALLER = {"r50_3x_300": "nano-shapes", "limit=24": "limit=2", "limit=100": "limit=2"}


@contextlib.contextmanager
def prepared(page: Path) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The names that the code finds, and what is replaced in it."""
    if page.name == "explorer.md":
        detector = srl.load("nano-shapes")
        yield (
            {"sample": srl.open_data("shapes", "val")[0], "trace": detector.trace("photo.jpg")},
            {},
        )
    elif page.name == "report.md":  # what the command before the code leaves behind
        kept = Path("starts/kmeans-learned-0/snapshots")
        kept.mkdir(parents=True)
        for step in (60, 300):
            shutil.copy(
                CHECKPOINTS / "nano-shapes.safetensors", kept / f"step_{step:07d}.safetensors"
            )
        yield {}, {}
    elif page.name == "app.md":
        pytest.importorskip("gradio")
        with served(["nano-shapes"]) as url:
            yield {}, {"http://127.0.0.1:7860": url}
    else:
        yield {"srl": srl}, {}


# tests/runtime runs export.md, where there are exported files.
WITH_CODE = [p for p in PAGES if blocks(p, "python") and p.name != "export.md"]


@pytest.mark.usefixtures("small_figures")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_code_runs(page, tmp_path, monkeypatch):
    """Catches a name or argument that has changed since the page was written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib, "rcParams", matplotlib.rcParams.copy())
    shutil.copy(ROOT / "sparse_rcnn_lab" / "data" / "examples" / "cards_1.jpg", "photo.jpg")
    with prepared(page) as (names, changes):
        for code in blocks(page, "python"):
            for old, new in {**SMALLER, **changes}.items():
                code = code.replace(old, new)
            exec(compile(code, page.name, "exec"), names)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line that calls the package's command."""
    found = []
    for page in [*PAGES, *CHECKPOINTS.glob("*.md")]:
        text = page.read_text("utf-8")
        lines = [
            line
            for _, code in FENCE.findall(text)
            for line in code.replace("\\\n", " ").split("\n")
        ]
        lines += re.findall(r"`(sparse-rcnn-lab [^`]+)`", text.replace("\n", " "))
        for line in lines:
            call = re.search(r"(?:sparse-rcnn-lab|-m sparse_rcnn_lab) ([a-z]+ .*|[a-z]+$)", line)
            if call:
                found.append((page.name, call[1]))
    return found


def test_commands_exist(capsys):
    """Catches an option in a document that the command does not have."""
    known = commands()
    assert len(known) > 30
    parser = cli.build_parser()
    for page, line in known:
        words = shlex.split(line.replace("…", "").replace("...", ""), comments=True)
        if "--help" in words or words[1:] == []:
            words = [words[0], "--help"]
        try:
            parser.parse_args(words)
        except SystemExit as ended:
            missing = "required" in capsys.readouterr().err  # a mention in a sentence
            assert ended.code == 0 or missing, f"{page}: {line}"


def public() -> list[tuple[str, Any]]:
    """Every public function, class and method of the three modules that people import."""
    found: dict[str, Any] = {}
    for module in (srl, analysis, figures):
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            found[f"{module.__name__}.{name}"] = thing
            if inspect.isclass(thing):
                for part, value in vars(thing).items():
                    if not part.startswith("_") and inspect.isfunction(value):
                        found[f"{module.__name__}.{name}.{part}"] = value
    return sorted(found.items())


def test_public_names_say_what_they_are():
    """Catches a public name without a text, and a tensor whose shape is nowhere said."""
    names = public()
    assert len(names) > 80
    for name, thing in names:
        text = inspect.getdoc(thing)
        assert text and len(text) > 15, name
        if inspect.isfunction(thing):
            takes = str(inspect.signature(thing))
            assert "'Tensor'" not in takes or re.search(r"\[.*\]|[Ss]ame|xyxy", text), name


@pytest.mark.filterwarnings("ignore:Error parsing type annotation")
def test_the_api_pages_build(tmp_path):
    """Catches a docstring or an import that pdoc cannot read."""
    pdoc = pytest.importorskip("pdoc")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (modules,) = re.findall(r"^API := (.*)$", makefile, re.M)
    pdoc.render.configure(docformat="restructuredtext", show_source=False)  # which takes long
    pdoc.pdoc(*modules.split(), output_directory=tmp_path)
    page = (tmp_path / "sparse_rcnn_lab.html").read_text("utf-8")
    assert all(f'id="{name}"' in page for name in srl.__all__ if name != "__version__")
