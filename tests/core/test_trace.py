"""Detections and Trace: what they refuse, how they are decoded, and that a file loses nothing."""

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_model import small_model
from torch import Tensor

from sparse_rcnn_lab import (
    Detections,
    Detector,
    LabError,
    Trace,
    load_trace,
    save_trace,
    trace_diff,
)
from sparse_rcnn_lab.core.detections import select_detections, top_pairs

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
        "filtered_features": torch.randn(S, N, 7, 7, D),
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
    ("field", "value", "shape"),
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
        ("filtered_features", torch.zeros(S, N, 7, D), "[3, 4, 7, 8]"),
        ("image", torch.zeros(4, 20, 30), "[4, 20, 30]"),
    ],
)
def test_trace_refuses(field, value, shape):
    """Catches a trace that breaks a view much later, where nobody knows why."""
    with pytest.raises(LabError, match=re.escape(f"Trace.{field} has shape {shape}, expected")):
        make_trace(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("size", (20,), "height, width"),
        ("size", (0, 30), "height, width"),
        ("size", (20.5, 30), "height, width"),
        ("scale", (1.0,), "two factors"),
        ("scale", (float("nan"), 1.0), "two factors"),
        ("class_names", "ab", "tuple of names"),
        ("model_name", 3, "a name"),
        ("boxes", torch.zeros(S + 1, N, 4, dtype=torch.long), "int64, expected floating"),
        ("matches", torch.zeros(S, N), "float32, expected whole"),
        ("image", torch.zeros(3, *SIZE), "float32, expected whole"),
        ("gt_labels", torch.tensor([0, 2]), "only 2 classes"),
        ("matches", torch.full((S, N), 2), "only 2 objects"),
    ],
)
def test_trace_refuses_what_no_view_can_use(field, value, said):
    """Catches a wrong type that shows up as a traceback from matplotlib."""
    with pytest.raises(LabError, match=rf"(?s)(?=.*(Trace\.{field}|names)).*{said}"):
        make_trace(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boxes", torch.zeros(3, 5)),
        ("scores", torch.zeros(2)),
        ("labels", torch.zeros(3, 1, dtype=torch.long)),
        ("labels", torch.tensor([0, 1, 2])),
    ],
)
def test_detections_refuse(field, value):
    """Catches detections whose parts do not belong together, or a label without a name."""
    with pytest.raises(LabError, match=f"Detections.{field}"):
        make_detections(**{field: value})


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("full", [True, False])
def test_a_file_loses_nothing(full, tmp_path):
    """Catches a field left out, rounded, or turned from a tuple into a list."""
    trace = make_trace()
    if not full:
        optional = {f.name: None for f in fields(trace) if f.name not in trace_basics()}
        trace = replace(trace, **{**optional, "model_name": ""})
    path = save_trace(trace, tmp_path / "new folder" / "one.trace")
    loaded = load_trace(path)
    wrong = [
        f.name for f in fields(trace) if not equal(getattr(trace, f.name), getattr(loaded, f.name))
    ]
    assert wrong == []


def trace_basics() -> set[str]:
    names = "boxes logits features fpn_level proposal_ids size scale class_names model_name"
    return set(names.split())


def test_saving_views_of_one_tensor(tmp_path):
    """Catches safetensors' refusal of tensors that share memory."""
    features = torch.randn(S + 1, N, D)
    trace = make_trace(features=features, boxes=features[..., :4], logits=features[1:, :, :C])
    loaded = load_trace(save_trace(trace, tmp_path / "views.trace"))
    assert torch.equal(loaded.boxes, trace.boxes)
    assert torch.equal(loaded.logits, trace.logits)


def test_files_that_are_no_trace(tmp_path):
    """Catches a raw safetensors or key error in place of a sentence with the file's name."""
    whole = save_trace(make_trace(), tmp_path / "whole.trace")
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
    newer = tmp_path / "newer.trace"
    save_file({}, newer, {"format": "sparse_rcnn_lab.trace", "version": "2", "trace": "{}"})
    for path in (cut, text, other, missing_part, newer, tmp_path / "absent.trace"):
        with pytest.raises(LabError, match=path.name):
            load_trace(path)


