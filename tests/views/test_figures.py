"""The figures for paper: what is on them, and that nothing covers or leaves anything."""

import inspect
import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image
from test_explorer_payload import made_trace

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.analysis import proposal_statistics_of
from sparse_rcnn_lab.views import figures, measures, style
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane, proposal_similarity
from sparse_rcnn_lab.views.figures import stage_grid
from sparse_rcnn_lab.views.figures.matrices import matrix_axes
from sparse_rcnn_lab.views.text_layout import spread

N = 5


@pytest.fixture
def trace():
    """Two of five proposals end as detections; stage 3 scores them 0.5, the last 0.9."""
    boxes = torch.tensor([[10.0, 10, 40, 30]]).repeat(7, N, 1) + torch.arange(N)[None, :, None] * 8
    boxes = boxes + torch.arange(7)[:, None, None] * torch.tensor([4.0, 0, 4, 0])
    logits = torch.full((6, N, 2), -4.0)
    logits[2, :2, 1] = 0.0
    logits[5, 0, 1] = logits[5, 3, 0] = 2.2
    return replace(
        made_trace(N, 2, dim=4, attention=False),
        boxes=boxes,
        logits=logits,
        fpn_level=torch.full((6, N), 2),
        class_names=("cat", "dog"),
        image=torch.full((3, 80, 120), 90, dtype=torch.uint8),
    )


def outlines(axes):
    """(left edge, colour, opacity) of every box."""
    found = [
        (patch.get_x(), to_hex(patch.get_edgecolor()), patch.get_alpha())
        for patch in axes.patches
        if isinstance(patch, Rectangle) and not patch.get_fill()
    ]
    for boxes in (c for c in axes.collections if c.get_gid() == "boxes"):
        for path, color in zip(boxes.get_paths(), boxes.get_edgecolors(), strict=True):
            found.append((path.vertices[:, 0].min(), to_hex(color), color[3]))
    return found


def words(figure):
    """Every text on the figure."""
    return [t.get_text() for t in (*figure.texts, *(t for a in figure.axes for t in a.texts))]


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
    """Catches stretched images, in the large panel above all."""
    figure = stage_grid(trace)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        place = axes.get_position()
        assert place.width * width / (place.height * height) == pytest.approx(120 / 80, rel=1e-3)


def test_each_panel_shows_its_own_stage(trace):
    """Catches the boxes of stage s shown under the name of stage s+1."""
    figure = stage_grid(trace, threshold=0.99)
    for stage, axes in enumerate(figure.axes):
        lefts = sorted(left for left, _, _ in outlines(axes))
        assert lefts == pytest.approx(trace.boxes[stage, :, 0].tolist())
        name = "learned proposals" if stage == 0 else f"stage {stage}"
        assert name in [text.get_text() for text in axes.texts]
        assert {color for _, color, _ in outlines(axes)} == {style.line_color(stage)}


def test_score_is_opacity(trace):
    """Catches panels that use the last stage's scores everywhere."""
    figure = stage_grid(trace, threshold=0.99)
    strong = sorted(opacity for _, _, opacity in outlines(figure.axes[3]))
    assert strong[-2:] == pytest.approx([style.score_opacity(0.5)] * 2)
    assert strong[0] == pytest.approx(style.score_opacity(torch.tensor(-4.0).sigmoid().item()))
    assert len({opacity for _, _, opacity in outlines(figure.axes[0])}) == 1


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
        assert style.ACCENT in {color for _, color, _ in outlines(axes)}


def test_what_cannot_be_drawn_is_said(trace):
    """Catches a traceback from matplotlib in place of what to do."""
    with pytest.raises(LabError, match="without its image"):
        stage_grid(replace(trace, image=None))
    with pytest.raises(LabError, match="layout"):
        stage_grid(trace, layout="spiral")
    with pytest.raises(LabError, match="theme"):
        stage_grid(trace, theme="blue")
    with pytest.raises(LabError, match="no proposal 9"):
        stage_grid(trace, chosen=9)


