"""Which way a model goes at inference, and what that way needs beside the model's own weights.

Without gradients, outside of training and autocast, a float32 model's backbone runs folded
(:class:`sparse_rcnn_lab.runtime.folded_backbone.FastBackbone`), in float32, bf16 or int8. The
stages' dynamic interaction runs in bf16 with the backbone; with int8, in bf16 where the processor
has units for it, else in float32. Everything is made at first use from the weights as they stand,
and made again when those have changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import Interact, interact
from sparse_rcnn_lab.runtime.folded_backbone import FastBackbone
from sparse_rcnn_lab.runtime.int8 import has_int8_convolution
from sparse_rcnn_lab.runtime.interaction import portions_of

if TYPE_CHECKING:
    from sparse_rcnn_lab.core.model import SparseRCNN

InferencePrecision = Literal["float32", "bf16", "int8", "auto"]
# Sides of compiled inputs are rounded up to multiples of this, so that few shapes are compiled.
BUCKET = 128


@dataclass(frozen=True)
class Way:
    """How to run without gradients.

    plain: the model as it is written, for comparison. precision: "bf16" halves the memory moved
    and uses the matrix units of CPU or GPU; "auto" takes it where there are such units. "int8": on
    a CPU, the convolutions in 8-bit whole numbers and the rest as "auto" does.
    compiled: run backbone and stages through torch.compile, on a GPU as CUDA graphs.
    """

    plain: bool = False
    precision: InferencePrecision = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(InferencePrecision):
            raise LabError(
                f"precision {self.precision!r} is unknown. Choose one of "
                f"{', '.join(get_args(InferencePrecision))}."
            )
        rough = self.precision in ("bf16", "int8")
        if self.plain and (rough or self.compiled):
            raise LabError(
                f"The plain way is neither {self.precision if rough else 'bf16'} nor compiled; "
                "ask for one or the other."
            )
        if self.compiled and self.precision == "int8":
            raise LabError("int8 is not compiled; ask for one or the other.")

    def dtype(self, device: torch.device) -> torch.dtype:
        """What is computed in, where it is not int8."""
        wanted = self.precision in ("auto", "int8") and has_bf16_units(device)
        return torch.bfloat16 if wanted or self.precision == "bf16" else torch.float32

    def int8(self, device: torch.device) -> bool:
        """Whether convolutions run in int8.

        Raises LabError where they cannot.
        """
        if self.precision != "int8":
            return False
        if device.type != "cpu":
            raise LabError(
                f'int8 runs on a CPU, and this model is on "{device}". Choose device="cpu", or '
                'precision="auto".'
            )
        if not has_int8_convolution(self.dtype(device)):
            raise LabError(
                "int8 convolutions do not work here, or give other numbers (on Intel and AMD they "
                'need VNNI). Choose precision="auto".'
            )
        return True


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 is computed by units of its own: AMX, AVX512-bf16, tensor cores."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN does it on older processors too, but more slowly than float32.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


class Inference:
    """A model's way at inference and what was made for it; neither copied nor saved with it."""

    def __init__(self, way: Way = Way()) -> None:
        self.way = way
        self._made: dict[str, tuple[Any, Any]] = {}
        self._lock = Lock()  # an app detects in several threads

    def __deepcopy__(self, memo: dict[int, Any]) -> Inference:
        return Inference(self.way)

    def __reduce__(self) -> tuple[Any, ...]:
        return Inference, (self.way,)

    def applies(self, model: SparseRCNN) -> bool:
        """Whether the fast way may be taken now."""
        if torch.compiler.is_compiling():
            return False
        if model.training or torch.is_grad_enabled():
            # Whoever asks for gradients may step next, and torch's fused optimizers change weights
            # without raising their version.
            self._made.clear()
            return False
        return not (
            self.way.plain
            or next(model.parameters()).dtype != torch.float32
            or torch.is_autocast_enabled(model.device.type)
        )

    def pyramid(self, model: SparseRCNN, images: Tensor) -> Pyramid:
        """As ``model.pyramid``."""
        way, device = self.way, model.device

        def make() -> Any:
            fast = FastBackbone(
                model.backbone,
                way.dtype(device),
                public_only=way.compiled,
                int8=way.int8(device),
            )
            return compiled(fast, device) if way.compiled else fast

        backbone = self._up_to_date("backbone", model.backbone, make)
        if not way.compiled:
            return backbone(images)
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % BUCKET, 0, -height % BUCKET))
        table, *rest = backbone(padded)
        # A CUDA graph writes its next result to the same place.
        return Pyramid(table.clone() if table.is_cuda else table, *rest)

    def stages(self, model: SparseRCNN) -> Sequence[nn.Module]:
        """The stages to run."""
        way, device = self.way, model.device
        dtype = way.dtype(device)
        if dtype == torch.float32 and not way.compiled:
            return list(model.stages)

        def make() -> list[nn.Module]:
            stages = [in_precision(stage, dtype) for stage in model.stages]
            return [compiled(stage, device) for stage in stages] if way.compiled else stages

        stages = self._up_to_date("stages", model.stages, make)
        for mine, theirs in zip(stages, model.stages, strict=True):
            mine.pool = theirs.pool
        return stages

    def interact(self, stage: Any) -> Interact:
        """What does the dynamic interaction of stages like this one."""
        if self.way.compiled or stage.interaction.generate.weight.device.type != "cpu":
            return interact
        return portions_of(stage.interaction)

    def _up_to_date(self, name: str, module: nn.Module, make: Callable[[], Any]) -> Any:
        """What ``make`` gave, made again when the weights of ``module`` are others."""
        tensors = (*module.parameters(), *module.buffers())
        state = [(t.data_ptr(), t._version) for t in tensors]
        with self._lock:
            before, made = self._made.get(name, (None, None))
            if before != state:
                made = make()
                self._made[name] = state, made
        return made


class _CastingLinear(nn.Linear):
    """Takes what comes in its own precision."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


def in_precision(stage: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a stage whose dynamic interaction, most of its work, is done in ``dtype``.

    What is added up from stage to stage, and with it attention, logits and boxes, stays float32.
    """
    twin = copy.deepcopy(stage).requires_grad_(False)
    interaction: Any = twin.interaction
    interaction.to(dtype)
    interaction.generate.__class__ = _CastingLinear
    return twin


def compiled(part: Any, device: torch.device) -> Any:
    """A part of the model through ``torch.compile``, for fixed shapes."""
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(part, dynamic=False, mode=mode)
