"""Experiments over a data set, on detectors whose answers are written down beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scripted import NAMES, Pictures, scripted
from small_model import small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis.experiments import kept
from sparse_rcnn_lab.analysis.experiments import lens as lenses
from sparse_rcnn_lab.analysis.experiments.cost import peak_bytes
from sparse_rcnn_lab.analysis.experiments.kept import Job, weights_hash
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.shapes import Shapes
from sparse_rcnn_lab.detector import Detector
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.model.fast import paths
from sparse_rcnn_lab.model.fast.paths import InferencePrecision
from sparse_rcnn_lab.model.switches import NORMAL, Switches
from sparse_rcnn_lab.training.evaluate import evaluate

TWO_THIRDS = 67 / 101  # COCO samples precision at recalls 0, .01, .. 1: 67 of them up to 2/3
A, B, AWAY = [4.0, 4, 24, 24], [34.0, 34, 60, 60], [40.0, 4, 60, 20]
QUIET: dict[str, Any] = {"progress": False, "cache": False}


@pytest.fixture
def pictures() -> Pictures:
    """Three pictures with an ant each: at A, at A, at B."""
    return Pictures([[(A, 0)], [(A, 0)], [(B, 0)]])


@pytest.fixture
def detector() -> Detector:
    """Of four proposals 0 is idle, 1 and 3 both find what is at A, 2 what is at B.

    At the first of two stages all of them are away from it, with a wrong class.
    """
    script = {
        (image, proposal): [(AWAY, 1, score), (box, 0, score)]
        for image, proposal, box, score in (
            (0, 1, A, 0.9), (1, 1, A, 0.9), (0, 3, A, 0.8), (1, 3, A, 0.8), (2, 2, B, 0.9),
        )
    }  # fmt: skip
    return scripted(script, proposals=4, stages=2)


def tiny(seed: int = 0) -> Detector:
    """A real, untrained detector of the shapes' classes."""
    return Detector(small_model(seed, num_classes=6), Shapes(1).class_names, "tiny")


def test_ranking_keeps_those_that_complete_each_other(
    detector: Detector, pictures: Pictures
) -> None:
    """Catches an order by wins alone: 1 and 3 win twice each, and find the same two objects."""
    reach = analysis.rank_proposals(detector, pictures, **QUIET)
    wins = analysis.rank_proposals(detector, pictures, by="wins", **QUIET)
    assert reach["proposal"][:2] == [1, 2]
    assert wins["proposal"] == [1, 3, 2, 0]
    assert reach["wins"] == [2, 1, 2, 0]
    assert reach["reached"][:2] == pytest.approx([2 / 3, 1.0])
    curve = analysis.ap_curve(
        detector,
        pictures,
        n=[1, 2, 4],
        order={"reach": reach["proposal"], "wins": wins["proposal"]},
        **QUIET,
    )
    last = {order: curve.where(order=order, stage=2)["AP"] for order in ("reach", "wins")}
    assert last["reach"] == pytest.approx([TWO_THIRDS, 1.0, 1.0])
    assert last["wins"] == pytest.approx([TWO_THIRDS, TWO_THIRDS, 1.0])
    assert set(curve.where(stage=1)["AP"]) == {0.0}


def test_reordered_model_keeps_the_best(detector: Detector, pictures: Pictures) -> None:
    """Catches an order applied backwards, or to boxes and not to features; and a changed source."""
    before = weights_hash(detector)
    ranked = analysis.reordered(detector, [2, 1, 3, 0])
    assert ranked.model.proposals.features[:, 0].tolist() == [2, 1, 3, 0]
    assert weights_hash(detector) == before
    one = evaluate(ranked, pictures, num_proposals=1, progress=False)
    ap = one.per_stage[-1].AP
    assert ap == pytest.approx(34 / 101)  # one of three objects
    assert analysis.reordered(detector, [2, 1]).num_proposals == 2
    with pytest.raises(LabError, match="at most once"):
        analysis.reordered(detector, [1, 1])
    real = tiny()
    image = Shapes(1, size=64)[0].image
    turned = analysis.reordered(real, list(range(real.num_proposals))[::-1])
    assert torch.allclose(turned(image).scores, real(image).scores, atol=1e-5)


def test_curve_is_what_evaluate_says(detector: Detector, pictures: Pictures) -> None:
    """Catches another way to count than the one every other AP here comes from."""
    curve = analysis.ap_curve(detector, pictures, n=[2, 3], batch_size=2, **QUIET)
    for n in (2, 3):
        whole = evaluate(detector, pictures, num_proposals=n, progress=False)
        assert curve.where(n=n)["AP"] == [result.AP for result in whole.per_stage]
        assert curve.where(n=n)["AP50"] == [result.AP50 for result in whole.per_stage]
    assert all(ms > 0 for ms in curve["ms"])


