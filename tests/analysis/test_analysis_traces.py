"""Outcomes, verdicts, careers, stops and flips of traces whose answers are known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis.duplicates import count_duplicates
from sparse_rcnn_lab.analysis.flips import flip_table
from sparse_rcnn_lab.analysis.ranking import counted_order, greedy_order, reach
from sparse_rcnn_lab.analysis.stopping import settled, stop_stages
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

NAMES = ("ant", "bee")
FAR = [0.0, 90.0, 5.0, 95.0]
A, B, C = [10.0, 10, 50, 50], [60.0, 60, 90, 90], [60.0, 10, 90, 40]


def logits(*rows: tuple[int, float]) -> torch.Tensor:
    """(class, score) of each proposal -> ``[N, 2]``; every other score is .0025."""
    found = torch.full((len(rows), 2), -6.0)
    for row, (label, score) in enumerate(rows):
        found[row, label] = math.log(score / (1 - score))
    return found


def trace(boxes: list[list[list[float]]], scores: list[torch.Tensor]) -> Trace:
    """From the boxes of each stage (all start as the whole image) and its logits."""
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
    )


@pytest.fixture
def three() -> Trace:
    """Objects A (ant), B (bee), C (ant). Proposal 0 comes to A and improves; 10 is at B, with a
    wrong class at stage 1 and lost at 3; 20 finds nothing, then A again, then nothing.
    """
    found = trace(
        [
            [[10.0, 10, 50, 30], B, FAR],
            [[10.0, 10, 50, 46], B, A],
            [A, B, A],
        ],
        [
            logits((0, 0.9), (0, 0.8), (0, 0.6)),
            logits((0, 0.9), (1, 0.8), (0, 0.5)),
            logits((0, 0.9), (1, 0.1), (0, 0.1)),
        ],
    )
    truth = torch.tensor([A, B, C])
    return replace(found, gt_boxes=truth, gt_labels=torch.tensor([0, 1, 0]))


def test_kinds_of_errors(three: Trace) -> None:
    """Catches kinds mixed up, a duplicate counted as right, a confused object called missed."""
    first = analysis.outcome(three, 1)
    assert first.kinds == ("right", "class", "background")
    assert first.detections.proposals.tolist() == [0, 10, 20]
    assert first.objects.tolist() == [0, 1, -1]
    assert first.ious.tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert first.found.tolist() == [0, -1, -1]
    assert first.missed.tolist() == [False, False, True]  # B has a detection, of another class
    second = analysis.outcome(three, 2)
    assert second.kinds == ("right", "right", "duplicate")
    assert second.duplicates().tolist() == [1, 0, 0]
    assert analysis.outcome(three).kinds == ("right",)


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ([10.0, 10, 50, 29.9], 0, "place"),  # IoU .4975 with A
        ([10.0, 10, 50, 14.1], 0, "place"),  # IoU .1025 with A
        ([10.0, 10, 50, 13.9], 0, "background"),  # IoU .0975
        ([10.0, 10, 50, 29.9], 1, "both"),
        ([10.0, 10, 50, 30.1], 1, "class"),
    ],
)
def test_thresholds_of_the_kinds(box: list[float], label: int, kind: str) -> None:
    """Catches 0.5 and 0.1 exchanged or applied to the wrong classes."""
    found = replace(
        trace([[box]], [logits((label, 0.9))]),
        gt_boxes=torch.tensor([A]),
        gt_labels=torch.tensor([0]),
    )
    assert analysis.outcome(found).kinds == (kind,)


def test_best_score_wins_the_object_not_the_best_box() -> None:
    """Catches the object given to the better placed detection: COCO goes by score."""
    found = replace(
        trace([[[10.0, 10, 50, 40], A]], [logits((0, 0.9), (0, 0.8))]),
        gt_boxes=torch.tensor([A]),
        gt_labels=torch.tensor([0]),
    )
    result = analysis.outcome(found)
    assert result.kinds == ("right", "duplicate")
    assert result.detections.proposals[result.found[0]] == 0


def test_verdict_on_each_object(three: Trace) -> None:
    """Catches stages counted from 0, lost taken for missed, an improvement from the wrong stage."""
    objects = analysis.verdicts_of([three]).objects
    assert objects["verdict"] == ["improved", "lost", "missed"]
    assert objects["found"] == [1, 2, None]
    assert objects["lost"] == [None, 3, None]
    assert objects["stages"] == [3, 1, 0]
    assert objects["best"] == [3, 2, None]
    assert objects["iou_found"][0] == pytest.approx(0.5)
    assert objects["iou_last"][:2] == [pytest.approx(1.0), None]
    assert objects["class"] == ["ant", "bee", "ant"]


def test_verdict_of_duplicates_and_of_none() -> None:
    """Catches earlier duplicates held against the last stage, and a change of .04 called one."""
    twice = trace([[[10.0, 10, 50, 48.4], FAR], [A, A]], [logits((0, 0.9), (0, 0.1))] * 2)
    truth = {"gt_boxes": torch.tensor([A]), "gt_labels": torch.tensor([0])}
    kept = analysis.verdicts_of([replace(twice, **truth)]).objects
    assert (kept["verdict"], kept["duplicates"]) == (["kept"], [0])
    louder = replace(twice, **truth, logits=torch.stack([logits((0, 0.9), (0, 0.8))] * 2))
    doubled = analysis.verdicts_of([louder]).objects
    assert (doubled["verdict"], doubled["duplicates"]) == (["duplicated"], [1])


def test_what_each_stage_does(three: Trace) -> None:
    """Catches events counted at the wrong stage, and an arrival counted as an improvement."""
    stages = analysis.verdicts_of([three, three]).stages
    expected = {
        "stage": [1, 2, 3], "objects": [6, 6, 6], "right": [2, 4, 2], "new": [2, 2, 0],
        "gone": [0, 0, 2], "improved": [0, 2, 2], "worsened": [0, 0, 0], "class": [2, 0, 0],
        "place": [0, 0, 0], "both": [0, 0, 0], "duplicate": [0, 2, 0], "background": [2, 0, 0],
        "missed": [2, 2, 4],
    }  # fmt: skip
    assert {name: stages[name] for name in stages.columns} == expected


def test_pictures_by_disagreement(three: Trace) -> None:
    """Catches pictures in the order they came in, and stages counted in place of pairs."""
    calm = replace(
        trace([[A]] * 3, [logits((0, 0.9))] * 3),
        gt_boxes=torch.tensor([A]),
        gt_labels=torch.tensor([0]),
    )
    images = analysis.verdicts_of([calm, three]).images
    assert images["image"] == [1, 0]
    # B is found by one stage of three: 2 pairs. Wrong ones 2, 1, 0: pairs differ by 1, 2, 1.
    assert images["disagreement"] == [6, 0]
    assert (images["found_first"], images["found_last"]) == ([1, 1], [1, 1])


def test_verdicts_need_traces_and_truth(three: Trace) -> None:
    """Catches an empty table, or an AttributeError, in place of a sentence."""
    with pytest.raises(LabError, match="no traces"):
        analysis.verdicts_of([])
    with pytest.raises(LabError, match="no ground truth"):
        analysis.verdicts_of([replace(three, gt_boxes=None, gt_labels=None)])


def test_pictures_without_objects(three: Trace) -> None:
    """Catches a crash on a picture that shows nothing: its detections are all wrong."""
    nothing = replace(three, gt_boxes=torch.zeros(0, 4), gt_labels=torch.zeros(0).long())
    found = analysis.verdicts_of([nothing])
    assert len(found.objects) == 0
    assert found.stages["background"] == [3, 3, 1]
    assert analysis.careers_of([nothing]).proposals["errors"] == [1, 0, 0]


def test_careers(three: Trace) -> None:
    """Catches rows taken for ids, centres in pixels, wins of an earlier stage."""
    found = analysis.careers_of([three, three])
    table = found.proposals
    assert table["proposal"] == [0, 10, 20]
    assert table["wins"] == [2, 0, 0]
    assert table["share"] == [1.0, 0.0, 0.0]
    assert table["idle"] == [0.0, 1.0, 1.0]
    first = found.of(0)
    assert (first["x"], first["y"], first["w"], first["h"]) == pytest.approx((0.3, 0.3, 0.4, 0.4))
    assert (first["class"], first["class_share"]) == ("ant", 1.0)
    assert first["way"] == pytest.approx(math.hypot(0.2, 0.2))
    assert (first["start_x"], first["start_w"]) == pytest.approx((0.5, 1.0))
    assert found.of(10)["x"] is None
    assert found.ends["image"] == [0, 1]
    assert found.ends["right"] == [True, True]
    with pytest.raises(LabError, match="no proposal 1 "):
        found.of(1)


def test_greedy_order_takes_what_is_still_missing() -> None:
    """Catches an order by sums alone, which puts two rows that do the same work first."""
    worth = torch.tensor([[1.0, 1, 0, 0], [1, 0.9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    order, adds = greedy_order(worth)
    assert order == [0, 2, 1, 3]
    assert adds == [2.0, 1.0, 0.0, 0.0]
    assert counted_order(worth.round())[0] == [0, 1, 2, 3]


def test_reach_is_nothing_for_boxes_that_merely_touch() -> None:
    """Catches every large box reaching every object a little."""
    assert reach(torch.tensor([0.0, 0.3, 0.65, 1.0])).tolist() == pytest.approx([0, 0, 0.5, 1])


def test_settled_asks_only_those_that_matter(three: Trace) -> None:
    """Catches a quiet picture kept running by proposals that are nobody's detection."""
    moved, changed = settled(three, 2, least=0.1)
    assert moved == pytest.approx(1.0)  # 20 jumped, with a score of .6
    assert changed == pytest.approx(0.8 - 0.0025, abs=1e-3)
    moved, changed = settled(three, 3, least=0.85)
    assert moved == pytest.approx(0.1)  # only proposal 0 matters, and its score stays
    assert changed == pytest.approx(0.0, abs=1e-6)
    assert settled(three, 3, least=0.99) == (0.0, 0.0)


