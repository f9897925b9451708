"""Dynamic interaction without gradients, a portion of the proposals at a time.

300 proposals of R-50 make 39 MB of filters: more than the allocator keeps (fresh pages cost a third
of the arithmetic), and more than the processor's cache holds until the RoIs meet them. Half of them
at a time avoids both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.ablation import Ablation
from sparse_rcnn_lab.core.stage import DynamicInteraction, Interacted, interact
from sparse_rcnn_lab.runtime.onednn import LIMITS, Pairs, agree

BYTES = 20_000_000  # of filters at once
ONEDNN_WEIGHTS = 1_000_000  # of a layer; with fewer, oneDNN's preparations take longer


@dataclass(frozen=True)
class InPortions:
    """Does what :func:`sparse_rcnn_lab.core.stage.interact` does, ``rows`` proposals at a time, or
    all at once where the layers are small and the proposals few.

    Large layers go to oneDNN, which is faster than torch's own choice on some processors and as
    fast on others.
    """

    rows: int

    def __call__(
        self,
        interaction: DynamicInteraction,
        x: Tensor,
        roi: Tensor,
        ablation: Ablation,
        keep: bool,
    ) -> Interacted:
        """As ``interact``."""
        small = interaction.generate.weight.numel() < ONEDNN_WEIGHTS
        if small and x.shape[:2].numel() <= self.rows:  # one portion, and nothing for oneDNN
            return interact(interaction, x, roi, ablation, keep)
        if ablation.exchanges_filters:  # then a proposal needs the filters of others
            return interact(interaction, x, roi, ablation, keep)
        rows, pooled = x.flatten(0, 1).split(self.rows), roi.flatten(0, 1).split(self.rows)
        done = [_portion(interaction, a, b, keep) for a, b in zip(rows, pooled, strict=True)]
        vectors, filters, filtered = zip(*done, strict=True)
        return Interacted(
            torch.cat(vectors).view_as(x),
            torch.cat(filters).view(*x.shape[:2], -1) if keep else None,
            torch.cat(filtered).view_as(roi) if keep else None,
        )


def portions_of(interaction: DynamicInteraction) -> InPortions:
    """Portions whose filters take about 20 MB."""
    weight = interaction.generate.weight
    return InPortions(max(1, BYTES // (len(weight) * weight.element_size())))


def _portion(
    interaction: DynamicInteraction, x: Tensor, roi: Tensor, keep: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``x`` ``[K, D]``, ``roi`` ``[K, P * P, D]``."""
    filters = linear(interaction.generate, x)
    filtered = interaction.filter(filters[None], roi[None])
    vectors = interaction.norm(linear(interaction.project, filtered.flatten(1))).relu_()
    return vectors, filters if keep else None, filtered if keep else None


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)`` for ``x`` ``[K, D]`` of any precision, in the layer's own."""
    x = x.to(layer.weight.dtype)
    if layer.weight.numel() >= ONEDNN_WEIGHTS and has_onednn_linear(layer.weight.dtype):
        return _onednn(x, layer.weight, layer.bias)
    return F.linear(x, layer.weight, layer.bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


@cache
def has_onednn_linear(dtype: torch.dtype) -> bool:
    """Whether this torch has it on this machine, and it gives the numbers of the plain one."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*s, generator=generator) for s in ((5, 16), (8, 16), (8,)))

    def tried() -> Pairs:
        yield _onednn(x.to(dtype), weight.to(dtype), bias.to(dtype)), F.linear(x, weight, bias)

    return agree(tried, LIMITS[dtype])
