"""Trainings of minutes: memory that stays flat, 16 bits, compiled code, torchrun."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_training import DATA
from test_loader import PUBLISHED, Made, _children, like_coco
from test_numbers import TINY
from test_step import CPU, one_step, small, train_step

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.runtime.for_training import compile_model
from sparse_rcnn_lab.training.fit import begin
from sparse_rcnn_lab.training.loader import train_loader

pytestmark = pytest.mark.slow
MEMORY = """
import resource, sys
from pathlib import Path
sys.path[:0] = {tests!r}
import torch
torch.set_num_threads(1)
from small_training import tiny, train
unit = 1 if sys.platform == "darwin" else 1024
peaks = {{}}
def watch(step, _):
    peaks[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
train(Path({out!r}), tiny(train__steps=400, train__ema=0.9), val=None, on_step=watch)
print(peaks[100], peaks[400])
"""


def test_memory_stays_flat(tmp_path):
    """Catches graphs, batches or logs that pile up. Slow: 400 steps.

    Measured: 0 to 3 MB more after 400 steps than after 100; the graph of one tiny step is 30 MB.
    """
    tests = [str(Path(__file__).parents[1])]
    code = MEMORY.format(tests=tests, out=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    early, late = map(float, done.stdout.split())
    assert late - early < 10, f"{early:.0f} MB after 100 steps, {late:.0f} MB after 400"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_flat_over_a_long_run():
    """Catches batches that are kept, and workers that grow with every image."""
    data = Made(like_coco(300) // 2, np.full(300, 7))
    augment = Augment(replace(PUBLISHED.augment, short_sides=(128, 160), crop_size=(64, 100)))
    train = replace(PUBLISHED.train, batch_size=8)
    loader = train_loader(data, augment, train, InputConfig(), 0, 400, workers=2)
    used = []
    for step, _ in enumerate(loader):
        if step in (100, 399):
            used.append([_megabytes(pid) for pid in ("self", *_children())])
    print("MB, this process and its workers, after 100 and 400 steps:", used)
    assert len(used[0]) == 3
    assert all(late - early < 25 for early, late in zip(*used, strict=True))


def _megabytes(pid: str) -> int:
    """Memory of a process that is its own, not a file's or shared."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_do_not_overflow_in_a_thousand_steps(precision, tmp_path):
    """Catches a loss or a scale that runs away."""
    changes = {"train__steps": 1000, "train__batch_size": 2, "train__precision": precision, **TINY}
    run = srl.fit(
        srl.Shapes(64, size=(64, 64)),
        srl.recipe("nano", **changes),
        tmp_path / "run",
        workers=0,
        evaluate_every=0,
        progress=False,
    )
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert len(losses) == 1000 and np.isfinite(losses).all()
    assert np.mean(losses[-100:]) < np.mean(losses[:100])
    assert run.finished


def test_compiled_model_gives_the_same_step(tmp_path):
    """Catches a compiled part that computes something else. Slow: compiling takes a minute."""
    recipe = small(train__clip_norm=1e9)
    plain, loss = one_step(recipe)
    training = begin(recipe, CPU)
    assert compile_model(training.model, CPU)
    batch = next(
        iter(
            train_loader(
                DATA, Augment(recipe.augment, True), recipe.train, recipe.model.input, 0, 1, 0
            )
        )
    )
    for parameters in training.optimizer.param_groups:
        parameters["lr"] = 0.0
    _, values, _ = train_step(training, batch, batch.targets.counts, 0, 0.0)
    assert values.minimised == pytest.approx(loss, rel=1e-4)
    for name, parameter in training.model.named_parameters():
        largest = plain[name].abs().max().clamp(min=1e-6)
        assert (plain[name] - parameter.grad).abs().max() <= 1e-2 * largest, name
    assert list(training.model.state_dict()) == list(begin(recipe, CPU).model.state_dict())


def test_torchrun_trains_evaluates_and_speaks_once(tmp_path):
    """Catches commands that only work in one process, or print everything twice. Slow: torchrun."""
    small = ["model.dim=16", "model.num_heads=2", "model.num_stages=2", "augment.size=64,64"]
    changes = [part for change in small for part in ("--set", change)]
    out = str(tmp_path / "run")
    options = ["--data", "shapes", "--device", "cpu"]
    quick = ["--out", out, "--steps", "3", "--batch-size", "4", "--workers", "0"]
    text = torchrun("train", *options, *quick, *changes, "--evaluate-every", "0")
    assert text.count("done: 3 steps") == 1 and text.count("2 processes") == 1
    text = torchrun("evaluate", *options, "--model", out, "--limit", "5", "--batch-size", "2")
    assert text.count("5 images") == 1 and text.count("written:") == 1
    again = torchrun("train", *options, *quick, *changes, fails=True)
    assert again.count("already holds a run") == 1


def torchrun(command: str, *options: str, fails: bool = False) -> str:
    """What ``sparse_rcnn_lab command`` in two processes prints."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("-m", "sparse_rcnn_lab", command, *options),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr
