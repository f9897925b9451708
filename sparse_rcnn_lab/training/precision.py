"""Mixed precision: the forward pass in 16 bits, everything else in float32.

bf16 has float32's range and needs nothing more. fp16 does not: its gradients are scaled up for the
backward pass, and a step whose scaled gradient overflows is left out while the scale comes down.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sparse_rcnn_lab.core.config import Precision
from sparse_rcnn_lab.core.errors import LabError

# The scale starts at 2 ** 16: halved so often, gradients are far below any that fp16 can hold.
MOST_SKIPPED = 25
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """Forward, backward and update at one of the precisions of TrainConfig.

    skipped: steps left out in a row, up to now.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if (
            precision == "bf16"
            and device.type == "cuda"
            and not torch.cuda.is_bf16_supported(False)
        ):
            raise LabError(
                f"{torch.cuda.get_device_name(device)} has no bf16. Train with precision fp16 or "
                "float32."
            )
        self.device, self.dtype = device, _TYPES.get(precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.skipped = 0

    def autocast(self) -> AbstractContextManager[object]:
        """Surrounds the forward pass of the model."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Adds the (scaled) gradient of a scalar loss."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Gives the gradients their true size, for clipping."""
        self.scaler.unscale_(optimizer)

    def update(self, optimizer: torch.optim.Optimizer, norm: float) -> bool:
        """Updates the weights; False where fp16 overflowed and the step was left out.

        norm: of the whole gradient. Raises LabError when it is not finite: at once, or in fp16
        when no smaller scale helps.
        """
        finite = math.isfinite(norm)
        self.skipped = 0 if finite else self.skipped + 1
        if not finite and (not self.scaler.is_enabled() or self.skipped > MOST_SKIPPED):
            often = f" for {self.skipped} steps in a row" if self.scaler.is_enabled() else ""
            raise LabError(f"The gradient is {norm}, not a finite number{often}.")
        self.scaler.step(optimizer)
        self.scaler.update()
        return finite
