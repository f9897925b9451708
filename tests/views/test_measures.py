"""The numbers behind the figures, on traces whose answers are known by hand."""

from dataclasses import replace

import pytest
import torch

from sparse_rcnn_lab import LabError, Trace
from sparse_rcnn_lab.views import feature_similarity, measures
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane
from sparse_rcnn_lab.views.measures import describe, select

NAN = float("nan")


@pytest.fixture
def trace() -> Trace:
    """Three proposals with the ids 7, 2, 5 over two stages; 2 ends best, 5 without an object."""
    boxes = torch.tensor(
        [
            [[0.0, 0, 10, 10], [0, 0, 20, 10], [50, 50, 60, 60]],
            [[5.0, 0, 15, 10], [0, 0, 20, 20], [50, 50, 60, 60]],
            [[10.0, 0, 20, 10], [0, 0, 40, 20], [50, 50, 60, 60]],
        ]
    )
    logits = torch.tensor(
        [[[0.0, -1], [-2, -3], [-4, -4.5]], [[1.0, 0], [-1, 2], [-3, -4]]]
    )  # [S=2, N=3, C=2]
    features = torch.tensor(
        [
            [[1.0, 0], [0, 2], [3, 3]],
            [[0.0, 1], [0, 4], [1, 1]],
            [[-2.0, 0], [5, 0], [-1, -1]],
        ]
    )
    attention = torch.tensor(
        [[[[0.5, 0.3, 0.2]] * 3, [[0.1, 0.1, 0.8]] * 3], [[[0.2, 0.2, 0.6]] * 3] * 2]
    )
    return Trace(
        boxes=boxes,
        logits=logits,
        features=features,
        fpn_level=torch.tensor([[2, 3, 2], [2, 4, 2]]),
        proposal_ids=torch.tensor([7, 2, 5]),
        size=(100, 200),
        scale=(0.5, 0.25),
        class_names=("cat", "dog"),
        attention=attention,
        matches=torch.tensor([[0, -1, 1], [0, 1, -1]]),
        gt_boxes=torch.tensor([[10.0, 0, 20, 10], [0, 0, 20, 20]]),
        gt_labels=torch.tensor([0, 1]),
    )


def test_scores(trace):
    """Catches a softmax, or the label of another stage."""
    scores, labels = measures.score_by_stage(trace)
    torch.testing.assert_close(scores, torch.tensor([[0.0, -2, -4], [1, 2, -3]]).sigmoid())
    assert labels.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert measures.ranked(trace) == [2, 7, 5] and measures.ranked(trace, 1) == [2]


def test_centres(trace):
    """Catches x and y exchanged, or corners taken for centres."""
    assert measures.centres(trace)[:, 0].tolist() == [[5, 5], [10, 5], [15, 5]]
    assert measures.centres(trace)[2, 1].tolist() == [20, 10]


def test_pca_finds_the_axes():
    """Catches axes in the wrong order, vectors that are not centred, a sign by chance."""
    points = torch.tensor([[0.0, 3], [0, -3], [1, 0], [-1, 0]]) + torch.tensor([100.0, 50])
    found = FeaturePlane.fit(points)
    torch.testing.assert_close(
        found.place(points.view(2, 2, 2)),
        torch.tensor([[[3.0, 0], [-3, 0]], [[0, 1], [0, -1]]]),
        atol=1e-5,
        rtol=0,
    )
    assert found.explained.tolist() == pytest.approx([0.9, 0.1])
    again = FeaturePlane.fit(-points)  # a mirrored cloud: the same axes, mirrored places
    torch.testing.assert_close(again.place(-points), -found.place(points))
    assert found.reach == pytest.approx(3)


def test_pca_of_what_has_no_axes():
    """Catches a division by zero, and one NaN that spoils all points."""
    alike = torch.ones(3, 4, 5)
    assert not FeaturePlane.fit(alike).place(alike).any()
    assert FeaturePlane.fit(alike).explained.tolist() == [0, 0]
    single = torch.tensor([[1.0], [3.0]])
    assert FeaturePlane.fit(single).place(single).tolist() == [[-1, 0], [1, 0]]
    some = torch.tensor([[0.0, 0], [2, 0], [NAN, 0]])
    found = FeaturePlane.fit(some).place(some)
    assert found[:2].tolist() == [[-1, 0], [1, 0]] and found[2].isnan().all()
    assert FeaturePlane.fit(some * NAN).place(some * NAN).isnan().all()


