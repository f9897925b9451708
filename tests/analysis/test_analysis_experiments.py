"""Experiments over a data set, on detectors whose answers are written down beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from scripted import AWAY, NAMES, QUIET, A, B, Pictures, scripted, tiny
from small_model import small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis.experiments import cross_stage_readout as lenses
from sparse_rcnn_lab.analysis.experiments import proposal_pruning as funnels
from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.training.evaluate import evaluate


def test_classes_in_another_order(detector: Detector, pictures: Pictures) -> None:
    """Catches labels taken as they are: a data set may name the same classes in another order."""

    class Renamed(Pictures):
        class_names = (NAMES[1], NAMES[0], NAMES[2])

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, labels=torch.ones_like(sample.labels))

        def category_ids(self) -> tuple[int, ...]:
            return 11, 10, 12

    renamed = Renamed(pictures.objects)
    found = analysis.verdicts(detector, renamed, **QUIET)
    assert found.objects["class"] == ["ant"] * 3
    assert found.objects["found"] == [2, 2, 2]
    assert analysis.rank_proposals(detector, renamed, **QUIET)["wins"] == [2, 1, 2, 0]


def test_verdicts_and_careers_of_a_detector(detector: Detector, pictures: Pictures) -> None:
    """Catches pictures or stages shifted on the way from batches to tables."""
    found = analysis.verdicts(detector, pictures, batch_size=2, **QUIET)
    assert found.stages["AP"] == pytest.approx([0.0, 1.0])
    assert found.stages["background"] == [5, 0]
    assert found.stages["duplicate"] == [0, 2]
    assert found.objects["verdict"] == ["duplicated", "duplicated", "kept"]
    assert found.objects["image"] == [0, 1, 2]
    table = analysis.careers(detector, pictures, batch_size=2, **QUIET).proposals
    assert table["wins"] == [0, 2, 1, 0]
    assert table["errors"] == [0, 0, 0, 2]
    assert table["idle"] == pytest.approx([1.0, 1 / 3, 2 / 3, 1 / 3])
    (shown,) = analysis.traces_of(detector, pictures, [2])
    assert shown.gt_boxes is not None and shown.gt_boxes.tolist() == [B]


def test_funnel_lets_the_best_go_on(pictures: Pictures) -> None:
    """Catches a funnel that keeps the first proposals, or decides by the wrong stage."""
    script = {
        (image, proposal): [(box, 0, first), (box, 0, last)]
        for image, box in ((0, A), (1, A), (2, B))
        for proposal, box, first, last in ((0, AWAY, 0.2, 0.9), (1, box, 0.7, 0.6))
    }
    detector = scripted(script, proposals=2, stages=2)
    table = analysis.funnel(detector, pictures, schedules=[(2, 2), (2, 1), (1, 1)], **QUIET)
    assert table["schedule"] == ["2 2", "2 1", "1 1"]
    # All: three wrong boxes score above the three right ones. Then: right ones alone. Then: wrong.
    assert table["AP"] == pytest.approx([0.5, 1.0, 0.0], abs=1e-3)
    assert table["work"] == [1.0, 0.75, 0.5]
    for wrong in ((1, 2), (2,), (3, 1), (2, 0)):
        with pytest.raises(LabError, match="A funnel needs 2 numbers"):
            analysis.funnel(detector, pictures, schedules=[wrong], **QUIET)


def test_stopping_takes_each_picture_at_its_own_stage() -> None:
    """Catches one stage for all, and detections of a stage that did not run."""
    data = Pictures([[(A, 0)], [(A, 0)]])
    calm = [(A, 0, 0.9)] * 3
    late = [(AWAY, 0, 0.9), (AWAY, 0, 0.4), (A, 0, 0.95)]
    detector = scripted({(0, 0): calm, (1, 0): late}, proposals=1, stages=3)
    table = analysis.adaptive_stop(detector, data, tolerances=[0.1, 0.6], **QUIET)
    fixed, settled = table.head(3), table.where(rule="settled")
    assert fixed["stages"] == [1.0, 2.0, 3.0]
    assert fixed["AP"][-1] == pytest.approx(1.0)
    assert settled["stages"] == [2.5, 2.0]
    assert settled["early"] == [0.5, 1.0]
    assert settled["AP"] == pytest.approx([1.0, fixed["AP"][1]])


def test_switches_are_compared_with_the_untouched_model() -> None:
    """Catches costs with the wrong sign or base, and switches that do not reach the stages."""
    detector, data = tiny(), Shapes(4, size=64)
    tried = {"untouched": NORMAL, "boxes": Ablation(freeze_boxes=True)}
    table = analysis.switch_costs(detector, data, ablation=tried, stages=[1, 4], **QUIET)
    plain = evaluate(detector, data, progress=False)
    untouched = table.where(switch="untouched")
    assert untouched["AP"] == [plain.per_stage[0].AP, plain.per_stage[3].AP]
    assert untouched["cost"] == [0.0, 0.0]
    for row in table.rows():
        base = untouched.where(stage=row["stage"])["AP"][0]
        assert row["cost"] == pytest.approx(base - row["AP"])
    names = list(analysis.usual_switches(detector))
    assert names[:3] == ["untouched", "no self-attention", "1 of 2 heads"]
    with pytest.raises(LabError, match="heads must be"):
        analysis.switch_costs(detector, data, switches={"x": Ablation(heads=(9,))}, **QUIET)


def test_lens_reads_with_the_other_stages_heads() -> None:
    """Catches rows and columns exchanged, and boxes decoded from the wrong state.

    With stage 2's heads made equal to stage 1's, they read from stage 1 what stage 1 says.
    """
    detector = tiny()
    model = detector.model
    for part in ("cls_tower", "reg_tower", "classify", "regress"):
        first, second = (getattr(model.stages[i], part) for i in (0, 1))
        second.load_state_dict(first.state_dict())
    torch.nn.init.normal_(model.stages[2].regress.weight, std=0.5)
    batch = detector.prepare([Shapes(1, size=64)[0].image])
    with torch.inference_mode():
        boxes, features = model.proposals(batch.sizes)
        pyramid = model.pyramid(batch.images)
        own = model.run_stages(pyramid, boxes, features)
        found = lenses._read(model, pyramid, boxes, features)
    assert torch.equal(found["both 1 2"].boxes, own[0].boxes)
    assert torch.equal(found["both 1 2"].logits, own[0].logits)
    assert torch.equal(found["both 3 3"].boxes, own[2].boxes)
    assert not torch.allclose(found["both 1 3"].boxes, own[0].boxes)
    assert torch.equal(found["class 1 3"].boxes, own[0].boxes)
    assert torch.equal(found["place 1 3"].logits, own[0].logits)
    assert torch.equal(found["place 1 3"].boxes, found["both 1 3"].boxes)


def test_lens_table_has_the_stages_own_ap_on_its_diagonal(
    detector: Detector, pictures: Pictures
) -> None:
    """Catches the S x S values put into the wrong cells."""
    table = analysis.lens(detector, pictures, **QUIET)
    assert len(table) == 3 * 2 * 2
    for reading in ("both", "class", "place"):
        for stage, ap in ((1, 0.0), (2, 1.0)):
            cell = table.where(features=stage, heads=stage, reading=reading)
            assert cell["AP"] == pytest.approx([ap])


def test_thresholds_reach_the_counting(detector: Detector, pictures: Pictures) -> None:
    """Catches a threshold that is only written into the table's making; 3 scores .8, 1 and 2 .9."""
    high: dict[str, Any] = {"threshold": 0.85, **QUIET}
    assert analysis.verdicts(detector, pictures, **high).objects["verdict"] == ["kept"] * 3
    assert analysis.careers(detector, pictures, **high).proposals["errors"] == [0, 0, 0, 0]
    assert analysis.switch_costs(detector, pictures, **high)["duplicates"][0] == 0.0
    assert analysis.switch_costs(detector, pictures, **QUIET)["duplicates"][0] == pytest.approx(
        2 / 3
    )