@given(
    sizes=st.tuples(*[st.integers(0, 3)] * 4),
    present=st.sets(st.sampled_from(["attention", "matches", "gt_boxes", "image", "model_name"])),
    values=st.sampled_from([0.0, float("nan"), float("inf"), -0.0, 1e-40]),
)
@settings(max_examples=40)
def test_any_trace_comes_back(sizes, present, values):
    """Catches a file that cannot hold NaN, no objects, no proposals or a single class."""
    s, n, m, d = sizes
    given_parts = {
        "attention": torch.full((s, 2, n, n), values),
        "matches": torch.full((s, n), -1),
        "gt_boxes": torch.full((m, 4), values),
        "image": torch.zeros(3, *SIZE, dtype=torch.uint8),
        "model_name": 'a "name"\n\u2603',
    }
    trace = Trace(
        boxes=torch.full((s + 1, n, 4), values),
        logits=torch.full((s, n, 1), values),
        features=torch.full((s + 1, n, d), values),
        fpn_level=torch.full((s, n), 2),
        proposal_ids=torch.arange(n),
        size=SIZE,
        scale=(1.0, 0.1),
        class_names=("\u00e9t\u00e9 $x$",),
        **{name: given_parts[name] for name in present},
    )
    with TemporaryDirectory() as folder:
        loaded = load_trace(save_trace(trace, Path(folder) / "any.trace"))
    for field in fields(trace):
        a, b = getattr(trace, field.name), getattr(loaded, field.name)
        if isinstance(a, Tensor):
            assert a.dtype == b.dtype and torch.allclose(a.double(), b.double(), 0, 0, True)
        else:
            assert equal(a, b)


def test_an_image_that_may_not_be_passed_on(tmp_path):
    """Catches the image in the file although it was left out, or gone from the trace."""
    trace = make_trace()
    loaded = load_trace(save_trace(trace, tmp_path / "private.trace", image=False))
    assert loaded.image is None and trace.image is not None
    assert torch.equal(loaded.boxes, trace.boxes)
    assert trace.image.numpy().tobytes() not in (tmp_path / "private.trace").read_bytes()


@pytest.mark.parametrize(
    ("size", "shown", "fits"),
    [
        ((9000, 12000), (1732, 2309), True),
        ((4000, 10), (4000, 10), True),
        ((100000, 100), (63245, 63), True),
        ((20, 30), (40, 60), True),
        ((20, 30), (30, 20), False),
        ((20, 30), (20, 33), False),
    ],
)
def test_a_reduced_image(size, shown, fits):
    """Catches an image of another shape, on which every box lies in the wrong place."""
    image = torch.zeros(1, dtype=torch.uint8).expand(3, *shown)
    if fits:
        assert make_trace(size=size, image=image).size == size
    else:
        with pytest.raises(LabError, match="aspect ratio of the original image"):
            make_trace(size=size, image=image)


def test_rows_and_ids():
    """Catches an id taken for a row: here proposal 3 stands in row 0."""
    trace = make_trace()
    assert [trace.row(proposal) for proposal in (3, 1, 0, 2)] == [0, 1, 2, 3]
    for missing in (4, -1):
        with pytest.raises(LabError, match=f"no proposal {missing}"):
            trace.row(missing)
    found = trace.detections()
    rows = select_detections(trace.logits[-1], trace.boxes[-1], SIZE, NAMES).proposals
    assert found.proposals.tolist() == trace.proposal_ids[rows].tolist()


def test_nan_comes_last():
    """Catches proposals that are not numbers, which topk takes for the best of all."""
    logits = torch.tensor([[float("nan")] * 2, [2.0, -3.0], [float("nan"), 1.0]])
    scores, proposals, labels = top_pairs(logits)
    assert proposals[:2].tolist() == [1, 2] and labels[:2].tolist() == [0, 1]
    assert scores[2] == pytest.approx(1 / (1 + math.exp(3)))
    boxes = torch.tensor([[1.0, 1, 5, 5]] * 3)
    found = select_detections(logits, boxes, SIZE, NAMES)
    assert found.proposals.tolist() == [1, 2, 1]
    boxes[1] = float("nan")
    assert select_detections(logits, boxes, SIZE, NAMES).proposals.tolist() == [2]