def test_similarity(trace):
    """Catches a dot product without norms, or the features of a row taken by id."""
    assert feature_similarity.stage_similarity(trace, 7).tolist() == [
        [1, 0, -1],
        [0, 1, 0],
        [-1, 0, 1],
    ]
    half = 0.5**0.5
    torch.testing.assert_close(
        feature_similarity.proposal_similarity(trace, 0),
        torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]]),
    )
    assert feature_similarity.comparable(trace, 0) == [2, 7, 5]
    features = trace.features.clone()
    features[0, 1] = NAN
    assert feature_similarity.comparable(replace(trace, features=features), 0) == [7, 5]
    with pytest.raises(LabError, match="diverged"):
        feature_similarity.comparable(replace(trace, features=features * NAN), 2)


def test_attention_links(trace):
    """Catches columns read for rows, the proposal itself listed, a rest that is no rest."""
    links = measures.attention_links(trace, 7, 1, top=1)
    assert links.proposals.tolist() == [5]  # 0.2 and 0.8 in the two heads
    assert links.weights.tolist() == pytest.approx([0.5])
    assert links.itself == pytest.approx(0.3) and links.rest == pytest.approx(0.2)
    first = measures.attention_links(trace, 7, 1, top=99, head=0)
    assert first.proposals.tolist() == [2, 5] and first.rest == pytest.approx(0, abs=1e-6)
    assert measures.attention_links(trace, 5, 2).proposals.tolist() == [7, 2]
    with pytest.raises(LabError, match=r"heads?.*0\.\.1"):
        measures.attention_links(trace, 7, 1, head=2)


def test_roi_grid(trace):
    """Catches the box after the stage, the level of another, or cells in input pixels."""
    grid = measures.roi_grid(trace, 2, 2)
    assert grid.box.tolist() == [0, 0, 20, 20]
    assert grid.level == 4 and grid.cell == (32, 64)  # stride 16, scales 0.5 and 0.25
    assert len(grid.edges_x) == 8 and grid.edges_x[-1] == 20
    assert grid.samples.shape == (7, 7, 4, 2)
    torch.testing.assert_close(grid.samples.mean((0, 1, 2)), torch.tensor([10.0, 10.0]))
    torch.testing.assert_close(grid.samples[0, 0, 0], torch.tensor([20 / 28, 20 / 28]))
    assert grid.samples[0, 6, 0, 0] > 17 and grid.samples[0, 6, 0, 1] < 1  # [row, column]
    recorded = replace(trace, roi_features=torch.zeros(2, 3, 3, 3, 2))
    assert len(measures.roi_grid(recorded, 2, 1).edges_y) == 4


def test_filter_effect_and_contrast(trace):
    """Catches the cells of another proposal, or a contrast that a bright mean cell wins."""
    cells = torch.ones(2, 3, 3, 3, 2)
    cells[1, 2, 0, 1] = torch.tensor([4.0, 5.0])
    full = replace(trace, roi_features=cells, filtered_features=cells * 2)
    before, after = measures.filter_effect(full, 5, 2)
    assert torch.equal(after, before * 2)
    shown = measures.contrast(before)
    assert shown[0, 1] == 1 and float(shown.sum()) == pytest.approx(1 + 8 / 8, abs=1e-5)
    assert not measures.contrast(torch.ones(3, 3, 2)).any()


def test_broken(trace):
    """Catches a NaN that only one of the three tensors holds."""
    assert measures.broken(trace).tolist() == [False] * 3
    for name, row in (("boxes", 0), ("logits", 1), ("features", 2)):
        value = getattr(trace, name).clone()
        value[1, row, 0] = NAN
        assert measures.broken(replace(trace, **{name: value})).nonzero().tolist() == [[row]]


def test_selection(trace, monkeypatch):
    """Catches rows for ids, proposals below the threshold, a limit nobody is told of, and a chosen
    proposal that no line shows."""
    assert select(trace, None, 0.5).proposals == (2, 7)
    assert select(trace, [5, 5, 7], 0.5).proposals == (5, 7)
    none = select(trace, None, 0.99)
    assert none.proposals == (2, 7, 5) and "no proposal scores 0.99" in none.note
    also = select(trace, None, 0.5, chosen=5)
    assert also.proposals == (2, 7, 5) and also.note.endswith("and proposal 5")
    assert select(trace, [7], 0.5, chosen=5).proposals == (7, 5)
    assert select(trace, None, 0.5, chosen=7) == select(trace, None, 0.5)
    for wrong in ((0, 0.5), (None, 0.5, 0)):
        with pytest.raises(LabError, match="no proposal 0"):
            select(trace, *wrong)
    for wrong in ("dog", torch.tensor([True, False])):  # a mask would name 0 and 1
        with pytest.raises(LabError, match="named by their ids"):
            select(trace, wrong, 0.5)
    monkeypatch.setattr(measures, "MOST", 1)
    assert "best 1 of 2" in select(trace, None, 0.5).note
    assert describe(trace, 2) == "2 · dog .88"
    assert describe(trace, 2, 1) == "2 · cat .12" and describe(trace, 2, 0) == "2"
