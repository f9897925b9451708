"""A clock for named parts, some inside others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.running_cost import clock_kind
from sparse_rcnn_lab.core.pooling import Pooling, Pyramid


class Clock:
    """Adds up the milliseconds of named parts; of nested ones only the inner part counts.

    kind: whose time, default that of :func:`clock_kind`.
    """

    def __init__(self, device: str, kind: Literal["process", "wall"] | None = None) -> None:
        self.parts: dict[str, float] = {}
        self.kind = kind or clock_kind(torch.device(device))
        self._cuda = torch.device(device).type == "cuda"
        self._now = time.process_time if self.kind == "process" else time.perf_counter
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what happens inside."""
        start = self._read()
        self.parts.setdefault(name, 0.0)
        self._inner.append(0.0)
        yield
        spent = self._read() - start
        self.parts[name] += spent - self._inner.pop()
        if self._inner:
            self._inner[-1] += spent

    def pooling(self, inner: Pooling) -> Pooling:
        """The same pooling, timed."""

        def timed(pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int) -> Tensor:
            with self.part("RoI pooling, all stages"):
                return inner(pyramid, boxes, levels, roi_size)

        return timed

    def _read(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return 1000 * self._now()
