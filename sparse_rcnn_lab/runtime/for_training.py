"""What makes training faster without changing what is learned: for :mod:`training`, at its start.

The model keeps its class, and its weights their names.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch

from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import pool
from sparse_rcnn_lab.runtime.folding import fold_fixed_norms
from sparse_rcnn_lab.runtime.gather import weighted_gather


def speed_up_training(model: SparseRCNN) -> None:
    """Folds batch norms that keep their statistics, and shares pooling's backward pass; in place.

    Losses and gradients stay the same, to rounding.
    """
    fold_fixed_norms(model.backbone)
    model.use_pooling(partial(pool, gather=weighted_gather))


def compile_model(model: SparseRCNN, device: torch.device) -> bool:
    """Compiles backbone and stages in place, image size and number of proposals left open.

    State dict and results stay the same, to rounding. Matching and losses are not compiled: they
    are small, and matching leaves the device. False, with a warning, where nothing can be compiled:
    the model then runs as it is.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
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
