"""``sparse-rcnn-lab benchmark``."""

import json

import torch

from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.runtime.engines import installed_engines


def test_every_runtime_and_a_training_step(tmp_path, capsys):
    """Catches options that do not reach the measurement, and threads that are not given back."""
    out, threads = tmp_path / "times.json", torch.get_num_threads()
    options = ["--size", "64x96", "--proposals", "5", "--batch", "2", "--repeat", "1"]
    assert cli.main(["benchmark", *options, "--json", str(out)]) == 0
    assert torch.get_num_threads() == threads
    text = capsys.readouterr().out
    assert "64x96 pixels" in text and "batch 2, 5 proposals" in text
    assert "1 thread, process time, median of 1" in text
    times = json.loads(out.read_text())["milliseconds"]
    names = ["eager float32", "folded float32", "folded bf16"]
    names += [f"{engine} float32" for engine in installed_engines()]
    parts = [f"{name}: {part}" for name in names for part in ("pyramid", "stages")]
    assert list(times) == [*parts, "training step, batch 4"]
    assert all(ms > 0 for ms in times.values())
