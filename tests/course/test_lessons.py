"""What the notebooks call: the helpers of sparse_rcnn_lab.course.lessons and their figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_model import CLASSES, PROPOSALS, STAGES, small_model

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.course.lessons import (
    lesson_charts,
    lesson_pages,
    lesson_setup,
    matching_lesson,
    notebook_files,
)
from sparse_rcnn_lab.views.draw import detection_marks
from sparse_rcnn_lab.views.figures import cost_matrix, detection_panels, learned_boxes
from sparse_rcnn_lab.views.figures.box_figures import coverage
from sparse_rcnn_lab.views.static import STATIC_VARIABLE


@pytest.fixture(scope="module")
def detector():
    return srl.Detector(small_model(overlap_attention=8.0), ["a", "b", "c"], "small")


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 255, (3, 60, 90), generator=torch.Generator().manual_seed(3)).byte()


@pytest.fixture(scope="module")
def trace(detector, image):
    boxes = [[5.0, 5, 40, 40], [50, 10, 80, 50], [20, 30, 45, 58]]
    return srl.with_ground_truth(detector.trace(image), boxes, [0, 1, 2])


@pytest.mark.parametrize("stage", [1, 3])
def test_a_walk_is_the_stage_itself(detector, image, stage):
    """Catches a step in slow motion that differs from the model: the lesson would teach another
    network."""
    record = ("attention", "roi_features", "dynamic_filters", "filtered_features")
    trace = detector.trace(image, record=record)
    walk = lessons.StageWalk(detector, image, stage)
    for name, wanted in {
        "attention": trace.attention, "roi": trace.roi_features.flatten(2, 3),
        "filtered": trace.filtered_features.flatten(2, 3), "logits": trace.logits,
    }.items():  # fmt: skip
        assert torch.equal(getattr(walk, name), wanted[stage - 1]), name
    assert torch.equal(walk.features_in, trace.features[stage - 1])
    assert torch.equal(walk.features_out, trace.features[stage])
    assert torch.equal(walk.levels, trace.fpn_level[stage - 1])
    filters = torch.cat([walk.first.flatten(1), walk.second.flatten(1)], dim=1)
    assert torch.equal(filters, trace.dynamic_filters[stage - 1])
    moved = box_ops.decode_deltas(walk.boxes_in, walk.deltas)
    assert torch.allclose(moved, walk.boxes_out, atol=1e-4)
    narrow = walk.norm_in(walk.roi[2] @ walk.first[2]).relu()
    assert torch.allclose(narrow, walk.narrow[2], atol=1e-5)


def test_a_walks_table_counts_every_weight_once(detector, image):
    """Catches a part of the stage that the table forgets or counts twice."""
    walk = lessons.StageWalk(detector, image, 2)
    part = detector.model.stages[1]
    assert walk.table["weights"].sum() == sum(p.numel() for p in part.parameters())
    assert "self-attention" in repr(walk) and "<table" in walk._repr_html_()


def test_costs_are_those_that_matching_uses(trace):
    """Catches a cost matrix in the lesson whose cheapest assignment is not the one trained with."""
    for stage in range(1, STAGES + 1):
        costs = lessons.costs(trace, stage)
        matched = trace.matches[stage - 1]
        wanted = [(int((matched == column).nonzero()), column) for column in range(3)]
        assert costs.hungarian() == wanted
        options = itertools.permutations(range(PROPOSALS), 3)
        cheapest = min(
            costs.price([(row, column) for column, row in enumerate(rows)]) for rows in options
        )
        assert costs.price(costs.hungarian()) == pytest.approx(cheapest, abs=1e-5)
        assert costs.price(costs.greedy()) >= cheapest - 1e-5
    framed, open_game = (costs.figure(pairs).axes[0].patches for pairs in (None, []))
    assert len(framed) == len(open_game) + 3  # the game that follows gives no answer away


def test_greedy_takes_each_proposal_once_in_order():
    """Catches a greedy assignment that looks ahead, or gives one proposal to two objects."""
    total = torch.tensor([[1.0, 1.0], [2.0, 9.0], [8.0, 8.0]])
    zero = torch.zeros_like(total)
    costs = matching_lesson.Costs(total, zero, zero, (4, 7, 9), ("a", "b"), 1)
    assert costs.greedy() == [(0, 0), (2, 1)]
    assert costs.hungarian() == [(1, 0), (0, 1)]
    few = matching_lesson.Costs(total[:1], zero[:1], zero[:1], (4,), ("a", "b"), 1)
    assert few.greedy() == [(0, 0)]  # none is left for b


def test_push_is_minus_the_gradient(trace):
    """Catches a sign turned round: the lesson would say that duplicates are encouraged."""
    push = lessons.push(trace, stage=2)
    assert push.shape == (PROPOSALS, CLASSES)
    matched = (trace.matches[1] >= 0).nonzero()[:, 0].tolist()
    for row in range(PROPOSALS):
        own = int(trace.gt_labels[trace.matches[1, row]]) if row in matched else -1
        for label in range(CLASSES):
            assert (push[row, label] > 0) == (label == own)
    assert torch.isfinite(lessons.losses(trace).total())


def test_suppression_keeps_the_better_of_two():
    """Catches NMS that keeps the worse box, or takes away one that does not overlap."""
    found = srl.Detections(
        boxes=torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40]]),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 0]),
        proposals=torch.arange(3),
        size=(50, 50),
        class_names=("a", "b"),
    )
    assert lessons.suppressed(found).proposals.tolist() == [0, 2]


def test_duplicates_are_counted_by_stage(trace):
    """Catches a count at the wrong stage, or without the threshold."""
    counts = lessons.count_duplicates([trace, trace], threshold=0.2)
    wanted = [2 * len(trace.detections(s, 0.2)) for s in range(1, STAGES + 1)]
    assert list(counts.found) == wanted and counts.objects == 6
    assert all(kept <= found for kept, found in zip(counts.kept, counts.found, strict=True))
    with pytest.raises(LabError, match="no trace"):
        lessons.count_duplicates([])


def test_other_starts_change_proposals_alone(detector):
    """Catches a start that touches the trained model, or leaves the proposals as they were."""
    before = [p.clone() for p in detector.model.parameters()]
    shuffled = lessons.with_start(detector, features="shuffled")
    mine, own = shuffled.model.proposals.features, detector.model.proposals.features
    assert not torch.equal(mine, own)
    assert torch.allclose(mine.sum(0), own.sum(0))
    image = lessons.with_start(detector, "image", "mean").model.proposals
    assert (image.boxes == torch.tensor([0.5, 0.5, 1, 1])).all()
    assert torch.allclose(image.features[0], own.mean(0))
    again = lessons.with_start(detector, "random", "random").model.proposals
    twice = lessons.with_start(detector, "random", "random").model.proposals
    assert torch.equal(again.boxes, twice.boxes) and torch.equal(again.features, twice.features)
    assert all(torch.equal(a, b) for a, b in zip(before, detector.model.parameters(), strict=True))
    with pytest.raises(LabError, match="shuffled"):
        lessons.with_start(detector, features="none")


def test_coverage_counts_boxes_over_a_place():
    """Catches rows and columns exchanged."""
    cover = coverage(torch.tensor([[0.0, 0, 1, 0.5], [0.5, 0, 1, 1]]), cells=2)
    assert cover.tolist() == [[1, 2], [0, 1]]


def test_figures_draw_what_they_are_given(trace):
    """Catches a panel without its name or number, and a pair framed in the wrong cell."""
    page = detection_panels([trace.detections(threshold=0.0)] * 2, trace.image, ["one", "two"])
    texts = [t.get_text() for axes in page.axes for t in axes.texts]
    assert f"one · {len(trace.detections())} found" in texts
    named = [m.label for m in detection_marks(trace.detections(threshold=0.0), scores=False)]
    assert set(named) <= set(trace.class_names)  # labels of ground truth have no score
    framed = cost_matrix(torch.rand(5, 2), ["a", "b"], [(3, 1)]).axes[0].patches[0]
    assert (framed.get_x(), framed.get_y()) == (0.5, 2.5)
    assert len(learned_boxes(trace).axes[0].patches) == PROPOSALS
    with pytest.raises(LabError, match="and one name"):
        detection_panels([trace.detections()], trace.image, [])
    with pytest.raises(LabError, match="a name per object"):
        cost_matrix(torch.rand(5, 2), ["a"])


def test_the_chosen_pairs_are_always_in_the_cost_matrix():
    """Catches a chosen pair left out because thirty other proposals are cheaper."""
    total = torch.arange(100.0)[:, None].repeat(1, 2)
    axes = cost_matrix(total, ["a", "b"], [(0, 0), (99, 1)]).axes[0]
    assert len(axes.patches) == 2
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*map(str, range(29)), "99"]


def test_workspace_is_emptied_but_never_someone_elses(tmp_path, monkeypatch):
    """Catches a lesson that stumbles over its last run, or deletes files it did not make."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path))
    folder = lessons.workspace("x")
    (folder / "old.txt").touch()
    assert not (lessons.workspace("x") / "old.txt").exists()
    other = tmp_path / "lessons" / "mine"
    other.mkdir()
    (other / "thesis.txt").touch()
    with pytest.raises(LabError, match="no lesson made"):
        lessons.workspace("mine")
    assert (other / "thesis.txt").exists()
    boards = lessons.copy_of_boards("boards")
    for part in ("train", "val"):
        images = {p.stem for p in (boards / part).glob("*.jpg")}
        assert images and images == {p.stem for p in (boards / part).glob("*.xml")}