@pytest.fixture
def full(trace):
    """With all that the figures can show; proposals 3 and 0 are the detections."""
    generator = torch.Generator().manual_seed(0)
    return replace(
        trace,
        attention=torch.randn(6, 2, N, N, generator=generator).softmax(-1),
        roi_features=torch.randn(6, N, 7, 7, 4, generator=generator),
        filtered_features=torch.randn(6, N, 7, 7, 4, generator=generator).relu(),
        gt_boxes=trace.boxes[-1, [3]],
        gt_labels=torch.tensor([0]),
        matches=torch.tensor([[-1, 0, -1, -1, -1]] + [[-1, -1, -1, 0, -1]] * 5),
    )


def _of_a_trace(name):
    """Whether a trace is all that the figure asks for; those of tables have tests of their own."""
    parameters = inspect.signature(getattr(figures, name)).parameters.values()
    return [p.name for p in parameters if p.default is p.empty] == ["trace"]


ALL = [name for name in figures.__all__ if _of_a_trace(name)]


def draw(figure):
    """Lays the figure out, and gives the box of every label in pixels."""
    figure.draw_without_rendering()
    labels = [t for axes in figure.axes for t in axes.texts if t.get_gid() == "label"]
    return [label.get_window_extent() for label in labels]


@pytest.mark.parametrize(
    ("name", "theme"), [(name, ("light", "dark")[i % 2]) for i, name in enumerate(ALL)]
)
def test_every_figure(full, name, theme):
    """Catches a title or a label outside the page, labels on one another, a figure that fails, and
    a class, model or title with two $ that matplotlib takes for a formula."""
    odd = r"A$\foo$"
    named = replace(full, class_names=(odd, odd), model_name=odd)
    figure = getattr(figures, name)(named, theme=theme)
    labels = draw(figure)
    page = figure.bbox
    for box in [*labels, *(t.get_window_extent() for t in figure.texts)]:
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1
    for a, b in itertools.combinations(labels, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(wide, high) <= 2
    figure.set_dpi(50)  # a large PNG takes longer than all else here
    assert len(figure._repr_png_()) > 1000
    titled = getattr(figures, name)(full, theme=theme, title=odd)
    draw(titled)
    (title,) = [t for t in titled.texts if t.get_text() == odd]
    assert title.get_window_extent().width > 10


def empty(trace):
    """No detections, no objects."""
    return replace(
        trace,
        logits=torch.full_like(trace.logits, -6.0),
        gt_boxes=torch.zeros(0, 4),
        gt_labels=torch.zeros(0, dtype=torch.long),
        matches=torch.full((6, N), -1),
    )


def one(trace):
    """A single proposal and a single stage."""
    return replace(
        trace,
        boxes=trace.boxes[:2, :1],
        logits=trace.logits[:1, :1],
        features=trace.features[:2, :1],
        fpn_level=trace.fpn_level[:1, :1],
        proposal_ids=torch.tensor([3]),
        attention=torch.ones(1, 2, 1, 1),
        roi_features=trace.roi_features[:1, :1],
        filtered_features=trace.filtered_features[:1, :1],
        matches=trace.matches[:1, 3:4],
    )


def thin(trace):
    """An image of 10x4000 pixels."""
    factors = torch.tensor([10 / 120, 4000 / 80] * 2)
    return replace(
        trace,
        size=(4000, 10),
        image=torch.zeros(3, 4000, 10, dtype=torch.uint8),
        boxes=trace.boxes * factors,
        gt_boxes=trace.gt_boxes * factors,
    )


def diverged(trace):
    """Two of the proposals turn into NaN, one of them a detection."""
    boxes, logits, features = trace.boxes.clone(), trace.logits.clone(), trace.features.clone()
    boxes[3:, 0] = features[3:, 0] = logits[3:, 4] = float("nan")
    return replace(trace, boxes=boxes, logits=logits, features=features)


@pytest.mark.parametrize("change", [empty, one, thin, diverged])
@pytest.mark.parametrize("name", ALL)
def test_every_figure_of_odd_traces(full, name, change):
    """Catches a traceback, a page of metres, and NaN that nobody is told of."""
    trace = change(full)
    figure = getattr(figures, name)(trace)
    draw(figure)
    assert max(figure.get_size_inches()) < 30
    pictured = ("stage_grid", "box_trails", "attention_map", "roi_grid")
    if change is thin and name in pictured:
        assert any("stretched" in text for text in words(figure))
    if change is diverged and name in ("stage_grid", "box_trails", "score_curves", "feature_pca"):
        assert any("2 of 5 proposals hold NaN" in text for text in words(figure))
    if change is empty and name in ("box_trails", "score_curves"):
        assert any("no proposal scores 0.3" in text for text in words(figure))


@pytest.mark.parametrize(
    ("name", "field", "said"),
    [
        ("attention_map", "attention", r'record=\("attention",\)'),
        ("filter_effect", "filtered_features", r'"roi_features", "filtered_features"'),
    ],
)
def test_what_was_not_recorded_is_said(full, name, field, said):
    """Catches an empty image, or an error that does not say how to record the missing part."""
    with pytest.raises(LabError, match=said):
        getattr(figures, name)(replace(full, **{field: None}))


def test_figures_without_the_image(full):
    """Catches figures that need an image to draw lines on."""
    for name in ("box_trails", "attention_map", "roi_grid", "filter_effect"):
        draw(getattr(figures, name)(replace(full, image=None)))


def named_lines(figure):
    return [line for line in figure.axes[0].lines if line.get_gid() == "named"]


def test_score_curves(full):
    """Catches the scores of other proposals, and a class colour taken from the first stage."""
    figure = figures.score_curves(full, [3, 1], chosen=1)
    first, second = named_lines(figure)
    scores = measures.score_by_stage(full)[0]
    assert first.get_ydata().tolist() == pytest.approx(scores[:, 3].tolist())
    assert to_hex(first.get_color()) == style.class_color(0)
    assert to_hex(second.get_color()) == style.ACCENT
    assert [t.get_text() for t in figure.axes[0].texts] == ["3 · cat .90", "1 · cat .02"]


def test_box_trails(full):
    """Catches trails of rows instead of ids, or without the learned box."""
    figure = figures.box_trails(full, [3])
    centres = measures.centres(full)[:, 3]
    ways = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 7]
    assert [list(line.get_xdata()) for line in ways] == [centres[:, 0].tolist()]
    assert [t.get_text() for t in figure.axes[0].texts if t.get_gid() == "label"] == ["3 · cat .90"]


