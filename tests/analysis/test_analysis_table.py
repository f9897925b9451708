"""Tables: what goes in comes out, and what is wrong is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.core.errors import LabError


@pytest.fixture
def table() -> Table:
    rows = [
        {"name": "b", "n": 2, "AP": 0.25},
        {"name": "a", "n": 1, "AP": float("nan")},
        {"name": "b", "n": 3, "AP": 0.75},
    ]
    return Table.of("Three", rows, {"name": "what", "n": "how many", "AP": "0 to 1"}, {"seed": 7})


def test_json_and_back(table: Table, tmp_path: Path) -> None:
    """Catches NaN in json, which is no json, and meanings or settings left behind."""
    path = table.to_json(tmp_path / "new" / "table.json")
    again = Table.from_json(path)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)
    assert again.to_dict() == table.to_dict()
    assert again["AP"] == [0.25, None, 0.75]
    assert (again.about["seed"], again.meaning["n"]) == (7, "how many")


def test_choosing_and_ordering(table: Table) -> None:
    """Catches rows that lose their company, and None sorted among numbers."""
    assert table.where(name="b", n=3).rows() == [{"name": "b", "n": 3, "AP": 0.75}]
    assert table.sorted("AP", descending=True)["n"] == [3, 2, 1]
    assert table.sorted("AP")["n"] == [2, 3, 1]
    assert (table + table.head(1))["n"] == [2, 1, 3, 2]
    few = table.select("AP", "name")
    assert few.rows()[0] == {"AP": 0.25, "name": "b"} and few.meaning["AP"] == "0 to 1"
    with pytest.raises(LabError, match="no column 'm'"):
        table.select("m")


def test_numbers_of_numpy_and_torch_become_plain() -> None:
    """Catches a table that json refuses because a count came from a tensor."""
    table = Table("t", {"a": [np.float32(0.5), torch.tensor(2), np.bool_(True)]})
    assert table["a"] == [0.5, 2, True]
    json.dumps(table.to_dict())


def test_printing_shows_all_columns(table: Table) -> None:
    """Catches None printed as nan, and long tables that flood the screen."""
    lines = str(table).splitlines()
    assert lines[0] == "Three"
    assert lines[1].split() == ["name", "n", "AP"]
    assert lines[3].split() == ["a", "1", "–"]
    long = Table("long", {"a": list(range(100))})
    assert len(str(long).splitlines()) < 50
    assert "60 more rows" in str(long)
    assert "<td>0.250</td>" in table._repr_html_()


def test_html_escapes(table: Table) -> None:
    """Catches a class name that breaks the notebook's page."""
    assert "<b>" not in Table("x", {"a": ["<b>"]})._repr_html_()


def test_what_is_wrong_is_said(table: Table, tmp_path: Path) -> None:
    """Catches a bare KeyError or a quiet cut to the shortest column."""
    with pytest.raises(LabError, match="one length"):
        Table("t", {"a": [1], "b": [1, 2]})
    with pytest.raises(LabError, match=r"no column 'AP5'\. It has name, n, AP"):
        table["AP5"]
    with pytest.raises(LabError, match="different columns"):
        table + Table("t", {"a": [1]})
    with pytest.raises(LabError, match="no file"):
        Table.from_json(tmp_path / "no.json")
    (tmp_path / "other.json").write_text('{"title": 1}')
    with pytest.raises(LabError, match="not a table"):
        Table.from_json(tmp_path / "other.json")


def test_without_pandas(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback where pandas, which is optional, is not installed."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LabError, match="pandas is not installed"):
        table.to_frame()