def test_examples_are_found_by_name():
    """Catches an image that a lesson names and that does not ship."""
    assert lessons.example("street.jpg").is_file() and lessons.example("cards_1.jpg").is_file()
    with pytest.raises(LabError, match=r"cards_1\.jpg"):
        lessons.example("nothing.jpg")


def test_fast_mode_is_asked_for(monkeypatch):
    """Catches a lesson that is on toy amounts when nobody asked, and the other way round."""
    monkeypatch.delenv(lesson_setup.FAST_VARIABLE, raising=False)
    assert lessons.pick(full=600, fast=3) == 600
    monkeypatch.setenv(lesson_setup.FAST_VARIABLE, "0")
    assert lessons.pick(full=600, fast=3) == 600
    monkeypatch.setenv(lesson_setup.FAST_VARIABLE, "1")
    assert lessons.pick(full=600, fast=3) == 3


def test_a_missing_model_is_replaced_and_said(monkeypatch, capsys, tmp_path):
    """Catches lesson 9 stopping without a network, or going on in silence with another model."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPARSE_RCNN_LAB_WEIGHTS_URL", str(tmp_path / "nowhere"))
    monkeypatch.delenv(lesson_setup.FAST_VARIABLE, raising=False)
    detector, published = lessons.load_published("r50_3x_100", instead="nano-shapes")
    assert detector.name == "nano-shapes" and not published
    assert "stands in for r50_3x_100" in capsys.readouterr().out
    assert not any(lessons.table_of_models()["here"])
    with pytest.raises(LabError, match="not published"):
        lessons.load_published("small-cards")


def test_live_training_follows_fit(tmp_path):
    """Catches curves of the wrong stage or step, and boxes of an image that is not watched."""
    data = srl.Shapes(6, size=64)
    recipe = srl.recipe("nano", train__steps=4, train__batch_size=2)
    with lessons.LiveTraining(steps=4, val=data, watch=2) as live:
        assert [trace.xaxis for trace in live._figure().data] == ["x2"]  # or AP would have no axes
        run = srl.fit(
            data, recipe, tmp_path / "run", val=data, workers=0, evaluate_every=2, progress=False,
            on_step=live.step, on_evaluation=live.evaluation,
        )  # fmt: skip
    assert live.loss_steps == [1, 2, 3, 4] and live.ap_steps == [2, 4]
    assert [m.step for m in live.moments] == [2, 4]
    assert live.ap[-1] == [result.AP for result in run.evaluation.per_stage]
    found = live.moments[-1].found
    wanted = run.detector(data[2].image)
    assert torch.allclose(found.scores, wanted.scores, atol=1e-4)
    assert torch.allclose(found.boxes, wanted.boxes, atol=0.02)
    figure = live.curves()
    assert len(figure.data) == 6 and list(figure.data[5].x) == [2, 4]
    assert len(live.losses().data[0].x) == 4 and len(live.images(0.0).axes) == 2
    with pytest.raises(LabError, match="watch"):
        lessons.LiveTraining(steps=4, val=data, watch=6)


def test_charts_carry_their_values():
    """Catches values drawn over the wrong place."""
    figure = lessons.bars({"a": [1, 2], "b": [3, 4]}, ["x", "y"], title="t", across="x", up="y")
    assert [list(bar.y) for bar in figure.data] == [[1, 2], [3, 4]]
    line = lessons.lines({"a": [0.5]}, [3], title="t", across="x", up="y", top=1.0)
    assert line.layout.yaxis.range == (0, 1.0) and list(line.data[0].x) == [3]
    shown = lessons.surface([[1, 2, 3]], [1, 2, 3], [9], title="t", across="n", deep="s", up="AP")
    assert np.shape(shown.data[0].z) == (1, 3)


def test_controls_run_the_kernel(monkeypatch, trace):
    """Catches a slider that changes nothing, and a static page that shows a dead widget."""
    pytest.importorskip("ipywidgets")
    monkeypatch.delenv(STATIC_VARIABLE, raising=False)
    asked = []

    def show(n):
        asked.append(n)
        return learned_boxes(trace, width=2 + n / 10)

    box = lessons.sliders(show, n=(1, 9, 5))
    before = box.children[1].value
    box.children[0].children[0].value = 7
    assert asked == [5, 7] and box.children[1].value != before
    game = lessons.matching_game(lessons.costs(trace, 1))
    assert len(game.children[0].children) == 3
    monkeypatch.setenv(STATIC_VARIABLE, "1")
    assert isinstance(lessons.sliders(show, n=(1, 9, 5)), lesson_charts._Still)


def test_a_lesson_that_there_is_not(tmp_path):
    """Catches "run 5", which runs nothing and says nothing."""
    (tmp_path / "05_train.py").touch()
    with pytest.raises(LabError, match=r'no lesson "5"\. Choose from 05'):
        notebook_files.run(tmp_path, ["5"], fast=True)


def test_copies_to_work_in(tmp_path):
    """Catches a student's work that is written over, and a copy cut short that stops all others."""
    for number in "123":
        (tmp_path / f"0{number}_x.py").write_text("# %% [markdown]\n# # Title\n", encoding="utf-8")
    assert notebook_files.copy_lessons(tmp_path, tmp_path / "mine") == []
    first, second, _ = paths = sorted((tmp_path / "mine").iterdir())
    first.write_bytes(b"")
    second.write_text(second.read_text("utf-8").replace("Title", "My notes"), encoding="utf-8")
    before = [path.read_bytes() for path in paths]
    (tmp_path / "03_x.py").write_text("# %% [markdown]\n# # Another\n", encoding="utf-8")
    assert notebook_files.copy_lessons(tmp_path, tmp_path / "mine") == [first, paths[2]]
    assert [path.read_bytes() for path in paths] == before


def test_links_of_the_pages_on_any_system(monkeypatch, tmp_path):
    """Catches a link that fails where the pages are written on another drive than the lessons."""
    assert lesson_pages._way_to(tmp_path / "a", tmp_path / "b" / "c") == "../../a"

    def other_drive(path, start):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(lesson_pages.os.path, "relpath", other_drive)
    assert lesson_pages._way_to(tmp_path / "a", tmp_path) == (tmp_path / "a").as_uri()
