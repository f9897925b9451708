"""Tables: what goes in comes out, and what is wrong is said."""

import json

import numpy as np
import pytest
import torch
from scripted import column

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.analysis import Table


@pytest.fixture
def table() -> Table:
    rows = [
        {"name": "b", "n": 2, "AP": 0.25, "right": True},
        {"name": "a", "n": None, "AP": float("nan"), "right": False},
        {"name": "b", "n": 3, "AP": torch.tensor(0.75), "right": np.bool_(True)},
    ]
    meaning = {"name": "what", "n": "how many", "AP": '"0" to 1', "right": ""}
    return Table.of("Three", rows, meaning, {"seed": 7})


def test_json_and_back(table, tmp_path):
    """Catches NaN in json, which is no json, and meanings, settings or whole numbers lost."""
    path = table.save(tmp_path / "new" / "table.json")
    again = Table.read(path)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)
    assert again.to_plain() == table.to_plain()
    assert column(again, "AP") == [0.25, None, 0.75]
    assert repr(column(again, "n")) == "[2, None, 3]"
    assert (again.about["seed"], again.meaning["n"]) == (7, "how many")


def test_a_selection_knows_what_it_is(table):
    """Catches title and meanings lost on the way through pandas."""
    shown = table[table.right].sort_values("AP", ascending=False)[["AP", "name"]]
    assert isinstance(shown, Table) and shown.title == "Three"
    assert shown.records() == [{"AP": 0.75, "name": "b"}, {"AP": 0.25, "name": "b"}]
    assert list(shown.meaning) == ["name", "AP"] and shown.about == {"seed": 7}


def test_printing_shows_all_columns(table):
    """Catches None printed as nan, and long tables that flood the screen."""
    lines = str(table).splitlines()
    assert lines[0] == "Three"
    assert lines[1].split() == ["name", "n", "AP", "right"]
    assert lines[3].split() == ["a", "–", "–", "no"]
    long = Table.of("long", {"a": range(100)}, {"a": ""})
    assert len(str(long).splitlines()) < 50
    assert "60 more rows" in str(long) and "60 more rows" in long._repr_html_()
    assert "name, n" in str(table[table.n > 9])


def test_a_notebook_shows_what_the_columns_say(table):
    """Catches heads without their meaning, and a class name that breaks the notebook's page."""
    page = table._repr_html_()
    assert '<th title="&quot;0&quot; to 1">AP</th>' in page and "<td>0.250</td>" in page
    bold = Table.of("<b>", {"<b>": ["<b>"]}, {"<b>": "<b>"})._repr_html_()
    assert "<b>" not in bold and "<caption>&lt;b&gt;</caption>" in bold


def test_what_is_wrong_is_said(tmp_path):
    """Catches a quiet cut to the shortest column, or one filled up, and a bare KeyError."""
    with pytest.raises(ValueError, match="same length"):
        Table.of("t", {"a": [1], "b": [1, 2]}, {"a": "", "b": ""})
    with pytest.raises(LabError, match="no file"):
        Table.read(tmp_path / "no.json")
    for text in ('{"title": 1}', "[", "[1]"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(LabError, match="not a table"):
            Table.read(tmp_path / "other.json")


def test_a_spreadsheet_is_not_written_as_json(table, tmp_path):
    """Catches json that is called .csv, which a spreadsheet opens as one column."""
    with pytest.raises(LabError, match=r"to_csv\("):
        table.save(tmp_path / "table.csv")
    assert not list(tmp_path.iterdir())
