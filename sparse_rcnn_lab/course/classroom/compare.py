"""Whether a result is the expected one, and in plain words what is different."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Literals in the notebooks have four decimals.
ATOL, RTOL = 3e-4, 3e-4


def difference(got: Any, want: Any, name: str = "the result") -> str | None:
    """None where ``got`` is as good as ``want``, else a sentence.

    Tensors and arrays compare by shape and value (float within ``ATOL`` and ``RTOL``, whole numbers
    exactly), tuples, lists and dictionaries part by part, True and False as themselves.
    """
    if isinstance(want, Tensor):
        return _tensor(got, want, name)
    if isinstance(want, bool):
        if isinstance(got, Tensor | np.generic) and got.ndim == 0:
            got = bool(got)
        return None if got is want else f"{name} should be {want}, yours is {_short(got)}."
    if isinstance(want, int | float):
        if isinstance(got, Tensor | np.ndarray) and np.size(got.tolist()) == 1:
            got = float(got.reshape(-1)[0])
        if isinstance(got, bool) or not isinstance(got, int | float | np.number):
            return f"{name} should be a number, yours is {_short(got)}."
        return _tensor(torch.tensor(float(got)), torch.tensor(float(want)), name)
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return f"{name} should be a dictionary, yours is {_short(got)}."
        for key, value in want.items():
            if key not in got:
                return f'{name} has no "{key}".'
            if found := difference(got[key], value, f'{name}["{key}"]'):
                return found
        return None
    if isinstance(want, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(want):
            return f"{name} should be {len(want)} values, yours is {_short(got)}."
        for i, (mine, value) in enumerate(zip(got, want, strict=True)):
            if found := difference(mine, value, f"{name}[{i}]"):
                return found
        return None
    return None if got == want else f"{name} should be {_short(want)}, yours is {_short(got)}."


def _tensor(got: Any, want: Tensor, name: str) -> str | None:
    if isinstance(got, np.ndarray):
        got = torch.from_numpy(np.ascontiguousarray(got))
    if not isinstance(got, Tensor):
        return f"{name} should be a tensor of shape {list(want.shape)}, yours is {_short(got)}."
    if got.shape != want.shape:
        return f"{name} should have the shape {list(want.shape)}, yours has {list(got.shape)}."
    got, want = got.detach().cpu().double(), want.double()
    if not want.numel():
        return None
    near = torch.isclose(got, want, atol=ATOL, rtol=RTOL)
    if near.all():
        return None
    at = tuple(int(i) for i in (~near).nonzero()[0])
    where = f"{name}[{', '.join(map(str, at))}]" if at else name
    wrong = int((~near).sum())
    more = f" ({wrong} of {want.numel()} values differ)" if want.numel() > 1 else ""
    return f"{where} should be {want[at]:.4f}, yours is {got[at]:.4f}{more}."


def _short(value: Any) -> str:
    if value is None:
        return "None (is there a return?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
