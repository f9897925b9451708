"""The runtimes of torch itself: the model as it is written, folded, in bf16, or compiled."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from threading import Lock
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

from sparse_rcnn_lab.core.config import BackboneName
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import Pyramid, build_pyramid
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, DynamicInteraction, StageOutput
from sparse_rcnn_lab.runtime.folding import folded

TorchPrecision = Literal["float32", "bf16", "auto"]
TorchName = Literal["eager", "folded", "compiled"]


class Runtime(Protocol):
    """The protocol of all runtimes, which compute what a model computes.

    model: the model whose weights are used; it also has the learned proposals.
    """

    model: SparseRCNN

    def pyramid(self, images: Tensor) -> Pyramid:
        """As :meth:`SparseRCNN.pyramid`."""
        ...

    def run_stages(
        self, pyramid: Pyramid, boxes: Tensor, features: Tensor, *args: Any, **kwargs: Any
    ) -> list[StageOutput]:
        """As :meth:`SparseRCNN.run_stages`."""
        ...

    def last_stage(
        self, images: Tensor, sizes: Tensor, num_proposals: int | None = None
    ) -> StageOutput:
        """The last stage's output from the learned proposals: all in one call, for callers that
        need no more.

        sizes: ``[B, 2]``, height and width of each image before padding.  num_proposals: how many
        of the proposals, by default all.
        """
        ...

    def for_model(self, model: SparseRCNN) -> Runtime:
        """The same runtime for another model."""
        ...

    def about(self) -> dict[str, str]:
        """What may change a number: ``runtime``, and ``precision`` with "auto" resolved."""
        ...


class TorchRuntime:
    """The model as it is written, or with batch norm folded into the convolutions.

    name: "eager", the model as it is written; "folded"; "compiled", folded and through
        ``torch.compile`` (on a GPU as CUDA graphs).
    precision: "float32"; "bf16", which halves the memory traffic and uses the matrix units of CPU
        or GPU; "auto", bf16 where there are such units. bf16 applies to the backbone after its
        first part and to the stages' dynamic interaction.
    Raises LabError for an eager runtime in bf16.

    Everything is created at first use from the present weights, and again when these have changed.
    The model runs as it is written with gradients, in training mode, under autocast, in float64,
    and as a subclass of :class:`SparseRCNN` with a pyramid or stages of its own.
    """

    def __init__(
        self,
        model: SparseRCNN,
        name: TorchName = "folded",
        precision: TorchPrecision = "float32",
    ) -> None:
        if name == "eager" and precision == "bf16":
            raise LabError('The eager runtime computes in float32. Use "folded" for bf16.')
        self.model, self.name, self.precision = model, name, precision
        self._made: dict[str, tuple[Any, Any]] = {}
        self._contents: dict[str, tuple[nn.Module, _Content]] = {}
        self._lock = Lock()  # an app detects in several threads

    def for_model(self, model: SparseRCNN) -> Self:
        """The same runtime for another model."""
        return type(self)(model, *self._settings())

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: only the model and the settings."""
        return type(self), (self.model, *self._settings())

    def _settings(self) -> tuple[Any, ...]:
        return self.name, self.precision

    def about(self) -> dict[str, str]:
        """See :class:`Runtime`."""
        precision = "bf16" if self._dtype() == torch.bfloat16 else "float32"
        return {"runtime": self.name, "precision": precision}

    def pyramid(self, images: Tensor) -> Pyramid:
        """As :meth:`SparseRCNN.pyramid`."""
        with threads_for(self.model.config.backbone):
            if not self._applies():
                return self.model.pyramid(images)
            backbone = self._up_to_date("backbone", self.model.backbone, self._backbone)
            return build_pyramid(backbone(images))

    def run_stages(
        self, pyramid: Pyramid, boxes: Tensor, features: Tensor, *args: Any, **kwargs: Any
    ) -> list[StageOutput]:
        """As :meth:`SparseRCNN.run_stages`."""
        model = self.model
        own = self._dtype() == torch.float32 and self.name != "compiled"
        with threads_for(model.config.backbone):
            if not own and self._applies():
                model = self._up_to_date("stages", model.stages, self._with_stages)
            return model.run_stages(pyramid, boxes, features, *args, **kwargs)

    def last_stage(
        self, images: Tensor, sizes: Tensor, num_proposals: int | None = None
    ) -> StageOutput:
        """See :class:`Runtime`."""
        start = self.model.proposals(sizes, num_proposals)
        return self.run_stages(self.pyramid(images), *start)[-1]

    def _dtype(self) -> torch.dtype:
        if self.name == "eager":
            return torch.float32
        wanted = self.precision == "auto" and has_bf16_units(self.model.device)
        return torch.bfloat16 if wanted or self.precision == "bf16" else torch.float32

    def _applies(self) -> bool:
        model = self.model
        own = type(model).pyramid, type(model).run_stages
        return (
            self.name != "eager"
            and own == (SparseRCNN.pyramid, SparseRCNN.run_stages)
            and not model.training
            and not torch.is_grad_enabled()
            and not model.proposals.boxes.is_inference()  # has no version that shows changes
            and model.proposals.boxes.dtype == torch.float32
            and not torch.is_autocast_enabled(model.device.type)
        )

    def _backbone(self) -> nn.Module:
        return self._compile(folded(self.model.backbone, self._dtype()))

    def _with_stages(self) -> SparseRCNN:
        """A model with other stages that shares everything else."""
        twin, dtype = copy.copy(self.model), self._dtype()
        twin._modules = dict(self.model._modules)
        stages = [in_precision(stage, dtype) for stage in self.model.stages]
        twin.stages = nn.ModuleList(map(self._compile, stages))
        return twin

    def _compile(self, part: nn.Module) -> nn.Module:
        if self.name != "compiled":
            return part
        mode = "reduce-overhead" if self.model.device.type == "cuda" else "default"
        # torch compiles for the first size and, once height and width have changed, for any size.
        compiled: nn.Module = torch.compile(part, mode=mode)  # type: ignore[assignment]
        return compiled

    def _up_to_date(self, name: str, module: nn.Module, make: Callable[[], Any]) -> Any:
        """The result of ``make``, made again when the weights of ``module`` have changed."""
        with self._lock:
            owner, content = self._contents.get(name, (None, ([], [])))
            before, made = self._made.get(name, (None, None))
            if owner is not module or before != _state(content):
                # Walking a tree of modules takes longer than a small stage, so its dicts are kept.
                parts = list(module.modules())
                tensors = [t for m in parts for t in (m._parameters, m._buffers) if t]
                content = tensors, [m._modules for m in parts if m._modules]
                self._contents[name] = module, content
                state = _state(content)
                if before != state:
                    made = make()
                    self._made[name] = state, made
        return made


