"""The figures for the browser: right values, no network, an answer where plotly is absent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import measures, plotly_figures, style
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane, proposal_similarity
from sparse_rcnn_lab.views.plotly_figures import box_lines, gaps, numbers, plain

pytest.importorskip("plotly")
N, S = 5, 3
NAN = float("nan")


@pytest.fixture
def trace() -> Trace:
    """Proposals 10..14; 11 ends as a <b>cat</b>."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[10.0, 10, 40, 30]]).repeat(S + 1, N, 1)
    boxes = boxes + torch.arange(N)[None, :, None] * 8 + torch.arange(S + 1)[:, None, None] * 3
    logits = torch.full((S, N, 2), -4.0)
    logits[:, 1, 0] = torch.tensor([-2.0, 0.0, 2.0])
    return Trace(
        boxes=boxes,
        logits=logits,
        features=torch.randn(S + 1, N, 4, generator=generator),
        fpn_level=torch.full((S, N), 2),
        proposal_ids=torch.arange(10, 10 + N),
        size=(80, 120),
        scale=(1.0, 1.0),
        class_names=("<b>cat</b>", "$dog$"),
        attention=torch.randn(S, 2, N, N, generator=generator).softmax(-1),
        image=torch.full((3, 80, 120), 90, dtype=torch.uint8),
    )


@pytest.mark.parametrize("name", plotly_figures.__all__)
def test_every_figure_is_json(trace: Trace, name: str) -> None:
    """Catches tensors and NaN in the page, which a browser refuses; both themes."""
    boxes, features = trace.boxes.clone(), trace.features.clone()
    boxes[2, 0] = features[1, 2] = NAN
    odd = replace(trace, boxes=boxes, features=features)
    for theme in ("light", "dark"):
        figure = getattr(plotly_figures, name)(odd, theme=theme)
        said = figure.to_json()
        json.loads(said, parse_constant=lambda value: pytest.fail(f"{value} in the page"))
        assert "<b>cat" not in said
    assert "own words" in getattr(plotly_figures, name)(trace, title="own words").to_json()
    with pytest.raises(LabError, match="theme"):
        getattr(plotly_figures, name)(trace, theme="blue")


def test_pages_load_nothing(trace: Trace) -> None:
    """Catches a script, a font or a picture from elsewhere: the page works without a network."""
    page = plotly_figures.stage_slider(trace).to_html(include_plotlyjs=True)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)
    assert len(re.findall(r"data:image(/|\\u002f)jpeg;base64,", page)) == 1


def test_score_curves(trace: Trace) -> None:
    """Catches rows taken for ids, and a line joined to the next proposal's."""
    grey, cat = plotly_figures.score_curves(trace).data
    assert cat.name == "11 · &lt;b&gt;cat&lt;/b&gt; .88"
    assert list(cat.x) == [1, 2, 3]
    assert list(cat.y) == pytest.approx(torch.tensor([-2.0, 0, 2]).sigmoid().tolist())
    assert cat.line.color == style.class_color(0)
    assert len(grey.x) == 4 * S + 3 and list(grey.x).count(None) == 3
    chosen = plotly_figures.score_curves(trace, [12, 11], chosen=12).data
    assert [line.line.color for line in chosen[1:]] == [style.ACCENT, style.class_color(0)]


def test_feature_pca(trace: Trace) -> None:
    """Catches points of another stage, or ways that leave the learned feature out."""
    *clouds, way = plotly_figures.feature_pca(trace).data
    points = FeaturePlane.fit(trace.features).place(trace.features)
    for stage, cloud in enumerate(clouds):
        assert list(cloud.x) == pytest.approx(points[stage, :, 0].tolist())
        assert cloud.marker.color == style.stage_color(stage, S)
    assert list(way.y) == pytest.approx(points[:, 1, 1].tolist())


def test_similarity(trace: Trace) -> None:
    """Catches rows in another order than their names."""
    (heat,) = plotly_figures.similarity(trace).data
    rows = [trace.row(int(name)) for name in heat.y]
    wanted = proposal_similarity(trace, S)[rows][:, rows]
    assert torch.allclose(torch.tensor([list(line) for line in heat.z]), wanted)
    (own,) = plotly_figures.similarity(trace, 11).data
    assert list(own.x) == ["learned", "1", "2", "3"]
    with pytest.raises(LabError, match="not both"):
        plotly_figures.similarity(trace, 11, stage=1)


def test_attention_map(trace: Trace) -> None:
    """Catches weights in another order than the lines, or the boxes after the stage."""
    links = measures.attention_links(trace, 11, 2, top=2)
    *lines, own = plotly_figures.attention_map(trace, 11, 2, top=2).data
    lines = [line for line in lines if line.showlegend is not False]
    assert [line.name.split(":")[0] for line in lines] == [str(p) for p in links.proposals.tolist()]
    assert list(own.x[:2]) == trace.boxes[1, 1, [0, 2]].tolist()
    with pytest.raises(LabError, match="record="):
        plotly_figures.attention_map(replace(trace, attention=None))


def test_stage_slider(trace: Trace) -> None:
    """Catches frames of other stages, and a box that is in no group of scores or in two."""
    figure = plotly_figures.stage_slider(trace)
    assert [frame.name for frame in figure.frames] == ["0", "1", "2", "3"]
    for stage, frame in enumerate(figure.frames):
        *lines, middle = frame.data
        edges, groups = lines[::2], lines[1::2]  # each line lies on its dark edge
        for edge, group in zip(edges, groups, strict=True):
            assert edge.line.color == style.DARK and edge.line.width > group.line.width
            assert (edge.x, edge.legendgroup) == (group.x, group.legendgroup)
        corners = [x for group in groups for x in group.x[::6] if x is not None]
        assert sorted(corners) == trace.boxes[stage, :, 0].tolist()
        assert {group.line.color for group in groups} == {style.line_color(stage, S)}
        assert len(middle.x) == N
    assert len(figure.layout.sliders[0].steps) == S + 1


def test_a_thin_picture_and_none(trace: Trace) -> None:
    """Catches a page one pixel high, and a picture that must be there."""
    thin = replace(trace, size=(4000, 10), image=None)
    figure = plotly_figures.stage_slider(thin)
    assert figure.layout.height < 2000 and figure.layout.yaxis.scaleanchor is None
    assert plotly_figures.stage_slider(trace).layout.yaxis.scaleanchor == "x"


def test_small_parts() -> None:
    """Catches boxes joined by a line, and values that JSON does not have."""
    x, y = box_lines(torch.tensor([[1.0, 2, 3, 4], [NAN, 0, 1, 1], [5, 6, 7, 8]]))
    assert x == [1, 3, 3, 1, 1, None, 5, 7, 7, 5, 5]
    assert y == [2, 2, 4, 4, 2, None, 6, 6, 8, 8, 6]
    assert gaps([]) == []
    assert numbers(torch.tensor([1.5, NAN, float("inf")])) == [1.5, None, None]
    assert plain("a<b> & $x$") == "a&lt;b&gt; &amp; &#36;x&#36;"


def test_without_plotly() -> None:
    """Catches an ImportError, and a package that cannot be imported without plotly."""
    code = """
import sys
sys.modules["plotly"] = sys.modules["plotly.graph_objects"] = None
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views import plotly_figures
try:
    plotly_figures.go()
except LabError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "sparse-rcnn-lab[notebooks]"' in done.stdout
