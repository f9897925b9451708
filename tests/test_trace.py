"""Detections and Trace: what they refuse, how they are decoded, and that a file loses nothing."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.trace import Detections, Trace, select_detections, top_pairs

S, N, C, D, SIZE = 3, 4, 2, 8, (20, 30)
NAMES = ("Maß", "box")


def make_trace(**changes: Any) -> Trace:
    values: dict[str, Any] = {
        "boxes": torch.rand(S + 1, N, 4) * 20,
        "logits": torch.randn(S, N, C),
        "features": torch.randn(S + 1, N, D),
        "fpn_level": torch.randint(2, 6, (S, N)),
        "proposal_ids": torch.tensor([3, 1, 0, 2]),
        "size": SIZE,
        "scale": (0.5, 1 / 3),
        "class_names": NAMES,
        "model_name": "nano",
        "attention": torch.rand(S, 2, N, N),
        "roi_features": torch.randn(S, N, 7, 7, D).permute(0, 1, 3, 2, 4),  # not contiguous
        "dynamic_filters": torch.randn(S, N, 2 * D * 3),
        "matches": torch.tensor([[0, -1, -1, 1]] * S),
        "gt_boxes": torch.rand(2, 4),
        "gt_labels": torch.tensor([1, 0]),
        "image": torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8),
    }
    return Trace(**{**values, **changes})


def make_detections(**changes: Any) -> Detections:
    values: dict[str, Any] = {
        "boxes": torch.tensor([[1.0, 2, 5, 8], [0, 0, 3, 3], [2, 2, 4, 4]]),
        "scores": torch.tensor([0.9, 0.5, 0.1]),
        "labels": torch.tensor([1, 0, 1]),
        "proposals": torch.tensor([2, 2, 0]),
        "size": SIZE,
        "class_names": NAMES,
    }
    return Detections(**{**values, **changes})


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("boxes", torch.zeros(S, N, 4), "[3, 4, 4]"),  # the proposals are missing
        ("boxes", torch.zeros(S + 1, N, 5), "[4, 4, 5]"),
        ("logits", torch.zeros(N, C), "[4, 2]"),
        ("logits", torch.zeros(S, N, C + 1), "[3, 4, 3]"),
        ("features", torch.zeros(S + 1, N + 1, D), "[4, 5, 8]"),
        ("fpn_level", torch.zeros(S + 1, N), "[4, 4]"),
        ("proposal_ids", torch.zeros(N, 1), "[4, 1]"),
        ("attention", torch.zeros(S, N, N), "[3, 4, 4]"),
        ("roi_features", torch.zeros(S, N, 49, D), "[3, 4, 49, 8]"),
        ("matches", torch.zeros(N), "[4]"),
        ("gt_labels", torch.zeros(3), "[3]"),
        ("image", torch.zeros(3, 30, 20), "[3, 30, 20]"),
    ],
)
def test_trace_refuses(field: str, value: Tensor, found: str) -> None:
    """Would catch a trace that breaks a view much later, where nobody knows why."""
    with pytest.raises(LabError) as error:
        make_trace(**{field: value})
    assert f"Trace.{field} has shape {found}, expected" in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boxes", torch.zeros(3, 5)),
        ("scores", torch.zeros(2)),
        ("labels", torch.zeros(3, 1, dtype=torch.long)),
        ("labels", torch.tensor([0, 1, 2])),
    ],
)
def test_detections_refuse(field: str, value: Tensor) -> None:
    """Would catch detections whose parts do not belong together, or a label without a name."""
    with pytest.raises(LabError, match=f"Detections.{field}"):
        make_detections(**{field: value})


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("full", [True, False])
def test_a_file_loses_nothing(full: bool, tmp_path: Path) -> None:
    """Would catch a field left out, rounded, or turned from a tuple into a list."""
    trace = make_trace()
    if not full:
        optional = {f.name: None for f in fields(trace) if f.name not in trace_basics()}
        trace = replace(trace, **{**optional, "model_name": ""})
    path = trace.save(tmp_path / "new folder" / "one.trace")
    loaded = Trace.load(path)
    wrong = [
        f.name for f in fields(trace) if not equal(getattr(trace, f.name), getattr(loaded, f.name))
    ]
    assert wrong == []


def trace_basics() -> set[str]:
    names = "boxes logits features fpn_level proposal_ids size scale class_names model_name"
    return set(names.split())


def test_saving_views_of_one_tensor(tmp_path: Path) -> None:
    """Would catch safetensors' refusal of tensors that share memory."""
    features = torch.randn(S + 1, N, D)
    trace = make_trace(features=features, boxes=features[..., :4], logits=features[1:, :, :C])
    loaded = Trace.load(trace.save(tmp_path / "views.trace"))
    assert torch.equal(loaded.boxes, trace.boxes)
    assert torch.equal(loaded.logits, trace.logits)


