"""Makes training faster without changing what is learned; :mod:`training` calls it at the start.

The model keeps its class, and its weights keep their names.
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
    """Folds batch norms with fixed statistics and shares pooling's backward pass, in place.

    Losses and gradients stay the same up to rounding. In mixed precision the body of a MobileNetV2
    computes in float32.
    """
    fold_fixed_norms(model.backbone)
    if model.config.backbone == "mobilenet_v2":
        for part in model.backbone.body.values():
            part.__class__ = _Float32Part
    model.use_pooling(partial(pool, gather=weighted_gather))


class _Float32Part(nn.Sequential):
    """A part of a body whose channels are filtered one by one, computed in float32.

    bf16 would save a tenth of a step on a CPU but distort the gradient: its cosine with that of
    float32 would be 0.89 instead of 0.995.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, K, h, w]``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision that "auto" means on this device; any other one is returned as it is."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16_units(device) else "float32"


def compile_model(model: SparseRCNN, device: torch.device) -> bool:
    """Compiles backbone and stages in place, for any image size and number of proposals.

    State dict and results stay the same, up to rounding. Matching and losses are not compiled: they
    are small, and matching leaves the device. Where nothing can be compiled it returns False with a
    warning, and the model runs as it is.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # anything may be missing: a C++ compiler, triton, Python's headers
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"torch.compile does not work here ({reason[0]}); the training continues without it.",
            stacklevel=2,
        )
        return False
    model.backbone.compile(dynamic=True)
    for stage in model.stages:
        stage.compile(dynamic=True)
    return True
