"""One refinement stage (paper, figure 3): proposals talk, look at their RoI, and are refined.

self-attention over the proposals of an image -> dynamic interaction with the RoI feature ->
feed-forward -> class head and box head. Letters in comments: B images, N proposals, K = B * N,
P RoI side, D width, d inner width, C classes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.pooling import Pooling, Pyramid, assign_levels, pool


@dataclass(eq=False)
class StageOutput:
    """What one stage makes of the proposals.

    boxes: ``[B, N, 4]`` xyxy, input pixels, not clipped; with gradient.
    logits: ``[B, N, C]`` before the sigmoid.
    features: ``[B, N, D]``, handed to the next stage.
    levels: ``[B, N]`` int64, 0 for p2 to 3 for p5.
    attention ``[B, heads, N, N]``, roi_features ``[B, N, P * P, D]``, dynamic_filters
    ``[B, N, 2 * D * d]``, filtered_features ``[B, N, P * P, D]``: only when recorded.
    """

    boxes: Tensor
    logits: Tensor
    features: Tensor
    levels: Tensor
    attention: Tensor | None = None
    roi_features: Tensor | None = None
    dynamic_filters: Tensor | None = None
    filtered_features: Tensor | None = None


FilterSource = Literal["own", "mean", "rolled"]


@dataclass(frozen=True)
class Ablation:
    """Departures from the normal forward pass of the stages; the default changes nothing.

    self_attention: False skips the attention among the proposals.
    heads: which attention heads stay on (0-based), None for all.
    filters: "own" is the published dynamic interaction; "mean" gives all proposals of an image
        their average filters; "rolled" gives each proposal its neighbour's.
    swap_filters: pairs of proposals that exchange their filters.
    overlap_bias: False leaves out ``overlap_attention``. freeze_boxes: no stage moves the boxes.
    freeze_features: every stage sees the features that the first stage was given.

    >>> str(Ablation(heads=(0,), freeze_boxes=True))
    'attention heads on: 0; boxes frozen'
    """

    self_attention: bool = True
    heads: tuple[int, ...] | None = None
    filters: FilterSource = "own"
    swap_filters: tuple[tuple[int, int], ...] = ()
    freeze_boxes: bool = False
    freeze_features: bool = False
    overlap_bias: bool = True

    def __post_init__(self) -> None:
        if self.filters not in get_args(FilterSource):
            raise LabError(f'filters must be "own", "mean" or "rolled", found {self.filters!r}.')
        for name in ("self_attention", "freeze_boxes", "freeze_features", "overlap_bias"):
            if not isinstance(value := getattr(self, name), bool):
                raise LabError(f"{name} must be True or False, found {value!r}.")
        try:  # to tuples: an iterator can be read only once, a list has no hash
            heads = None if self.heads is None else _numbers(self.heads)
            pairs = tuple(_numbers((a, b)) for a, b in self.swap_filters)
        except (TypeError, ValueError):
            found = f"heads={self.heads!r}, swap_filters={self.swap_filters!r}"
            needed = "heads must be numbers like (0, 2) and swap_filters pairs like ((3, 7),)"
            raise LabError(f"{needed}; found {found}.") from None
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "swap_filters", pairs)

    def check(self, num_heads: int, num_proposals: int) -> None:
        """Raises LabError for a head or a proposal that the model does not have."""
        for head in self.heads or ():
            check_stage(head, num_heads - 1, 0, "heads")
        for index in chain(*self.swap_filters):
            check_stage(index, num_proposals - 1, 0, "swap_filters")

    def __str__(self) -> str:
        words = ["no self-attention"] * (not self.self_attention)
        words += ["no overlap bias"] * (not self.overlap_bias)
        if self.heads is not None:
            heads = ", ".join(map(str, self.heads)) or "none"
            words.append(f"attention heads on: {heads}")
        if self.filters != "own":
            kind = {"mean": "average filters for all", "rolled": "the neighbour's filters"}
            words.append(kind[self.filters])
        words += [f"filters of {a} and {b} swapped" for a, b in self.swap_filters]
        words += ["boxes frozen"] * self.freeze_boxes + ["features frozen"] * self.freeze_features
        return "; ".join(words) or "nothing switched"


def _numbers(given: Iterable[Any]) -> tuple[int, ...]:
    """Whole numbers as a tuple. Raises TypeError for anything else, such as a mask of bools."""
    return tuple(operator.index(None if isinstance(i, bool) else i) for i in given)  # type: ignore


NORMAL = Ablation()


class SelfAttention(nn.Module):
    """Multi-head attention among the proposals of one image.

    The attention matrix is computed explicitly, recorded or not, so a trace shows exactly the
    numbers that were used.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        heads: tuple[int, ...] | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``[B, N, D]`` -> mixed features ``[B, N, D]`` and attention ``[B, heads, N, N]``.

        mask (bool, True where the row may attend to the column) and bias, which is added to the
        scores, broadcast to ``[B, heads, N, N]``.
        """
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q / math.sqrt(d // self.num_heads)) @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        attention = scores.softmax(dim=-1)
        mixed = attention @ v  # [B, heads, N, D / heads]
        if heads is not None:
            on = torch.zeros(self.num_heads, device=x.device, dtype=x.dtype)
            on[list(heads)] = 1
            mixed = mixed * on[:, None, None]
        return self.out(mixed.transpose(1, 2).reshape(b, n, d)), attention


class DynamicInteraction(nn.Module):
    """Each proposal's feature generates two layers that filter its own RoI (paper, figure 4)."""

    def __init__(self, dim: int, inner: int, roi_size: int) -> None:
        super().__init__()
        self.dim, self.inner = dim, inner
        self.generate = nn.Linear(dim, 2 * dim * inner)
        self.norm_in = nn.LayerNorm(inner)
        self.norm_out = nn.LayerNorm(dim)
        self.project = nn.Linear(roi_size**2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, roi: Tensor, ablation: Ablation = NORMAL
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Filters each proposal's RoI: ``x`` ``[B, N, D]``, ``roi`` ``[B, N, P * P, D]``.

        Returns what each proposal saw ``[B, N, D]``, its generated filters
        ``[B, N, 2 * D * d]`` (both layers, one after the other), and the filtered RoI, in the
        shape of ``roi``.
        """
        filters = exchange(self.generate(x), ablation)
        filtered = self.filter(filters, roi)
        return self.condense(filtered), filters, filtered

    def filter(self, filters: Tensor, roi: Tensor) -> Tensor:
        """The RoI after both generated layers: ``[B, N, P * P, D]``."""
        first, second = filters.flatten(0, 1).split(self.dim * self.inner, dim=-1)
        x = roi.flatten(0, 1) @ first.view(-1, self.dim, self.inner)  # [K, P*P, d]
        x = self.norm_in(x).relu_()
        x = x @ second.view(-1, self.inner, self.dim)  # [K, P*P, D]
        return self.norm_out(x).relu_().view_as(roi)

    def condense(self, filtered: Tensor) -> Tensor:
        """One vector from the filtered RoI: ``[B, N, P * P, D]`` -> ``[B, N, D]``."""
        return self.norm(self.project(filtered.flatten(-2))).relu_()


def _tower(dim: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


class Stage(nn.Module):
    """One of the six stages, each with weights of its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.roi_size = config.roi_size
        self.pool: Pooling = pool  # see SparseRCNN.use_pooling
        self.overlap = config.overlap_attention
        self.attention = SelfAttention(dim, config.num_heads)
        self.norm_attention = nn.LayerNorm(dim)
        self.interaction = DynamicInteraction(dim, config.dynamic_dim, config.roi_size)
        self.norm_interaction = nn.LayerNorm(dim)
        self.ffn_in = nn.Linear(dim, config.ffn_dim)
        self.ffn_out = nn.Linear(config.ffn_dim, dim)
        self.norm_ffn = nn.LayerNorm(dim)
        self.cls_tower = _tower(dim, config.num_cls_layers)
        self.reg_tower = _tower(dim, config.num_reg_layers)
        self.classify = nn.Linear(dim, config.num_classes)
        self.regress = nn.Linear(dim, 4)
        self.reset_parameters(config.prior_probability, config.zero_init_box_head)

    def reset_parameters(self, prior: float, zero_init_box_head: bool = False) -> None:
        """Draws Xavier-uniform matrices; the class bias, by name, not by shape, gives the prior."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.out.bias)
        nn.init.constant_(self.classify.bias, -math.log((1 - prior) / prior))
        nn.init.zeros_(self.regress.bias)
        if zero_init_box_head:
            nn.init.zeros_(self.regress.weight)

    def forward(
        self,
        pyramid: Pyramid,
        boxes: Tensor,
        features: Tensor,
        mask: Tensor | None = None,
        record: frozenset[str] = frozenset(),
        ablation: Ablation = NORMAL,
        confidence: Tensor | None = None,
    ) -> StageOutput:
        """Refines ``boxes`` ``[B, N, 4]`` (xyxy, input pixels) and ``features`` ``[B, N, D]``.

        mask: who may attend to whom, bool ``[B, 1, N, N]``. record: names out of
        :data:`~sparse_rcnn_lab.core.trace.RECORDABLE`. confidence: ``[B, N]``, the largest logits.
        """
        levels = assign_levels(boxes.detach())
        roi = self.pool(pyramid, boxes, levels, self.roi_size)

        x = features
        if ablation.self_attention:
            bias = self.overlap_bias(boxes.detach(), confidence) if ablation.overlap_bias else None
            mixed, attention = self.attention(x, mask, ablation.heads, bias)
            x = x + mixed
        else:
            b, n, _ = x.shape
            attention = x.new_zeros(()).expand(b, self.attention.num_heads, n, n)
        x = self.norm_attention(x)
        seen, filters, filtered = self.interaction(x, roi, ablation)
        x = self.norm_interaction(x + seen)
        x = self.norm_ffn(x + self.ffn_out(F.relu(self.ffn_in(x))))

        logits = self.classify(self.cls_tower(x))
        deltas = self.regress(self.reg_tower(x))
        return StageOutput(
            boxes=boxes if ablation.freeze_boxes else box_ops.decode_deltas(boxes, deltas.float()),
            logits=logits,
            features=x,
            levels=levels,
            attention=attention if "attention" in record else None,
            roi_features=roi if "roi_features" in record else None,
            dynamic_filters=filters if "dynamic_filters" in record else None,
            filtered_features=filtered if "filtered_features" in record else None,
        )

    def overlap_bias(self, boxes: Tensor, confidence: Tensor | None) -> Tensor | None:
        """What ``overlap_attention`` adds to the attention scores: ``[B, heads, N, N]``, or None.

        A proposal attends more to overlapping ones of higher confidence, by the IoU times a number
        that rises from head to head; so of several on one object all but one can step back.
        """
        if not self.overlap or confidence is None:
            return None
        higher = confidence[:, None] > confidence[:, :, None]  # [B, N, N]
        heads = torch.arange(1, self.attention.num_heads + 1, device=boxes.device)
        slopes = (self.overlap * heads / len(heads)).to(boxes.dtype)
        return slopes[:, None, None] * (box_ops.iou(boxes, boxes) * higher)[:, None]


def exchange(filters: Tensor, ablation: Ablation) -> Tensor:
    """Applies the ``filters`` and ``swap_filters`` of an ablation to ``[B, N, 2 * D * d]``."""
    if ablation.filters == "mean":
        filters = filters.mean(1, keepdim=True).expand_as(filters)
    elif ablation.filters == "rolled":
        filters = filters.roll(1, dims=1)
    if ablation.swap_filters:
        order = torch.arange(filters.shape[1], device=filters.device)
        for a, b in ablation.swap_filters:
            order[[a, b]] = order[[b, a]]
        filters = filters[:, order]
    return filters
