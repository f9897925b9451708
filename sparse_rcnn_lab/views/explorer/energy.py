"""What each stage pooled, and what the dynamic filters made of it, as one small map a proposal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views.explorer import pack


def roi_energy(trace: Trace) -> dict[str, Any]:
    """``before`` and ``after`` the dynamic filters: ``[S, N, P, P]`` shares 0..1.

    A bin's value is how far its feature lies from the mean of its RoI (what stands out), relative
    to the largest of the proposal at all stages. after: None without ``filtered_features``.
    """
    assert trace.roi_features is not None
    after = trace.filtered_features
    return {
        "before": pack.share(_contrast(trace.roi_features)),
        "after": None if after is None else pack.share(_contrast(after)),
    }


def _contrast(features: Tensor) -> Tensor:
    """``[S, N, P, P, D]`` -> ``[S, N, P, P]``."""
    features = torch.nan_to_num(features)
    energy = (features - features.mean((2, 3), keepdim=True)).norm(dim=-1)
    return energy / energy.amax((0, 2, 3), keepdim=True).clamp(min=1e-12)
