"""Which stages somebody may ask for: one check, and one sentence, for all who take a stage."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from sparse_rcnn_lab.core.errors import LabError


def check_stage(stage: Any, last: int, first: int = 1, name: str = "stage") -> int:
    """``stage`` as an int. Raises LabError, calling it ``name``, unless it is ``first..last``.

    first: 0 where the learned proposals count too, 2 where a stage is compared with the one before.
    """
    (number,) = _checked([stage], last, first, name, repr(stage))
    return number


def check_stages(stages: Iterable[Any] | None, last: int) -> tuple[int, ...]:
    """Stages, ascending, each once; None is all. Raises LabError for none, or not ``1..last``."""
    given = list(range(1, last + 1) if stages is None else stages)
    return tuple(sorted(set(_checked(given, last, 1, "stages", str(given)))))


def _checked(stages: list[Any], last: int, first: int, name: str, found: str) -> list[int]:
    try:
        numbers = [operator.index(stage) for stage in stages]
    except TypeError:  # 1.5 is no stage
        numbers = []
    if numbers and all(first <= number <= last for number in numbers):
        return numbers
    if first > last:
        raise LabError(f"{name} must be {first} or more, but there is one stage.")
    raise LabError(f"{name} must be {first}..{last}, found {found}.")
