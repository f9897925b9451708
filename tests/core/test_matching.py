"""Set matching against brute force over all assignments."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_model
from torch import Tensor

from sparse_rcnn_lab import Detector, LabError, Shapes, with_ground_truth
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.matching import Matches, Targets, assign, match, matching_cost


def cheapest(cost: np.ndarray) -> float:
    """Least sum over all one-to-one assignments of ``[N, M]``."""
    n, m = cost.shape
    if n < m:
        return cheapest(cost.T)
    return min(sum(cost[rows, range(m)]) for rows in itertools.permutations(range(n), m))


@pytest.mark.parametrize("shape", [(5, 3), (6, 1), (4, 4), (3, 5), (1, 4)])
def test_assignment_is_the_cheapest(shape):
    """Catches a greedy matcher, a maximum for a minimum, and too many objects going wrong."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        cost = rng.normal(size=shape)
        rows, columns = assign(cost)
        assert len(rows) == min(shape)
        assert len(set(rows)) == len(set(columns)) == min(shape)
        assert cost[rows, columns].sum() == pytest.approx(cheapest(cost))


def test_repeats():
    """Catches an object served twice by one proposal, or more repeats than proposals."""
    rng = np.random.default_rng(4)
    cost = rng.normal(size=(7, 3))
    rows, columns = assign(cost, repeats=2)
    assert len(set(rows)) == 6
    assert np.bincount(columns).tolist() == [2, 2, 2]
    assert cost[rows, columns].sum() == pytest.approx(cheapest(np.tile(cost, (1, 2))))
    for repeats, count in ((5, 6), (0, 3)):  # 7 // 3 = 2 each at most, 1 at least
        assert len(assign(cost, repeats)[0]) == count
    assert len(assign(cost.T, repeats=3)[0]) == 3  # more objects than proposals


def outputs(stages: int = 2, batch: int = 2, n: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    logits = torch.randn(stages, batch, n, classes) * 2
    corner = torch.rand(stages, batch, n, 2) * 60
    return logits, torch.cat([corner, corner + 5 + torch.rand(stages, batch, n, 2) * 40], dim=-1)


def make_targets(counts: tuple[int, ...], classes: int = 4) -> Targets:
    _, boxes = outputs(1, len(counts), max(1, *counts))
    return Targets.pad(
        [boxes[0, i, :count] for i, count in enumerate(counts)],
        [torch.randint(classes, (count,)) for count in counts],
        torch.tensor([[80.0, 120.0], [70.0, 100.0], [60.0, 60.0]])[: len(counts)],
    )


def test_every_stage_and_image_on_its_own():
    """Catches stages or images crossed, and padding objects that are matched."""
    logits, boxes = outputs(stages=3, batch=3)
    targets = make_targets((3, 0, 2))
    matches = match(logits, boxes, targets, LossConfig())
    assert torch.bincount(matches.stage, minlength=3).tolist() == [5, 5, 5]
    assert matches.stage.tolist() == sorted(matches.stage.tolist())
    index = matches.as_index((3, 3, 5))
    for s, b in itertools.product(range(3), range(3)):
        count = targets.counts[b]
        one = Targets(
            targets.boxes[b : b + 1, :count],
            targets.labels[b : b + 1, :count],
            (count,),
            targets.sizes[b : b + 1],
        )
        row = index[s, b]
        assert sorted(row[row >= 0].tolist()) == list(range(count))
        if count:
            cost = matching_cost(
                logits[s : s + 1, b : b + 1], boxes[s : s + 1, b : b + 1], one, LossConfig()
            )[0, 0].numpy()
            paired = (row >= 0).nonzero().flatten()
            ours = cost[paired.numpy(), row[paired].numpy()].sum()
            assert ours == pytest.approx(cheapest(cost), rel=1e-5)


def test_matches_per_object():
    """Catches repeats taken from the wrong stage, none for stages beyond the list, and a proposal
    matched twice where objects are too many."""
    logits, boxes = outputs(stages=4, batch=1, n=6)
    config = replace(LossConfig(), matches_per_object=(3, 2, 1))
    matches = match(logits, boxes, make_targets((2,)), config)
    assert torch.bincount(matches.stage, minlength=4).tolist() == [6, 4, 2, 2]
    crowded = match(logits, boxes, make_targets((8,)), config)  # more objects than proposals
    assert sorted(crowded.proposal.tolist()) == sorted([*range(6)] * 4)


def test_no_objects():
    """Catches an empty batch that raises, or that loses the stage axis."""
    logits, boxes = outputs()
    matches = match(logits, boxes, make_targets((0, 0)), LossConfig())
    assert torch.bincount(matches.stage, minlength=2).tolist() == [0, 0]
    assert (matches.as_index((2, 2, 5)) == -1).all()
    assert matches.proposal.dtype == torch.long


@pytest.mark.parametrize("what", ["logits", "boxes"])
def test_diverged(what):
    """Catches NaN reaching scipy, whose message names neither stage nor image."""
    logits, boxes = outputs()
    {"logits": logits, "boxes": boxes}[what][1, 0, 2] = float("nan")
    with pytest.raises(LabError, match="stage 2 of image 0"):
        match(logits, boxes, make_targets((2, 1)), LossConfig())


@pytest.mark.parametrize("what", ["logits", "boxes"])
def test_trace_of_a_diverged_model_has_its_other_matches(what):
    """Catches the trace that is worth looking at refused, or NaN that answers for an object."""
    detector = Detector(small_model(), ("a", "b", "c"))
    sound = detector.trace(torch.zeros(3, 64, 64, dtype=torch.uint8), record=())
    truth = ([[4.0, 4, 30, 30], [20, 20, 60, 60]], [0, 2])
    wanted = with_ground_truth(sound, *truth).matches
    broken = {name: getattr(sound, name).clone() for name in ("logits", "boxes")}
    broken[what][1 if what == "logits" else 2, 3] = float("nan")
    found = with_ground_truth(replace(sound, **broken), *truth).matches
    assert wanted is not None and found is not None and (wanted[1] >= 0).sum() == 2
    assert found[1].tolist() == [-1] * sound.num_proposals
    assert torch.equal(found[2:], wanted[2:]) and torch.equal(found[0], wanted[0])


def test_diverged_model_is_traced_on_a_sample():
    """Catches an error about "image 0 in the batch" where a person asked for an image."""
    data = Shapes(1, size=64)
    detector = Detector(small_model(num_classes=6), data.class_names)
    with torch.no_grad():
        detector.model.stages[1].classify.bias.fill_(float("nan"))
    matches = detector.trace(data[0]).matches
    assert matches is not None and (matches[0] >= 0).any() and (matches[1] == -1).all()


def test_padding_keeps_what_it_is_given():
    """Catches boxes rounded to the integers of an integer size."""
    boxes = [torch.tensor([[0.5, 1.5, 2.5, 3.5]]), torch.zeros(0, 4)]
    labels = [torch.tensor([7]), torch.zeros(0, dtype=torch.long)]
    targets = Targets.pad(boxes, labels, torch.tensor([[10, 20], [30, 40]]))
    assert targets.boxes[0, 0].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert targets.boxes.shape == (2, 1, 4)
    assert targets.counts == (1, 0)
    assert targets.labels.tolist() == [[7], [0]]


def test_no_gradient_and_no_device_change():
    """Catches matching that becomes part of the graph."""
    logits, boxes = outputs()
    logits.requires_grad_()
    matches = match(logits, boxes, make_targets((2, 1)), LossConfig())
    assert isinstance(matches, Matches)
    assert not matching_cost(logits, boxes, make_targets((2, 1)), LossConfig()).requires_grad
