"""Errors, object outcomes and proposal statistics of traces whose answers are known by hand; what
experiments count, likewise.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted import column

from sparse_rcnn_lab import LabError, Trace, analysis
from sparse_rcnn_lab.analysis.experiments.ablations import count_duplicates
from sparse_rcnn_lab.analysis.experiments.early_exit import exit_stages, largest_change
from sparse_rcnn_lab.analysis.experiments.matching_instability import instability_table
from sparse_rcnn_lab.analysis.experiments.ranking import counted_order, greedy_order, reach

NAMES = ("ant", "bee")
FAR = [0.0, 90.0, 5.0, 95.0]
A, B, C = [10.0, 10, 50, 50], [60.0, 60, 90, 90], [60.0, 10, 90, 40]
HALF, LOW = [10.0, 10, 50, 30], [10.0, 10, 50, 40]  # IoU .5 and .75 with A


def logits(*rows: tuple[int, float]) -> torch.Tensor:
    """(class, score) of each proposal -> ``[N, 2]``; every other score is .0025."""
    found = torch.full((len(rows), 2), -6.0)
    for row, (label, score) in enumerate(rows):
        found[row, label] = math.log(score / (1 - score))
    return found


def trace(
    boxes: list[list[list[float]]],
    scores: list[torch.Tensor],
    objects: list[tuple[list[float], int]],
) -> Trace:
    """From the boxes of each stage (all start as the whole image), its logits, and the truth."""
    count = len(boxes[0])
    states = torch.tensor([[[0.0, 0, 100, 100]] * count, *boxes])
    return Trace(
        boxes=states,
        logits=torch.stack(scores),
        features=torch.zeros(len(boxes) + 1, count, 4),
        fpn_level=torch.full((len(boxes), count), 2),
        proposal_ids=torch.arange(count) * 10,  # ids are not rows
        size=(100, 100),
        scale=(1.0, 1.0),
        class_names=NAMES,
        gt_boxes=torch.tensor([box for box, _ in objects]).reshape(-1, 4),
        gt_labels=torch.tensor([label for _, label in objects]).long(),
    )


@pytest.fixture
def three() -> Trace:
    """Objects A (ant), B (bee), C (ant). Proposal 0 comes to A and improves; 10 is at B, with a
    wrong class at stage 1 and lost at 3; 20 finds nothing, then A again, then nothing.
    """
    return trace(
        [[HALF, B, FAR], [[10.0, 10, 50, 46], B, A], [A, B, A]],
        [
            logits((0, 0.9), (0, 0.8), (0, 0.6)),
            logits((0, 0.9), (1, 0.8), (0, 0.5)),
            logits((0, 0.9), (1, 0.1), (0, 0.1)),
        ],
        [(A, 0), (B, 1), (C, 0)],
    )


def judged(
    said: list[tuple[list[float], int, float]], objects: list[tuple[list[float], int]]
) -> analysis.JudgedDetections:
    """What is judged of one stage that says (box, class, score)."""
    scores = [logits(*((label, score) for _, label, score in said))]
    return analysis.judge_detections(trace([[box for box, _, _ in said]], scores, objects))


def test_kinds_of_errors(three):
    """Catches kinds mixed up, a duplicate counted as right, a confused object called missed."""
    first = analysis.judge_detections(three, 1)
    assert first.kinds == ("right", "class", "background")
    assert first.detections.proposals.tolist() == [0, 10, 20]
    assert first.objects.tolist() == [0, 1, -1]
    assert first.ious.tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert first.found.tolist() == [0, -1, -1]
    assert first.missed.tolist() == [False, False, True]  # B has a detection, of another class
    second = analysis.judge_detections(three, 2)
    assert second.kinds == ("right", "right", "duplicate")
    assert second.duplicates().tolist() == [1, 0, 0]
    assert analysis.judge_detections(three).kinds == ("right",)


@pytest.mark.parametrize(
    ("bottom", "label", "kind", "missed"),
    [
        (29.9, 0, "localisation", False),  # IoU .4975 with A
        (14.1, 0, "localisation", False),  # IoU .1025
        (13.9, 0, "background", True),  # IoU .0975
        (29.9, 1, "both", True),
        (30.1, 1, "class", False),
    ],
)
def test_thresholds_of_the_kinds(bottom, label, kind, missed):
    """Catches 0.5 and 0.1 exchanged or applied to the wrong classes; an object called missed
    though its class is seen beside it, and the other way.
    """
    result = judged([([10.0, 10, 50, bottom], label, 0.9)], [(A, 0)])
    assert (result.kinds, result.missed.tolist()) == ((kind,), [missed])


def test_who_gets_an_object():
    """Catches the object given to the better placed detection: COCO goes by score; the first
    object in place of the nearest, one given away taken again; the order of the kinds changed.
    """
    by_score = judged([(LOW, 0, 0.9), (A, 0, 0.8)], [(A, 0)])
    assert by_score.kinds == ("right", "duplicate")
    assert by_score.detections.proposals[by_score.found[0]] == 0
    two = judged([(LOW, 0, 0.9), (LOW, 0, 0.8)], [(A, 0), (LOW, 0)])
    assert two.kinds == ("right", "right")
    assert two.objects.tolist() == [1, 0]
    assert two.ious.tolist() == pytest.approx([1.0, 0.75])
    # An ant and a bee at the same place.
    assert judged([(A, 0, 0.9), (A, 0, 0.8)], [(A, 0), (A, 1)]).kinds == ("right", "duplicate")


def test_outcome_of_each_object(three):
    """Catches stages counted from 0, lost taken for missed, an improvement from the wrong stage."""
    found = analysis.object_outcomes_of([three])
    objects = found.objects
    assert column(objects, "outcome") == ["improved", "lost", "missed"]
    assert column(objects, "found") == [1, 2, None]
    assert column(objects, "lost") == [None, 3, None]
    assert column(objects, "stages") == [3, 1, 0]
    assert column(objects, "best") == [3, 2, None]
    assert column(objects, "iou_found")[0] == pytest.approx(0.5)
    assert column(objects, "iou_last")[:2] == [pytest.approx(1.0), None]
    assert column(objects, "class") == ["ant", "bee", "ant"]
    summary = found.summary()  # shares of the objects, not of the six words
    assert column(summary, "objects") == [0, 1, 0, 0, 1, 1]
    assert column(summary, "share") == pytest.approx([0, 1 / 3, 0, 0, 1 / 3, 1 / 3])


def test_outcome_of_duplicates_and_of_none():
    """Catches earlier duplicates held against the last stage, and a change of .04 called one."""
    twice = trace([[[10.0, 10, 50, 48.4], FAR], [A, A]], [logits((0, 0.9), (0, 0.1))] * 2, [(A, 0)])
    louder = replace(twice, logits=torch.stack([logits((0, 0.9), (0, 0.8))] * 2))
    for one, outcome, duplicates in ((twice, "kept", 0), (louder, "duplicated", 1)):
        (row,) = analysis.object_outcomes_of([one]).objects.records()
        assert (row["outcome"], row["duplicates"]) == (outcome, duplicates)


def test_what_each_stage_does(three):
    """Catches events counted at the wrong stage, and an arrival counted as an improvement."""
    stages = analysis.object_outcomes_of([three, three]).stages
    expected = {
        "stage": [1, 2, 3], "objects": [6, 6, 6], "right": [2, 4, 2], "new": [2, 2, 0],
        "gone": [0, 0, 2], "improved": [0, 2, 2], "worsened": [0, 0, 0], "class": [2, 0, 0],
        "localisation": [0, 0, 0], "both": [0, 0, 0], "duplicate": [0, 2, 0],
        "background": [2, 0, 0], "missed": [2, 2, 4],
    }  # fmt: skip
    assert stages.to_plain()["columns"] == expected


def test_images_by_disagreement(three):
    """Catches images in the order they came in, and stages counted in place of pairs."""
    calm = trace([[A]] * 3, [logits((0, 0.9))] * 3, [(A, 0)])
    images = analysis.object_outcomes_of([calm, three]).images
    assert column(images, "image") == [1, 0]
    # B is found by one stage of three: 2 pairs. Wrong ones 2, 1, 0: pairs differ by 1, 2, 1.
    assert column(images, "disagreement") == [6, 0]
    assert (column(images, "found_first"), column(images, "found_last")) == ([1, 1], [1, 1])


def test_an_object_found_later_and_with_a_gap_is_worsened():
    """Catches a gap taken for a loss, a change since stage 1, and a rise called either way."""
    scores = [logits((0, s)) for s in (0.9, 0.8, 0.9, 0.6, 0.7)]
    one = trace([[FAR], [A], [FAR], [LOW], [HALF]], scores, [(A, 0)])
    found = analysis.object_outcomes_of([one])
    (row,) = found.objects.records()
    assert (row["outcome"], row["found"], row["lost"], row["stages"]) == ("worsened", 2, None, 3)
    assert (row["best"], row["iou_found"], row["iou_best"]) == (2, 1.0, 1.0)
    assert (row["iou_last"], row["score_last"]) == pytest.approx((0.5, 0.7))
    assert column(found.stages, "new") == [0, 1, 0, 1, 0]
    assert column(found.stages, "gone") == [0, 0, 1, 0, 0]
    assert column(found.stages, "worsened") == [0, 0, 0, 0, 1]
    assert column(found.images, "wrong_last") == [0]
    assert column(found.images, "disagreement") == [3 * 2 + 2 * 3]


def test_traces_without_objects_without_truth_and_none(three):
    """Catches a crash on an image that shows nothing: its detections are all wrong; an empty
    table, or an AttributeError, in place of a sentence.
    """
    nothing = replace(three, gt_boxes=torch.zeros(0, 4), gt_labels=torch.zeros(0).long())
    found = analysis.object_outcomes_of([nothing])
    assert len(found.objects) == 0
    assert column(found.stages, "background") == [3, 3, 1]
    statistics = analysis.proposal_statistics_of([nothing]).proposals
    assert column(statistics, "errors") == [1, 0, 0]
    for ask in (analysis.object_outcomes_of, analysis.proposal_statistics_of):
        with pytest.raises(LabError, match="no traces"):
            ask([])
        with pytest.raises(LabError, match="no ground truth"):
            ask([replace(three, gt_boxes=None, gt_labels=None)])


def test_traces_of_different_models(three):
    """Catches one model's classes told under the names of another's, and numpy's ValueError."""
    other = replace(three, class_names=("cow", "dog"))
    for ask in (analysis.object_outcomes_of, analysis.proposal_statistics_of):
        with pytest.raises(LabError, match="different classes"):
            ask([three, other])
    calm = trace([[A]] * 2, [logits((0, 0.9))] * 2, [(A, 0)])
    with pytest.raises(LabError, match="different numbers of stages"):
        analysis.object_outcomes_of([three, calm])
    with pytest.raises(LabError, match="different proposals"):
        analysis.proposal_statistics_of([three, calm])


