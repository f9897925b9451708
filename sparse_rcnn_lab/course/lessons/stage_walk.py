"""One stage taken apart: every tensor on the way from a proposal to its refined box."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import check_stage
from sparse_rcnn_lab.core.pooling import assign_levels
from sparse_rcnn_lab.core.stage import Stage
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.images import ImageSource
from sparse_rcnn_lab.runtime.torch_runtime import threads_for

_MEANING = {
    "step": "what happens",
    "field": "the field of StageWalk with its result",
    "shape": "N proposals, D width, d inner width, P side of the RoI grid, C classes",
    "in words": "what the result is",
    "weights": "numbers learned for this step",
}


class StageWalk:
    """What one stage does, step by step, with the real tensors (paper, figures 3 and 4).

    The stages before run as usual. N proposals, D width, d inner width, P side of the RoI grid,
    C classes; boxes are xyxy in input pixels. All tensors are detached and on the CPU:

    boxes_in ``[N, 4]``, features_in ``[N, D]``; queries, keys, values ``[heads, N, D / heads]``,
    attention ``[heads, N, N]``, attended ``[N, D]``; levels ``[N]`` 2..5, roi ``[N, P * P, D]``;
    first ``[N, D, d]`` and second ``[N, d, D]``, the generated layers, narrow ``[N, P * P, d]``
    and filtered ``[N, P * P, D]``, the RoI after each; condensed ``[N, D]``; features_out
    ``[N, D]``; logits ``[N, C]``; deltas ``[N, 4]``; boxes_out ``[N, 4]``.

    image: as :class:`sparse_rcnn_lab.Detector` takes it.  stage: the one to open, 1..S.
    Raises LabError when there is no such stage.

    >>> import sparse_rcnn_lab as srl
    >>> walk = StageWalk(srl.load("nano-shapes"), srl.Shapes(4)[3].image, stage=2)
    >>> list(walk.attention.shape)[1:], list(walk.boxes_out.shape)
    ([20, 20], [20, 4])
    """

    @torch.no_grad()
    def __init__(self, detector: Detector, image: ImageSource, stage: int = 1) -> None:
        stage = check_stage(stage, detector.num_stages)
        # With the detector's own number of threads, as another one rounds sums differently.
        with threads_for(detector.config.backbone):
            self._walk(detector, image, stage)

    def _walk(self, detector: Detector, image: ImageSource, stage: int) -> None:
        model = detector.model
        batch = detector.prepare([image])
        boxes, features = model.proposals(batch.sizes)
        pyramid = detector.runtime.pyramid(batch.images)
        confidence = None
        if stage > 1:
            before = detector.runtime.run_stages(pyramid, boxes, features, stop=stage - 1)[-1]
            boxes, features = before.boxes, before.features
            confidence = before.logits.amax(-1)
        part = model.stages[stage - 1]
        assert isinstance(part, Stage)
        self.stage, self._part = stage, part
        inner = part.interaction
        dim, narrow = inner.dim, inner.inner

        self.boxes_in, self.features_in = boxes[0].cpu(), features[0].cpu()
        n = len(self.boxes_in)
        heads = part.attention.num_heads
        parts = part.attention.qkv(features).view(n, 3, heads, -1).permute(1, 2, 0, 3)
        self.queries, self.keys, self.values = (x.cpu() for x in parts)
        mixed, attention = part.attention(features, bias=part.overlap_bias(boxes, confidence))
        self.attention = attention[0].cpu()
        attended = part.norm_attention(features + mixed)
        self.attended = attended[0].cpu()

        levels = assign_levels(boxes)
        self.levels = levels[0].cpu() + 2
        roi = part.pool(pyramid, boxes, levels, part.roi_size)
        self.roi = roi[0].cpu()

        filters = inner.generate(attended)
        first, second = filters[0].split(dim * narrow, dim=-1)
        self.first = first.view(n, dim, narrow).cpu()
        self.second = second.view(n, narrow, dim).cpu()
        self.narrow = inner.norm_in(roi[0] @ self.first.to(roi)).relu().cpu()
        filtered = inner.filter(filters, roi)
        self.filtered = filtered[0].cpu()
        condensed = inner.condense(filtered)
        self.condensed = condensed[0].cpu()

        x = part.norm_interaction(attended + condensed)
        x = part.norm_ffn(x + part.ffn_out(F.relu(part.ffn_in(x))))
        self.features_out = x[0].cpu()
        self.logits = part.classify(part.cls_tower(x))[0].cpu()
        deltas = part.regress(part.reg_tower(x))
        self.deltas = deltas[0].cpu()
        self.boxes_out = box_ops.decode_deltas(boxes, deltas)[0].cpu()

    @property
    def norm_in(self) -> torch.nn.Module:
        """The layer norm between the two generated layers (with its learned scale and shift)."""
        return self._part.interaction.norm_in

    @property
    def table(self) -> Table:
        """The steps in order, each with the number of its weights."""
        part, inner = self._part, self._part.interaction
        steps: list[tuple[str, str, str, tuple[torch.nn.Module, ...]]] = [
            ("proposals enter", "features_in", "one feature and one box each", ()),
            ("self-attention", "attention", "who looks at whom", (part.attention,)),
            ("+ and norm", "attended", "what each now knows", (part.norm_attention,)),
            ("RoI pooling", "roi", "P × P cells inside its box", ()),
            ("filters, first", "first", "a D × d layer for each", (inner.generate,)),
            ("filters, second", "second", "a d × D layer for each", ()),
            ("RoI, filtered", "filtered", "after both layers", (inner.norm_in, inner.norm_out)),
            ("condensed", "condensed", "all cells become one vector", (inner.project, inner.norm)),
            ("feed-forward", "features_out", "handed to the next stage",
             (part.ffn_in, part.ffn_out, part.norm_ffn, part.norm_interaction)),
            ("class head", "logits", "one number a class", (part.cls_tower, part.classify)),
            ("box head", "deltas", "how to move and scale the box", (part.reg_tower, part.regress)),
            ("boxes leave", "boxes_out", "the refined boxes", ()),
        ]  # fmt: skip
        rows = [
            {
                "step": step,
                "field": field,
                "shape": str(list(getattr(self, field).shape)),
                "in words": words,
                "weights": sum(p.numel() for module in modules for p in module.parameters())
                or None,
            }
            for step, field, words, modules in steps
        ]
        return Table.of(f"Stage {self.stage}, step by step", rows, _MEANING)

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()
