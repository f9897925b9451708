"""Starting boxes and matches over a training: a lab of tiny runs, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scripted import NAMES, Pictures
from small_model import small_config, small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.checkpoint import read_checkpoint
from sparse_rcnn_lab.config import AugmentConfig, LossConfig, Recipe, TrainConfig
from sparse_rcnn_lab.data.shapes import Shapes
from sparse_rcnn_lab.detector import Detector
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.views import figures
from sparse_rcnn_lab.zoo import load

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
        TRAIN,
        VAL,
        folder,
        recipe=RECIPE,
        starts=("image", "kmeans"),
        steps=4,
        evaluate_every=2,
        progress=False,
    )


def test_a_row_for_each_run_step_and_stage(table: Table) -> None:
    """Catches a run left out, and AP of the last evaluation written to all of them."""
    assert len(table) == 2 * 2 * (1 + 2 * 2)
    one = table.where(start="kmeans", boxes="learned")
    assert one["step"] == [0, 2, 2, 4, 4]
    assert one["stage"] == [None, 1, 2, 1, 2]
    assert one["AP"][0] is None and all(ap is not None for ap in one["AP"][1:])


def test_frozen_boxes_stay_and_learned_ones_move(table: Table) -> None:
    """Catches a freeze that only the optimizer's weight decay, or nobody, respects."""
    last = {row["boxes"]: row for row in table.where(start="image", step=4, stage=1).rows()}
    assert last["frozen"]["moved"] == 0.0
    assert last["learned"]["moved"] > 0.0
    assert (last["frozen"]["width"], last["frozen"]["near_image"]) == (1.0, 1.0)
    kmeans = table.where(start="kmeans", step=0, boxes="learned")
    boxes = analysis.kmeans_boxes(TRAIN, RECIPE.model.num_proposals)
    assert kmeans["width"] == pytest.approx([float(boxes[:, 2].mean())])


def test_starts_differ_in_their_boxes_alone(folder: Path, table: Table) -> None:
    """Catches starts compared from different random weights."""
    files = sorted(folder.glob("*.start.safetensors"))
    assert len(files) == 4
    image, kmeans = (
        read_checkpoint(folder / f"{start}-learned-0.start.safetensors").state
        for start in ("image", "kmeans")
    )
    assert {name for name in image if not torch.equal(image[name], kmeans[name])} == {
        "proposals.boxes"
    }


def test_finished_runs_are_read(folder: Path, table: Table) -> None:
    """Catches runs trained again, or a complaint that the folder holds one already."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("snapshots/*")}
    again = analysis.initialisation_lab(
        TRAIN, VAL, folder, recipe=RECIPE, starts=("image",), steps=4, evaluate_every=2,
        progress=False,
    )  # fmt: skip
    assert again.rows() == table.where(start="image").rows()
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


def test_an_unknown_start_is_named(tmp_path: Path) -> None:
    """Catches a training that fails after minutes over a misspelt word."""
    with pytest.raises(LabError, match="image, grid, random, kmeans; found centre"):
        analysis.initialisation_lab(TRAIN, VAL, tmp_path, starts=("centre",))  # type: ignore[arg-type]


def test_film_of_the_matches(folder: Path, table: Table) -> None:
    """Catches snapshots out of order, and a film of another picture than the one asked for."""
    run = folder / "kmeans-learned-0"
    film = analysis.matching_film(run, VAL, [1], progress=False)
    assert list(film) == [2, 4]
    assert all(torch.equal(traces[0].image, VAL[1].image) for traces in film.values())
    flips = analysis.matching_flips(run, VAL, limit=2, progress=False)
    assert flips["step"] == [2, 2, 4, 4]
    objects = sum(len(VAL[i].boxes) for i in range(2))
    assert set(flips["objects"]) == {objects}
    assert all(0 <= share <= 1 for share in flips["flipped"][2:])
    page = figures.match_film({step: traces[0] for step, traces in film.items()})
    titles = [axes.get_title(loc="left") for axes in page.axes]
    assert titles == ["step 2", "step 4"]
    labels = [t.get_text() for t in page.axes[1].texts if t.get_gid() == "label"]
    ids = analysis.proposals_of_objects(film[4][0])[-1].tolist()
    assert set(labels) <= {str(proposal) for proposal in ids}
    assert [len(axes.lines) for axes in figures.flip_curves(flips).axes] == [2]


def test_a_run_without_snapshots(tmp_path: Path) -> None:
    """Catches an empty film in place of saying how to keep snapshots."""
    with pytest.raises(LabError, match="keep_snapshots"):
        analysis.matching_flips(tmp_path, VAL)
    with pytest.raises(LabError, match=r"images must be 0\.\.2"):
        analysis.matching_film(tmp_path, VAL, [3])


def test_pulls_at_the_learned_boxes(folder: Path, table: Table) -> None:
    """Catches pulls counted at proposals that no object is matched with, and at frozen boxes none.

    Every picture has as many pulled boxes as objects; a picture seen twice agrees with itself.
    """
    detector = load(folder / "image-frozen-0")
    pulls = analysis.box_pulls(detector, VAL, cache=False, progress=False)
    objects = sum(len(sample.boxes) for sample in VAL)
    assert sum(pulls["pulled"]) * len(VAL) == pytest.approx(objects)
    assert not detector.model.proposals.boxes.requires_grad
    alone = analysis.box_pulls(detector, VAL, limit=1, cache=False, progress=False)
    agreed = [value for value in alone["size_agreement"] if value is not None]
    assert agreed == pytest.approx([1.0] * len(VAL[0].boxes))
    assert alone["by_chance"].count(1.0) == len(VAL[0].boxes)


def test_boxes_around_their_objects_are_not_pulled_at_the_centre() -> None:
    """Catches the centre and the sides exchanged: whole-image boxes are told to shrink, no more."""
    whole = Detector(small_model(proposal_init="image", still_boxes=True), NAMES, "whole")
    data = Pictures([[([4.0, 4, 24, 24], 0)], [([34.0, 34, 60, 60], 1)]])
    pulls = analysis.box_pulls(whole, data, cache=False, progress=False)
    assert max(value for value in pulls["centre"] if value is not None) < 1e-6
    assert min(value for value in pulls["size"] if value is not None) > 0.1


def test_curves_of_the_lab(table: Table) -> None:
    """Catches frozen runs left out of the AP panel, and lines over the wrong steps."""
    page = figures.start_curves(table)
    ap, moved, wide, _ = page.axes
    lines = [line for line in ap.lines if line.get_gid() == "series"]
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 2
    assert lines[0].get_xdata().tolist() == [2, 4]
    assert len(moved.lines) == len(wide.lines) == 2
    assert moved.lines[0].get_xdata().tolist() == [0, 2, 4]
    assert wide.lines[0].get_ydata()[0] == 1.0
