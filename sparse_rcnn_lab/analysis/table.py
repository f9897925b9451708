"""``Table``: the result of every analysis, a pandas DataFrame that knows what its columns mean."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text

_SHOWN = 40  # rows that are printed


class Table(pd.DataFrame):
    """A pandas DataFrame whose ``attrs`` hold ``title``, ``meaning`` and ``about``.

    All of pandas works, and selecting or sorting keeps all three; a missing value is NaN, NA or
    None. ``print(table)`` begins with the title; in a notebook the header of a column says what
    the column means.

    >>> rows = [{"n": 1, "AP": 0.25}, {"n": 5, "AP": 0.75}, {"n": 9, "AP": None}]
    >>> table = Table.of("AP by proposals", rows, {"n": "proposals", "AP": "0 to 1"})
    >>> print(table[table.n > 1].sort_values("AP"))
    AP by proposals
    n    AP
    5 0.750
    9     –
    """

    @property
    def _constructor(self) -> type[Table]:
        return Table

    @classmethod
    def of(
        cls,
        title: str,
        rows: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]],
        meaning: Mapping[str, str],
        about: Mapping[str, Any] | None = None,
    ) -> Table:
        """From one dictionary per row, or from columns; ``meaning`` names and orders the columns.

        title: what a row is.  meaning: what each column means, its unit and range.  about: how the
        table was made: model, data, settings, versions.

        >>> Table.of("Stages", {"stage": [1, 2]}, {"stage": "1 to S"}).title
        'Stages'
        """
        if not isinstance(rows, Mapping):
            rows = list(rows)
            rows = {name: [row[name] for row in rows] for name in meaning}
        table = cls({name: _column([_plain(value) for value in rows[name]]) for name in meaning})
        table.attrs = {"title": title, "meaning": dict(meaning), "about": dict(about or {})}
        return table

    @property
    def title(self) -> str:
        """What a row is."""
        return str(self.attrs.get("title", ""))

    @property
    def meaning(self) -> dict[str, str]:
        """What each column means, its unit and range."""
        return {k: v for k, v in self.attrs.get("meaning", {}).items() if k in self.columns}

    @property
    def about(self) -> dict[str, Any]:
        """How the table was made: model, data, settings, versions."""
        return dict(self.attrs.get("about", {}))

    def records(self) -> list[dict[str, Any]]:
        """Each row as a dictionary of plain Python values, None where one is missing.

        >>> Table.of("Stages", {"found": [1, None]}, {"found": "stage"}).records()
        [{'found': 1}, {'found': None}]
        """
        values = zip(*self._plain_columns().values(), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in values]

    def save(self, path: str | Path) -> Path:
        """Writes the table to a json file, which :meth:`read` reads, and returns its path.

        Raises LabError for the file name of a spreadsheet.
        """
        if Path(path).suffix.lower() in (".csv", ".tsv", ".xlsx"):
            raise LabError(
                f'save writes json, found "{path}". Call it .json, or use pandas: '
                'table.to_csv("table.csv", index=False).'
            )
        write_text(Path(path), json.dumps(self.to_plain(), indent=1) + "\n")
        return Path(path)

    def to_plain(self) -> dict[str, Any]:
        """The table as plain values that json can hold."""
        return {
            "title": self.title,
            "about": self.about,
            "meaning": self.meaning,
            "columns": self._plain_columns(),
        }

    def _plain_columns(self) -> dict[str, list[Any]]:
        return {name: [_plain(value) for value in self[name].tolist()] for name in self.columns}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Table:
        """The table from the output of :meth:`to_plain`."""
        meaning = {name: values["meaning"].get(name, "") for name in values["columns"]}
        return cls.of(values["title"], values["columns"], meaning, values["about"])

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """Reads a table that :meth:`save` wrote. Raises LabError for any other file."""
        try:
            return cls.from_plain(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise LabError(f'There is no file "{path}".') from None
        except (
            OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise LabError(
                f'"{path}" is not a table of an analysis ({error!r}). Give a file that save wrote.'
            ) from error

    def __repr__(self) -> str:
        text = self._text().to_string(index=False) if len(self) else ", ".join(self.columns)
        return "\n".join(filter(None, [self.title, text, self._more()]))

    def _repr_html_(self) -> str:
        page = self._text().to_html(index=False, border=0)
        for name, meaning in self.meaning.items():
            head = f"{html.escape(name)}</th>"
            page = page.replace(f"<th>{head}", f'<th title="{html.escape(meaning)}">{head}', 1)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return page.replace("<thead>", f"{caption}<thead>", 1) + f"<p>{self._more()}</p>"

    def _text(self) -> pd.DataFrame:
        return pd.DataFrame(self.head(_SHOWN).astype(object).map(_text))

    def _more(self) -> str:
        return f"… {len(self) - _SHOWN} more rows" if len(self) > _SHOWN else ""


def _plain(value: Any) -> Any:
    """The value for json: numpy's and torch's numbers as Python's, NaN and NA as None."""
    if value is pd.NA:
        return None
    if not isinstance(value, str | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _column(values: list[Any]) -> Any:
    """An array; integers stay integers where one is missing, an all-missing column is NaN."""
    there = [value for value in values if value is not None]
    whole = len(there) < len(values) and all(type(value) is int for value in there)
    dtype = "float64" if not there else "Int64" if whole else None
    return pd.Series(values, dtype=dtype).array


def _text(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)