def test_best_pairs():
    """Catches one class a proposal, a softmax, k beyond N * C, or a wrong division by C."""
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


def test_selection():
    """Catches boxes not clipped, empty ones kept, a threshold that excludes its own value."""
    logits = torch.tensor([[2.0], [1.0], [0.0], [-1.0]])
    boxes = torch.tensor(
        [[-5.0, 5, 10, 50], [40, 0, 50, 10], [3, 3, 9, 9], [4, 4, 8, 8]]  # the second is outside
    )
    found = select_detections(logits, boxes, SIZE, ("thing",))
    assert found.proposals.tolist() == [0, 2, 3]
    assert found.boxes[0].tolist() == [0, 5, 10, 20]
    assert select_detections(logits, boxes, SIZE, ("thing",), 0.5).proposals.tolist() == [0, 2]
    assert len(select_detections(logits, boxes, SIZE, ("thing",), 0.999)) == 0


def test_detections_of_a_stage():
    """Catches boxes of the stage before: boxes have one row more than logits."""
    trace = make_trace()
    for stage in (1, 2, 3):
        found = trace.detections(stage)
        direct = select_detections(trace.logits[stage - 1], trace.boxes[stage], SIZE, NAMES)
        assert torch.equal(found.boxes, direct.boxes)
        assert torch.equal(found.scores, direct.scores)
    assert torch.equal(trace.detections().scores, trace.detections(3).scores)


def test_detections_in_use():
    """Catches parts that are filtered apart, or COCO boxes given as corners."""
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


def test_only_a_trace_is_saved_as_one(tmp_path):
    """Catches detections written to a file that nothing reads back."""
    with pytest.raises(LabError, match="one Trace, found <Detections"):
        save_trace(make_detections(), tmp_path / "found.trace")
    assert not list(tmp_path.iterdir())


def test_one_detection_and_each_in_turn():
    """Catches a complaint about shapes for the first detection, or for a loop over all."""
    found = make_detections()
    assert found[0].names() == ["box"] and found[-1].scores.tolist() == [found.scores[2]]
    assert [one.proposals.tolist() for one in found] == [[2], [2], [0]]
    assert found[[True, False, True]].proposals.tolist() == [2, 0]
    with pytest.raises(LabError, match="labels holds -1"):
        make_detections(labels=torch.tensor([1, -1, 0]))
    rows = found.to_coco(category_ids=np.array([11, 13]))
    assert json.loads(json.dumps(rows))[0]["category_id"] == 13


@pytest.mark.parametrize("threshold", [50, -0.1, "0.5", None, math.nan])
def test_a_threshold_is_from_0_to_1(threshold):
    """Catches 50 for 0.5, which finds nothing and says nothing."""
    for ask in (lambda t: make_trace().detections(threshold=t), make_detections().above):
        with pytest.raises(LabError, match="threshold must be from 0 to 1, found"):
            ask(threshold)


def test_a_class_is_no_proposal():
    """Catches an AttributeError for a name in the place of a number."""
    with pytest.raises(LabError, match="no proposal 'box' in this trace"):
        make_trace().row("box")


def test_a_trace_and_detections_name_themselves_in_one_line():
    """Catches hundreds of lines of tensors as the last value of a cell."""
    assert repr(trace_diff(make_trace(), make_trace())).startswith("<TraceDiff: 4 proposals, ")
    assert repr(make_trace()) == "<Trace: nano, 4 proposals, 3 stages, 2 classes, 30x20 px>"
    assert repr([make_detections()]).startswith("[<Detections: 3 in ")


def test_one_recordable_needs_no_tuple():
    """Catches a name taken apart into its letters."""
    detector = Detector(small_model(), ["a", "b", "c"])
    found = detector.trace(torch.zeros(3, 64, 64), record="roi_features")
    assert found.roi_features is not None