def test_files_that_are_no_trace(tmp_path: Path) -> None:
    """Would catch a raw safetensors or key error in place of a sentence with the file's name."""
    whole = make_trace().save(tmp_path / "whole.trace")
    cut = tmp_path / "cut.trace"
    cut.write_bytes(whole.read_bytes()[:-100])
    text = tmp_path / "text.trace"
    text.write_text("not a trace")
    other = tmp_path / "other.trace"
    save_file({"boxes": torch.zeros(3)}, other)
    missing_part = tmp_path / "part.trace"
    save_file(
        {"boxes": torch.zeros(3)},
        missing_part,
        {"format": "sparse_rcnn_lab.trace", "version": "1", "trace": "{}"},
    )
    for path in (cut, text, other, missing_part, tmp_path / "absent.trace"):
        with pytest.raises(LabError, match=path.name):
            Trace.load(path)


def test_best_pairs() -> None:
    """Would catch one class a proposal, a softmax, k beyond N * C, or a wrong division by C."""
    logits = torch.tensor([[3.0, 2.0], [-5.0, 1.0], [-6.0, -7.0]])
    scores, proposals, labels = top_pairs(logits)
    assert proposals.tolist() == [0, 0, 1]  # proposal 0 twice, proposal 2 not at all
    assert labels.tolist() == [0, 1, 1]
    assert scores.tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in (3, 2, 1)])
    assert len(top_pairs(logits, 100)[0]) == 6
    assert top_pairs(logits, 1)[1].tolist() == [0]
    assert len(top_pairs(torch.randn(5, 1))[0]) == 5
    batched = top_pairs(torch.stack([logits, -logits]))
    assert batched[1].shape == (2, 3)
    assert batched[1][0].tolist() == [0, 0, 1]


def test_selection() -> None:
    """Would catch boxes not clipped, empty ones kept, a threshold that excludes its own value."""
    logits = torch.tensor([[2.0], [1.0], [0.0], [-1.0]])
    boxes = torch.tensor(
        [[-5.0, 5, 10, 50], [40, 0, 50, 10], [3, 3, 9, 9], [4, 4, 8, 8]]  # the second is outside
    )
    found = select_detections(logits, boxes, SIZE, ("thing",))
    assert found.proposals.tolist() == [0, 2, 3]
    assert found.boxes[0].tolist() == [0, 5, 10, 20]
    assert select_detections(logits, boxes, SIZE, ("thing",), 0.5).proposals.tolist() == [0, 2]
    assert len(select_detections(logits, boxes, SIZE, ("thing",), 0.999)) == 0


def test_detections_of_a_stage() -> None:
    """Would catch boxes of the stage before: boxes have one row more than logits."""
    trace = make_trace()
    for stage in (1, 2, 3):
        found = trace.detections(stage)
        direct = select_detections(trace.logits[stage - 1], trace.boxes[stage], SIZE, NAMES)
        assert torch.equal(found.boxes, direct.boxes)
        assert torch.equal(found.scores, direct.scores)
    assert torch.equal(trace.detections().scores, trace.detections(3).scores)
    for stage in (0, 4, -1):
        with pytest.raises(LabError, match=r"1\.\.3"):
            trace.detections(stage)


def test_detections_in_use() -> None:
    """Would catch parts that are filtered apart, or COCO boxes given as corners."""
    found = make_detections()
    assert len(found.above(0.5)) == 2
    assert found.above(0.5).proposals.tolist() == [2, 2]
    assert found[1:].names() == ["Maß", "box"]
    assert len(found[found.scores > 2]) == 0
    first = found.to_coco(image_id=7, category_ids=[11, 13])[0]
    assert first["image_id"] == 7
    assert first["category_id"] == 13
    assert first["bbox"] == [1, 2, 4, 6]
    assert found.to_coco()[1]["category_id"] == 0
    assert "30x20" in str(found)
    assert len(str(found).splitlines()) == 4
