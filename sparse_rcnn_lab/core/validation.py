"""Whether a value read from a file is of the type that a dataclass declares."""

from __future__ import annotations

import math
import types
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is what ``hint`` says: a plain type, a dataclass, Literal, tuple, union.

    A whole number counts as a float, True as no number; a float has to be finite.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(fits, value, inner))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if is_dataclass(hint) or hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True


def in_words(hint: Any) -> str:
    """The type, as an error calls it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False
