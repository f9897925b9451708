"""The numbers of a course or a student: drawn from a secret, put into the notebooks as literals.

In its build cell a source draws data and computes the expected values with the package's own
tested functions: ``V.a = V.boxes(3)``, ``V.iou = boxes.iou(V.a, V.b)``. Where other cells have
``V.iou``, the student's notebook has the numbers, so the computation reveals no answer.
"""

from __future__ import annotations

import math
import random
import re
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError

DECIMALS = 4
_IN_CODE = re.compile(r"\bV\.([a-z]\w*)\b")
_IN_TEXT = re.compile(r"\{V\.([a-z]\w*)\}")


class Variation:
    """Dice that depend on a secret, and the values that a source keeps by name.

    Values are numbers, strings, tensors, and lists, tuples or dictionaries of them. Each attribute
    that is set becomes a placeholder.
    """

    def __init__(self, secret: str) -> None:
        self.restart(secret)

    def restart(self, secret: str) -> None:
        """Discards all values and starts the dice again with ``secret``."""
        vars(self).clear()
        self._dice = random.Random(secret)

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self._dice.randint(low, high)

    def one_of(self, values: list[Any] | tuple[Any, ...]) -> Any:
        """One of the values."""
        return self._dice.choice(values)

    def box(self, side: int = 100, smallest: int = 10) -> list[float]:
        """One xyxy box with integer corners inside ``0..side``, never a square.

        A square would hide that somebody confused x and y.
        """
        while True:
            x1, x2 = sorted(self._dice.sample(range(side + 1), 2))
            y1, y2 = sorted(self._dice.sample(range(side + 1), 2))
            w, h = x2 - x1, y2 - y1
            if w >= smallest and h >= smallest and abs(w - h) >= 4 and x1 != y1:
                return [float(v) for v in (x1, y1, x2, y2)]

    def boxes(self, count: int, side: int = 100) -> Tensor:
        """``[count, 4]`` xyxy boxes as from :meth:`box`."""
        return torch.tensor([self.box(side) for _ in range(count)])

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normally distributed numbers, rounded so that the literal is exactly the number."""
        drawn = torch.tensor([self._dice.gauss(0.0, scale) for _ in range(math.prod(shape))])
        return (drawn * 100).round().div(100).view(shape)

    def labels(self, count: int, classes: int) -> Tensor:
        """``[count]`` int64 labels, not all the same where that is possible."""
        while True:
            drawn = [self._dice.randrange(classes) for _ in range(count)]
            if len(set(drawn)) > 1 or count < 2 or classes < 2:
                return torch.tensor(drawn)


def literal(value: Any) -> str:
    """Python code for a value; numbers are rounded to four decimals."""
    if isinstance(value, Tensor):
        dtype = f", dtype={value.dtype}" if not value.numel() else ""
        return f"torch.tensor({literal(value.tolist())}{dtype})"
    if isinstance(value, bool | str | int) or value is None:
        return repr(value)
    if isinstance(value, float):
        return repr(round(value, DECIMALS) + 0.0)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(literal, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    raise LabError(f"A build cell keeps {type(value).__name__}, which has no literal.")


def plain(value: Any) -> str:
    """The value as text for a reader: ``3.5``, ``[1, 2, 3, 4]``."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.{DECIMALS}g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    return str(value)


def fill_in(text: str, values: Variation, code: bool) -> str:
    """Puts values in place of ``V.name`` in code, ``{V.name}`` in text.

    Raises LabError for a name that no build cell has set.
    """

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values.__dict__:
            raise LabError(f"V.{name} is used but no build cell sets it.")
        value = values.__dict__[name]
        return literal(value) if code else plain(value)

    return (_IN_CODE if code else _IN_TEXT).sub(put, text)


V = Variation("")