def test_proposal_statistics(three):
    """Catches rows taken for ids, centres in pixels, wins of an earlier stage."""
    found = analysis.proposal_statistics_of([three, three])
    table = found.proposals
    assert column(table, "proposal") == [0, 10, 20]
    assert column(table, "wins") == [2, 0, 0]
    assert column(table, "share") == [1.0, 0.0, 0.0]
    assert column(table, "idle") == [0.0, 1.0, 1.0]
    first = found.of(0)
    assert (first["x"], first["y"], first["w"], first["h"]) == pytest.approx((0.3, 0.3, 0.4, 0.4))
    assert (first["class"], first["class_share"]) == ("ant", 1.0)
    assert first["moved"] == pytest.approx(math.hypot(0.2, 0.2))
    assert (first["start_x"], first["start_w"]) == pytest.approx((0.5, 1.0))
    assert found.of(10)["x"] is None
    assert column(found.detections, "image") == [0, 1]
    assert column(found.detections, "right") == [True, True]
    with pytest.raises(LabError, match="no proposal 1 "):
        found.of(1)


def test_a_proposal_over_different_images():
    """Catches means for medians, wins for detections, images for detections, height for width."""
    low, high = [30.0, 20, 70, 40], [100.0, 0, 200, 80]
    right = [130.0, 20, 170, 40]

    def shown(box: list[float], *said: tuple[int, float]) -> Trace:
        one = trace([[[0.0, 0, 1, 1], box]], [logits((0, 0.01), (0, 0.01))], [(low, 0)])
        for label, score in said:
            one.logits[0, 1, label] = float(torch.logit(torch.tensor(score)))
        starts = torch.tensor([[0.0, 0, 20, 20], [0, 0, 200, 100]])
        return replace(one, boxes=torch.stack([starts, one.boxes[1]]), size=(100, 200))

    traces = [
        shown(low, (0, 0.9), (1, 0.8)),  # right, and once more with a wrong class
        shown(right, (1, 0.9)),
        shown(high, (1, 0.9)),
        shown(low),  # nothing
    ]
    row = analysis.proposal_statistics_of(traces).of(10)
    assert (row["wins"], row["errors"], row["share"], row["idle"]) == (1, 3, 1.0, 0.25)
    assert (row["x"], row["y"], row["spread"]) == pytest.approx(
        (0.5, 0.325, (0.25 + 0.1 * 3**0.5 / 4) / 2)
    )
    assert (row["w"], row["h"]) == pytest.approx((0.2, 0.2))
    assert (row["class"], row["class_share"]) == ("ant", 1.0)
    assert row["moved"] == pytest.approx((3 * np.hypot(0.25, 0.2) + np.hypot(0.25, 0.1)) / 4)


