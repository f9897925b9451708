"""oneDNN's fused operations: torch's own, not public. Used only where they are found to work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# (what they give, what plain operations give in float32)
Pairs = Iterable[tuple[Tensor, Tensor]]


# By which numbers may be off.
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 0.3}


def agree(tried: Callable[[], Pairs], limit: float) -> bool:
    """Whether this torch has what ``tried`` uses, and no number is off by ``limit`` or more."""
    try:
        pairs = list(tried())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(bool((found.float() - wanted).abs().max() < limit) for found, wanted in pairs)
