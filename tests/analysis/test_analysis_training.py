"""Starting boxes and matches over a training: a lab of tiny runs, from end to end."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted import NAMES, QUIET, A, B, HalfSize, Pictures
from small_model import small_config, small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.analysis.experiments import initialisation as lab
from sparse_rcnn_lab.analysis.experiments import pulls as pulling
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
    whole = Detector(small_model(proposal_init="image", zero_init_box_head=True), NAMES, "whole")
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


def test_kmeans_finds_the_clusters() -> None:
    """Catches corners clustered in place of centres and sides, and pixels in place of shares."""
    boxes = [[(A, 0), (B, 1)] for _ in range(5)]
    found = analysis.kmeans_boxes(Pictures(boxes), 2)
    expected = np.array([[14, 14, 20, 20], [47, 47, 26, 26]]) / 64
    assert found[found[:, 0].argsort()].numpy() == pytest.approx(expected, abs=1e-6)
    for few in (boxes[:1], []):
        with pytest.raises(LabError, match=f"There are {2 * len(few)} objects, too few"):
            analysis.kmeans_boxes(Pictures(few), 3)


def test_agreement_of_pulls() -> None:
    """Catches sums for means, lengths for vectors, and pictures without a pull counted in."""
    pulls = np.array([[3.0, 4, 2, 0], [3, 4, -2, 0], [3, 4, 2, 0], [3, 4, 0, 2], [0, 0, 0, 0]])
    row = pulling._row(7, pulls)
    assert (row["proposal"], row["pulled"], row["by_chance"]) == (7, 0.8, 0.5)
    assert (row["centre"], row["centre_agreement"]) == (5.0, 1.0)
    assert row["size"] == 2.0  # their mean is (2, 2) / 4
    assert row["size_agreement"] == pytest.approx(8**0.5 / 4 / 2)


def test_pulls_in_the_models_pixels_and_labels() -> None:
    """Catches objects in the picture's pixels, and the data set's numbers of the classes."""

    class Ring(HalfSize):
        class_names = (NAMES[1], NAMES[2], NAMES[0])

    real = Detector(small_model(proposal_init="image", zero_init_box_head=True), NAMES, "real")
    whole = analysis.box_pulls(real, Pictures([[(A, 0), (B, 1)]]), **QUIET)
    small = analysis.box_pulls(real, Ring([[(A, 2), (B, 0)]]), **QUIET)  # ants and bees again
    assert whole.rows() == small.rows()


def test_kmeans_of_oblong_pictures_and_of_the_first_alone() -> None:
    """Catches widths over heights, and pictures beyond the limit."""

    class Wide(Pictures):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            image = torch.cat([sample.image] * 2, dim=2)  # 64 x 128
            return replace(sample, image=image)

    data = Wide([[([0.0, 0, 64, 32], 0)], [([64.0, 32, 128, 64], 0)]])
    found = analysis.kmeans_boxes(data, 1, limit=1)
    assert found.tolist() == [[0.25, 0.25, 0.5, 0.5]]


def test_kmeans_has_a_seed() -> None:
    """Catches seeds of a lab that all start from the same centres."""
    many = Shapes(20, size=64)
    one, again, other = (analysis.kmeans_boxes(many, 6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


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
    assert set(table["step"]) == {0, 2}
    widths = table.where(step=0)["width"]
    grid = float(initial_boxes(6, "grid")[:, 2].mean())
    kmeans = [float(analysis.kmeans_boxes(TRAIN, 6, seed)[:, 2].mean()) for seed in (0, 1)]
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
    assert again.rows() == unbroken.rows()


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
    with pytest.raises(LabError, match="evaluate_every must be at least 1, found 0"):
        lab_of(tmp_path, evaluate_every=0)


def test_a_start_whose_run_never_began_is_made_anew(tmp_path: Path) -> None:
    """Catches the first model of another recipe, left by an interrupt, taken for this one's."""
    other = small_model(num_proposals=3, num_classes=6)
    save_checkpoint(tmp_path / "grid-frozen-0.start.safetensors", other, TRAIN.class_names, "old")
    assert set(lab_of(tmp_path)["step"]) == {0, 2}


def test_matches_are_kept_by_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an interrupt that loses the snapshots already counted, and kept matches mixed up."""
    data = Shapes(3, size=64)
    for step in (2, 4):
        path = tmp_path / "snapshots" / f"step_{step:07d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, small_model(step, num_classes=6), data.class_names, "x")
    options: dict[str, Any] = {"limit": 2, "progress": False}
    fresh = analysis.matching_flips(tmp_path, data, cache=False, **options)
    film = analysis.matching_film(tmp_path, data, [0, 1], progress=False)
    assert fresh.rows() == analysis.flips_of(film).rows()
    read: list[int] = []
    whole = Shapes.__getitem__

    def interrupted(self: Shapes, index: int) -> Sample:
        read.append(index)
        if len(read) == 4:
            raise KeyboardInterrupt
        return whole(self, index)

    monkeypatch.setattr(Shapes, "__getitem__", interrupted)
    kept: dict[str, Any] = {"batch_size": 1, "cache": tmp_path / "kept", **options}
    with pytest.raises(KeyboardInterrupt):
        analysis.matching_flips(tmp_path, data, **kept)
    assert read == [0, 1, 0, 1]
    again = analysis.matching_flips(tmp_path, data, **kept)
    assert read == [0, 1, 0, 1, 1]
    assert again.rows() == fresh.rows()


def test_the_film_shows_each_snapshots_own_model(tmp_path: Path) -> None:
    """Catches one model for all steps, and a picture counted from the end."""
    data = Shapes(2, size=64)
    models = {step: small_model(step, num_classes=6) for step in (2, 4)}
    for step, model in models.items():
        path = tmp_path / "snapshots" / f"step_{step:07d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, model, data.class_names, "x")
    film = analysis.matching_film(tmp_path, data, [1], progress=False)
    for step, (shown,) in film.items():
        said = Detector(models[step], data.class_names, "x").trace(data[1].image)
        torch.testing.assert_close(shown.logits, said.logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(LabError, match=r"found \[-1\]"):
        analysis.matching_film(tmp_path, data, [-1], progress=False)