def test_dials_out_of_range_are_named(detector: Detector, pictures: Pictures) -> None:
    """Catches a slice that quietly takes fewer proposals than asked for."""
    for options, words in (
        ({"n": [5]}, r"must be 1\.\.4, found \[5\]"),
        ({"stages": [0, 3]}, r"must be 1\.\.2, found \[0, 3\]"),
        ({"order": [0, 9], "n": [1]}, "each proposal"),
        ({"order": [0], "n": [2]}, "names 1 proposals, but 2"),
        ({"limit": 0}, "limit must be at least 1"),
    ):
        with pytest.raises(LabError, match=words):
            analysis.ap_curve(detector, pictures, **options, **QUIET)  # type: ignore[arg-type]
    one = scripted({}, proposals=4, stages=1)
    with pytest.raises(LabError, match="has one stage; there is nothing to stop before"):
        analysis.adaptive_stop(one, pictures, **QUIET)
    with pytest.raises(LabError, match="no images"):
        analysis.ap_curve(detector, Pictures([]), **QUIET)
    with pytest.raises(LabError, match="different classes"):
        analysis.careers(detector, Shapes(1), **QUIET)


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
    tried = {"untouched": NORMAL, "boxes": Switches(freeze_boxes=True)}
    table = analysis.switch_costs(detector, data, switches=tried, stages=[1, 4], **QUIET)
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
        analysis.switch_costs(detector, data, switches={"x": Switches(heads=(9,))}, **QUIET)


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


@pytest.fixture
def counted(detector: Detector, pictures: Pictures, tmp_path: Path) -> Callable[[], list[int]]:
    """Runs an analysis in batches of one, and says which pictures it had to look at."""

    def run() -> list[int]:
        pictures.read.clear()
        analysis.verdicts(detector, pictures, batch_size=1, cache=tmp_path, progress=False)
        return list(pictures.read)

    return run


def test_done_once_is_done(
    counted: Callable[[], list[int]], detector: Detector, tmp_path: Path
) -> None:
    """Catches work done twice, and old answers for a changed model."""
    assert counted() == [0, 1, 2]
    assert counted() == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # the parts are gone
    with torch.no_grad():
        detector.model.stages[0].classify.bias += 1.0
    assert counted() == [0, 1, 2]


def test_goes_on_after_an_interrupt(
    counted: Callable[[], list[int]],
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches an interrupt that loses the parts already done."""
    whole = Pictures.__getitem__

    def interrupted(self: Pictures, index: int) -> Sample:
        if index == 2:
            raise KeyboardInterrupt
        return whole(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counted()
    (folder,) = tmp_path.iterdir()
    (folder / "0000000-0000001.npz").write_bytes(b"cut short")
    assert counted() == [0, 2]


def test_a_damaged_result_is_made_again(counted: Callable[[], list[int]], tmp_path: Path) -> None:
    """Catches a crash over a cache that somebody has touched."""
    counted()
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert counted() == [0, 1, 2]


def test_what_is_kept_depends_on_all_that_decides(detector: Detector, pictures: Pictures) -> None:
    """Catches a name that forgets the data, the limit or a setting."""
    job = Job("a", detector, pictures, None, {"t": 0.3}, "cache")
    others = [
        replace(job, data=Pictures([[(B, 0)]])),
        replace(job, limit=1),
        replace(job, settings={"t": 0.4}),
        replace(job, name="b"),
        replace(job, timed=True),
        replace(job, detector=detector.faster("bf16")),
        replace(job, detector=detector.faster(plain=True)),
        replace(job, detector=detector.faster("float32", compiled=True)),
    ]
    assert len({str(j.folder()) for j in (job, *others)}) == 9
    assert replace(job, cache=False).folder() is None
    same = replace(job, detector=detector.faster("float32"))
    assert same.folder() == job.folder()


@pytest.mark.parametrize("units", [False, True])
def test_ways_with_other_numbers_are_kept_apart(
    detector: Detector, units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches int8's tables given out as those of the precision between its convolutions."""
    monkeypatch.setattr(paths, "has_bf16_units", lambda device: units)
    ways = {p: repr(kept.way_of(detector.faster(p))) for p in get_args(InferencePrecision)}
    assert len(set(ways.values())) == 3
    assert ways["auto"] == ways["bf16" if units else "float32"]


def test_kept_times_are_those_of_this_machine(
    detector: Detector, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches times measured with other threads, or elsewhere, given again as if they were ours."""
    files = []
    options: dict[str, Any] = {"cache": tmp_path, "progress": False}
    for threads, cpu in ((1, "a"), (7, "a"), (7, "b")):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=threads: number)
        monkeypatch.setattr(kept, "machine", lambda device, name=cpu: {"cpu": name})
        analysis.ap_curve(detector, pictures, n=[1], **options)
        analysis.funnel(detector, pictures, schedules=[(1, 1)], **options)
        files.append(len(list(tmp_path.glob("*.json"))))
    assert files == [2, 4, 6]


def test_peak_memory_is_the_most_at_once() -> None:
    """Catches a sum over everything ever made, views counted twice, and weights counted."""
    start = torch.zeros(1000)

    def work() -> torch.Tensor:
        first = start + 1
        second = first[:10].reshape(2, 5) if first is not None else first
        third = first * 2  # two at once
        del first, second
        return third + 1

    assert peak_bytes(work) == 2 * 4000


def test_random_orders_are_the_same_again(detector: Detector) -> None:
    """Catches orders that change from call to call, and ones that lose a proposal."""
    orders = analysis.random_orders(detector, 2, seed=3)
    assert orders == analysis.random_orders(detector, 2, seed=3)
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders.values())
    assert list(orders) == ["random 0", "random 1"]


def test_kmeans_finds_the_clusters() -> None:
    """Catches corners clustered in place of centres and sides, and pixels in place of shares."""
    boxes = [[(A, 0), (B, 1)] for _ in range(5)]
    found = analysis.kmeans_boxes(Pictures(boxes), 2)
    expected = np.array([[14, 14, 20, 20], [47, 47, 26, 26]]) / 64
    assert found[found[:, 0].argsort()].numpy() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(LabError, match="too few"):
        analysis.kmeans_boxes(Pictures(boxes[:1]), 3)
