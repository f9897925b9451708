"""What a training does: the gradients that reach the learned boxes, and the matches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted import NAMES, QUIET, A, B, GreyImages, HalfSize, column
from small_model import small_model

from sparse_rcnn_lab import Detector, LabError, Shapes, analysis
from sparse_rcnn_lab.analysis.experiments import learned_box_gradients as gradients
from sparse_rcnn_lab.analysis.experiments.matching_instability import instability_table
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.views import figures

VAL = Shapes(3, seed=2, size=64)


def test_gradients_at_the_learned_boxes():
    """Catches gradients counted at proposals that no object is matched with, and at frozen boxes
    none. An image has as many reached boxes as objects; one seen alone agrees with itself.
    """
    model = small_model(num_classes=6, proposal_init="image", freeze_proposal_boxes=True)
    detector = Detector(model, VAL.class_names, "frozen")
    found = analysis.learned_box_gradients(detector, VAL, **QUIET)
    objects = sum(len(sample.boxes) for sample in VAL)
    assert sum(column(found, "reached")) * len(VAL) == pytest.approx(objects)
    assert not detector.model.proposals.boxes.requires_grad
    alone = analysis.learned_box_gradients(detector, VAL, limit=1, **QUIET)
    agreed = [value for value in column(alone, "size_agreement") if value is not None]
    assert agreed == pytest.approx([1.0] * len(VAL[0].boxes))
    assert column(alone, "by_chance").count(1.0) == len(VAL[0].boxes)


def test_gradients_of_boxes_around_their_objects():
    """Catches the centre and the sides exchanged: whole-image boxes are told to shrink, no more;
    and objects in the image's pixels, or the data set's numbers of the classes.
    """

    class Ring(HalfSize):
        class_names = (NAMES[1], NAMES[2], NAMES[0])

    whole = Detector(small_model(proposal_init="image", zero_init_box_head=True), NAMES, "whole")
    large = analysis.learned_box_gradients(whole, GreyImages([[(A, 0), (B, 1)]]), **QUIET)
    half = analysis.learned_box_gradients(whole, Ring([[(A, 2), (B, 0)]]), **QUIET)  # ant and bee
    assert large.records() == half.records()
    assert max(value for value in column(large, "centre") if value is not None) < 1e-6
    assert min(value for value in column(large, "size") if value is not None) > 0.1


def test_agreement_of_gradients():
    """Catches sums for means, lengths for vectors, and images without a gradient counted in."""
    found = np.array([[3.0, 4, 2, 0], [3, 4, -2, 0], [3, 4, 2, 0], [3, 4, 0, 2], [0, 0, 0, 0]])
    row = gradients._row(7, found)
    assert (row["proposal"], row["reached"], row["by_chance"]) == (7, 0.8, 0.5)
    assert (row["centre"], row["centre_agreement"]) == (5.0, 1.0)
    assert row["size"] == 2.0  # their mean is (2, 2) / 4
    assert row["size_agreement"] == pytest.approx(8**0.5 / 4 / 2)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with two snapshots, written in the wrong order."""
    for step in (4, 2):
        path = tmp_path / "snapshots" / f"step_{step:07d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, small_model(step, num_classes=6), VAL.class_names, "x")
    return tmp_path


def test_matches_are_those_of_each_snapshots_own_model(run, tmp_path):
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


def test_instability_is_kept_by_snapshot(run, monkeypatch):
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
