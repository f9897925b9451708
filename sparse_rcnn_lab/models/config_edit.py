"""Configs changed field by field, and as the plain values of a file."""

from __future__ import annotations

import math
import types
from dataclasses import asdict, is_dataclass, replace
from operator import attrgetter
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError

T = TypeVar("T")

# Former names of fields, as older files have them.
_FORMER_NAMES = {"still_boxes": "zero_init_box_head"}


# Ranges of numbers beyond which a training would run, but learn nothing or not what was meant.
_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("train.warmup_steps", "train.backbone_lr", "train.muon_lr"), (0, math.inf)),
    **dict.fromkeys(("train.weight_decay", "loss.cls", "loss.l1", "loss.giou"), (0, math.inf)),
    **dict.fromkeys(("loss.focal_gamma", "loss.among_classes"), (0, math.inf)),
    **dict.fromkeys(("train.warmup_start", "loss.focal_alpha"), (0, 1)),
    **dict.fromkeys(("loss.matches_per_object", "augment.short_sides"), (1, math.inf)),
    **dict.fromkeys(("augment.size", "augment.long_side"), (1, math.inf)),
    "train.clip_norm": (1e-9, math.inf),
}


def with_changes(config: T, **changes: Any) -> T:
    """A copy of a recipe with fields replaced: ``part__field=value`` or ``name=value``.

    ``model__input__short_side`` goes a level deeper; a list may be given for a tuple. Raises
    LabError for an unknown field, a value of another type, and one that its config refuses.
    """
    for key, value in changes.items():
        config = _changed(config, key.split("__"), value, key.replace("__", "."))
    if isinstance(config, Recipe):
        _check_bounds(config)
    return config


def _check_bounds(recipe: Recipe) -> None:
    for name, (low, high) in _BOUNDS.items():
        value = attrgetter(name)(recipe)
        for number in value if isinstance(value, tuple | list) else (value,):
            if number is not None and not low <= number <= high:
                words = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                raise LabError(f"{name} must be {words}, found {value!r}.")


def _changed(config: Any, path: list[str], value: Any, full: str) -> Any:
    name, *rest = path
    hints = get_type_hints(type(config)) if is_dataclass(config) else {}
    if name not in hints:
        raise LabError(f"A recipe has no field {full!r}.")
    if rest:
        value = _changed(getattr(config, name), rest, value, full)
    elif isinstance(value, list):
        value = tuple(value)
    # A wrong choice is better reported by the config, which lists the choices.
    if get_origin(hints[name]) is not Literal and not fits(value, hints[name]):
        raise LabError(f"{full} must be {in_words(hints[name])}, found {value!r:.80}.")
    return replace(config, **{name: value})


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain values that json can hold."""
    return asdict(config)


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Rebuilds a config dataclass from the output of :func:`to_dict`, with its tuples.

    Raises LabError, naming them, for unknown fields (from a newer version) and for values of
    another type than the field's.
    """
    if not isinstance(values, dict):
        raise LabError(f"{cls.__name__} is a table of fields, found {values!r}.")
    hints = get_type_hints(cls)
    values = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise LabError(
            f"{cls.__name__} has no field {', '.join(unknown)}. The file was probably written by "
            "a newer version of sparse_rcnn_lab; update the package."
        )
    built: dict[str, Any] = {}
    for name, value in values.items():
        if is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        if not fits(value, hints[name]):
            raise LabError(
                f"{cls.__name__}.{name} must be {in_words(hints[name])}, found {value!r:.80}."
            )
        built[name] = value
    return cls(**built)


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` fits ``hint``: a plain type, a dataclass, Literal, tuple or union.

    A whole number counts as a float, but True is not a number; a float must be finite.
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
    """What an error message calls the type."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False
