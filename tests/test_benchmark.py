"""The benchmark measures what it says, and the slow pooling is a true reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sparse_rcnn_lab import cli
from sparse_rcnn_lab.benchmark.clock import Clock
from sparse_rcnn_lab.model.pooling import assign_levels, build_pyramid, pool
from sparse_rcnn_lab.model.reference import FeatureMaps, roi_align_pool


@pytest.fixture
def levels() -> list[torch.Tensor]:
    return [torch.randn(2, 5, 64 // s, 96 // s) for s in (1, 2, 4, 8)]


def _boxes() -> torch.Tensor:
    corner = torch.rand(2, 40, 2) * torch.tensor([300.0, 200.0]) - 20
    return torch.cat([corner, corner + torch.rand(2, 40, 2) ** 2 * 900], dim=2)


def test_reference_and_gather_agree_forward_and_backward(levels: list[torch.Tensor]) -> None:
    """Catches rows of the reference put at the wrong box, level or bin, on either side."""
    boxes = _boxes()
    chosen = assign_levels(boxes)
    assert set(chosen.flatten().tolist()) == {0, 1, 2, 3}
    weight = torch.randn(2, 40, 49, 5)
    results = []
    for build, pooling in ((build_pyramid, pool), (FeatureMaps.of, roi_align_pool)):
        leaves = [level.clone().requires_grad_() for level in levels]
        pooled = pooling(build(leaves), boxes, chosen, 7)
        (pooled * weight).sum().backward()
        results.append((pooled, [leaf.grad for leaf in leaves]))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    for a, b in zip(our_grads, their_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_reference_reads_an_ordinary_pyramid(levels: list[torch.Tensor]) -> None:
    """Catches a reference that only works on its own kind of pyramid."""
    boxes = _boxes()
    chosen = assign_levels(boxes)
    ordinary = roi_align_pool(build_pyramid(levels), boxes, chosen, 7)
    torch.testing.assert_close(ordinary, roi_align_pool(FeatureMaps.of(levels), boxes, chosen, 7))


def test_nested_parts_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches inner time counted twice, so that parts add up to more than the total."""
    clock = Clock("cpu", process_time=False)
    ticks = iter([0.0, 1.0, 4.0, 6.0, 7.0, 10.0])
    monkeypatch.setattr(clock, "_read", lambda: next(ticks))
    with clock.part("outer"):
        with clock.part("inner"):
            pass
        with clock.part("inner"):
            pass
    assert clock.parts == {"outer": 6.0, "inner": 4.0}


def test_benchmark_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches parts that do not make up the total, and poolings that are not exchanged."""
    out = tmp_path / "times.json"
    threads = torch.get_num_threads()
    options = ["--size", "64x96", "--proposals", "5", "--batch", "2", "--repeat", "1"]
    assert cli.main(["benchmark", *options, "--json", str(out)]) == 0
    assert torch.get_num_threads() == threads
    text = capsys.readouterr().out
    assert "64x96" in text and "5 proposals" in text and "1 thread, process time" in text
    result = json.loads(out.read_text())
    assert 0 <= result["largest_difference"] < 1e-3
    for part in ("inference", "training step"):
        assert result[part]["batch"] == 2
        for times in result[part]["milliseconds"].values():
            total = times.pop("total")
            assert total == pytest.approx(sum(times.values()), rel=1e-3)
            assert times["RoI pooling, all stages"] > 0
    assert result["training step"]["milliseconds"]["torchvision"]["matching"] > 0
    assert result["versions"]["torch"] == torch.__version__