def test_where_each_picture_stops(three: Trace) -> None:
    """Catches stopping one stage early or late, and on boxes or scores alone."""
    change = np.array([[[0.2, 0.0], [0.0, 0.0]], [[0.0, 0.2], [0.3, 0.0]], [[0.1, 0.1], [0, 0]]])
    assert stop_stages(change, 0.1).tolist() == [3, 3, 2]
    assert stop_stages(change, 0.2).tolist() == [2, 2, 2]
    assert analysis.stop_stage(three, 0.15, least=0.85) == 3
    broken = replace(three, logits=three.logits * float("nan"))
    assert analysis.stop_stage(broken, 0.5) == 2  # nothing matters there
    assert settled(replace(three, boxes=three.boxes * float("nan")), 2)[0] == 1.0


def test_one_stage_is_where_it_stops(three: Trace) -> None:
    """Catches an IndexError where there is no second stage, and a change made up for it."""
    kept = {name: getattr(three, name)[:1] for name in ("logits", "fpn_level")}
    kept |= {name: getattr(three, name)[:2] for name in ("boxes", "features")}
    one = replace(three, **kept, matches=None, gt_boxes=None, gt_labels=None)
    assert analysis.stop_stage(one, 0.1) == 1
    assert stop_stages(np.zeros((3, 0, 2)), 0.1).tolist() == [1, 1, 1]
    with pytest.raises(LabError, match="2 or more, but there is one stage"):
        settled(one, 2)


