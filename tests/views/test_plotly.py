"""The figures for the browser: right values, no network, an answer where plotly is absent."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from test_explorer_payload import made_trace

from sparse_rcnn_lab import LabError, Trace
from sparse_rcnn_lab.views import plotly_figures, style
from sparse_rcnn_lab.views.plotly_figures import gaps, numbers, plain

pytest.importorskip("plotly")
N, S = 5, 3
NAN = float("nan")


@pytest.fixture
def trace() -> Trace:
    """Proposals 10..14; 11 ends as a <b>cat</b>."""
    logits = torch.full((S, N, 2), -4.0)
    logits[:, 1, 0] = torch.tensor([-2.0, 0.0, 2.0])
    ids, names = torch.arange(10, 10 + N), ("<b>cat</b>", "$dog$")
    made = made_trace(N, 2, stages=S)
    return replace(made, logits=logits, proposal_ids=ids, class_names=names)


def test_the_figure_is_json_and_loads_nothing(trace):
    """Catches tensors, NaN, markup in a name, or a script from elsewhere, in the page."""
    logits = trace.logits.clone()
    logits[1, 2] = NAN
    for theme in ("light", "dark"):
        figure = plotly_figures.score_curves(replace(trace, logits=logits), theme=theme)
        said = figure.to_json()
        json.loads(said, parse_constant=lambda value: pytest.fail(f"{value} in the page"))
        assert "<b>cat" not in said
    page = plotly_figures.score_curves(trace, title="own words").to_html(include_plotlyjs=True)
    assert "own words" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)
    with pytest.raises(LabError, match="theme"):
        plotly_figures.score_curves(trace, theme="blue")


def test_score_curves(trace):
    """Catches rows taken for ids, and a line joined to the next proposal's."""
    grey, cat = plotly_figures.score_curves(trace).data
    assert cat.name == "11 · &lt;b&gt;cat&lt;/b&gt; .88"
    assert list(cat.x) == [1, 2, 3]
    assert list(cat.y) == pytest.approx(torch.tensor([-2.0, 0, 2]).sigmoid().tolist())
    assert cat.line.color == style.class_color(0)
    assert len(grey.x) == 4 * S + 3 and list(grey.x).count(None) == 3
    chosen = plotly_figures.score_curves(trace, [12, 11], chosen=12).data
    assert [line.line.color for line in chosen[1:]] == [style.ACCENT, style.class_color(0)]


def test_small_parts():
    """Catches lines joined to each other, and values that JSON does not have."""
    assert gaps([]) == []
    assert gaps([[1, 2], [3]]) == [1, 2, None, 3]
    assert numbers(torch.tensor([1.5, NAN, float("inf")])) == [1.5, None, None]
    assert plain("a<b> & $x$") == "a&lt;b&gt; &amp; &#36;x&#36;"


def test_without_plotly(monkeypatch):
    """Catches an ImportError in place of what to install."""
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(LabError, match=r'pip install "sparse-rcnn-lab\[notebooks\]"'):
        plotly_figures.go()
