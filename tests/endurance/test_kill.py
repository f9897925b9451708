"""SIGKILL at random moments: every file afterwards is whole or absent, and a run goes on.

Slow (``pytest -m slow tests/endurance/test_kill.py``, half an hour): 50 kills each of a training,
of writing, of a download, of an evaluation, and of building the gallery.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from file_server import file_server
from test_weights import NAME, hollow

from sparse_rcnn_lab import load_trace
from sparse_rcnn_lab.models import releases as weights
from sparse_rcnn_lab.models.checkpoint import read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system"),
]
KILLS = int(os.environ.get("SPARSE_RCNN_LAB_KILLS", "50"))
PREAMBLE = """
import sys, torch
torch.set_num_threads(1)
import sparse_rcnn_lab as srl
print("ready", flush=True)
"""
TRAIN = (
    PREAMBLE
    + """
from sparse_rcnn_lab.data.shapes.dataset import Shapes
changes = dict(train__steps=240, train__batch_size=2, train__warmup_steps=5, model__dim=16,
               model__ffn_dim=32, model__dynamic_dim=4, train__ema=0.9)
data = Shapes(64, size=(64, 64)), Shapes(4, seed=1, size=(64, 64))
run = srl.fit(data[0], srl.recipe("nano", **changes), sys.argv[1], val=data[1], workers=0,
              evaluate_every=10, evaluate_limit=2, resume=len(sys.argv) > 2, progress=False)
print("finished", flush=True)
"""
)
WRITE = (
    PREAMBLE
    + """
detector = srl.load("nano-shapes")
trace = detector.trace(torch.zeros(3, 96, 96))
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.views import figures
while True:
    srl.save_trace(trace, sys.argv[1] + "/trace.npz")
    srl.explore(trace).to_html(sys.argv[1] + "/explorer.html")
    save_checkpoint(sys.argv[1] + "/model.safetensors", detector.model, detector.class_names, "m")
"""
)


EVALUATE = (
    PREAMBLE
    + """
from sparse_rcnn_lab.cli.main import main
while True:
    main(["evaluate", "--data", "shapes", "--limit", "4", "--stages", "6", "--out", sys.argv[1]])
"""
)
FETCH = (
    PREAMBLE
    + """
from dataclasses import replace
from sparse_rcnn_lab.models import releases as weights
name = "r50_1x_100"
weights.RELEASES[name] = replace(weights.RELEASES[name], version=sys.argv[1])
weights.fetch(name, progress=False)
"""
)
GALLERY = """
import sys
from pathlib import Path
print("ready", flush=True)
from sparse_rcnn_lab.course.lessons.lesson_pages import make_gallery
while True:
    make_gallery(Path(sys.argv[1]), Path(sys.argv[2]), fast=True)
"""
LESSON = """# %% [markdown]
# # Small
#
# **Aim.** See.

# %%
from sparse_rcnn_lab.course import lessons
lessons.lines({"a": [1, 2]}, [1, 2], title="t", across="x", up="y")
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def check_whole(folder: Path) -> int:
    """Reads every file of the folder; how many there are. Raises for one that is not whole."""
    count = 0
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue  # what was being written; nobody reads it
        count += 1
        if path.suffix == ".safetensors":
            read_checkpoint(path)
        elif path.suffix == ".npz":
            load_trace(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in lines[:-1]:  # the last one may be half written; resuming cuts it off
                json.loads(line)
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
    return count


def test_training_killed_at_any_moment_ends_as_an_unbroken_one(tmp_path):
    unbroken = start(TRAIN, str(tmp_path / "unbroken"))
    begin = time.monotonic()
    assert unbroken.communicate(timeout=600)[0] == "finished\n"
    whole = time.monotonic() - begin
    chance = random.Random(0)
    kills, finished, rounds = 0, 0, 0
    while kills < KILLS:
        run, resume = tmp_path / f"run{rounds}", ()
        while True:
            process = start(TRAIN, str(run), *resume)
            try:
                text, _ = process.communicate(timeout=chance.uniform(0.0, whole / 3))
                assert process.returncode == 0 and text == "finished\n"
                finished += 1
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
            resume = ("resume",) if (run / "run.json").exists() else ()
            check_whole(run)
        expected = read_checkpoint(tmp_path / "unbroken" / "model.safetensors").state
        found = read_checkpoint(run / "model.safetensors").state
        assert all(torch.equal(expected[key], found[key]) for key in expected)
        rounds += 1
    assert finished == rounds >= 1


def test_files_killed_at_any_moment_are_whole_or_absent(tmp_path):
    chance = random.Random(0)
    seen = 0
    for _ in range(KILLS):
        process = start(WRITE, str(tmp_path))
        time.sleep(chance.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        seen += check_whole(tmp_path)
    assert seen > KILLS  # the files were there most of the time


def killed(code: str, longest: float, *arguments: str) -> bool:
    """Runs ``code`` and kills it, and what it started, at some moment; False when it had ended."""
    process = start(code, *arguments)
    try:
        process.communicate(timeout=CHANCE.uniform(0.0, longest))
        assert process.returncode == 0
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True


CHANCE = random.Random(1)


def test_an_evaluation_killed_at_any_moment(tmp_path):
    seen = 0
    for _ in range(KILLS):
        assert killed(EVALUATE, 6.0, str(tmp_path))
        seen += check_whole(tmp_path)
    assert seen > KILLS


def test_a_download_killed_at_any_moment(tmp_path, monkeypatch):
    content = hollow()
    release = replace(
        weights.RELEASES[NAME], version=f"20201222_214453-{sha256(content).hexdigest()[:8]}"
    )
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    kills = 0
    with file_server() as served:
        served.files[release.file] = content
        monkeypatch.setenv(weights.MIRROR_VARIABLE, served.url + "/")
        while kills < KILLS:
            kills += (one := killed(FETCH, 6.0, release.version))
            files = [p for p in (tmp_path / "weights").glob("*.safetensors") if p.name[0] != "."]
            assert one or files
            for path in files:  # under its own name it is whole; the next round begins afresh
                read_checkpoint(path)
                path.unlink()
        while killed(FETCH, 600.0, release.version):
            raise AssertionError("a download after all those kills did not end")
    # What the kills left behind was cleared away by the one that ended.
    assert [p.name for p in (tmp_path / "weights").iterdir() if p.suffix != ".lock"] == [
        release.cached.name
    ]
    read_checkpoint(tmp_path / "weights" / release.cached.name)


def test_a_gallery_killed_at_any_moment(tmp_path):
    pytest.importorskip("nbconvert")
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "01_small.py").write_text(LESSON, encoding="utf-8")
    out, seen = tmp_path / "out", 0
    for _ in range(KILLS):
        assert killed(GALLERY, 20.0, str(tmp_path / "lessons"), str(out))
        seen += check_whole(out)
        for path in out.glob("*.js"):
            assert path.stat().st_size > 10**6
    assert seen > KILLS