def test_flips() -> None:
    """Catches a flip counted at the first snapshot, and a stage beside the wrong neighbour."""
    matched = {0: np.array([[1, 2], [1, 3]]), 100: np.array([[1, 2], [3, 1]])}
    table = flip_table(matched)
    assert table["step"] == [0, 0, 100, 100]
    assert table["flipped"] == [None, None, 0.0, 1.0]
    assert table["handed_on"] == [None, 0.5, None, 1.0]


def test_matched_proposals_by_id(three: Trace) -> None:
    """Catches rows in place of ids, and an unmatched object given to proposal 0."""
    matches = torch.tensor([[0, 1, -1], [1, 0, -1], [-1, -1, 2]])
    found = analysis.proposals_of_objects(replace(three, matches=matches))
    assert found.tolist() == [[0, 10, -1], [10, 0, -1], [-1, -1, 20]]
    shown = replace(three, matches=matches)
    again = replace(three, matches=matches[[1, 1, 2]])
    table = analysis.flips_of({5: [again], 1: [shown]})
    assert table["step"] == [1, 1, 1, 5, 5, 5]
    assert table["flipped"][3:] == pytest.approx([2 / 3, 0.0, 0.0])


def test_duplicates_are_counted_for_each_object() -> None:
    """Catches crowds taken for objects, other classes taken for duplicates, low scores counted."""
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10]},
            {"image_id": 1, "category_id": 7, "bbox": [50, 50, 10, 10], "iscrowd": 1},
            {"image_id": 2, "category_id": 8, "bbox": [0, 0, 10, 10]},
        ],
    }
    rows = np.array(
        [
            [1, 0, 0, 10, 10, 0.9, 7],
            [1, 0, 0, 10, 9, 0.8, 7],
            [1, 0, 0, 10, 8, 0.5, 7],
            [1, 0, 0, 10, 10, 0.1, 7],  # too faint
            [1, 50, 50, 10, 10, 0.9, 7],  # on the crowd
            [2, 0, 0, 10, 10, 0.9, 7],  # of another class
        ]
    )
    found = count_duplicates(rows, truth, 0.3)
    assert found == {"found": 0.5, "duplicates": 2.0, "wrong": 1.0}


