"""COCO numbers: the published ones, and the way from a model's tensors to them."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import small_config

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Ablation, Detector, LabError, analysis, evaluate
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.stage import NORMAL, StageOutput
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.detect.detector import Batch
from sparse_rcnn_lab.training.coco_metrics import METRICS, coco_stats, to_results
from sparse_rcnn_lab.training.evaluate import label_category_ids

COCO_EVAL = Path(__file__).parents[1] / "data" / "coco_eval"
# As printed by their publishers (SOURCE.md), with the precision they print.
PUBLISHED = {
    "instances_val2014_100": (
        "0.505 0.697 0.573 0.586 0.519 0.501 0.387 0.594 0.595 0.640 0.566 0.564",
        5e-4,
    ),
    "instances_val2014_100_boxarea": (
        "0.503647 0.696973 0.571667 0.593252 0.557991 0.489363 "
        "0.386813 0.593680 0.595353 0.654764 0.603130 0.553744",
        1e-6,
    ),
}
TRUTH: dict[str, Any] = {
    "images": [{"id": 5, "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
    "annotations": [
        {"id": 0, "image_id": 5, "category_id": 3, "bbox": [10, 10, 50, 40]},
        {"id": 1, "image_id": 5, "category_id": 8, "bbox": [20, 30, 60, 60]},
    ],
}


def found(index: int, **changes: Any) -> dict[str, Any]:
    """A perfect detection of one annotation of TRUTH, but for ``changes``."""
    a = TRUTH["annotations"][index]
    return {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.5} | changes


def read(name: str) -> Any:
    return json.loads((COCO_EVAL / f"{name}.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    """Catches any wrong evaluation setting: areas, crowds, IoU thresholds, detection limits."""
    result = coco_stats(read(name), read("instances_val2014_fakebbox100_results"))
    numbers = [getattr(result, metric) for metric in METRICS]
    text, precision = PUBLISHED[name]
    assert numbers == pytest.approx([float(number) for number in text.split()], abs=precision)
    expected = read("expected")[name]
    assert numbers == pytest.approx([expected["stats"][m] for m in METRICS], abs=1e-6)
    present = {name: ap for name, ap in result.per_class.items() if ap >= 0}
    assert len(result.per_class) == 80  # those without an object are -1, not left out
    assert present == pytest.approx(expected["AP_per_class"], abs=1e-6)
    at_50 = [ap for ap in result.per_class_50.values() if ap >= 0]
    assert len(at_50) == len(present) and np.mean(at_50) == pytest.approx(result.AP50)


def test_silent_and_without_side_effects(capsys):
    """Catches pycocotools' chatter, its habit of writing into the dictionaries it is given, and
    annotation id 0 passed on: it would report the perfect match as a miss."""
    truth, results = copy.deepcopy(TRUTH), [found(0), found(1)]
    before = copy.deepcopy(results)
    assert coco_stats(truth, results).AP > 0.999
    assert capsys.readouterr() == ("", "")
    assert (truth, results) == (TRUTH, before)


def test_nothing_found_and_nothing_to_find():
    """Catches a crash on empty lists, and 0 where a number is undefined (or the reverse)."""
    nothing = coco_stats(TRUTH, [])
    assert (nothing.AP, nothing.AR100, nothing.APs) == (0.0, 0.0, -1.0)
    assert nothing.per_class == {"cat": 0.0, "dog": 0.0}
    empty = {**TRUTH, "annotations": []}
    assert coco_stats(empty, [found(0)]).AP == -1.0
    assert coco_stats({"images": [], "annotations": [], "categories": []}, []).AP == -1.0


def test_rows_equal_dictionaries():
    """Catches swapped columns between the array form and COCO's dictionaries."""
    results = [found(0, score=0.9), found(1, bbox=[22.0, 30.0, 50.0, 64.0])]
    rows = np.array([(r["image_id"], *r["bbox"], r["score"], r["category_id"]) for r in results])
    assert to_results(rows) == results
    assert coco_stats(TRUTH, rows) == coco_stats(TRUTH, results)
    assert 0 < coco_stats(TRUTH, rows).per_class["dog"] < 1


