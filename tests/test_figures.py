"""The figure of all stages."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures import stage_grid

N = 5


@pytest.fixture
def trace():
    """Two of five proposals end as detections; stage 3 scores them 0.5, the last 0.9."""
    boxes = torch.tensor([[10.0, 10, 40, 30]]).repeat(7, N, 1) + torch.arange(N)[None, :, None] * 8
    boxes = boxes + torch.arange(7)[:, None, None] * torch.tensor([4.0, 0, 4, 0])
    logits = torch.full((6, N, 2), -4.0)
    logits[2, :2, 1] = 0.0
    logits[5, 0, 1] = logits[5, 3, 0] = 2.2
    return Trace(
        boxes=boxes,
        logits=logits,
        features=torch.zeros(7, N, 4),
        fpn_level=torch.full((6, N), 2),
        proposal_ids=torch.arange(N),
        size=(80, 120),
        scale=(1.0, 1.0),
        class_names=("cat", "dog"),
        model_name="tiny",
        image=torch.full((3, 80, 120), 90, dtype=torch.uint8),
    )


def outlines(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]


@pytest.mark.parametrize("layout", ["hero", "strip"])
def test_seven_states_side_by_side(trace, layout):
    """Catches panels on one another or outside the figure, and a proposal left out of a panel."""
    figure = stage_grid(trace, layout=layout)
    places = [axes.get_position() for axes in figure.axes]
    assert len(places) == 7
    for a, b in itertools.combinations(places, 2):
        assert a.x1 <= b.x0 + 1e-6 or b.x1 <= a.x0 + 1e-6 or a.y1 <= b.y0 or b.y1 <= a.y0
    assert all(p.x0 >= 0 and p.x1 <= 1 and p.y0 >= 0 and p.y1 <= 1 for p in places)
    assert [len(outlines(axes)) for axes in figure.axes] == [N] * 7


def test_panels_keep_the_aspect_of_the_image(trace):
    """Catches stretched pictures, in the large panel above all."""
    figure = stage_grid(trace)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        place = axes.get_position()
        assert place.width * width / (place.height * height) == pytest.approx(120 / 80, rel=1e-3)


def test_each_panel_shows_its_own_stage(trace):
    """Catches the boxes of stage s shown under the name of stage s+1."""
    figure = stage_grid(trace, threshold=0.99)
    for stage, axes in enumerate(figure.axes):
        lefts = sorted(patch.get_x() for patch in outlines(axes))
        assert lefts == pytest.approx(trace.boxes[stage, :, 0].tolist())
        name = "learned proposals" if stage == 0 else f"stage {stage}"
        assert name in [text.get_text() for text in axes.texts]
        assert {to_hex(p.get_edgecolor()) for p in outlines(axes)} == {style.stage_color(stage)}


def test_score_is_opacity(trace):
    """Catches panels that use the last stage's scores everywhere."""
    figure = stage_grid(trace, threshold=0.99)
    strong = sorted(p.get_alpha() for p in outlines(figure.axes[3]))
    assert strong[-2:] == pytest.approx([style.score_opacity(0.5)] * 2)
    assert strong[0] == pytest.approx(style.score_opacity(torch.tensor(-4.0).sigmoid().item()))
    assert len({p.get_alpha() for p in outlines(figure.axes[0])}) == 1


def test_detections_are_named_at_the_last_stage_only(trace):
    """Catches a threshold that is ignored, a wrong class name, labels in the early panels."""
    figure = stage_grid(trace, threshold=0.5)
    named = [[t.get_text() for t in a.texts if t.get_gid() == "label"] for a in figure.axes]
    assert named[:-1] == [[]] * 6
    assert sorted(named[-1]) == ["cat .90", "dog .90"]
    assert "2 detections" in " ".join(text.get_text() for text in figure.texts)
    assert not [t for t in stage_grid(trace, 0.95).axes[-1].texts if t.get_gid() == "label"]


def test_a_chosen_proposal_has_the_accent_in_every_panel(trace):
    """Catches an accent that only appears where the proposal is no detection."""
    for axes in stage_grid(trace, chosen=3).axes:
        assert style.ACCENT in {to_hex(patch.get_edgecolor()) for patch in outlines(axes)}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_models_with_fewer_stages(trace, count):
    """Catches six stages taken for granted."""
    short = replace(
        trace,
        boxes=trace.boxes[: count + 1],
        logits=trace.logits[:count],
        features=trace.features[: count + 1],
        fpn_level=trace.fpn_level[:count],
    )
    assert len(stage_grid(short).axes) == count + 1


def test_what_cannot_be_drawn_is_said(trace):
    """Catches a traceback from matplotlib in place of what to do."""
    with pytest.raises(LabError, match="without its image"):
        stage_grid(replace(trace, image=None))
    with pytest.raises(LabError, match="layout"):
        stage_grid(trace, layout="spiral")
    with pytest.raises(LabError, match="theme"):
        stage_grid(trace, theme="blue")


def test_it_can_be_saved(trace, tmp_path):
    """Catches artists that only fail when they are drawn."""
    path = tmp_path / "stages.png"
    stage_grid(trace, theme="dark").savefig(path)
    assert path.stat().st_size > 5000