def test_attention_map(full):
    """Catches weights in another order than the lines, or the boxes after the stage."""
    links = measures.attention_links(full, 3, 2, top=2)
    figure = figures.attention_map(full, 3, 2, top=2)
    said = words(figure)
    for proposal, weight in zip(links.proposals.tolist(), links.weights.tolist(), strict=True):
        assert str(proposal) in said and f"{100 * weight:.1f} %" in said
    assert any("stage 2" in text and "even share would be 20 %" in text for text in said)
    lefts = {round(left, 3) for left, _, _ in outlines(figure.axes[0])}
    shown = [full.row(p) for p in [3, *links.proposals.tolist()]]
    assert lefts == {round(v, 3) for v in full.boxes[1, shown, 0].tolist()}


def test_feature_pca(full):
    """Catches dots in the colour of another stage."""
    figure = figures.feature_pca(full)
    points = FeaturePlane.fit(full.features).place(full.features)
    clouds = figure.axes[0].collections
    assert len(clouds) == 7
    for stage, cloud in enumerate(clouds):
        assert cloud.get_offsets().tolist() == pytest.approx(points[stage].numpy())
        assert to_hex(cloud.get_facecolors()[0]) == style.stage_color(stage)


def test_similarity(full):
    """Catches rows in another order than their names."""
    image = figures.similarity(full).axes[0].images[0].get_array()
    names = [t.get_text() for t in figures.similarity(full).axes[0].get_yticklabels()]
    order = [full.row(int(name)) for name in names]
    wanted = proposal_similarity(full, 6)[order][:, order]
    assert image.data.tolist() == wanted.tolist()
    own = figures.similarity(full, 3).axes[0].images[0].get_array()
    assert own.shape == (7, 7)
    with pytest.raises(LabError, match="not both"):
        figures.similarity(full, 3, stage=2)


