"""Runs the stages again with an :class:`Intervention`; the work behind :class:`Session`.

All tensors are as the model has them: one image (B = 1), input pixels, on its device.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, StageOutput
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.intervene.intervention import Change, Intervention


@dataclass(frozen=True)
class States:
    """A run: the ids ``[N]`` of its proposals, on the CPU, and its states 0..S.

    State 0, the learned proposals, has only boxes and features; its logits and levels are empty.
    """

    ids: Tensor
    states: tuple[StageOutput, ...]

    @classmethod
    def of(cls, boxes: Tensor, features: Tensor, outputs: Collection[StageOutput]) -> States:
        """From boxes ``[1, N, 4]``, features ``[1, N, D]`` of state 0, and the stages' outputs."""
        empty = features[..., :0]
        learned = StageOutput(boxes, logits=empty, features=features, levels=empty)
        return cls(torch.arange(boxes.shape[1]), (learned, *outputs))

    def with_last(self, **parts: Tensor) -> States:
        """A copy in which some parts of the latest state are replaced."""
        *before, last = self.states
        return replace(self, states=(*before, replace(last, **parts)))

    def select(self, rows: Tensor) -> States:
        """A copy with only these rows in every state."""
        return States(self.ids[rows.cpu()], tuple(_select(state, rows) for state in self.states))


def _select(state: StageOutput, rows: Tensor) -> StageOutput:
    """A state with only these rows; attention to the others is left out."""
    parts: dict[str, Any] = {
        field.name: value[:, rows]
        for field in fields(state)
        if field.name != "attention" and (value := getattr(state, field.name)) is not None
    }
    if state.attention is not None:
        parts["attention"] = state.attention[:, :, rows][..., rows]
    return StageOutput(**parts)


def run_again(
    detector: Detector,
    pyramid: Pyramid,
    base: States,
    tried: Intervention,
    stop: int,
    record: Collection[str],
    scale: Tensor,
) -> States:
    """States 0..stop with the intervention ``tried``; those before its first effect are the base's.

    Beyond S the last stage is repeated.  scale: ``[2]`` factors (x, y) from original to input
    pixels.
    """
    changes = [change for change in tried.changes if change.stage <= stop]
    touched = [change.stage for change in changes]
    if tried.ablation != NORMAL:
        touched.append(tried.start)
    first = min([*touched, stop, len(base.states) - 1])
    run = replace(base, states=base.states[: first + 1])
    fed = run.states[-1].features  # the input of the next stage
    for state in range(first, stop + 1):
        for change in changes:
            if change.stage == state:
                run, fed = _changed(run, fed, change, scale)
        if state == stop:
            break
        index = min(state, detector.num_stages - 1)
        active = tried.ablation if state >= tried.start else NORMAL
        last = run.states[-1]
        (output,) = detector.runtime.run_stages(
            pyramid, last.boxes, fed, start=index, stop=index + 1, record=record,
            ablation=_by_row(active, run.ids),
            confidence=last.logits.amax(-1) if state else None,
        )  # fmt: skip
        fed = fed if active.freeze_features else output.features
        run = replace(run, states=(*run.states, output))
    return run


def _changed(run: States, fed: Tensor, change: Change, scale: Tensor) -> tuple[States, Tensor]:
    """Applies one change to the latest state, and to the features that the next stage gets."""
    named = torch.isin(run.ids, torch.tensor(change.proposals))
    if change.drop:
        rows = (~named).nonzero()[:, 0].to(fed.device)
        return run.select(rows), fed[:, rows]
    if not named.any():  # the proposal was edited first, then dropped at an earlier state
        return run, fed
    row = named.nonzero()[:, 0].to(fed.device)
    if change.box is not None:
        boxes = run.states[-1].boxes
        box = box_ops.rescale(boxes.new_tensor([[change.box]]), scale.to(boxes))
        run = run.with_last(boxes=boxes.index_copy(1, row, box))
    if change.feature is not None:
        features = run.states[-1].features
        values = 0.0 if change.feature == "zero" else features.new_tensor(change.feature)
        value = features.new_zeros(1, 1, features.shape[-1]) + values
        run = run.with_last(features=features.index_copy(1, row, value))
        fed = fed.index_copy(1, row, value)
    return run, fed


def _by_row(ablation: Ablation, ids: Tensor) -> Ablation:
    """The ablation with rows in place of ids; pairs with a dropped proposal are left out."""
    rows = {proposal: row for row, proposal in enumerate(ids.tolist())}
    pairs = [(rows[a], rows[b]) for a, b in ablation.swap_filters if a in rows and b in rows]
    return replace(ablation, swap_filters=tuple(pairs))
