"""The processes of a training run: how they communicate, and what happens when one is lost.

``torchrun`` starts one process per GPU and tells each its rank through environment variables; gloo
transfers what is on the CPU, nccl what is on GPUs. Without torchrun there is a group of one, which
costs nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rcnn_lab.core.errors import LabError

T = TypeVar("T")
U = TypeVar("U")

# A process that is silent for this long counts as lost. One that was killed is noticed at once.
TIMEOUT = timedelta(minutes=10)
ROLL_CALL_SECONDS = 5.0
_BROKEN = re.compile(r"gloo|nccl|tcpstore|connection (closed|reset|refused)|broken pipe", re.I)


class AlreadyReported(LabError):
    """An error that every process raises and process 0 has already reported."""


class LostProcess(LabError):
    """Another process of the group has ended, or is silent.

    missing: the ranks of these processes; empty where they cannot be found out.
    """

    def __init__(self, missing: list[int], world: int, reason: str) -> None:
        ranks = ", ".join(map(str, missing))
        who = f"Process{'es' * (len(missing) > 1)} {ranks}" if missing else "Another process"
        super().__init__(
            f"{who} of {world} (counted from 0) is gone or silent: killed, out of memory, failed "
            f"with a message of its own, or cut off ({reason}). Resume to continue from the last "
            "complete state, on any number of processes."
        )
        self.missing = missing


@dataclass(frozen=True)
class Group:
    """``world`` processes, of which this one is ``rank`` (from 0)."""

    rank: int = 0
    world: int = 1
    local_world: int = 1
    store: Any = field(default=None, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone prints and writes."""
        return self.rank == 0

    def shard(self, size: int) -> slice:
        """This process's part of ``size`` items; the sizes of parts differ by at most one."""
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def gather(self, value: T) -> list[T]:
        """Gives every process the values of all, by rank. Raises LostProcess."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with self.watched():
            dist.all_gather_object(values, value)
        return values

    def collect(self, value: T) -> list[T]:
        """Gives process 0 the values of all, by rank, and the others an empty list."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with self.watched():
            dist.gather_object(value, values if self.first else None)
        return values if self.first else []

    def exchange(self, work: Callable[[], tuple[T, U]]) -> tuple[T, list[U]]:
        """Does ``work`` in every process; returns its own first result and the second ones of all.

        Either all continue or none: a LabError in one is raised in all, with its message in process
        0 and as AlreadyReported in the others.
        """
        if self.world == 1:
            mine, told = work()
            return mine, [told]
        result, problem = None, None
        try:
            result = work()
        except LostProcess:
            raise
        except LabError as error:
            problem = str(error)
        answers = self.gather((result and result[1], problem))
        problems = [text for _, text in answers if text is not None]
        if problems or result is None:
            raise (LabError if self.first else AlreadyReported)(problems[0])
        return result[0], [told for told, _ in answers]  # type: ignore[misc]

    def agree(self, work: Callable[[], T]) -> T:
        """Returns the result of ``work``, done in all processes; a LabError is raised in all."""
        return self.exchange(lambda: (work(), None))[0]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turns errors of gloo and nccl about a broken connection into LostProcess."""
        try:
            yield
        except RuntimeError as error:
            broken = isinstance(error, dist.DistError) or _BROKEN.search(str(error))
            if self.world == 1 or not broken:
                raise
            # gloo's message begins with a place in its source and ends with advice.
            words = re.sub(r"^\[[^\]]*\.\w+:\d+\] ", "", str(error).splitlines()[0])
            reason = words.partition(". ")[0] or type(error).__name__
            raise LostProcess(self._missing(), self.world, reason) from error

    def _missing(self) -> list[int]:
        """Ranks that do not answer in the store within seconds; none where it cannot be asked."""
        if self.store is None:
            return []
        try:
            self.store.set(f"here/{self.rank}", "")
            end = time.monotonic() + ROLL_CALL_SECONDS
            missing = list(range(self.world))
            while missing and time.monotonic() < end:
                missing = [rank for rank in missing if not self.store.check([f"here/{rank}"])]
                time.sleep(0.1)
        except RuntimeError:
            # torchrun keeps the store in a process of its own, other launchers in process 0.
            return [] if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else [0]
        return missing


_joined = Group()


def current() -> Group:
    """The group that was joined, or a group of one."""
    return _joined


@contextmanager
def join(device: torch.device) -> Iterator[Group]:
    """Joins the processes that torchrun started; a group of one where there is no torchrun.

    Inside another ``join`` it yields the group that was joined there. Raises LabError where there
    are more processes than GPUs, or the others cannot be reached or are lost on the way.
    """
    global _joined
    world = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if _joined.world > 1 or world == 1:
        yield _joined
        return
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    backend = "gloo"
    if device.type == "cuda":
        _take_gpu(device, local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise LabError(
            f"The {world} processes could not find each other ({str(error).splitlines()[0]}). "
            "Start them with torchrun; on several machines give it --nnodes and --rdzv-endpoint."
        ) from error
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    _joined = Group(rank, world, local_world, store)
    whole = True
    try:
        with _joined.watched():
            yield _joined
    except LostProcess:
        whole = False  # leaving the group would wait for the lost process
        raise
    finally:
        _joined = Group()
        if whole:
            dist.destroy_process_group()


def _take_gpu(device: torch.device, local: int) -> None:
    count = torch.cuda.device_count()
    if device.index is not None:
        raise LabError(
            f'Several processes cannot share "{device}". Leave out its number: each uses its own.'
        )
    if local >= count:
        raise LabError(
            f"torchrun started more processes than this machine has GPUs ({count}). Use "
            f"--nproc-per-node {count}, or train on the CPU."
        )
    torch.cuda.set_device(local)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Makes each batch norm of ``model`` in training mode span all processes.

    Weights and statistics stay the same tensors. Only backbones that train from scratch have such
    layers; in the published recipes the statistics are fixed.
    """
    for name, module in list(model.named_modules()):
        if type(module) is nn.BatchNorm2d and module.training:
            if device.type == "cuda":
                model.set_submodule(name, nn.SyncBatchNorm.convert_sync_batchnorm(module))
            else:
                module.__class__ = _sync_batch_norm_on_cpu()


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes. It enters the loss of each, so its gradient is summed over all too.

    (Torch's own such function is deprecated in favour of one that is still private.)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _SumOverProcesses.forward(ctx, grad)


class _SyncBatchNormOnCpu(nn.BatchNorm2d):
    """Does on the CPU what nn.SyncBatchNorm does for GPU tensors alone."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()  # [B, C, H, W], of which B, H and W may differ between processes
        count = _SumOverProcesses.apply(x.new_tensor(x.numel() / x.shape[1]))
        mean = _SumOverProcesses.apply(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply((centred**2).sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


@cache
def _sync_batch_norm_on_cpu() -> type[nn.BatchNorm2d]:
    """The class, kept out of compiled code. A decorator would import torch's compiler, which takes
    seconds, with every part of training."""
    forward = torch.compiler.disable(_SyncBatchNormOnCpu.forward)
    _SyncBatchNormOnCpu.forward = forward  # type: ignore[method-assign]
    return _SyncBatchNormOnCpu
