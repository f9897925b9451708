"""Sparse R-CNN: a pyramid once, then proposals through the stages. No anchors, no NMS."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pooling, Pyramid, build_pyramid
from sparse_rcnn_lab.core.proposals import Proposals
from sparse_rcnn_lab.core.stage import Stage, StageOutput
from sparse_rcnn_lab.core.trace import RECORDABLE


class SparseRCNN(nn.Module):
    """The model on tensors; :class:`sparse_rcnn_lab.Detector` wraps it for images.

    ``pyramid`` is the costly part and depends on the image alone; ``run_stages`` is cheap and may
    be repeated on the same pyramid with other boxes, features, stages or ablation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposals = Proposals(config.num_proposals, config.dim, config.proposal_init)
        self.proposals.boxes.requires_grad_(not config.freeze_proposal_boxes)
        self.stages = nn.ModuleList(Stage(config) for _ in range(config.num_stages))

    def pyramid(self, images: Tensor) -> Pyramid:
        """Normalised, padded images ``[B, 3, H, W]`` (sides multiples of 32) -> p2..p5."""
        return build_pyramid(self.backbone(images))

    def run_stages(
        self,
        pyramid: Pyramid,
        boxes: Tensor,
        features: Tensor,
        start: int = 0,
        stop: int | None = None,
        record: Collection[str] = (),
        ablation: Ablation = NORMAL,
        mask: Tensor | None = None,
    ) -> list[StageOutput]:
        """Runs stages ``start`` (0-based) up to, not including, ``stop`` (default: all).

        boxes ``[B, N, 4]`` xyxy input pixels and features ``[B, N, D]`` enter the first of them;
        the boxes handed from stage to stage are detached, the features are not. A ``stop`` beyond
        the last stage repeats the last one. record: names out of
        :data:`sparse_rcnn_lab.core.trace.RECORDABLE`; recording changes no number.
        mask: ``[B, 1, N, N]`` bool, who may attend to whom.
        """
        stop = len(self.stages) if stop is None else stop
        if not 0 <= start < len(self.stages) or stop <= start:
            raise LabError(
                f"start must be 0..{len(self.stages) - 1} and stop larger than it, "
                f"found start={start}, stop={stop}."
            )
        record = {record} if isinstance(record, str) else frozenset(record)
        unknown = record - set(RECORDABLE)
        if unknown:
            raise LabError(f"Cannot record {sorted(unknown)}. Choose from {', '.join(RECORDABLE)}.")
        ablation.check(self.config.num_heads, boxes.shape[1])
        outputs: list[StageOutput] = []
        first_features = features
        for index in range(start, stop):
            stage = self.stages[min(index, len(self.stages) - 1)]
            output = stage(pyramid, boxes, features, mask, record, ablation)
            outputs.append(output)
            boxes = output.boxes.detach()
            features = first_features if ablation.freeze_features else output.features
        return outputs

    def forward(
        self, images: Tensor, sizes: Tensor, num_proposals: int | None = None
    ) -> list[StageOutput]:
        """All stages for a batch.

        images: ``[B, 3, H, W]`` normalised, zero-padded right and bottom.
        sizes: ``[B, 2]`` (height, width) before padding, in pixels.
        """
        boxes, features = self.proposals(sizes, num_proposals)
        return self.run_stages(self.pyramid(images), boxes, features)

    def use_pooling(self, pooling: Pooling) -> None:
        """Makes every stage pool with ``pooling``, which gives what ``pooling.pool`` gives."""
        for stage in self.stages:
            assert isinstance(stage, Stage)  # for the type checker
            stage.pool = pooling

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.proposals.boxes.device
