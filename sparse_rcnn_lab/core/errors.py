"""Errors a person can act on: what was wrong, what was found, what to do."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any


class LabError(ValueError):
    """Bad input, explained in the terms of the person who gave it.

    The message says in one or two sentences what was wrong (naming file and field), what was found
    and what to do. The command line and the app print it alone; Python adds the traceback.
    """


def check_stage(stage: Any, last: int, first: int = 1, name: str = "stage") -> int:
    """``stage`` as an int. Raises LabError, which calls it ``name``, unless in ``first..last``.

    first: 0 where the learned proposals count too, 2 where a stage is compared with the one before.
    """
    return _checked([stage], last, first, name, repr(stage))[0]


def check_stages(stages: Iterable[Any] | int | None, last: int) -> tuple[int, ...]:
    """Stages, ascending, each once; None: all. Raises LabError if empty or not in ``1..last``."""
    given: Any = range(1, last + 1) if stages is None else stages
    given = list(given) if isinstance(given, Iterable) else [given]
    return tuple(sorted(set(_checked(given, last, 1, "stages", str(given)))))


def check_threshold(threshold: Any) -> None:
    """Raises LabError unless ``threshold`` is a number from 0 to 1."""
    if not (hasattr(threshold, "__float__") and 0 <= threshold <= 1):
        raise LabError(f"threshold must be from 0 to 1, found {threshold!r}.")


def _checked(stages: list[Any], last: int, first: int, name: str, found: str) -> list[int]:
    try:
        numbers = [operator.index(stage) for stage in stages]
    except TypeError:  # 1.5 is not a stage
        numbers = []
    if numbers and all(first <= number <= last for number in numbers):
        return numbers
    if first > last:
        raise LabError(f"{name} must be {first} or more, but there is one stage.")
    raise LabError(f"{name} must be {first}..{last}, found {found}.")
