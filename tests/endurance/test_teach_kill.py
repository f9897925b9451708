"""A training that is taught something, killed for good, and started again with the same command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_rcnn_lab import Shapes
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.teach.progress import ALIVE, read_progress
from sparse_rcnn_lab.views.draw import as_image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def yolo(folder: Path) -> Path:
    """Twelve drawn images with labels as YOLO has them."""
    folder.mkdir()
    drawn = Shapes(12, seed=4, size=96)
    (folder / "classes.txt").write_text("\n".join(drawn.class_names))
    for number in range(len(drawn)):
        sample = drawn[number]
        as_image(sample.image).save(folder / f"{number}.png")
        lines = []
        for label, box in zip(sample.labels.tolist(), (sample.boxes / 96).tolist(), strict=True):
            x1, y1, x2, y2 = box
            lines.append(f"{label} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}")
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes otherwise")
@pytest.mark.parametrize("phase", ["checking", "training"])
def test_killed_and_started_again(tmp_path, phase):
    """Catches a run that is lost, begins anew, or refuses to go on."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "sparse_rcnn_lab", "teach", str(yolo(tmp_path / "drawn"))]
    command += ["--out", str(run), "--start-from", "nano-shapes", "--minutes", "1", "--quiet"]
    process = subprocess.Popen([*command, "--workers", "0"])
    end = time.monotonic() + 400
    while time.monotonic() < end:
        saved = any((run / "checkpoints").glob("step_*")) if run.exists() else False
        if (saved and phase == "training") or (
            (run / "teach.json").exists() and phase != "training"
        ):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_progress(run)
    os.utime(run / ALIVE, (0, 0)) if (run / ALIVE).exists() else None  # twenty seconds later
    again = subprocess.run([*command, "--workers", "0"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    progress = read_progress(run)
    assert progress["phase"] == "done"
    steps = [row["step"] for row in RunFolder(run).rows("metrics")]
    assert steps == list(range(1, progress["done_steps"] + 1))
    if phase == "training":
        assert "Continues" in again.stdout and before["steps"] == progress["steps"]
    assert "held-out images it finds" in again.stdout
