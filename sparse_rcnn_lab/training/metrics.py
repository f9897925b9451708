"""What the log says of a step: plain numbers, those of the whole batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from sparse_rcnn_lab.training.step import StepLoss


@dataclass(frozen=True)
class LossValues:
    """Weighted losses, one number a stage; those of a batch's parts add up to the batch's.

    denoising: of the noised copies, all stages, or None.  nested: of the prefixes, likewise.
    positives: pairs in the whole batch.
    """

    cls: list[float]
    l1: list[float]
    giou: list[float]
    denoising: float | None
    nested: float | None
    positives: list[int]

    @classmethod
    def of(cls, step: StepLoss) -> LossValues:
        """The numbers of a loss, fetched from its device at once."""
        loss = step.loss
        rows = torch.stack([loss.cls, loss.l1, loss.giou]).detach().tolist()
        extra = None if step.denoising is None else float(step.denoising.total().detach())
        nested = None if step.nested is None else float(step.nested.detach())
        return cls(rows[0], rows[1], rows[2], extra, nested, loss.positives.tolist())

    @classmethod
    def total(cls, parts: Iterable[LossValues]) -> LossValues:
        """The whole batch's numbers from those of its parts."""
        return reduce(cls._plus, parts)

    def _plus(self, other: LossValues) -> LossValues:
        def add(a: list[float], b: list[float]) -> list[float]:
            return [x + y for x, y in zip(a, b, strict=True)]

        def add_if_any(a: float | None, b: float | None) -> float | None:
            return None if a is None or b is None else a + b

        return LossValues(
            add(self.cls, other.cls),
            add(self.l1, other.l1),
            add(self.giou, other.giou),
            add_if_any(self.denoising, other.denoising),
            add_if_any(self.nested, other.nested),
            self.positives,
        )

    @property
    def stages(self) -> list[float]:
        """The loss of each stage, without the noised copies' and the prefixes'."""
        return [sum(parts) for parts in zip(self.cls, self.l1, self.giou, strict=True)]

    @property
    def minimised(self) -> float:
        """What the step minimised: all stages, the noised copies and the prefixes."""
        return sum(self.stages) + (self.denoising or 0.0) + (self.nested or 0.0)


def metrics_row(
    step: int, values: LossValues, rate: float, norm: float, seconds: float
) -> dict[str, Any]:
    """A line of ``metrics.jsonl``. The norm is None where fp16 overflowed and the step was left
    out.
    """
    return {
        "step": step,
        "loss": sum(values.stages),
        "loss_per_stage": values.stages,
        "cls": values.cls,
        "l1": values.l1,
        "giou": values.giou,
        "denoising": values.denoising,
        "nested": values.nested,
        "positives": values.positives,
        "lr": rate,
        "grad_norm": norm if math.isfinite(norm) else None,
        "seconds": round(seconds, 4),
    }


def summary(row: dict[str, Any]) -> str:
    """A line for the progress bar."""
    stages = " ".join(f"{value:.1f}" for value in row["loss_per_stage"])
    return f"loss {row['loss']:.1f} (stages {stages}), lr {row['lr']:.1e}"
