"""Sparse R-CNN: the pyramid once, then the proposals through all stages. No anchors, no NMS."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.config import ModelConfig, ProposalInit
from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.pooling import Pooling, Pyramid, build_pyramid
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, Stage, StageOutput
from sparse_rcnn_lab.core.trace import RECORDABLE


class Proposals(nn.Module):
    """N learned boxes and features, the same for every image (paper, section 3.2).

    boxes: ``[N, 4]`` parameter, cxcywh relative to the image, 0..1.
    features: ``[N, D]`` parameter.
    """

    def __init__(self, num: int, dim: int, init: ProposalInit = "image") -> None:
        super().__init__()
        self.boxes = nn.Parameter(initial_boxes(num, init))
        self.features = nn.Parameter(torch.randn(num, dim))

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def forward(self, sizes: Tensor, num: int | None = None) -> tuple[Tensor, Tensor]:
        """The first ``num`` proposals (default: all) for images of ``sizes`` ``[B, 2]`` (h, w).

        Returns boxes ``[B, N, 4]`` xyxy in input pixels and features ``[B, N, D]``.
        """
        last = len(self)
        num = check_stage(last if num is None else num, last, 1, "The number of proposals")
        whwh = box_ops.size_as_whwh(sizes)[:, None]
        boxes = box_ops.cxcywh_to_xyxy(self.boxes[:num]) * whwh
        features = self.features[:num].expand(sizes.shape[0], -1, -1)
        return boxes, features


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
        confidence: Tensor | None = None,
    ) -> list[StageOutput]:
        """Runs stages ``start`` (0-based) up to, but not including, ``stop`` (default: all).

        boxes ``[B, N, 4]`` xyxy input pixels and features ``[B, N, D]`` enter the first of them;
        the boxes passed from stage to stage are detached, the features are not. A ``stop`` beyond
        the last stage repeats the last one. record: names out of :data:`RECORDABLE`; recording
        changes no number. mask: ``[B, 1, N, N]`` bool, who may attend to whom. confidence: ``[B,
        N]``, the largest logits after the stage before ``start``, for ``overlap_attention``.
        """
        stop = len(self.stages) if stop is None else stop
        if not 0 <= start < len(self.stages) or stop <= start:
            raise LabError(
                f"start must be 0..{len(self.stages) - 1} and stop larger than it, "
                f"found start={start}, stop={stop}."
            )
        if start and confidence is None and self.config.overlap_attention:
            raise LabError(
                "overlap_attention needs the confidence with which proposals enter a later stage: "
                "their largest logits, output.logits.amax(-1)."
            )
        record = {record} if isinstance(record, str) else frozenset(record or ())
        unknown = record - set(RECORDABLE)
        if unknown:
            raise LabError(f"Cannot record {sorted(unknown)}. Choose from {', '.join(RECORDABLE)}.")
        if not isinstance(ablation, Ablation):
            raise LabError(f"ablation must be an Ablation, found {ablation!r:.80}.")
        ablation.check(self.config.num_heads, boxes.shape[1])
        outputs: list[StageOutput] = []
        first_features = features
        for index in range(start, stop):
            stage = self.stages[min(index, len(self.stages) - 1)]
            output = stage(pyramid, boxes, features, mask, record, ablation, confidence)
            outputs.append(output)
            boxes, confidence = output.boxes.detach(), output.logits.detach().amax(-1)
            features = first_features if ablation.freeze_features else output.features
        return outputs

    def forward(
        self, images: Tensor, sizes: Tensor, num_proposals: int | None = None
    ) -> list[StageOutput]:
        """Runs all stages on a batch and returns the output of each.

        images: ``[B, 3, H, W]`` normalised, zero-padded right and bottom.
        sizes: ``[B, 2]`` (height, width) before padding, in pixels.
        """
        boxes, features = self.proposals(sizes, num_proposals)
        return self.run_stages(self.pyramid(images), boxes, features)

    def use_pooling(self, pooling: Pooling) -> None:
        """Makes each stage use ``pooling``, which must compute what ``core.pooling.pool`` does."""
        for stage in self.stages:
            assert isinstance(stage, Stage)  # for the type checker
            stage.pool = pooling

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.proposals.boxes.device


def initial_boxes(num: int, init: ProposalInit) -> Tensor:
    """The initial learned boxes: ``[N, 4]`` cxcywh, 0..1.

    image: every box is the whole image, as published. grid: the centres form a grid over the
    image, ordered so that the first n cover it too, for every n. random: centres and sides are
    drawn uniformly, inside the image.
    """
    if init == "image":
        return torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(num, 1)
    if init == "grid":
        columns = math.ceil(math.sqrt(num))
        rows = math.ceil(num / columns)
        # Twice the spacing: neighbours overlap, so each object starts inside several boxes.
        cells = torch.tensor(
            [
                ((i % columns + 0.5) / columns, (i // columns + 0.5) / rows, 2 / columns, 2 / rows)
                for i in torch.randperm(columns * rows).tolist()  # breaks ties at random
            ]
        )
        return cells[spread_order(cells[:, :2])[:num]].clamp(max=1.0)
    sides = 0.1 + 0.8 * torch.rand(num, 2)
    centres = sides / 2 + (1 - sides) * torch.rand(num, 2)
    return torch.cat([centres, sides], dim=1)


def spread_order(centres: Tensor) -> list[int]:
    """An order in which the first n of ``centres`` ``[N, 2]`` (0..1) cover the image, for every n.

    Greedy: the next centre is the one that most reduces the mean squared distance from the points
    of the image to their nearest centre.
    """
    points = (torch.arange(16, device=centres.device) + 0.5) / 16
    distance = torch.cdist(torch.cartesian_prod(points, points), centres) ** 2
    near = torch.full_like(distance[:, :1], 2.0)  # farther than any point of the image
    order: list[int] = []
    for _ in range(len(centres)):
        cost = torch.minimum(near, distance).mean(0)
        cost[order] = torch.inf
        order.append(int(cost.argmin()))
        near = torch.minimum(near, distance[:, order[-1:]])
    return order
