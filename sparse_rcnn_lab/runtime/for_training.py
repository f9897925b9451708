"""What makes training faster without changing what is learned: for :mod:`training`, at its start.

The model keeps its class, and its weights their names.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core.config import Precision
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import pool
from sparse_rcnn_lab.runtime.folding import fold_fixed_norms
from sparse_rcnn_lab.runtime.gather import weighted_gather
from sparse_rcnn_lab.runtime.torch_runtime import has_bf16_units


def speed_up_training(model: SparseRCNN) -> None:
    """Folds batch norms that keep their statistics, and shares pooling's backward pass; in place.

    Losses and gradients stay the same, to rounding. In mixed precision the body of a MobileNetV2
    computes in float32.
    """
    fold_fixed_norms(model.backbone)
    if model.config.backbone == "mobilenet_v2":
        for part in model.backbone.body.values():
            part.__class__ = _Float32Part
    model.use_pooling(partial(pool, gather=weighted_gather))


class _Float32Part(nn.Sequential):
    """Part of a body whose channels are filtered one by one.

    bf16 there would save a tenth of a step on a CPU, and cost the gradient: its cosine with that of
    float32 would be 0.89 in place of 0.995.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, K, h, w]``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What "auto" is on this device; any other precision as it is."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16_units(device) else "float32"


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