def judged(
    said: list[tuple[list[float], int, float]], objects: list[tuple[list[float], int]]
) -> analysis.Outcome:
    one = trace([[box for box, _, _ in said]], [logits(*((label, s) for _, label, s in said))])
    truth = torch.tensor([box for box, _ in objects])
    labels = torch.tensor([label for _, label in objects])
    return analysis.outcome(replace(one, gt_boxes=truth, gt_labels=labels))


def test_among_several_objects_the_best_placed_free_one() -> None:
    """Catches the first object in place of the nearest, and one given away taken again."""
    low = [10.0, 10, 50, 40]  # IoU .75 with A
    result = judged([(low, 0, 0.9), (low, 0, 0.8)], [(A, 0), (low, 0)])
    assert result.kinds == ("right", "right")
    assert result.objects.tolist() == [1, 0]
    assert result.ious.tolist() == pytest.approx([1.0, 0.75])


def test_a_second_box_is_a_duplicate_before_it_is_a_wrong_class() -> None:
    """Catches the order of the kinds changed: an ant and a bee at the same place."""
    assert judged([(A, 0, 0.9), (A, 0, 0.8)], [(A, 0), (A, 1)]).kinds == ("right", "duplicate")


@pytest.mark.parametrize(("label", "kind", "missed"), [(0, "place", False), (1, "both", True)])
def test_what_is_about_an_object(label: int, kind: str, missed: bool) -> None:
    """Catches an object called missed though its class is seen beside it, and the other way."""
    result = judged([([10.0, 10, 50, 29.9], label, 0.9)], [(A, 0)])
    assert (result.kinds, result.missed.tolist()) == ((kind,), [missed])


def test_an_object_found_later_and_with_a_gap_is_worsened() -> None:
    """Catches a gap taken for a loss, a change since stage 1, and a rise called either way."""
    low = [10.0, 10, 50, 40]
    boxes = [[FAR], [A], [FAR], [low], [[10.0, 10, 50, 30]]]
    scores = [logits((0, s)) for s in (0.9, 0.8, 0.9, 0.6, 0.7)]
    one = replace(trace(boxes, scores), gt_boxes=torch.tensor([A]), gt_labels=torch.tensor([0]))
    found = analysis.verdicts_of([one])
    (row,) = found.objects.rows()
    assert (row["verdict"], row["found"], row["lost"], row["stages"]) == ("worsened", 2, None, 3)
    assert (row["best"], row["iou_found"], row["iou_best"]) == (2, 1.0, 1.0)
    assert (row["iou_last"], row["score_last"]) == pytest.approx((0.5, 0.7))
    assert found.stages["new"] == [0, 1, 0, 1, 0]
    assert found.stages["gone"] == [0, 0, 1, 0, 0]
    assert found.stages["worsened"] == [0, 0, 0, 0, 1]
    assert found.images["wrong_last"] == [0]
    assert found.images["disagreement"] == [3 * 2 + 2 * 3]