@pytest.mark.parametrize("start", [2**53 + 1, 1763836861123456768, 2**63 - 1])
def test_ids_beyond_2_53_are_told_from_their_neighbours(start):
    """Catches ids that pass through floats: boxes counted on another image, or of another class."""
    ids = [start + k for k in range(4)]
    boxes = [[10, 10, 20 + k, 30] for k in range(4)]
    rows = [
        {"image_id": i, "category_id": j, "bbox": box}
        for i, j, box in zip(ids, reversed(ids), boxes, strict=True)
    ]
    truth = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": i, "name": str(i)} for i in ids],
        "annotations": rows,
    }
    perfect = coco_stats(truth, [{**row, "score": 0.5} for row in rows])
    assert perfect.per_class == pytest.approx({str(i): 1.0 for i in ids})
    moved = [{**row, "image_id": ids[0], "score": 0.5} for row in rows]
    assert pytest.approx(0.25) == coco_stats(truth, moved).AP
    with pytest.raises(LabError, match=f"image id {start - 1}"):
        coco_stats(truth, [{**rows[0], "image_id": start - 1, "score": 0.5}])


def test_results_have_the_ids_of_the_json(oracle):
    """Catches a detections.json that nobody can join with the json it came from, and ids of
    other data sets rounded without a word."""

    class Numbered(Boxes):
        source_ids = (tuple(range(2**60, 2**60 + 1000)), ())

    class Large(Boxes):
        def __getitem__(self, index: int) -> Sample:
            return replace(super().__getitem__(index), image_id=2**53 + 1)

    result = evaluate(oracle, Numbered(), limit=1, progress=False)
    assert {row["image_id"] for row in result.results} == {2**60 + 999}
    assert {row["category_id"] for row in result.results} <= {90, 4, 17}
    with pytest.raises(LabError, match="9007199254740993 is beyond"):
        evaluate(oracle, Large(), progress=False)


def test_all_sizes_together():
    """Catches the quick numbers differing from the whole table's, or an IoU threshold shifted."""
    truth = read("instances_val2014_100")
    results = read("instances_val2014_fakebbox100_results")
    whole, quick = coco_stats(truth, results), coco_stats(truth, results, by_size=False)
    for metric in METRICS:
        by_size = metric[-1] in "sml"
        expected = -1.0 if by_size else getattr(whole, metric)
        assert getattr(quick, metric) == pytest.approx(expected), metric
    assert quick.per_class == whole.per_class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "image id 77"),
        ({"category_id": 4}, "category id 4"),
        ({"score": float("nan")}, "1 of 2 detections hold NaN"),
        ({"bbox": [1, 2, 3]}, "not made of numbers"),
        ({"bbox": "1234"}, "bbox '1234'"),
        ({"bbox": [50, 60, -20, -30]}, r"bbox \[50.0, 60.0, -20.0, -30.0\]; expected left, top"),
        ({"image_id": 5.5}, "image id 5.5"),
        ({"score": None}, "'score'"),  # left out
    ],
)
def test_wrong_results_are_named(change, message):
    """Catches results of another data set or a diverged model being counted as quiet misses, and a
    bare KeyError for a result file without scores."""
    wrong = {k: v for k, v in found(1, **change).items() if v is not None}
    with pytest.raises(LabError, match=message):
        coco_stats(TRUTH, [found(0), wrong])


@pytest.mark.parametrize(
    "change",
    [{"image_id": "5"}, {"image_id": 9}, {"category_id": 4}, {"bbox": [1, 2, float("nan"), 4]}],
)
def test_a_ground_truth_that_cannot_be_is_named(change):
    """Catches objects that nothing can match, or that are left out, without a word."""
    truth = copy.deepcopy(TRUTH)
    truth["annotations"][1].update(change)
    with pytest.raises(LabError, match="The ground truth's annotation 1 has image id"):
        coco_stats(truth, [found(0)])


class Boxes:
    """Images of different shapes; image i is of the one colour i, so that it can be recognised."""

    class_names = ("ant", "bee", "cow")
    sizes = ((60, 90), (120, 70), (64, 64), (200, 100), (50, 150))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        h, w = self.sizes[index]
        boxes = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.3, 0.3, 0.9, 1.0]]) * torch.tensor(
            [w, h, w, h]
        )
        image = torch.full((3, h, w), index, dtype=torch.uint8)
        labels = torch.tensor([index % 3, (index + 1) % 3])
        return Sample(image, boxes, labels, 1000 - 7 * index, f"image {index}")

    def category_ids(self) -> tuple[int, ...]:
        return (90, 4, 17)  # gaps, and not ascending

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        samples = [self[i] for i in (range(len(self)) if indices is None else indices)]
        annotations = [
            {"image_id": s.image_id, "category_id": self.category_ids()[label], "bbox": box}
            for s in samples
            for box, label in zip(
                box_ops.xyxy_to_xywh(s.boxes).tolist(), s.labels.tolist(), strict=True
            )
        ]
        return {
            "images": [{"id": s.image_id} for s in samples],
            "annotations": [{"id": i, **a} for i, a in enumerate(annotations)],
            "categories": [
                {"id": i, "name": name}
                for i, name in zip(self.category_ids(), self.class_names, strict=True)
            ],
        }

    def fingerprint(self) -> str:
        return "boxes"


