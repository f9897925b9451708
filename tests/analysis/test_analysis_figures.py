"""Figures of the analyses' tables: what is on them is what is in the tables."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text
from scripted import column, only
from test_analysis_traces import three  # noqa: F401 - a fixture

from sparse_rcnn_lab import LabError, analysis, load
from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.views import figures
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.stage_errors import KIND_COLORS


def texts(page: Page) -> list[Text]:
    """Everything that is written on a page."""
    keys = [axes.get_legend() for axes in page.axes if axes.get_legend()] + page.legends
    return [
        *page.texts,
        *(text for axes in page.axes for text in axes.texts),
        *(text for key in keys for text in key.get_texts()),
    ]


def words(page: Page) -> list[str]:
    return [text.get_text() for text in texts(page)]


def inside(page: Page) -> None:
    """Everything written lies within the page."""
    page.draw_without_rendering()
    for text in texts(page):
        if text.get_text():
            place = text.get_window_extent().transformed(page.transFigure.inverted())
            assert place.x0 >= -0.005 and place.x1 <= 1.005, text.get_text()
            assert place.y0 >= -0.005 and place.y1 <= 1.005, text.get_text()


def plain_table(rows: list[dict[str, Any]]) -> Table:
    return Table.of("t", rows, dict.fromkeys(rows[0], ""))


@pytest.fixture
def curve() -> Table:
    rows = [
        {"order": order, "n": n, "stage": stage, "AP": 0.1 * n * stage + plus, "ms": n + stage}
        for order, plus in (("ranked", 0.02), ("own", 0.0), ("random 0", 0.01))
        for n in (1, 2, 4)
        for stage in (1, 2)
    ]
    return plain_table(rows)


def test_ap_curves(curve):
    """Catches the left panel at another stage than the last, random orders in the foreground."""
    page = figures.ap_curves(curve)
    left, right = page.axes
    lines = [line for line in left.lines if line.get_gid() == "series"]
    assert lines[0].get_ydata().tolist() == pytest.approx([0.22, 0.42, 0.82])
    assert [line.get_linewidth() > 1 for line in lines] == [True, True, False]
    assert right.lines[1].get_xdata().tolist() == [2, 4, 8]  # 1, 2, 4 proposals, two stages
    assert {"ranked", "own", "random orders", "stage 1", "stage 2"} <= set(words(page))
    inside(page)
    with pytest.raises(LabError, match="no rows"):
        figures.ap_curves(only(curve, order="nobody"))
    with pytest.raises(LabError, match="has no column duplicates"):
        figures.ablation_bars(curve.assign(ablation="none"))


def test_proposals_on_a_page(three):  # noqa: F811
    """Catches detections drawn at another proposal, and the overview not sorted by wins."""
    found = analysis.proposal_statistics_of([three, three])
    page = figures.proposal_overview(found)
    cells = page.axes[:3]
    names = [axes.texts[0].get_text() for axes in cells]
    assert names == ["0 · 2 wins", "10 · 0 wins", "20 · 0 wins"]
    assert "2 never right" in " ".join(words(page))
    (dots,) = cells[0].collections
    assert dots.get_offsets().ravel().tolist() == pytest.approx([0.3] * 4)
    assert not cells[1].collections
    inside(page)
    single = figures.proposal_page(found, 0)
    assert "ant 2" in words(single)
    assert "2 wins (100.0 % of all, rank 1 of 3)" in " ".join(words(single))
    inside(single)
    inside(figures.proposal_page(found, 20))  # idle
    with pytest.raises(LabError, match="no proposal 5"):
        figures.proposal_page(found, 5)


def test_stages_and_gallery(three):  # noqa: F811
    """Catches bars of another kind than their colour says, and errors drawn as right."""
    found = analysis.object_outcomes_of([three])
    page = figures.outcome_stages(found)
    heights = {
        (patch.get_gid(), round(patch.get_x() + 0.35)): patch.get_height()
        for axes in page.axes
        for patch in axes.patches
    }
    assert heights["new", 1] == pytest.approx(100 / 3)
    assert heights["gone", 3] == pytest.approx(-100 / 3)
    assert heights["duplicate", 2] == pytest.approx(100 / 3)
    assert heights["missed", 3] == pytest.approx(200 / 3)
    inside(page)
    shown = figures.gallery([three])
    first = {
        to_hex(patch.get_edgecolor()) for patch in shown.axes[0].patches if not patch.get_fill()
    }
    assert {KIND_COLORS["class"], KIND_COLORS["background"]} <= first
    assert KIND_COLORS["duplicate"] not in first
    inside(shown)
    with pytest.raises(LabError, match="no images"):
        figures.gallery([])
    endless = itertools.repeat(three)  # read no further than what is drawn
    assert len(figures.gallery(endless).axes) == 12 * three.num_stages


def test_bars_of_the_ablations():
    """Catches bars of all stages on one another, and a value beside the wrong bar."""
    rows = [
        {"ablation": name, "stage": stage, "AP": ap, "duplicates": extra}
        for name, ap, extra in (("untouched", 0.8, 0.0), ("no self-attention", 0.2, None))
        for stage in (1, 6)
    ]
    table = plain_table(rows)
    page = figures.ablation_bars(table)
    left, right = page.axes
    assert [bar.get_width() for bar in left.patches] == [0.8, 0.2]
    assert [t.get_text() for t in left.texts] == ["0.800", "0.200"]
    assert [t.get_text() for t in right.texts] == ["0.00", "–"]
    inside(page)
    with pytest.raises(LabError, match="no stage 3"):
        figures.ablation_bars(table, stage=3)


def test_trade_offs():
    """Catches points without names, and the two rules joined into one line."""
    rows = [{"schedule": f"4 {n}", "AP": 0.3 + n / 20, "stages_ms": n / 2} for n in (4, 2)]
    page = figures.trade_off(plain_table(rows))
    assert {"4 4", "4 2"} <= set(words(page))
    inside(page)
    rules = [("always stage 1", None, 1.0), ("always stage 2", None, 2.0), ("settled", 0.2, 1.5)]
    stop = plain_table(
        [{"rule": rule, "tolerance": t, "stages": s, "AP": s / 4} for rule, t, s in rules]
    )
    page = figures.trade_off(stop)
    fixed, settled = [line for line in page.axes[0].lines if line.get_gid() == "points"]
    assert (fixed.get_xdata().tolist(), settled.get_xdata().tolist()) == ([1.0, 2.0], [1.5])
    assert "0.2" in words(page)
    inside(page)
    with pytest.raises(LabError, match="no column 'watts'"):
        figures.trade_off(stop, across="watts")


def test_readout_has_features_down_and_heads_across():
    """Catches a transposed matrix."""
    rows = [
        {"features": s, "heads": t, "reading": reading, "AP": 0.1 * s + 0.01 * t}
        for reading in ("both", "class", "box")
        for s in (1, 2)
        for t in (1, 2)
    ]
    page = figures.readout_matrices(plain_table(rows))
    assert len(page.axes) == 3
    grid = page.axes[0].images[0].get_array()
    assert torch.tensor(grid).flatten().tolist() == pytest.approx([0.11, 0.12, 0.21, 0.22])
    assert [t.get_text() for t in page.axes[0].texts] == [".11", ".12", ".21", ".22"]
    inside(page)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.usefixtures("small_figures")
def test_command_line_writes_tables_and_figures(home, capsys) -> None:
    """Catches an analysis that the command cannot run, and figures that cannot be written."""
    common = ["--data", "shapes", "--limit", "2"]
    for what, files in (
        ("objects", {"objects.json", "stages.json", "images.json", "stages.png", "gallery.png"}),
        ("proposals", {"proposals.json", "detections.json", "overview.png"}),
        ("readout", {"readout.json", "readout.png"}),
        ("early-exit", {"early_exit.json", "early_exit.png"}),
        ("ablations", {"ablations.json", "ablations.png"}),
        ("pruning", {"pruning.json", "pruning.png"}),
    ):
        given = ["--schedule", "20,9,9,9,9,9"] if what == "pruning" else []
        assert main(["analyse", what, *common, *given, "--out", str(home / what)]) == 0
        assert {path.name for path in (home / what).iterdir()} == files
        assert "written to" in capsys.readouterr().out
    table = Table.read(home / "objects" / "stages.json")
    assert column(table, "stage") == [1, 2, 3, 4, 5, 6]
    assert column(Table.read(home / "pruning" / "pruning.json"), "schedule") == ["20 9 9 9 9 9"]
    assert table.about["images"] == 2


def test_rank_then_curve_on_the_command_line(home, capsys):
    """Catches a ranked model in another order than its table, a curve that ignores the order."""
    common = ["--data", "shapes", "--limit", "3"]
    assert main(["analyse", "rank", *common, "--out", str(home)]) == 0
    order = column(Table.read(home / "rank.json"), "proposal")
    own, ranked = load("nano-shapes"), load(home / "ranked.safetensors")
    assert torch.equal(ranked.model.proposals.boxes, own.model.proposals.boxes[order])
    assert ranked.info["proposal_order"] == order
    given = ["--order", str(home / "rank.json"), "--n", "2,20", "--stages", "6"]
    assert main(["analyse", "curve", *common, *given, "--out", str(home)]) == 0
    curve = Table.read(home / "curve.json")
    assert column(curve, "order") == ["ranked", "ranked", "own", "own"]
    assert column(only(curve, n=20), "AP")[0] == column(only(curve, n=20), "AP")[1]
    assert json.loads((home / "curve.json").read_text())["about"]["n"] == [2, 20]
    other = home / "other" / "rank.json"
    other.parent.mkdir()
    other.write_text((home / "rank.json").read_text())
    both = [*given, "--order", str(other), "--n", "2"]
    assert main(["analyse", "curve", *common, *both, "--out", str(home)]) == 0
    assert column(Table.read(home / "curve.json"), "order") == [home.name, "other", "own"]
    capsys.readouterr()
    assert main(["analyse", "curve", *common, *given, *given]) == 2
    assert f'Two orders would be called "{home.name}"' in capsys.readouterr().err
    for file, words in (("no.json", "no file"), ("curve.json", "holds no order of proposals")):
        assert main(["analyse", "curve", *common, "--order", str(home / file)]) == 2
        assert words in capsys.readouterr().err
