"""Experiments over a data set, on detectors whose answers are written down beforehand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from scripted import AWAY, NAMES, QUIET, A, B, GreyImages, column, only, scripted, tiny
from small_model import small_model

from sparse_rcnn_lab import Ablation, Detector, LabError, Shapes, analysis, evaluate
from sparse_rcnn_lab.analysis.experiments import cross_stage_readout as readouts
from sparse_rcnn_lab.analysis.experiments import proposal_pruning as prunings
from sparse_rcnn_lab.analysis.experiments.variants import StageInputs
from sparse_rcnn_lab.core.stage import NORMAL
from sparse_rcnn_lab.data.sample import Sample

HEADS = ("cls_tower", "reg_tower", "classify", "regress")


class Ring(GreyImages):
    """The same classes in another order: an exchange of two would be its own inverse."""

    class_names = (NAMES[1], NAMES[2], NAMES[0])

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, labels=torch.full_like(sample.labels, 2))  # ants

    def category_ids(self) -> tuple[int, ...]:
        return 11, 12, 10


def test_classes_in_another_order(detector, ants):
    """Catches labels taken as they are, and the map from the data to the detector turned round."""
    renamed = Ring(ants.objects)
    found = analysis.object_outcomes(detector, renamed, **QUIET)
    assert column(found.objects, "class") == ["ant"] * 3
    assert column(found.objects, "found") == [2, 2, 2]
    assert column(analysis.rank_proposals(detector, renamed, **QUIET), "wins") == [2, 1, 2, 0]


def test_outcomes_and_statistics_of_a_detector(detector, ants):
    """Catches images or stages shifted on the way from batches to tables."""
    found = analysis.object_outcomes(detector, ants, batch_size=2, **QUIET)
    assert column(found.stages, "AP") == pytest.approx([0.0, 1.0])
    assert column(found.stages, "background") == [5, 0]
    assert column(found.stages, "duplicate") == [0, 2]
    assert column(found.objects, "outcome") == ["duplicated", "duplicated", "kept"]
    assert column(found.objects, "image") == [0, 1, 2]
    table = analysis.proposal_statistics(detector, ants, batch_size=2, **QUIET).proposals
    assert column(table, "wins") == [0, 2, 1, 0]
    assert column(table, "errors") == [0, 0, 0, 2]
    assert column(table, "idle") == pytest.approx([1.0, 1 / 3, 2 / 3, 1 / 3])
    shown = list(analysis.traces_of(detector, ants, [2, 0]))  # in the order asked for
    assert [t.truth()[0].tolist() for t in shown] == [[B], [A]]


def test_thresholds_reach_the_counting(detector, ants):
    """Catches a threshold that is only written into the table's making; 3 scores .8, 1 and 2 .9."""
    high: dict[str, Any] = {"threshold": 0.85, **QUIET}
    outcomes = analysis.object_outcomes(detector, ants, **high)
    assert column(outcomes.objects, "outcome") == ["kept"] * 3
    statistics = analysis.proposal_statistics(detector, ants, **high)
    assert column(statistics.proposals, "errors") == [0, 0, 0, 0]
    for options, duplicates in ((high, 0.0), (QUIET, 2 / 3)):
        table = analysis.ablation_costs(detector, ants, **options)
        assert column(table, "duplicates")[0] == pytest.approx(duplicates)


def test_pruning_lets_the_best_go_on(ants):
    """Catches a schedule that keeps the first proposals, or decides by the wrong stage; and a
    ValueError of zip, after all the work is done, over the same schedule twice.
    """
    script = {
        (image, proposal): [(box, 0, first), (box, 0, last)]
        for image, box in ((0, A), (1, A), (2, B))
        for proposal, box, first, last in ((0, AWAY, 0.2, 0.9), (1, box, 0.7, 0.6))
    }
    detector = scripted(script, proposals=2, stages=2)
    tried = [(2, 2), (2, 1), (1, 1), [2, 1]]
    table = analysis.proposal_pruning(detector, ants, schedules=tried, **QUIET)
    assert column(table, "schedule") == ["2 2", "2 1", "1 1"]
    # All: three wrong boxes score above the three right ones. Then: right ones alone. Then: wrong.
    assert column(table, "AP") == pytest.approx([0.5, 1.0, 0.0], abs=1e-3)
    assert column(table, "work") == [1.0, 0.75, 0.5]
    for wrong in ((1, 2), (2,), (3, 1), (2, 0)):
        with pytest.raises(LabError, match="A schedule needs 2 numbers"):
            analysis.proposal_pruning(detector, ants, schedules=[wrong], **QUIET)


