"""Orders of proposals, AP by proposals and stages, and what they cost, on known answers."""

from typing import Any

import pytest
import torch
from scripted import NAMES, QUIET, A, B, GreyImages, HalfSize, column, only, scripted, tiny
from small_model import small_model

from sparse_rcnn_lab import Detector, LabError, Shapes, analysis, evaluate, load
from sparse_rcnn_lab.analysis.experiments import ap_curve as curves
from sparse_rcnn_lab.analysis.experiments import running_cost as cost
from sparse_rcnn_lab.analysis.experiments.cache import weights_hash
from sparse_rcnn_lab.analysis.experiments.variants import StageInputs
from sparse_rcnn_lab.core.stage import NORMAL
from sparse_rcnn_lab.models.checkpoint import save_checkpoint

TWO_THIRDS = 67 / 101  # COCO samples precision at recalls 0, .01, .. 1: 67 of them up to 2/3


def test_ranking_keeps_those_that_complete_each_other(detector, ants):
    """Catches an order by wins alone: 1 and 3 win twice each, and find the same two objects."""
    reach = analysis.rank_proposals(detector, ants, **QUIET)
    wins = analysis.rank_proposals(detector, ants, by="wins", **QUIET)
    assert column(reach, "proposal")[:2] == [1, 2]
    assert column(wins, "proposal") == [1, 3, 2, 0]
    assert column(reach, "wins") == [2, 1, 2, 0]
    assert column(reach, "reached")[:2] == pytest.approx([2 / 3, 1.0])
    curve = analysis.ap_curve(
        detector,
        ants,
        n=[1, 2, 4],
        order={"reach": column(reach, "proposal"), "wins": column(wins, "proposal")},
        **QUIET,
    )
    last = {order: column(only(curve, order=order, stage=2), "AP") for order in ("reach", "wins")}
    assert last["reach"] == pytest.approx([TWO_THIRDS, 1.0, 1.0])
    assert last["wins"] == pytest.approx([TWO_THIRDS, TWO_THIRDS, 1.0])
    assert set(column(only(curve, stage=1), "AP")) == {0.0}


def test_reordered_model_keeps_the_best(detector, ants):
    """Catches an order applied backwards, or to boxes and not to features; and a changed source."""
    before = weights_hash(detector)
    ranked = analysis.reordered(detector, [2, 1, 3, 0])
    assert ranked.model.proposals.features[:, 0].tolist() == [2, 1, 3, 0]
    assert weights_hash(detector) == before
    one = evaluate(ranked, ants, num_proposals=1, progress=False)
    ap = one.per_stage[-1].AP
    assert ap == pytest.approx(34 / 101)  # one of three objects
    with pytest.raises(LabError, match="at most once"):
        analysis.reordered(detector, [1, 1])
    real = tiny()
    image = Shapes(1, size=64)[0].image
    turned = analysis.reordered(real, list(range(real.num_proposals))[::-1])
    assert torch.allclose(turned(image).scores, real(image).scores, atol=1e-5)


def test_a_cut_model_can_be_written_and_read(tmp_path):
    """Catches a configuration that still says the old number, and what the checkpoint said lost."""
    whole = tiny()
    whole = Detector(whole.model, whole.class_names, "tiny", {"recipe": "r"})
    cut = analysis.reordered(whole, [2, 1])
    assert cut.info == {"recipe": "r", "proposal_order": [2, 1]}
    assert cut.config.num_proposals == 2 and whole.config.num_proposals == 6
    path = tmp_path / "cut.safetensors"
    save_checkpoint(path, cut.model, cut.class_names, "cut", cut.info)
    assert torch.equal(load(path).model.proposals.boxes, whole.model.proposals.boxes[[2, 1]])


def test_curve_is_what_evaluate_says(detector, ants):
    """Catches another way to count than the one every other AP here comes from."""
    curve = analysis.ap_curve(detector, ants, n=[2, 3], batch_size=2, **QUIET)
    for n in (2, 3):
        whole = evaluate(detector, ants, num_proposals=n, progress=False)
        assert column(only(curve, n=n), "AP") == [result.AP for result in whole.per_stage]
        assert column(only(curve, n=n), "AP50") == [result.AP50 for result in whole.per_stage]
    assert all(ms > 0 for ms in column(curve, "ms"))


def test_numbers_out_of_range_are_named(detector, ants):
    """Catches a slice that quietly takes fewer proposals than asked for."""
    for options, words in (
        ({"n": [5]}, r"must be 1\.\.4, found \[5\]"),
        ({"stages": [0, 3]}, r"must be 1\.\.2, found \[0, 3\]"),
        ({"order": [0, 9], "n": [1]}, "each proposal"),
        ({"order": [0], "n": [2]}, "names 1 proposals, but 2"),
        ({"limit": 0}, "limit must be at least 1"),
    ):
        with pytest.raises(LabError, match=words):
            analysis.ap_curve(detector, ants, **options, **QUIET)
    one = scripted({}, proposals=4, stages=1)
    with pytest.raises(LabError, match="has only one stage"):
        analysis.early_exit(one, ants, **QUIET)
    with pytest.raises(LabError, match="no images"):
        analysis.ap_curve(detector, GreyImages([]), **QUIET)
    with pytest.raises(LabError, match="different classes"):
        analysis.proposal_statistics(detector, Shapes(1), **QUIET)