def small_model(**changes: Any) -> SparseRCNN:
    size = InputConfig(short_side=64, long_side=96)
    return SparseRCNN(small_config(num_proposals=12, num_stages=3, input=size, **changes))


class Oracle(Detector):
    """Knows the answer at the last stage; at stage s, ``3 - s`` fifths of a box's width aside."""

    roll = 0  # by how many its labels are off

    def run(
        self,
        batch: Batch,
        stop: int | None = None,
        num_proposals: int | None = None,
        ablation: Ablation = NORMAL,
    ) -> list[StageOutput]:
        data, n = Boxes(), self.num_proposals
        outputs = []
        for stage in range(1, (stop or self.num_stages) + 1):
            boxes = torch.zeros(len(batch.sources), n, 4)
            logits = torch.full((len(batch.sources), n, len(self.class_names)), -9.0)
            for b, image in enumerate(batch.sources):
                sample = data[int(image[0, 0, 0])]
                right = box_ops.rescale(sample.boxes, batch.scale(b))
                aside = (self.num_stages - stage) / 5 * (right[:, 2] - right[:, 0])
                boxes[b, :2] = right + torch.stack([aside, 0 * aside, aside, 0 * aside], dim=1)
                for k, label in enumerate(sample.labels.tolist()):
                    name = data.class_names[(label + self.roll) % 3]
                    logits[b, k, self.class_names.index(name)] = 4.0
            outputs.append(StageOutput(boxes, logits, boxes, boxes.long()))
        return outputs


def last_ap(detector: Detector, **options: Any) -> float:
    return evaluate(detector, Boxes(), progress=False, **options).per_stage[-1].AP


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(small_model(), Boxes.class_names)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_perfect_detector(oracle, batch_size):
    """Catches boxes left in input pixels, images mixed up in a batch, a lost last batch."""
    result = evaluate(oracle, Boxes(), batch_size=batch_size, progress=False)
    assert result.num_images == 5
    assert result.per_stage[-1].per_class == pytest.approx({"ant": 1.0, "bee": 1.0, "cow": 1.0})


def test_stages_keep_their_order(oracle):
    """Catches AP reported for the wrong stage: this detector is better at each."""
    result = evaluate(oracle, Boxes(), progress=False)
    quality = [stage.AP for stage in result.per_stage]
    assert quality[0] < quality[1] < quality[2]
    chosen = evaluate(oracle, Boxes(), stages=[2, 1], progress=False)
    assert chosen.stages == (1, 2)
    assert [stage.AP for stage in chosen.per_stage] == quality[:2]
    assert chosen.table().splitlines()[2].split()[:2] == ["2", f"{quality[1]:.3f}"]


def test_labels_and_categories(oracle):
    """Catches a class mix-up going unnoticed, label numbers taken for category ids, and labels
    matched by number where the detector lists the classes otherwise."""
    oracle.roll = 1
    assert last_ap(oracle) == 0.0
    assert last_ap(Oracle(small_model(), ("cow", "ant", "bee"))) == pytest.approx(1.0)


def test_limit_asks_for_no_other_ground_truth(oracle):
    """Catches minutes of laying out a hundred thousand drawn images to evaluate ten."""

    class Asked(Boxes):
        def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
            assert indices is not None and list(indices) == [0, 1]
            return super().ground_truth(indices)

    evaluate(oracle, Asked(), limit=2, progress=False)
    analysis.ap_curve(oracle, Asked(), n=[1], limit=2, progress=False, cache=False)