def test_pruning_keeps_the_best_of_any_class():
    """Catches a choice by one class alone."""
    said = {(0, 0): [(AWAY, 0, 0.2)] * 2, (0, 1): [(A, 1, 0.7)] * 2}
    only_one = scripted(said, proposals=2, stages=2)
    table = analysis.proposal_pruning(only_one, GreyImages([[(A, 1)]]), schedules=[(2, 1)], **QUIET)
    assert column(table, "AP") == pytest.approx([1.0])


def test_pruning_nobody_is_the_model():
    """Catches stages that are handed the learned boxes or features in place of the last ones'."""
    images = StageInputs.of(tiny(), Shapes(1, size=64), [0])
    with torch.inference_mode():
        (found,) = prunings._variant((6,) * 4)(images).values()
        own = images.run()[-1]
    order, same = (o.logits[0].amax(-1).argsort() for o in (own, found))
    torch.testing.assert_close(found.boxes[0, same], own.boxes[0, order], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.logits[0, same], own.logits[0, order], rtol=1e-4, atol=1e-4)


def test_usual_schedules():
    """Catches shares of other stages than the words say; 300 and 6 are the paper's."""
    paper = Detector(small_model(num_proposals=300, num_stages=6), NAMES, "paper")
    rest = (150,) * 5
    assert analysis.usual_schedules(paper) == [
        (300,) * 6,
        (300, 300, 300, 300, 150, 150),
        (300, 300, 300, 150, 150, 150),
        (300, 300, 150, 150, 150, 150),
        (300, 300, 100, 100, 100, 100),
        (300, 300, 100, 100, 30, 30),
        (300, *rest),
        (300, *(100,) * 5),
        (300, *(30,) * 5),
    ]


def test_early_exit_takes_each_image_at_its_own_stage():
    """Catches one stage for all, and detections of a stage that did not run."""
    data = GreyImages([[(A, 0)], [(A, 0)]])
    calm = [(A, 0, 0.9)] * 3
    late = [(AWAY, 0, 0.9), (AWAY, 0, 0.4), (A, 0, 0.95)]
    detector = scripted({(0, 0): calm, (1, 0): late}, proposals=1, stages=3)
    table = analysis.early_exit(detector, data, tolerances=[0.1, 0.6], **QUIET)
    fixed, settled = table.head(3), only(table, rule="settled")
    assert column(fixed, "stages") == [1.0, 2.0, 3.0]
    assert column(fixed, "AP")[-1] == pytest.approx(1.0)
    assert column(settled, "stages") == [2.5, 2.0]
    assert column(settled, "early") == [0.5, 1.0]
    assert column(settled, "AP") == pytest.approx([1.0, column(fixed, "AP")[1]])


def test_who_does_not_matter_does_not_keep_an_image():
    """Catches `min_score` left out: a box of score .3 jumps at the second stage."""
    said = {(0, 0): [(A, 0, 0.9)] * 3, (0, 1): [(A, 1, 0.3), (B, 1, 0.3), (B, 1, 0.3)]}
    jumpy, data = scripted(said, proposals=2, stages=3), GreyImages([[(A, 0)]])
    for score, stages in ((0.1, 3.0), (0.5, 2.0)):
        table = analysis.early_exit(jumpy, data, tolerances=[0.1], min_score=score, **QUIET)
        assert column(only(table, rule="settled"), "stages") == [stages]