def test_peak_memory_is_the_most_at_once():
    """Catches a sum over everything ever made, views counted twice, and weights counted."""
    start = torch.zeros(1000)

    def work() -> torch.Tensor:
        first = start + 1
        second = first[:10].reshape(2, 5) if first is not None else first
        third = first * 2  # two at once
        del first, second
        return third + 1

    assert cost.peak_bytes(work) == 2 * 4000


def test_random_orders_and_default_numbers():
    """Catches orders that change from call to call, lose a proposal or are all the same, a seed
    that says nothing; and a default that leaves out all proposals or one.
    """
    many = Detector(small_model(num_proposals=100), NAMES, "many")
    orders = analysis.random_orders(many, 2, seed=3)
    assert orders == analysis.random_orders(many, 2, seed=3)
    assert all(sorted(order) == list(range(100)) for order in orders.values())
    one, two = orders["random 0"], orders["random 1"]
    assert one != two
    assert list(analysis.random_orders(many, 1, seed=1).values()) != [one]
    assert curves.check_numbers(many, None) == (1, 2, 4, 7, 14, 27, 52, 100)


def test_ap50_is_not_ap():
    """Catches AP under both names: a box of IoU .525 is right at one of COCO's ten thresholds."""
    data = GreyImages([[(A, 1)]])
    loose = scripted({(0, 0): [([4.0, 4, 24, 14.5], 1, 0.9)] * 2}, proposals=1, stages=2)
    for table in (
        analysis.ap_curve(loose, data, n=[1], stages=[2], **QUIET),
        analysis.proposal_pruning(loose, data, schedules=[(1, 1)], **QUIET),
        only(analysis.early_exit(loose, data, tolerances=[0.1], **QUIET), rule="settled"),
        analysis.ablation_costs(loose, data, ablations={"a": NORMAL}, **QUIET),
        only(analysis.cross_stage_readout(loose, data, **QUIET), features=2, heads=2).head(1),
    ):
        (row,) = table.records()
        assert (row["AP"], row["AP50"]) == pytest.approx((0.1, 1.0))


def test_costs_are_those_of_the_row(detector, ants, monkeypatch):
    """Catches times of all stages or proposals in every row, and rows without the backbone."""
    model = type(detector.model)
    work = {"stages": 0, "pyramid": 0}
    stages, pyramid = model.run_stages, model.pyramid

    def run_stages(self: Any, table: Any, boxes: Any, *rest: Any, **options: Any) -> Any:
        outputs = stages(self, table, boxes, *rest, **options)
        work["stages"] += boxes.shape[1] * len(outputs)
        return outputs

    def build(self: Any, images: Any) -> Any:
        work["pyramid"] += 100
        return pyramid(self, images)

    def counted(what: Any, *_: Any) -> float:
        work.update(stages=0, pyramid=0)
        what()
        return work["stages"] + work["pyramid"]

    monkeypatch.setattr(model, "run_stages", run_stages)
    monkeypatch.setattr(model, "pyramid", build)
    monkeypatch.setattr(cost, "milliseconds", counted)
    curve = analysis.ap_curve(detector, ants, n=[1, 3], **QUIET)
    assert column(curve, "stages_ms") == [1, 2, 3, 6]
    assert column(curve, "ms") == [101, 102, 103, 106]
    table = analysis.proposal_pruning(detector, ants, schedules=[(4, 1), (2, 2)], **QUIET)
    assert column(table, "stages_ms") == [5, 4] and column(table, "work") == [5 / 8, 4 / 8]


def test_the_least_of_some_times(monkeypatch):
    """Catches the worst, or seconds: tries of 3, 1 and 2 ms."""
    ticks = iter([0, 0.003, 1, 1.001, 2, 2.002])
    monkeypatch.setattr(cost.time, "process_time", lambda: next(ticks))
    assert cost.milliseconds(lambda: None, torch.device("cpu"), 3) == pytest.approx(1.0)


def test_memory_of_all_counts_the_pyramid(monkeypatch):
    """Catches megabytes that are none, and a pyramid that is not there while the stages run."""
    monkeypatch.setattr(cost, "milliseconds", lambda *_: 0.0)
    image = StageInputs.of(tiny(), Shapes(1, size=64), [0])
    found = cost.cost_meter(image)(lambda *_: {"x": torch.zeros(10_000_000)})
    table = image.pyramid.table
    assert found["stages_mb"] == pytest.approx(40.0)  # ten million float32
    assert found["mb"] == pytest.approx(40.0 + 4 * table.numel() / 1e6)


def test_what_a_win_is_and_what_is_reached(detector):
    """Catches wins of another class, IoU .5 left out, and shares of what nobody reaches."""
    half = [4.0, 4, 24, 14]  # IoU .5 with A
    said = {(0, 0): [(A, 1, 0.9)], (0, 1): [(half, 0, 0.9)]}
    ranked = analysis.rank_proposals(
        scripted(said, proposals=2, stages=1), GreyImages([[(A, 0), (B, 0)]]), **QUIET
    )
    assert column(ranked, "proposal") == [0, 1] and column(ranked, "wins") == [0, 1]
    assert column(ranked, "reached") == [1.0, 1.0]
    # Boxes of the model's input beside objects of the image: it sees these twice as large.
    small = HalfSize([[(A, 0)], [(A, 0)], [(B, 0)]])
    assert column(analysis.rank_proposals(detector, small, **QUIET), "wins") == [2, 1, 2, 0]
