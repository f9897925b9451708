"""oneDNN's fused operations: torch's own, not public. Used only where they are found to work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# (what they give, what plain operations give in float32)
Pairs = Iterable[tuple[Tensor, Tensor]]


def agree(tried: Callable[[], Pairs], dtype: torch.dtype) -> bool:
    """Whether this torch has what ``tried`` uses, and it gives the plain numbers in ``dtype``."""
    try:
        pairs = list(tried())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    limit = 1e-4 if dtype == torch.float32 else 0.3
    return all(bool((found.float() - wanted).abs().max() < limit) for found, wanted in pairs)