# The dicts of tensors and the dicts of modules in a tree of modules.
_Content = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def _state(content: _Content) -> Any:
    """Which tensors and modules these are, and how often they were changed. It is called for every
    image, so its loops are those of ``map``."""
    tensors = [value for part in content[0] for value in part.values() if value is not None]
    modules = chain.from_iterable(part.values() for part in content[1])
    pointers, versions = map(Tensor.data_ptr, tensors), map(attrgetter("_version"), tensors)
    return list(pointers), list(versions), list(map(id, modules))


def _note_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Notes a step, as fused optimizers and those that write to ``.data`` raise no version."""
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    increment_version([weight for weight in weights if weight.grad is not None])


register_optimizer_step_post_hook(_note_step)


class _InPrecision(DynamicInteraction):
    """A dynamic interaction that casts its inputs to the precision of its weights."""

    def forward(
        self, x: Tensor, roi: Tensor, ablation: Ablation = NORMAL
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = self.generate.weight.dtype
        return super().forward(x.to(dtype), roi.to(dtype), ablation)


def in_precision(stage: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a stage whose dynamic interaction, most of its work, is computed in ``dtype``.

    The features that accumulate from stage to stage, attention, logits and boxes stay float32.
    """
    twin = copy.deepcopy(stage).requires_grad_(False)
    interaction: Any = twin.interaction
    interaction.to(dtype)
    interaction.__class__ = _InPrecision
    return twin


def has_bf16_units(device: torch.device) -> bool:
    """Whether the hardware computes bf16: AMX, AVX512-bf16 or tensor cores."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN computes bf16 on older processors too, but more slowly than float32.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


# Their operations are so short that waking a second thread costs more than it gains: an image
# takes nano-shapes 17 ms on one thread and 50 on two, small-cards 54 and 93.
_LIGHT: tuple[BackboneName, ...] = ("nano", "mobilenet_v2")


def thread_count(backbone: BackboneName) -> int:
    """The number of threads for a model on a CPU: one, or as many as torch has."""
    light = backbone in _LIGHT and "OMP_NUM_THREADS" not in os.environ
    return 1 if light else torch.get_num_threads()


@contextmanager
def threads_for(backbone: BackboneName) -> Iterator[None]:
    """A context in which light models compute on one thread.

    It does not change a user's own OMP_NUM_THREADS, nor other threads of the process.
    """
    before, wanted = torch.get_num_threads(), thread_count(backbone)
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
