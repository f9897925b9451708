"""The benchmark measures what it says, and the slow pooling is a true reference."""

import json
from dataclasses import replace

import pytest
import torch
from coco_folders import coco_folder

from benchmarks import __main__ as cli
from benchmarks import growth, training
from benchmarks.clock import Clock
from benchmarks.peers import compare
from benchmarks.poolings import Settings
from benchmarks.roi_align import FeatureMaps, roi_align_pool
from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.core.model import Proposals
from sparse_rcnn_lab.core.pooling import assign_levels, build_pyramid, pool


@pytest.fixture
def levels() -> list[torch.Tensor]:
    return [torch.randn(2, 5, 64 // s, 96 // s) for s in (1, 2, 4, 8)]


def _boxes() -> torch.Tensor:
    corner = torch.rand(2, 40, 2) * torch.tensor([300.0, 200.0]) - 20
    return torch.cat([corner, corner + torch.rand(2, 40, 2) ** 2 * 900], dim=2)


def test_reference_and_gather_agree_forward_and_backward(levels):
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


def test_reference_reads_an_ordinary_pyramid(levels):
    """Catches a reference that only works on its own kind of pyramid."""
    boxes = _boxes()
    chosen = assign_levels(boxes)
    ordinary = roi_align_pool(build_pyramid(levels), boxes, chosen, 7)
    torch.testing.assert_close(ordinary, roi_align_pool(FeatureMaps.of(levels), boxes, chosen, 7))


def test_nested_parts_count_once(monkeypatch):
    """Catches inner time counted twice, so that parts add up to more than the total."""
    clock = Clock("cpu")
    ticks = iter([0.0, 1.0, 4.0, 6.0, 7.0, 10.0])
    monkeypatch.setattr(clock, "_read", lambda: next(ticks))
    with clock.part("outer"):
        with clock.part("inner"):
            pass
        with clock.part("inner"):
            pass
    assert clock.parts == {"outer": 6.0, "inner": 4.0}


def test_benchmark_from_the_command_line(tmp_path, capsys):
    """Catches parts that do not make up the total, and poolings that are not exchanged."""
    out = tmp_path / "times.json"
    threads = torch.get_num_threads()
    options = ["--size", "64x96", "--proposals", "5", "--batch", "2", "--repeat", "1"]
    assert cli.main([*options, "--json", str(out)]) == 0
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


def test_training_is_measured_in_two_precisions(tmp_path, capsys, monkeypatch):
    """Catches a precision that is never used, weights that do not learn or are handed on from one
    run to the next, and batches counted as images.
    """
    out = tmp_path / "training.json"
    monkeypatch.setattr(training, "BATCHES", 1)
    options = ["--size", "64x64", "--batch", "2", "--steps", "6", "--precision", "bf16"]
    assert cli.main(["--train", *options, "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "drawn images of 64x64 pixels, batches of 2, 20 proposals, 6 steps" in text
    result = json.loads(out.read_text())
    exact, rough = result["runs"]["float32"], result["runs"]["bf16"]
    for run in (exact, rough):
        rate = 1000 * 2 / run["milliseconds"]
        assert run["images_per_second"] == pytest.approx(rate, rel=1e-2)
        assert len(run["loss"]) == 6 and run["memory"] is None
        assert max(run["loss"][4:]) < run["loss"][0]  # the same batch again
    assert exact["loss"][0] != rough["loss"][0] == pytest.approx(exact["loss"][0], rel=0.01)
    difference = rough["loss"][-1] / exact["loss"][-1] - 1
    assert f"{difference:+.2%}" in text.splitlines()[-3]
    assert result["loading"] is None and result["machine"]["cpu"]


def test_loader_is_compared_with_the_step(tmp_path, capsys):
    """Catches a verdict the wrong way round, and a training on other images than the folder's."""
    options = ["--data", str(coco_folder(tmp_path)), "--batch", "1", "--steps", "2"]
    out = tmp_path / "training.json"
    assert cli.main(["--train", *options, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert list(result["runs"]) == ["float32"] and result["settings"]["size"] is None
    assert "it does not wait for" in training.as_text(result)
    result["loading"]["one_process"]["images_per_second"] = 0.01
    assert "it waits for 0.0 that" in training.as_text(result)
    capsys.readouterr()
    assert cli.main(["--train", *options, "--size", "64x64"]) == 2
    assert "size is that of drawn images" in capsys.readouterr().err
    assert cli.main(["--train", "--steps", "1"]) == 2


def test_wrong_settings_are_refused_by_all():
    """Catches a size that only one of the measurements checks, and no repetition at all."""
    for size in ((100, 100), (0, 32)):
        with pytest.raises(LabError, match="multiples of 32, found"):
            Settings(size=size)
    with pytest.raises(LabError, match="repeat must be at least 1, found 0"):
        Settings(repeat=0)


def test_peers_of_a_trained_model_have_as_many_proposals():
    """Catches a number of proposals that is asked for, told, and not run."""
    settings = Settings("nano-shapes", size=(64, 64), proposals=5, repeat=1)
    seen = []

    def count(module: torch.nn.Module, _: object, out: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, Proposals):
            seen.append(out[0].shape[1])

    with (
        torch.nn.modules.module.register_module_forward_hook(count),
        pytest.raises(LabError, match=r"must be 1\.\.20, found 21"),
    ):
        assert compare(settings, ["eager", "roialign"])["proposals"] == 5
        compare(replace(settings, proposals=21), [])
    assert set(seen) <= {5, 8}  # 8: when an engine's graphs are compared with the model


def test_growth_finds_a_known_curve():
    """Catches coefficients of the wrong power, and negative ones."""
    found = growth.fit([5, 10, 20, 40], [2 + 3 * x + 0.5 * x**2 for x in (5, 10, 20, 40)], True)
    assert found == pytest.approx({"fixed": 2, "linear": 3, "quadratic": 0.5}, rel=1e-3)
    assert growth.fit([1, 2, 4], [5.0, 5.0, 5.0]) == pytest.approx({"fixed": 5, "linear": 0})


def test_peers_from_the_command_line(tmp_path, capsys):
    """Catches a peer that is not there and stops the others, or is passed over in silence."""
    out = tmp_path / "peers.json"
    options = ["--size", "64x96", "--repeat", "1", "--json", str(out)]
    assert cli.main([*options, "--against", "eager,roialign,bf16,torchvision,mmdetection"]) == 0
    result = json.loads(out.read_text())
    assert set(result["milliseconds"]) == {"auto", "eager", "roialign", "bf16"}
    assert set(result["missing"]) == {"torchvision", "mmdetection"}
    assert "mmdetection: not measured" in capsys.readouterr().out
    assert cli.main([*options, "--against", "yolo"]) == 2
