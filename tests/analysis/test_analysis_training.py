"""Starting boxes, what reaches them, and matches: a lab of tiny runs, from end to end."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted import NAMES, QUIET, A, B, HalfSize, Pictures, column, only
from small_model import small_config, small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.analysis.experiments import initialisation as lab
from sparse_rcnn_lab.analysis.experiments import learned_box_gradients as gradients
from sparse_rcnn_lab.analysis.experiments.matching_instability import instability_table
from sparse_rcnn_lab.core.config import AugmentConfig, LossConfig, Recipe, TrainConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.proposals import initial_boxes
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.models.checkpoint import read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.config_edit import with_changes
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.views import figures

TRAIN, VAL = Shapes(8, seed=1, size=64), Shapes(3, seed=2, size=64)
RECIPE = Recipe(
    "tiny",
    "for a test",
    small_config(num_stages=2),
    TrainConfig(batch_size=2, lr=1e-3, schedule="one-cycle", steps=4, warmup_steps=1),
    LossConfig(),
    AugmentConfig(size=(64, 64)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return analysis.initialisation_lab(
        TRAIN, VAL, folder, recipe=RECIPE, starts=("image", "kmeans"), steps=4, evaluate_every=2,
        progress=False,
    )  # fmt: skip


def test_a_row_for_each_run_step_and_stage(table: Table) -> None:
    """Catches a run left out, and AP of the last evaluation written to all of them."""
    assert len(table) == 2 * 2 * (1 + 2 * 2)
    one = only(table, start="kmeans", boxes="learned")
    assert column(one, "step") == [0, 2, 2, 4, 4]
    assert column(one, "stage") == [None, 1, 2, 1, 2]
    assert column(one, "AP")[0] is None and all(ap is not None for ap in column(one, "AP")[1:])


def test_runs_differ_in_their_boxes_alone(folder: Path, table: Table) -> None:
    """Catches a freeze that only the optimizer's weight decay, or nobody, respects; and starts
    compared from different random weights.
    """
    assert len(list(folder.glob("*.start.safetensors"))) == 4
    weights = [
        read_checkpoint(folder / f"{start}-learned-0.start.safetensors").state
        for start in ("image", "kmeans")
    ]
    differ = {name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert differ == {"proposals.boxes"}
    last = {row["boxes"]: row for row in only(table, start="image", step=4, stage=1).records()}
    assert last["frozen"]["moved"] == 0.0
    assert last["learned"]["moved"] > 0.0
    assert (last["frozen"]["width"], last["frozen"]["near_image"]) == (1.0, 1.0)
    kmeans = only(table, start="kmeans", step=0, boxes="learned")
    boxes = lab.kmeans_boxes(TRAIN, RECIPE.model.num_proposals)
    assert column(kmeans, "width") == pytest.approx([float(boxes[:, 2].mean())])


def test_finished_runs_are_read(folder: Path, table: Table) -> None:
    """Catches runs trained again, or a complaint that the folder holds one already."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("snapshots/*")}
    again = analysis.initialisation_lab(
        TRAIN, VAL, folder, recipe=RECIPE, starts=("image",), steps=4, evaluate_every=2,
        progress=False,
    )  # fmt: skip
    assert again.records() == only(table, start="image").records()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("snapshots/*")}


def test_backbone_of_a_trained_model(folder: Path, table: Table, tmp_path: Path) -> None:
    """Catches a warm start that warms nothing, or takes the proposals along."""
    run = folder / "image-learned-0"
    analysis.initialisation_lab(
        TRAIN, VAL, tmp_path, recipe=RECIPE, starts=("image",), frozen=(True,), steps=1,
        evaluate_every=1, backbone_of=run, progress=False,
    )  # fmt: skip
    source = read_checkpoint(run / "model.safetensors").state
    cold = read_checkpoint(folder / "image-frozen-0.start.safetensors").state
    warm = read_checkpoint(tmp_path / "image-frozen-0.start.safetensors").state
    for name, value in warm.items():
        assert torch.equal(value, (source if name.startswith("backbone.") else cold)[name]), name


def test_curves_of_the_lab(table: Table) -> None:
    """Catches frozen runs left out of the AP panel, and lines over the wrong steps."""
    page = figures.initialisation_curves(table)
    ap, moved, wide = page.axes
    lines = [line for line in ap.lines if line.get_gid() == "series"]
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 2
    assert lines[0].get_xdata().tolist() == [2, 4]
    assert len(moved.lines) == len(wide.lines) == 2
    assert moved.lines[0].get_xdata().tolist() == [0, 2, 4]
    assert wide.lines[0].get_ydata()[0] == 1.0


def test_rows_of_a_run_whose_boxes_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a way since the last snapshot, sides counted into it, heights given as widths."""
    boxes = {
        "first": [[0.5, 0.5, 1.0, 0.8], [0.2, 0.2, 0.2, 0.4]],
        "2": [[0.5, 0.5, 0.9, 0.6], [0.5, 0.6, 0.2, 0.4]],  # .5 away
        "4": [[0.5, 0.5, 0.9, 0.6], [0.2, 0.3, 0.1, 0.4]],  # .1 away
    }

    def read(path: Path) -> Any:
        state = {"proposals.boxes": torch.tensor(boxes[Path(path).name])}
        return type("Checkpoint", (), {"state": state})

    monkeypatch.setattr(lab, "read_checkpoint", read)
    monkeypatch.setattr(lab, "snapshots", lambda run: {2: Path("2"), 4: Path("4")})
    monkeypatch.setattr(lab.RunFolder, "rows", lambda self, name: [])
    rows = lab._rows(tmp_path, Path("first"))
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert [row["moved"] for row in rows] == pytest.approx([0.0, 0.25, 0.05])
    assert [row["width"] for row in rows] == pytest.approx([0.6, 0.55, 0.5])
    assert [row["height"] for row in rows] == pytest.approx([0.6, 0.5, 0.5])
    assert [row["near_image"] for row in rows] == [0.5, 0.5, 0.5]


def lab_of(out: Path, **options: Any) -> Table:
    """A lab of two steps from frozen grid boxes, unless told otherwise."""
    base: dict[str, Any] = {
        "recipe": RECIPE, "starts": ("grid",), "frozen": (True,), "steps": 2, "evaluate_every": 2,
        "progress": False,
    }  # fmt: skip
    return analysis.initialisation_lab(TRAIN, VAL, out, **{**base, **options})


def test_the_lab_does_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches random boxes called a grid, one seed for all, the recipe's steps, and all of val."""
    seen = []
    whole = lab.fit

    def fit(*args: Any, **options: Any) -> Any:
        seen.append(options["evaluate_limit"])
        return whole(*args, **options)

    monkeypatch.setattr(lab, "fit", fit)
    table = lab_of(tmp_path, starts=("grid", "kmeans"), seeds=(0, 1), evaluate_limit=1)
    assert seen == [1] * 4
    assert set(column(table, "step")) == {0, 2}
    widths = column(only(table, step=0), "width")
    grid = float(initial_boxes(6, "grid")[:, 2].mean())
    kmeans = [float(lab.kmeans_boxes(TRAIN, 6, seed)[:, 2].mean()) for seed in (0, 1)]
    assert widths == pytest.approx([grid, kmeans[0], grid, kmeans[1]])
    one, two = (
        lab.read_checkpoint(tmp_path / f"grid-frozen-{seed}.start.safetensors").state
        for seed in (0, 1)
    )
    assert not torch.equal(one["proposals.features"], two["proposals.features"])


@pytest.mark.parametrize("step", [1, 2])
def test_a_lab_that_is_stopped_goes_on(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches Ctrl-C that ends one run alone, and a run left without its last evaluation.

    fit waits for the end of a step, and the last step of all is one, too.
    """
    whole = lab.fit

    def interrupted(*args: Any, **options: Any) -> Any:
        def on_step(done: int, _: Any) -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGINT)

        return whole(*args, **options, on_step=on_step)

    both: dict[str, Any] = {"starts": ("image", "grid")}
    with monkeypatch.context() as patch:
        patch.setattr(lab, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab_of(tmp_path / "stopped", **both)
    assert not (tmp_path / "stopped" / "grid-frozen-0").exists()
    again, unbroken = (lab_of(tmp_path / name, **both) for name in ("stopped", "unbroken"))
    assert again.records() == unbroken.records()


def test_a_folder_of_another_lab_is_refused(tmp_path: Path) -> None:
    """Catches runs read as if they had been made with the settings of this call."""
    lab_of(tmp_path, evaluate_limit=1)
    run = tmp_path / "grid-frozen-0"
    other: dict[str, Any] = {"evaluate_limit": 1}
    with pytest.raises(LabError, match=r"another evaluate_limit \(it was 1, now 3\)"):
        lab_of(tmp_path, evaluate_limit=3)
    with pytest.raises(LabError, match=r"another backbone_of\. Call the lab with"):
        lab_of(tmp_path, backbone_of=run, **other)
    with pytest.raises(LabError, match=r"another recipe: train\.lr was 0\.001, now 0\.002"):
        lab_of(tmp_path, recipe=with_changes(RECIPE, train__lr=2e-3), **other)
    with pytest.raises(LabError, match="image, grid, random, kmeans; found centre"):
        lab_of(tmp_path, starts=("centre",))
    with pytest.raises(LabError, match="evaluate_every must be at least 1, found 0"):
        lab_of(tmp_path, evaluate_every=0)


def test_a_start_whose_run_never_began_is_made_anew(tmp_path: Path) -> None:
    """Catches the first model of another recipe, left by an interrupt, taken for this one's."""
    other = small_model(num_proposals=3, num_classes=6)
    save_checkpoint(tmp_path / "grid-frozen-0.start.safetensors", other, TRAIN.class_names, "old")
    assert set(lab_of(tmp_path)["step"]) == {0, 2}


def test_kmeans_finds_the_clusters() -> None:
    """Catches corners clustered in place of centres and sides, pixels in place of shares, widths
    over heights, images beyond the limit, and seeds that all give the same centres.
    """
    boxes = [[(A, 0), (B, 1)] for _ in range(5)]
    found = lab.kmeans_boxes(Pictures(boxes), 2)
    expected = np.array([[14, 14, 20, 20], [47, 47, 26, 26]]) / 64
    assert found[found[:, 0].argsort()].numpy() == pytest.approx(expected, abs=1e-6)
    for few in (boxes[:1], []):
        with pytest.raises(LabError, match=f"There are {2 * len(few)} objects, too few"):
            lab.kmeans_boxes(Pictures(few), 3)

    class Wide(Pictures):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, image=torch.cat([sample.image] * 2, dim=2))  # 64 x 128

    data = Wide([[([0.0, 0, 64, 32], 0)], [([64.0, 32, 128, 64], 0)]])
    assert lab.kmeans_boxes(data, 1, limit=1).tolist() == [[0.25, 0.25, 0.5, 0.5]]
    many = Shapes(20, size=64)
    one, again, other = (lab.kmeans_boxes(many, 6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_gradients_at_the_learned_boxes(folder: Path, table: Table) -> None:
    """Catches gradients counted at proposals that no object is matched with, and at frozen boxes
    none. An image has as many reached boxes as objects; one seen alone agrees with itself.
    """
    detector = load(folder / "image-frozen-0")
    found = analysis.learned_box_gradients(detector, VAL, **QUIET)
    objects = sum(len(sample.boxes) for sample in VAL)
    assert sum(column(found, "reached")) * len(VAL) == pytest.approx(objects)
    assert not detector.model.proposals.boxes.requires_grad
    alone = analysis.learned_box_gradients(detector, VAL, limit=1, **QUIET)
    agreed = [value for value in column(alone, "size_agreement") if value is not None]
    assert agreed == pytest.approx([1.0] * len(VAL[0].boxes))
    assert column(alone, "by_chance").count(1.0) == len(VAL[0].boxes)


def test_gradients_of_boxes_around_their_objects() -> None:
    """Catches the centre and the sides exchanged: whole-image boxes are told to shrink, no more;
    and objects in the image's pixels, or the data set's numbers of the classes.
    """

    class Ring(HalfSize):
        class_names = (NAMES[1], NAMES[2], NAMES[0])

    whole = Detector(small_model(proposal_init="image", zero_init_box_head=True), NAMES, "whole")
    large = analysis.learned_box_gradients(whole, Pictures([[(A, 0), (B, 1)]]), **QUIET)
    half = analysis.learned_box_gradients(whole, Ring([[(A, 2), (B, 0)]]), **QUIET)  # ant and bee
    assert large.records() == half.records()
    assert max(value for value in column(large, "centre") if value is not None) < 1e-6
    assert min(value for value in column(large, "size") if value is not None) > 0.1


def test_agreement_of_gradients() -> None:
    """Catches sums for means, lengths for vectors, and images without a gradient counted in."""
    found = np.array([[3.0, 4, 2, 0], [3, 4, -2, 0], [3, 4, 2, 0], [3, 4, 0, 2], [0, 0, 0, 0]])
    row = gradients._row(7, found)
    assert (row["proposal"], row["reached"], row["by_chance"]) == (7, 0.8, 0.5)
    assert (row["centre"], row["centre_agreement"]) == (5.0, 1.0)
    assert row["size"] == 2.0  # their mean is (2, 2) / 4
    assert row["size_agreement"] == pytest.approx(8**0.5 / 4 / 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two snapshots, written in the wrong order."""
    for step in (4, 2):
        path = tmp_path / "snapshots" / f"step_{step:07d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, small_model(step, num_classes=6), VAL.class_names, "x")
    return tmp_path


def test_matches_are_those_of_each_snapshots_own_model(run: Path, tmp_path: Path) -> None:
    """Catches snapshots out of order, one model for all steps, and another image than the one
    asked for, on the figure, too; an empty answer in place of saying how to keep snapshots.
    """
    found = analysis.matches_over_training(run, VAL, [1], progress=False)
    assert list(found) == [2, 4]
    for step, (shown,) in found.items():
        assert shown.image is not None and torch.equal(shown.image, VAL[1].image)
        model = Detector(small_model(step, num_classes=6), VAL.class_names, "x")
        said = model.trace(VAL[1].image)
        torch.testing.assert_close(shown.logits, said.logits, rtol=1e-4, atol=1e-4)
    page = figures.match_frames({step: traces[0] for step, traces in found.items()})
    assert [axes.get_title(loc="left") for axes in page.axes] == ["step 2", "step 4"]
    labels = {t.get_text() for t in page.axes[1].texts if t.get_gid() == "label"}
    assert labels <= {str(id) for id in analysis.matched_proposals(found[4][0])[-1].tolist()}
    with pytest.raises(LabError, match="keep_snapshots"):
        analysis.matching_instability(tmp_path / "none", VAL)
    for wrong in (3, -1):
        with pytest.raises(LabError, match=rf"images must be 0\.\.2, found \[{wrong}\]"):
            analysis.matches_over_training(run, VAL, [wrong])


def test_instability_is_kept_by_snapshot(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an interrupt that loses the snapshots already counted, and kept matches mixed up."""
    options: dict[str, Any] = {"limit": 2, "progress": False}
    fresh = analysis.matching_instability(run, VAL, cache=False, **options)
    traces = analysis.matches_over_training(run, VAL, [0, 1], progress=False)
    matched = {
        step: np.concatenate([analysis.matched_proposals(trace) for trace in shown], axis=1)
        for step, shown in traces.items()
    }
    assert fresh.records() == instability_table(matched).records()
    objects = sum(len(VAL[i].boxes) for i in range(2))
    assert set(column(fresh, "objects")) == {objects}
    (axes,) = figures.instability_curves(fresh).axes
    assert len(axes.lines) == 4  # stages
    read: list[int] = []
    whole = Shapes.__getitem__

    def interrupted(self: Shapes, index: int) -> Sample:
        read.append(index)
        if len(read) == 4:
            raise KeyboardInterrupt
        return whole(self, index)

    monkeypatch.setattr(Shapes, "__getitem__", interrupted)
    kept: dict[str, Any] = {"batch_size": 1, "cache": run / "kept", **options}
    with pytest.raises(KeyboardInterrupt):
        analysis.matching_instability(run, VAL, **kept)
    assert read == [0, 1, 0, 1]
    again = analysis.matching_instability(run, VAL, **kept)
    assert read == [0, 1, 0, 1, 1]
    assert again.records() == fresh.records()