def test_roi_grid(full):
    """Catches the grid on the box after the stage, and the close-up beside it."""
    figure = figures.roi_grid(full, 3, 2)
    whole, close = figure.axes
    x1, y1, x2, y2 = full.boxes[1, 3].tolist()
    assert [left for left, _, _ in outlines(whole)] == [x1]
    low, high = sorted(close.get_xlim())
    assert low < x1 and high > x2
    assert min(close.get_ylim()) < y1 and max(close.get_ylim()) > y2
    flat = full.boxes.clone()
    flat[1, 3] = torch.tensor([5.0, 5, 5, 9])
    with pytest.raises(LabError, match="no area"):
        figures.roi_grid(replace(full, boxes=flat), 3, 2)


def test_filter_effect(full):
    """Catches before and after exchanged."""
    _, left, right, _ = figures.filter_effect(full, 3, 2).axes
    shown = [measures.contrast(cells) for cells in measures.filter_effect(full, 3, 2)]
    for axes, wanted in zip((left, right), shown, strict=True):
        assert axes.images[0].get_array().data.tolist() == wanted.tolist()


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.3))
def test_names_of_lines_keep_apart(values, gap):
    """Catches names on one another, out of order, off the axes, or far from lines that are free."""
    places = spread(values, gap, 0.0, 1.0)
    gap = min(gap, 1 / max(1, len(values) - 1))
    order = sorted(range(len(values)), key=values.__getitem__)
    for a, b in itertools.pairwise(order):
        assert places[b] - places[a] >= gap - 1e-9
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    if all(values[b] - values[a] >= gap for a, b in itertools.pairwise(order)):
        assert places == pytest.approx(values)


def test_long_names_stay_on_the_page(full):
    """Catches a class's name, or the key, that the edge of the page cuts off."""
    long = replace(full, class_names=("baseball glove of the catcher", "parking meter of the town"))
    statistics = proposal_statistics_of([long])
    pages = [figures.proposal_overview(statistics, columns=3)]
    pages += [figures.score_curves(long), figures.proposal_page(statistics, 3)]
    for page in pages:
        page.draw_without_rendering()
        shown = [*page.legends, *(text for axes in page.axes for text in axes.texts)]
        assert max(one.get_window_extent().x1 for one in shown) <= page.bbox.x1


def test_dollars_in_ticks():
    """Catches an object or ablation with two $ in its name."""
    draw(figures.cost_matrix(torch.rand(3, 2), [r"A$\foo$", "US$ or A$"]))
    page, _ = matrix_axes(5.0, "light", [r"A$\foo$", "b"], "across", "down")
    draw(page)


def test_numbers_of_things_that_differ(trace):
    """Catches an IndexError in place of what to give."""
    with pytest.raises(LabError, match="with 1 ids"):
        figures.cost_matrix(torch.rand(3, 2), ["cat", "dog"], proposals=[5])
    with pytest.raises(LabError, match="found 0x1"):
        figures.cost_matrix(torch.rand(0, 1), ["cat"])
    with pytest.raises(LabError, match="one stage per trace, found 1 for 2"):
        figures.trace_panels([trace] * 2, ["first", "last"], stages=[2])


def test_panels_take_what_a_detector_takes(trace, tmp_path):
    """Catches the letters of a path counted as images, and one stage for all refused."""
    pixels = trace.image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for image in (pixels, tmp_path / "a.png", str(tmp_path / "a.png")):
        page = figures.detection_panels([trace.detections()], image, ["a"])
        assert len(page.axes) == 1
    assert len(figures.trace_panels([trace] * 2, ["a", "b"], stages=2).axes) == 2


def test_a_width_that_cannot_be(trace):
    """Catches a page of kilometres, and one whose names leave nothing for the curves."""
    for width in (0.1, 2.1, 1000.0, float("nan")):
        with pytest.raises(LabError, match="inches"):
            figures.score_curves(trace, width=width)