@pytest.mark.parametrize("num_proposals", [None, 5])
def test_same_detections_as_the_detector(num_proposals):
    """Catches evaluating something else than what inference returns, at any stage."""
    detector, data = Detector(small_model(), Boxes.class_names), Boxes()
    result = evaluate(detector, data, batch_size=1, num_proposals=num_proposals, progress=False)
    for stage, rows in zip(result.stages, result.detections, strict=True):
        expected = [
            one
            for sample in (data[i] for i in range(len(data)))
            for one in detector(sample.image, stage=stage, num_proposals=num_proposals).to_coco(
                sample.image_id, data.category_ids()
            )
        ]
        assert len(rows) == len(expected) > 0
        for row, one in zip(to_results(rows), expected, strict=True):
            # To rounding: a vectorised sigmoid depends on where in the array a number lies.
            assert row["score"] == pytest.approx(one["score"], rel=1e-5)
            assert row["bbox"] == pytest.approx(one["bbox"], rel=1e-5, abs=1e-4)
            assert (row["image_id"], row["category_id"]) == (one["image_id"], one["category_id"])
    assert result.results == to_results(result.detections[-1])


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(training):
    """Catches a training run going on in eval mode, also after an evaluation that failed, and
    validation images leaking into batch-norm statistics."""
    detector = Detector(small_model(), Boxes.class_names)
    detector.model.train(training)
    before = copy.deepcopy(detector.model.state_dict())
    evaluate(detector, Boxes(), limit=2, progress=False)
    assert detector.model.training is training
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(LabError):
        evaluate(detector, Boxes(), num_proposals=99, progress=False)
    assert detector.model.training is training


@pytest.mark.parametrize(
    ("names", "said", "evaluated"),
    [
        (("ant", "bee", "cow", "dog"), ["does not have dog, which"], ["ant", "bee", "cow"]),
        (("bee", "ant"), ["has cow, which the model does not know"], ["ant", "bee"]),
        (("bee", "fly"), ["not have fly", "has ant, cow"], ["bee"]),
    ],
)
def test_classes_that_both_know_are_evaluated(names, said, evaluated, capsys):
    """Catches a training whose end is refused since val.json lists one class less, the others'
    objects counted as missed, and a class left out without a word."""

    class Some(Oracle):
        def run(self, *given: Any, **options: Any) -> list[StageOutput]:
            known, self.class_names = self.class_names, ("ant", "bee", "cow", *names)
            wide = super().run(*given, **options)
            columns = [self.class_names.index(name) for name in known]
            self.class_names = known
            return [replace(output, logits=output.logits[..., columns]) for output in wide]

    result = evaluate(Some(small_model(num_classes=len(names)), names), Boxes())
    assert result.per_stage[-1].per_class == pytest.approx(dict.fromkeys(evaluated, 1.0))
    assert pytest.approx(1.0) == result.per_stage[-1].AP
    output = capsys.readouterr().out
    assert all(words in output for words in said)
    with pytest.raises(LabError, match="different classes"):
        label_category_ids(names, Boxes())


def test_classes_of_which_none_is_shared_are_named():
    """Catches an AP of nothing where the data set is not the detector's."""
    detector = Detector(small_model(), ("bat", "crow", "dog"))
    with pytest.raises(LabError, match=r"in the data: ant, bee, cow; only in the det.*: bat, crow"):
        evaluate(detector, Boxes(), progress=False)


@pytest.mark.parametrize(
    "options", [{"stages": [0]}, {"stages": [4]}, {"stages": []}, {"limit": 1.5}, {"batch_size": 0}]
)
def test_numbers_out_of_range(oracle, options):
    """Catches an evaluation of nothing, a bare IndexError, and numpy's whole numbers refused."""
    with pytest.raises(LabError):
        evaluate(oracle, Boxes(), progress=False, **options)
    assert evaluate(oracle, Boxes(), limit=np.int64(2), progress=False).num_images == 2


def test_to_dict_is_json(oracle):
    """Catches numpy numbers that json cannot write, and stages without their number."""
    content = json.loads(json.dumps(evaluate(oracle, Boxes(), progress=False).to_dict()))
    assert [entry["stage"] for entry in content["stages"]] == [1, 2, 3]
    assert content["stages"][-1]["AP50"] == pytest.approx(1.0)


def test_an_ablation_is_evaluated():
    """Catches an ablation that is not handed on to the stages, and numbers other than the table's
    of ablations, which goes another way."""
    detector, data = srl.load("nano-shapes"), srl.Shapes(3, seed=5)
    alone = srl.Ablation(self_attention=False)
    ours = [
        evaluate(detector, data, stages=[6], ablation=a, progress=False).per_stage[0].AP
        for a in (srl.Ablation(), alone)
    ]
    tried = {"whole": srl.Ablation(), "alone": alone}
    table = analysis.ablation_costs(detector, data, ablations=tried, cache=False, progress=False)
    assert ours == pytest.approx(table.AP.tolist()) and ours[0] > ours[1] + 0.1
