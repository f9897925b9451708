"""Collecting, grading and feedback are killed at many moments; the next call makes it good.

Slow (``pytest -m slow tests/endurance/test_classroom_kills.py``): eight kills of each step.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import classroom_class as made
import pytest

pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")
pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")

from sparse_rcnn_lab.course.classroom.build import build
from sparse_rcnn_lab.course.classroom.course_folder import chosen
from sparse_rcnn_lab.course.classroom.roster import read_table

psutil = pytest.importorskip("psutil", reason="needs the classroom extra: psutil")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system"),
]
KILLS = int(os.environ.get("SPARSE_RCNN_LAB_KILLS", "8"))
OUTSIDE = ("collect", "grade", "feedback")


def command(step: str, course: Path) -> list[str]:
    more = {"collect": [str(course.parent / "in")], "grade": ["--workers", "2"], "feedback": []}
    start = [sys.executable, "-m", "sparse_rcnn_lab", "classroom", step]
    return [*start, *more[step], "--course", str(course)]


def run(step: str, course: Path) -> None:
    done = subprocess.run(command(step, course), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def tables(course: Path) -> dict[str, list[dict[str, str]]]:
    return {
        name: [row for _, row in read_table(course / f"{name}.csv")[1]]
        for name in ("marks", "marks_by_test", "by_hand")
    }


def pages(course: Path) -> dict[str, bytes]:
    return {str(p.relative_to(course)): p.read_bytes() for p in sorted(course.rglob("*.html"))}


def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    """Catches a submission that is lost, half a page, marks that are 0 or "cut short" for good, a
    mark given by hand that is gone, a gradebook that is locked, and processes left behind."""
    dice = random.Random(7)
    whole = tmp_path / "whole"
    course = build(whole / "course", made.SOURCES, chosen(["boxes"]), "2026")
    source, release = (made.read(course.notebook(s, "boxes")) for s in ("source", "release"))
    perfect = made.solved(source, release)
    mistakes = [made.with_mistake(perfect, mistake) for mistake in made.MISTAKES["boxes"][:3]]
    for number, notebook in enumerate([perfect, *mistakes, release]):
        made.hand_in(whole / "in", f"student {number}", "boxes", notebook)
    shutil.copytree(whole, tmp_path / "fresh")
    times = {}
    for step in OUTSIDE:
        start = time.perf_counter()
        run(step, whole / "course")
        times[step] = time.perf_counter() - start
    wanted, wanted_pages = tables(whole / "course"), pages(whole / "course")
    assert wanted["marks"][0]["marks"] == "20" and len(wanted_pages) > 5

    for round_ in range(KILLS):
        folder = tmp_path / f"round-{round_}"
        shutil.copytree(tmp_path / "fresh", folder)
        for step in OUTSIDE:
            kill = dice.choice((signal.SIGTERM, signal.SIGKILL))
            main = subprocess.Popen(
                command(step, folder / "course"), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            started: set[psutil.Process] = set()
            end = time.perf_counter() + dice.uniform(0.1, 1.0) * times[step]
            while time.perf_counter() < end and main.poll() is None:
                try:
                    started |= set(psutil.Process(main.pid).children(recursive=True))
                except psutil.Error:
                    break
                time.sleep(0.05)
            main.send_signal(kill)
            main.wait()
            _, alive = psutil.wait_procs(list(started), timeout=30)
            assert alive == [], f"{step}: {[process.cmdline() for process in alive]}"
            if step != "collect" and (folder / "course" / "marks.csv").exists():
                for row in tables(folder / "course")["marks"]:
                    known = next(r for r in wanted["marks"] if r["student"] == row["student"])
                    assert row["marks"] in (known["marks"], ""), "a mark that nobody has given"
            run(step, folder / "course")
        assert tables(folder / "course") == wanted
        assert pages(folder / "course") == wanted_pages
        shutil.rmtree(folder)
