"""The stages run again with changes on the way; the work behind :class:`Session`.

All tensors are the model's: one image (B = 1), input pixels, on its device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.intervene.intervention import Change, Drop, Edit
from sparse_rcnn_lab.runtime.torch_runtime import Runtime


@dataclass(frozen=True)
class States:
    """All states of a run.

    ids: ``[N]`` on the CPU.  boxes ``[1, N, 4]`` xyxy input pixels, features ``[1, N, D]``: state
    0, the learned proposals.  outputs: state s is ``outputs[s - 1]``.
    """

    ids: Tensor
    boxes: Tensor
    features: Tensor
    outputs: tuple[StageOutput, ...]

    def last(self) -> tuple[Tensor, Tensor]:
        """Boxes and features of the latest state."""
        if not self.outputs:
            return self.boxes, self.features
        return self.outputs[-1].boxes, self.outputs[-1].features

    def select(self, rows: Tensor) -> States:
        """Only these rows, in every state."""
        return States(
            self.ids[rows.cpu()],
            self.boxes[:, rows],
            self.features[:, rows],
            tuple(select_rows(output, rows) for output in self.outputs),
        )

    def with_last(self, boxes: Tensor, features: Tensor) -> States:
        """With the boxes and features of the latest state exchanged."""
        if not self.outputs:
            return replace(self, boxes=boxes, features=features)
        output = replace(self.outputs[-1], boxes=boxes, features=features)
        return replace(self, outputs=(*self.outputs[:-1], output))


def select_rows(output: StageOutput, rows: Tensor) -> StageOutput:
    """A stage's output for some of its proposals. Attention paid to the others is left out."""

    def take(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[:, rows]

    attention = output.attention
    return StageOutput(
        boxes=output.boxes[:, rows],
        logits=output.logits[:, rows],
        features=output.features[:, rows],
        levels=output.levels[:, rows],
        attention=None if attention is None else attention[:, :, rows][..., rows],
        roi_features=take(output.roi_features),
        dynamic_filters=take(output.dynamic_filters),
        filtered_features=take(output.filtered_features),
    )


@dataclass(frozen=True)
class Rerun:
    """How to run: ``ablation`` (its proposals by id) acts on the stages after state ``start``.

    scale: ``[2]`` factors (x, y) from original to input pixels.
    """

    runtime: Runtime
    pyramid: Pyramid
    record: Collection[str]
    ablation: Ablation
    start: int
    scale: Tensor

    def __call__(self, base: States, changes: Iterable[Change], stop: int) -> States:
        """The states 0..stop with the changes; those before the first of them are the base's."""
        changes = [change for change in changes if change.stage <= stop]
        touched = [change.stage for change in changes]
        if self.ablation != NORMAL:
            touched.append(self.start)
        first = min([*touched, stop, len(base.outputs)])
        states = replace(base, outputs=base.outputs[:first])
        fed = states.last()[1]  # features that the next stage is given
        for state in range(first, stop + 1):
            for change in changes:
                if change.stage == state:
                    states, fed = self.change(states, fed, change)
            if state < stop:
                states, fed = self.advance(states, fed, state)
        return states

    def change(self, states: States, fed: Tensor, change: Change) -> tuple[States, Tensor]:
        """One change of the latest state, and of the features that go on from it."""
        if isinstance(change, Drop):
            kept = ~torch.isin(states.ids, torch.tensor(change.proposals))
            rows = kept.nonzero()[:, 0].to(fed.device)
            return states.select(rows), fed[:, rows]
        return self.edit(states, fed, change)

    def edit(self, states: States, fed: Tensor, edit: Edit) -> tuple[States, Tensor]:
        """One proposal's box and feature set."""
        found = (states.ids == edit.proposal).nonzero()
        if not len(found):  # edited first, dropped at an earlier state later
            return states, fed
        row = int(found[0])
        boxes, features = states.last()
        if edit.box is not None:
            box = box_ops.rescale(edit.box.to(boxes)[None], self.scale.to(boxes))
            boxes = boxes.index_copy(1, torch.tensor([row], device=boxes.device), box[None])
        if edit.feature is not None:
            index = torch.tensor([row], device=fed.device)
            value = edit.feature.to(fed)[None, None]
            features, fed = features.index_copy(1, index, value), fed.index_copy(1, index, value)
        return states.with_last(boxes, features), fed

    def advance(self, states: States, fed: Tensor, state: int) -> tuple[States, Tensor]:
        """One stage more; beyond the last, the last once again."""
        index = min(state, len(self.runtime.model.stages) - 1)
        active = self.ablation if state >= self.start else NORMAL
        (output,) = self.runtime.run_stages(
            self.pyramid,
            states.last()[0],
            fed,
            start=index,
            stop=index + 1,
            record=self.record,
            ablation=self.by_row(active, states.ids),
        )
        fed = fed if active.freeze_features else output.features
        return replace(states, outputs=(*states.outputs, output)), fed

    def by_row(self, ablation: Ablation, ids: Tensor) -> Ablation:
        """Ablation that name rows instead of ids; pairs with a dropped proposal fall away."""
        rows = {proposal: row for row, proposal in enumerate(ids.tolist())}
        pairs = [(rows[a], rows[b]) for a, b in ablation.swap_filters if a in rows and b in rows]
        return replace(ablation, swap_filters=tuple(pairs))