def test_traces_in_the_order_asked_for(detector: Detector, pictures: Pictures) -> None:
    """Catches traces in the data set's order."""
    shown = list(analysis.traces_of(detector, pictures, [2, 0]))
    assert [t.gt_boxes.tolist() for t in shown if t.gt_boxes is not None] == [[B], [A]]


def test_a_funnel_that_drops_nobody_is_the_model() -> None:
    """Catches stages that are handed the learned boxes or features in place of the last ones'."""
    real = tiny()
    batch = real.prepare([Shapes(1, size=64)[0].image])
    with torch.inference_mode():
        boxes, features = real.model.proposals(batch.sizes)
        (found,) = funnels._way((6,) * 4)(
            real.model, real.model.pyramid(batch.images), boxes, features
        ).values()
        own = real.run(batch)[-1]
    order, same = (o.logits[0].amax(-1).argsort() for o in (own, found))
    torch.testing.assert_close(found.boxes[0, same], own.boxes[0, order], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.logits[0, same], own.logits[0, order], rtol=1e-4, atol=1e-4)


def test_a_funnel_keeps_the_best_of_any_class() -> None:
    """Catches a choice by one class alone."""
    said = {(0, 0): [(AWAY, 0, 0.2)] * 2, (0, 1): [(A, 1, 0.7)] * 2}
    only = scripted(said, proposals=2, stages=2)
    table = analysis.funnel(only, Pictures([[(A, 1)]]), schedules=[(2, 1)], **QUIET)
    assert table["AP"] == pytest.approx([1.0])


