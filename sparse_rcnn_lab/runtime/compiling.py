"""``torch.compile`` for the parts of the model where the time goes."""

from __future__ import annotations

import warnings

import torch

from sparse_rcnn_lab.core.model import SparseRCNN


def compile_model(model: SparseRCNN, device: torch.device) -> bool:
    """Compiles backbone and stages in place, image size and number of proposals left open.

    State dict and results stay the same, to rounding. Matching and losses are not compiled: they
    are small, and matching leaves the device. False, with a warning, where nothing can be compiled:
    the model then runs as it is.
    """
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:  # whatever is missing: a C++ compiler, triton, headers of Python
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"torch.compile does not work here ({reason[0]}); the training goes on without it.",
            stacklevel=2,
        )
        return False
    model.backbone.compile(dynamic=True)
    for stage in model.stages:
        stage.compile(dynamic=True)
    return True


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