def test_orders_of_proposals():
    """Catches an order by sums alone, which puts two rows that do the same work first; and every
    large box reaching every object a little.
    """
    worth = torch.tensor([[1.0, 1, 0, 0], [1, 0.9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    order, adds = greedy_order(worth)
    assert order == [0, 2, 1, 3]
    assert adds == [2.0, 1.0, 0.0, 0.0]
    assert counted_order(worth.round())[0] == [0, 1, 2, 3]
    assert reach(torch.tensor([0.0, 0.3, 0.65, 1.0])).tolist() == pytest.approx([0, 0, 0.5, 1])


def test_only_those_that_matter_keep_an_image(three):
    """Catches a quiet image kept running by proposals that are nobody's detection, and one whose
    score collapses called settled; a model that has diverged never settles.
    """
    moved, changed = largest_change(three, 2, min_score=0.1)
    assert moved == pytest.approx(1.0)  # 20 jumped, with a score of .6
    assert changed == pytest.approx(0.8 - 0.0025, abs=1e-3)
    moved, changed = largest_change(three, 3, min_score=0.85)
    assert moved == pytest.approx(0.1)  # only proposal 0 matters, and its score stays
    assert changed == pytest.approx(0.0, abs=1e-6)
    assert largest_change(three, 3, min_score=0.99) == (0.0, 0.0)
    # 10 falls from .8 to .1: who scores at one of the two stages matters.
    assert largest_change(three, 3, min_score=0.6)[1] == pytest.approx(0.7, abs=1e-3)
    assert largest_change(replace(three, boxes=three.boxes * float("nan")), 2)[0] == 1.0
    with pytest.raises(LabError, match=r"stage must be 2\.\.3, found 1"):
        largest_change(three, 1)


def test_where_each_image_stops():
    """Catches stopping one stage early or late, and on boxes or scores alone."""
    change = np.array([[[0.2, 0.0], [0.0, 0.0]], [[0.0, 0.2], [0.3, 0.0]], [[0.1, 0.1], [0, 0]]])
    assert exit_stages(change, 0.1).tolist() == [3, 3, 2]
    assert exit_stages(change, 0.2).tolist() == [2, 2, 2]


def test_instability():
    """Catches a change counted at the first snapshot, or since the first one; a stage beside the
    wrong neighbour; and objects that lose their proposal left out.
    """
    later = [[1, 2, 4], [1, 2, -1]]
    matched = {0: [[1, 2, 4], [1, 3, 4]], 10: later, 20: later}
    table = instability_table({step: np.array(ids) for step, ids in matched.items()})
    assert column(table, "step") == [0, 0, 10, 10, 20, 20]
    assert column(table, "since_snapshot") == [None, None, 0.0, 2 / 3, 0.0, 0.0]
    assert column(table, "since_stage") == [None, 1 / 3, None, 1 / 3, None, 1 / 3]


def test_matched_proposals_by_id(three):
    """Catches rows in place of ids, and an unmatched object given to proposal 0."""
    matches = torch.tensor([[0, 1, -1], [1, 0, -1], [-1, -1, 2]])
    found = analysis.matched_proposals(replace(three, matches=matches))
    assert found.tolist() == [[0, 10, -1], [10, 0, -1], [-1, -1, 20]]


def test_duplicates_are_counted_for_each_object():
    """Catches crowds taken for objects, other classes or objects taken for duplicates, low scores
    counted, objects in place of images, > for >=.
    """
    notes = [(1, 7, 0, 0), (1, 7, 50, 1), (1, 7, 30, 0), (2, 8, 0, 0)]
    truth = {
        "images": [{"id": image} for image in range(1, 5)],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": [x, x, 10, 10], "iscrowd": crowd}
            for image, label, x, crowd in notes
        ],
    }
    rows = np.array(
        [
            [1, 0, 0, 10, 10, 0.9, 7],
            [1, 0, 0, 10, 9, 0.8, 7],
            [1, 0, 0, 10, 8, 0.5, 7],
            [1, 30, 30, 10, 10, 0.3, 7],  # the other object
            [1, 0, 0, 10, 10, 0.1, 7],  # too faint
            [1, 50, 50, 10, 10, 0.9, 7],  # on the crowd
            [2, 0, 0, 10, 10, 0.9, 7],  # of another class
        ]
    )
    found = count_duplicates(rows, truth, 0.3)
    assert found == {"found": 2 / 3, "duplicates": 1.0, "wrong": 0.5}