def test_usual_schedules() -> None:
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


def test_the_same_schedule_twice(detector: Detector, pictures: Pictures) -> None:
    """Catches a ValueError of zip after all the work is done."""
    table = analysis.funnel(detector, pictures, schedules=[(2, 1), [2, 1]], **QUIET)
    assert set(table["schedule"]) == {"2 1"}


def test_who_does_not_matter_does_not_keep_a_picture() -> None:
    """Catches `least` left out: a box of score .3 jumps at the second stage."""
    said = {(0, 0): [(A, 0, 0.9)] * 3, (0, 1): [(A, 1, 0.3), (B, 1, 0.3), (B, 1, 0.3)]}
    jumpy, data = scripted(said, proposals=2, stages=3), Pictures([[(A, 0)]])
    for least, stages in ((0.1, 3.0), (0.5, 2.0)):
        table = analysis.adaptive_stop(jumpy, data, tolerances=[0.1], least=least, **QUIET)
        assert table.where(rule="settled")["stages"] == [stages]


def test_costs_and_duplicates_of_a_switch(
    detector: Detector, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches costs with the wrong sign or base, and counts of another switch or stage.

    With boxes frozen where stage 1 left them, nothing is found.
    """
    model = type(detector.model)
    whole = model.run_stages

    def frozen(self: Any, *args: Any, switches: Ablation = NORMAL, **options: Any) -> Any:
        outputs = whole(self, *args, **options)
        still = switches.freeze_boxes
        return [replace(o, boxes=outputs[0].boxes) for o in outputs] if still else outputs

    monkeypatch.setattr(model, "run_stages", frozen)
    tried = {"untouched": NORMAL, "boxes": Ablation(freeze_boxes=True)}
    table = analysis.switch_costs(detector, pictures, ablation=tried, stages=[1, 2], **QUIET)
    assert table["AP"] == pytest.approx([0.0, 1.0, 0.0, 0.0])
    assert table["cost"] == pytest.approx([0.0, 0.0, 0.0, 1.0])
    assert table["found"] == [0.0, 1.0, 0.0, 0.0]
    assert table["duplicates"] == [None, pytest.approx(2 / 3), None, None]
    assert table["wrong"] == pytest.approx([5 / 3, 0.0, 5 / 3, 5 / 3])


def test_lens_decodes_from_the_boxes_that_entered() -> None:
    """Catches boxes decoded from the learned ones or from the stage's own: 3's heads are 2's."""
    real = tiny()
    model = real.model
    for stage in model.stages:
        torch.nn.init.normal_(stage.regress.weight, std=0.3)
    for part in ("cls_tower", "reg_tower", "classify", "regress"):
        second, third = (getattr(model.stages[i], part) for i in (1, 2))
        third.load_state_dict(second.state_dict())
    batch = real.prepare([Shapes(1, size=64)[0].image])
    with torch.inference_mode():
        boxes, features = model.proposals(batch.sizes)
        pyramid = model.pyramid(batch.images)
        own = model.run_stages(pyramid, boxes, features)
        found = lenses._read(model, pyramid, boxes, features)
    assert torch.equal(found["both 2 3"].boxes, own[1].boxes)
    assert not torch.allclose(own[1].boxes, own[0].boxes)


def test_each_cell_of_the_lens_has_its_own_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a transposed table and one reading in all three: only `place 1 2` is right here."""
    said = scripted({(0, 0): [(A, 0, 0.9)] * 2}, proposals=1, stages=2)

    def read(model: Any, pyramid: Any, boxes: Any, features: Any) -> Any:
        right = model.run_stages(pyramid, boxes, features)[0]
        wrong = replace(right, boxes=torch.tensor(AWAY).expand_as(right.boxes))
        names = ["both 1 1", "both 2 2"]
        names += [f"{r} {s}" for r in lenses.READINGS for s in ("1 2", "2 1")]
        return {name: right if name == "place 1 2" else wrong for name in names}

    monkeypatch.setattr(lenses, "_read", read)
    table = analysis.lens(said, Pictures([[(A, 0)]]), **QUIET)
    (row,) = [row for row in table.rows() if row["AP"] > 0]
    assert (row["features"], row["heads"], row["reading"]) == (1, 2, "place")
