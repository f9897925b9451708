"""``--set train.lr=1e-3``: one field of a recipe, read according to its type."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError

T = TypeVar("T")


def apply_overrides(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A copy of ``recipe`` with each ``part.field=value`` applied.

    Raises LabError, naming the assignment, for an unknown field or a value of another type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise LabError(
                f"--set {assignment!r} has no value. Write FIELD=VALUE, for example train.lr=1e-3."
            )
        recipe = _replaced(recipe, path.strip().split("."), text.strip(), assignment)
    return recipe


def _replaced(config: T, path: list[str], text: str, assignment: str) -> T:
    name, *rest = path
    known = [f.name for f in fields(config)] if is_dataclass(config) else []
    if name not in known:
        raise LabError(
            f"--set {assignment!r}: there is no field {name!r} here. "
            + (f"Choose one of {', '.join(known)}." if known else "The name ends too late.")
        )
    before = getattr(config, name)
    if is_dataclass(before):
        if not rest:
            inner = ", ".join(f"{name}.{f.name}" for f in fields(before))
            raise LabError(f"--set {assignment!r}: {name!r} is a group. Choose one of {inner}.")
        value = _replaced(before, rest, text, assignment)
    elif rest:
        raise LabError(f"--set {assignment!r}: {name!r} is a value; it has no {rest[0]!r}.")
    else:
        value = _parse(text, get_type_hints(type(config))[name], assignment)
    return replace(config, **{name: value})  # type: ignore[type-var]


def _parse(text: str, kind: Any, assignment: str) -> Any:
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if text.lower() == "none" and type(None) in choices:
            return None
        (kind,) = (choice for choice in choices if choice is not type(None))
        return _parse(text, kind, assignment)
    if origin is Literal:
        if text not in choices:
            raise LabError(f"--set {assignment!r}: choose one of {', '.join(choices)}.")
        return text
    if origin is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        kinds = list(choices)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(parts)
        if len(kinds) != len(parts) or not parts:
            wanted = "at least one value" if choices[-1] is Ellipsis else f"{len(kinds)} values"
            raise LabError(
                f"--set {assignment!r}: {wanted}, separated by commas, expected; "
                f"found {len(parts)}."
            )
        return tuple(_parse(p.strip(), k, assignment) for p, k in zip(parts, kinds, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise LabError(f"--set {assignment!r}: true or false expected, found {text!r}.")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise LabError(f"--set {assignment!r}: {wanted} expected, found {text!r}.") from None
