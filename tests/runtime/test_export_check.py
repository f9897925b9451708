"""The check of an exported file, and what stops an export: with a stand-in for the slow writing."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import PROPOSALS, small_model
from torch import Tensor

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.runtime import export as exporting
from sparse_rcnn_lab.runtime.export import check as checking
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph

NAMES = ("cat", "dog", "bird")


def tiny() -> srl.Detector:
    return srl.Detector(small_model(num_stages=2), NAMES, "tiny")


Spoil = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def quick(monkeypatch) -> Callable[[Spoil], None]:
    """Writes a few bytes, and runs the untraced graph, its answers spoilt by a function."""
    graphs: list[DetectionGraph] = []

    def write(graph: DetectionGraph, with_sizes: bool, metadata: Any, path: Path) -> None:
        graphs.append(graph)
        path.write_bytes(b"graph")

    def use(spoil: Spoil) -> None:
        def run(images: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
            with torch.no_grad():
                found = graphs[-1](images, sizes)
            spoil(found)
            return found

        monkeypatch.setitem(exporting.WRITERS, "torch-export", write)
        monkeypatch.setitem(exporting.RUNNERS, "torch-export", lambda *_: run)

    return use


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found["boxes"][-1, 0].add_(0.5),
        lambda found: found["scores"].mul_(0.9),
        lambda found: found["labels"].add_(1),
        lambda found: found["proposals"].sub_(1),
        lambda found: found["boxes"].fill_(float("nan")),
        lambda found: found["scores"].fill_(float("nan")),
        lambda found: found["stage_boxes"][:, 1].add_(0.5),
        lambda found: found["stage_logits"][:, 0].add_(0.1),
    ],
    ids=lambda _: "",
)
def test_file_that_differs_is_not_kept(quick, tmp_path, spoil):
    """Catches a check that looks at some outputs only, and a file left behind or overwritten."""
    quick(spoil)
    with pytest.raises(LabError, match="does not compute what the model does"):
        srl.export(tiny(), tmp_path / "new.pt2", all_stages=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.pt2").write_bytes(b"old")
    with pytest.raises(LabError):
        srl.export(tiny(), tmp_path / "old.pt2", all_stages=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_rounding_is_measured_where_a_model_magnifies_it(quick, tmp_path, monkeypatch):
    """Catches an untrained R-50 that cannot be exported, for being far from itself in float64."""
    for name, limit in (("BOX_TOLERANCE", 1e-9), ("SCORE_TOLERANCE", 1e-9), ("ROUNDINGS", 1.0)):
        monkeypatch.setattr(checking, name, limit)
    quick(lambda found: None)
    exact = checking._in_float64(graph := DetectionGraph(tiny().model, PROPOSALS, 2))
    monkeypatch.setitem(exporting.RUNNERS, "torch-export", lambda *_: exact)
    first = srl.export(tiny(), tmp_path / "a.pt2").checks[0]
    assert first.rounding == (first.boxes, first.scores) and 0 < first.boxes < 0.01
    assert "float32 alone" in str(first)
    assert graph.mean.dtype == torch.float32  # the model itself was left alone


def test_rounding_may_exchange_neighbours(quick, tmp_path):
    """Catches a check that fails when two detections of almost the same score change places."""

    def swap(found: dict[str, Tensor]) -> None:
        for name, value in found.items():
            if not name.startswith("stage"):
                value[:, [0, 1]] = value[:, [1, 0]]

    quick(swap)
    done = srl.export(tiny(), tmp_path / "new.pt2")
    assert done.path.read_bytes() == b"graph"
    assert [check.boxes for check in done.checks] == [0, 0]


def test_command_says_what_is_in_the_file(quick, tmp_path, capsys, monkeypatch):
    """Catches options that do not reach the graph, and a file name nobody can guess."""
    quick(lambda found: None)
    monkeypatch.chdir(tmp_path)
    options = ["--to", "torch-export", "--proposals", "7", "--stage", "3", "--stages", "all"]
    assert cli.main(["export", *options, "--sizes"]) == 0
    text = capsys.readouterr().out
    assert "7 proposals, 3 stages" in text and "written: nano-shapes.pt2" in text
    assert "in   sizes" in text and "out  stage_boxes" in text
    assert text.count("boxes differ by at most 0.0e+00 pixels") == 2
    assert cli.main(["export", "--out", "a.pt2", "--no-check"]) == 0
    assert "checked" not in capsys.readouterr().out
    assert Path("a.pt2").exists()


def test_without_onnxruntime_the_file_is_kept_and_it_is_said(tmp_path, capsys, monkeypatch):
    """Catches a check that is silently skipped, and one that costs the file."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(exporting, "require_onnx", lambda: None)
    monkeypatch.setitem(exporting.WRITERS, "onnx", lambda *args: args[-1].write_bytes(b"graph"))
    assert cli.main(["export", "--out", str(tmp_path / "a.onnx")]) == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out
    assert (tmp_path / "a.onnx").exists()


def test_missing_extra_says_what_to_install(tmp_path, monkeypatch):
    """Catches an ImportError, minutes into the export, that does not say what to do."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(LabError, match=r"onnx, .*sparse-rcnn-lab\[export\]"):
        srl.export(tiny(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.tflite", {}, r"\.onnx nor in \.pt2"),
        ("a.pt2", {"to": "tflite"}, "'tflite' is unknown. Choose from onnx, torch-export"),
        ("a.onnx", {"to": "torch-export"}, r"format onnx, but torch-export.*Call it a\.pt2"),
        ("folder.pt2", {}, "is a folder"),
        ("file/a.pt2", {}, "Could not write"),
        ("a.pt2", {"num_proposals": PROPOSALS + 1}, "num_proposals must be 1..6, found 7"),
        ("a.pt2", {"stage": 0}, "stage must be 1..2, found 0"),
    ],
)
def test_what_cannot_be_done_is_said(quick, tmp_path, name, options, message):
    """Catches a wrong argument that is found only after minutes, or not at all."""
    quick(lambda found: None)
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=message):
        srl.export(tiny(), tmp_path / name, **options)


def test_a_missing_last_detection_counts_by_its_score():
    """Catches a check that fails when rounding decides which detection is the last of the list."""
    wanted = {
        "boxes": torch.tensor([[[0.0, 0, 9, 9], [1, 1, 5, 5]]]),
        "scores": torch.tensor([[0.9, 0.3]]),
        "labels": torch.tensor([[0, 1]]),
        "proposals": torch.tensor([[0, 1]]),
    }
    other = {"scores": torch.tensor([[0.9, 0.2999]]), "proposals": torch.tensor([[0, 2]])}
    box, score = checking._difference(wanted, wanted | other)  # another one, nearly as good
    assert box == 0 and score == pytest.approx(1e-4, rel=1e-3)
