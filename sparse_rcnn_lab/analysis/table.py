"""``Table``: what every analysis gives. Plain columns that print, filter, become json."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text

_SHOWN = 40  # rows that are printed; all are in the columns


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of plain values under named columns.

    title: what a row is.  columns: name -> values (str, int, float, bool or None), all of one
    length; a float that is not finite becomes None.  meaning: what a column says, its unit and
    range.  about: how it was made: model, data, settings, versions.

    ``table["AP"]`` is a column, ``table.rows()`` are dictionaries, ``print(table)`` shows it.
    """

    title: str
    columns: Mapping[str, Sequence[Any]]
    meaning: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name: [_plain(value) for value in column] for name, column in self._items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise LabError(f"The columns of a table must be of one length, found {lengths}.")
        strange = sorted(set(self.meaning) - set(columns))
        if strange:
            raise LabError(f"A meaning is given for {', '.join(strange)}, which is no column.")
        object.__setattr__(self, "columns", columns)

    def _items(self) -> Iterable[tuple[str, Sequence[Any]]]:
        return self.columns.items()

    @classmethod
    def of(
        cls,
        title: str,
        rows: Iterable[Mapping[str, Any]],
        meaning: Mapping[str, str],
        about: Mapping[str, Any] | None = None,
    ) -> Table:
        """From dictionaries; ``meaning`` names the columns and gives their order."""
        rows = list(rows)
        columns = {name: [row[name] for row in rows] for name in meaning}
        return cls(title, columns, meaning, about or {})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> list[Any]:
        try:
            return list(self.columns[column])
        except KeyError:
            raise LabError(
                f'"{self.title}" has no column {column!r}. It has {", ".join(self.columns)}.'
            ) from None

    def rows(self) -> list[dict[str, Any]]:
        """Each row as a dictionary."""
        names = list(self.columns)
        return [
            dict(zip(names, values, strict=True))
            for values in zip(*self.columns.values(), strict=True)
        ]

    def where(self, **wanted: Any) -> Table:
        """The rows whose columns have these values: ``table.where(stage=6, order="ranked")``."""
        chosen = [self[name] for name in wanted]
        keep = [
            i
            for i in range(len(self))
            if all(
                column[i] == value for column, value in zip(chosen, wanted.values(), strict=True)
            )
        ]
        return self._take(keep)

    def sorted(self, column: str, descending: bool = False) -> Table:
        """The rows in the order of a column; None comes last."""
        values = self[column]
        there = [i for i in range(len(self)) if values[i] is not None]
        there.sort(key=lambda i: values[i], reverse=descending)
        return self._take([*there, *(i for i in range(len(self)) if values[i] is None)])

    def select(self, *columns: str) -> Table:
        """Only these columns, in this order. Raises LabError for one that it does not have."""
        chosen = {name: self[name] for name in columns}
        meaning = {name: self.meaning[name] for name in columns if name in self.meaning}
        return replace(self, columns=chosen, meaning=meaning)

    def head(self, count: int) -> Table:
        """The first ``count`` rows."""
        return self._take(list(range(min(count, len(self)))))

    def _take(self, rows: list[int]) -> Table:
        columns = {name: [column[i] for i in rows] for name, column in self.columns.items()}
        return replace(self, columns=columns)

    def __add__(self, other: Table) -> Table:
        """The rows of two tables with the same columns; ``about`` is that of the first."""
        if list(self.columns) != list(other.columns):
            raise LabError(
                f'"{self.title}" and "{other.title}" have different columns: '
                f"{', '.join(self.columns)}; {', '.join(other.columns)}."
            )
        columns = {name: [*self[name], *other[name]] for name in self.columns}
        return replace(self, columns=columns)

    def to_frame(self) -> Any:
        """A pandas DataFrame. Raises LabError where pandas is not installed."""
        try:
            import pandas  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise LabError(
                "pandas is not installed (pip install pandas). table.rows() and table.columns "
                "need nothing."
            ) from None
        return pandas.DataFrame(dict(self.columns))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json can hold."""
        return {
            "title": self.title,
            "about": dict(self.about),
            "meaning": dict(self.meaning),
            "columns": {name: list(column) for name, column in self.columns.items()},
        }

    def to_json(self, path: str | Path) -> Path:
        """Writes the table to a json file, whole or not at all."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")
        return Path(path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Table:
        """What :meth:`to_dict` gave."""
        return cls(values["title"], values["columns"], values["meaning"], values["about"])

    @classmethod
    def from_json(cls, path: str | Path) -> Table:
        """Reads what :meth:`to_json` wrote. Raises LabError when the file is not such a table."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise LabError(f'There is no file "{path}".') from None
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise LabError(
                f'"{path}" is not a table of an analysis ({error!r}). Expected what to_json wrote.'
            ) from error

    def __str__(self) -> str:
        names = list(self.columns)
        shown = self.head(_SHOWN)
        cells = [[_text(value) for value in column] for column in shown.columns.values()]
        widths = [max(map(len, [name, *column])) for name, column in zip(names, cells, strict=True)]
        words = [any(isinstance(v, str) for v in column) for column in shown.columns.values()]
        lines = [self.title]
        for row in [names, *zip(*cells, strict=True)]:
            places = zip(row, widths, words, strict=True)
            lines.append("  ".join(t.ljust(w) if left else t.rjust(w) for t, w, left in places))
        if len(self) > _SHOWN:
            lines.append(f"… {len(self) - _SHOWN} more rows")
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th title="{html.escape(self.meaning.get(name, ""))}">{html.escape(name)}</th>'
            for name in self.columns
        )
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(v))}</td>" for v in row.values()) + "</tr>"
            for row in self.head(_SHOWN).rows()
        )
        more = f"<p>… {len(self) - _SHOWN} more rows</p>" if len(self) > _SHOWN else ""
        title = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _plain(value: Any) -> Any:
    """The value as json can hold it: numpy's and torch's numbers as Python's, NaN as None."""
    if not isinstance(value, str | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)