def test_ablations_are_compared_with_the_untouched_model():
    """Catches another AP than the model's own, and an ablation that is not possible."""
    detector, data = tiny(), Shapes(4, size=64)
    tried = {"untouched": NORMAL, "boxes": Ablation(freeze_boxes=True)}
    table = analysis.ablation_costs(detector, data, ablations=tried, stages=[1, 4], **QUIET)
    plain = evaluate(detector, data, progress=False)
    untouched = only(table, ablation="untouched")
    assert column(untouched, "AP") == [plain.per_stage[0].AP, plain.per_stage[3].AP]
    assert column(untouched, "cost") == [0.0, 0.0]
    names = list(analysis.usual_ablations(detector))
    assert names[:3] == ["untouched", "no self-attention", "1 of 2 heads"]
    with pytest.raises(LabError, match="heads must be"):
        analysis.ablation_costs(detector, data, ablations={"x": Ablation(heads=(9,))}, **QUIET)


def test_costs_and_duplicates_of_an_ablation(detector, ants, monkeypatch):
    """Catches costs with the wrong sign or base, and counts of another ablation or stage.

    With boxes frozen where stage 1 left them, nothing is found.
    """
    model = type(detector.model)
    whole = model.run_stages

    def frozen(self: Any, *args: Any, ablation: Ablation = NORMAL, **options: Any) -> Any:
        outputs = whole(self, *args, **options)
        still = ablation.freeze_boxes
        return [replace(o, boxes=outputs[0].boxes) for o in outputs] if still else outputs

    monkeypatch.setattr(model, "run_stages", frozen)
    tried = {"untouched": NORMAL, "boxes": Ablation(freeze_boxes=True)}
    table = analysis.ablation_costs(detector, ants, ablations=tried, stages=[1, 2], **QUIET)
    assert column(table, "AP") == pytest.approx([0.0, 1.0, 0.0, 0.0])
    assert column(table, "cost") == pytest.approx([0.0, 0.0, 0.0, 1.0])
    assert column(table, "found") == [0.0, 1.0, 0.0, 0.0]
    assert column(table, "duplicates") == [None, pytest.approx(2 / 3), None, None]
    assert column(table, "wrong") == pytest.approx([5 / 3, 0.0, 5 / 3, 5 / 3])


@pytest.mark.parametrize("first", [1, 2])
def test_readout_with_the_other_stages_heads(first):
    """Catches rows and columns exchanged, and boxes decoded from the learned ones or from the
    stage's own: where the next stage's heads are made those of ``first``, they read what it says.
    """
    detector = tiny()
    stages = detector.model.stages
    for stage in stages:
        torch.nn.init.normal_(stage.regress.weight, std=0.3)
    for part in HEADS:
        own, other = (getattr(stages[i], part) for i in (first - 1, first))
        other.load_state_dict(own.state_dict())
    images = StageInputs.of(detector, Shapes(1, size=64), [0])
    with torch.inference_mode():
        said = images.run()
        found = readouts._read(images)
    one, two, three = first, first + 1, 4  # stage 4 has heads of its own
    assert torch.equal(found[f"both {one} {two}"].boxes, said[one - 1].boxes)
    assert torch.equal(found[f"both {one} {two}"].logits, said[one - 1].logits)
    assert torch.equal(found[f"both {three} {three}"].boxes, said[three - 1].boxes)
    assert not torch.allclose(found[f"both {one} {three}"].boxes, said[one - 1].boxes)
    assert torch.equal(found[f"class {one} {three}"].boxes, said[one - 1].boxes)
    box = found[f"box {one} {three}"]
    assert torch.equal(box.logits, said[one - 1].logits)
    assert torch.equal(box.boxes, found[f"both {one} {three}"].boxes)


def test_each_cell_of_the_readout_has_its_own_reading(monkeypatch):
    """Catches a transposed table and one reading in all three: only `box 1 2` is right here."""
    said = scripted({(0, 0): [(A, 0, 0.9)] * 2}, proposals=1, stages=2)

    def read(images: StageInputs) -> Any:
        right = images.run()[0]
        wrong = replace(right, boxes=torch.tensor(AWAY).expand_as(right.boxes))
        names = ["both 1 1", "both 2 2"]
        names += [f"{r} {s}" for r in readouts.READINGS for s in ("1 2", "2 1")]
        return {name: right if name == "box 1 2" else wrong for name in names}

    monkeypatch.setattr(readouts, "_read", read)
    table = analysis.cross_stage_readout(said, GreyImages([[(A, 0)]]), **QUIET)
    (row,) = [row for row in table.records() if row["AP"] > 0]
    assert (row["features"], row["heads"], row["reading"]) == (1, 2, "box")
