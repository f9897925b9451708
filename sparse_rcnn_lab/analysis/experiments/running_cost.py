"""What an image costs in milliseconds and memory, by the number of proposals and stages."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from functools import cache, partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part
from sparse_rcnn_lab.analysis.experiments.variants import StageInputs, Variant

Key = TypeVar("Key", bound=Hashable)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at the same time; ``peak`` is the maximum.

    Weights, and whatever existed before, do not count. The result is the same on every device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):  # it existed before, or is counted already
                self._known.add(value.untyped_storage()._cdata)
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        return result

    def _count(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage._cdata, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_bytes(work: Callable[[], Any]) -> int:
    """The maximum bytes of tensors alive at once during ``work``, beyond those that existed."""
    counter = PeakMemory()
    with counter:
        work()
    return counter.peak


def clock_kind(device: torch.device) -> Literal["process", "wall"]:
    """Process time on one CPU thread, as other programs hardly affect it; else wall time."""
    return "process" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def milliseconds(work: Callable[[], Any], device: torch.device, repeat: int = 15) -> float:
    """The shortest time of ``work`` in ``repeat`` tries, when nothing disturbs it."""
    clock = time.process_time if clock_kind(device) == "process" else time.perf_counter
    work()
    times = []
    for _ in range(repeat):
        _wait(device)
        start = clock()
        work()
        _wait(device)
        times.append(1000 * (clock() - start))
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def cost_meter(image: StageInputs) -> Callable[[Variant], dict[str, float]]:
    """Measures what an image costs, run in different ways; reading and resizing it are left out.

    ``ms`` is for everything, ``stages_ms`` for the stages alone, and likewise ``mb``: the megabytes
    (1e6 bytes) of tensors alive at once, beyond the weights.
    """
    device = image.runtime.model.device
    pyramid = partial(image.runtime.pyramid, image.batch.images)
    pyramid_ms, pyramid_peak = milliseconds(pyramid, device), peak_bytes(pyramid)
    table = image.pyramid.table  # alive while the stages run

    @torch.inference_mode()
    def measure(variant: Variant) -> dict[str, float]:
        run = partial(variant, image)
        own, peak = milliseconds(run, device), peak_bytes(run)
        return {
            "ms": pyramid_ms + own,
            "stages_ms": own,
            "mb": max(pyramid_peak, peak + table.numel() * table.element_size()) / 1e6,
            "stages_mb": peak / 1e6,
        }

    return measure


def costs_of(run: CachedRun, variants: Mapping[Key, Variant]) -> dict[Key, dict[str, float]]:
    """What the first image of a run costs, cached variant by variant, with a progress bar."""

    @cache
    def meter() -> Callable[[Variant], dict[str, float]]:  # only where something is left to measure
        return cost_meter(StageInputs.of(run.detector, run.data, [0]))

    def measure(variant: Variant) -> Part:
        return {what: np.array(value) for what, value in meter()(variant).items()}

    found = {}
    for number, (key, variant) in enumerate(run.bar(variants.items(), "costs", "variant")):
        kept = run.part(f"cost-{number:04d}", partial(measure, variant))
        found[key] = {what: float(value) for what, value in kept.items()}
    return found