def test_summary_of_verdicts(three: Trace) -> None:
    """Catches shares of the six words in place of the objects."""
    summary = analysis.verdicts_of([three]).summary()
    assert summary["objects"] == [0, 1, 0, 0, 1, 1]
    assert summary["share"] == pytest.approx([0, 1 / 3, 0, 0, 1 / 3, 1 / 3])


def test_a_career_over_different_pictures() -> None:
    """Catches means for medians, wins for detections, pictures for detections, height for width."""
    low, high = [30.0, 20, 70, 40], [100.0, 0, 200, 80]
    right = [130.0, 20, 170, 40]

    def shown(box: list[float], *said: tuple[int, float]) -> Trace:
        one = trace([[[0.0, 0, 1, 1], box]], [logits((0, 0.01), (0, 0.01))])
        for label, score in said:
            one.logits[0, 1, label] = float(torch.logit(torch.tensor(score)))
        starts = torch.tensor([[0.0, 0, 20, 20], [0, 0, 200, 100]])
        boxes = torch.stack([starts, one.boxes[1]])
        truth = {"gt_boxes": torch.tensor([low]), "gt_labels": torch.tensor([0])}
        return replace(one, boxes=boxes, size=(100, 200), **truth)

    traces = [
        shown(low, (0, 0.9), (1, 0.8)),  # right, and once more with a wrong class
        shown(right, (1, 0.9)),
        shown(high, (1, 0.9)),
        shown(low),  # nothing
    ]
    row = analysis.careers_of(traces).of(10)
    assert (row["wins"], row["errors"], row["share"], row["idle"]) == (1, 3, 1.0, 0.25)
    assert (row["x"], row["y"], row["spread"]) == pytest.approx(
        (0.5, 0.325, (0.25 + 0.1 * 3**0.5 / 4) / 2)
    )
    assert (row["w"], row["h"]) == pytest.approx((0.2, 0.2))
    assert (row["class"], row["class_share"]) == ("ant", 1.0)
    assert row["way"] == pytest.approx((3 * np.hypot(0.25, 0.2) + np.hypot(0.25, 0.1)) / 4)


def test_who_scores_at_one_of_the_two_stages_matters(three: Trace) -> None:
    """Catches a proposal whose score collapses called settled: 10 falls from .8 to .1."""
    assert settled(three, 3, least=0.6)[1] == pytest.approx(0.7, abs=1e-3)


def test_objects_of_one_class_are_told_apart() -> None:
    """Catches a second object taken for a duplicate, objects in place of pictures, > for >=."""
    notes = [{"image_id": 1, "category_id": 7, "bbox": [x, x, 10, 10]} for x in (0, 50)]
    truth = {"images": [{"id": i} for i in range(1, 5)], "annotations": notes}
    rows = np.array([[1, x, x, 10, 10, score, 7] for x, score in ((0, 0.9), (50, 0.3), (80, 0.9))])
    assert count_duplicates(rows, truth, 0.3) == {"found": 1.0, "duplicates": 0.0, "wrong": 0.25}


def test_flips_are_since_the_snapshot_before_and_losing_a_proposal_is_one() -> None:
    """Catches flips since the first snapshot, and objects that lose their proposal left out."""
    matched = {0: [[1, 2], [1, 2]], 10: [[2, 2], [2, -1]], 20: [[2, 2], [2, -1]]}
    table = flip_table({step: np.array(ids) for step, ids in matched.items()})
    assert table["flipped"][2:] == [0.5, 1.0, 0.0, 0.0]
    assert table["handed_on"][3] == 0.5


def test_flips_need_the_same_pictures(three: Trace) -> None:
    """Catches a crash of numpy where one snapshot was traced on more pictures."""
    shown = replace(three, matches=torch.full((3, 3), -1))
    with pytest.raises(LabError, match="the same pictures and stages"):
        analysis.flips_of({0: [shown], 1: [shown, shown]})
