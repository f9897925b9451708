"""Experiments on a running model: what to switch off, freeze or exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sparse_rcnn_lab.core.errors import LabError

FilterSource = Literal["own", "mean", "rolled"]


@dataclass(frozen=True)
class Ablation:
    """Departures from the normal forward pass of the stages; the default changes nothing.

    self_attention: False skips the proposals' exchange with each other.
    heads: which attention heads stay on (0-based), None for all.
    filters: "own" is the published dynamic interaction; "mean" gives all proposals of an image
        their average filters; "rolled" gives each proposal its neighbour's.
    swap_filters: pairs of proposals that exchange their filters.
    freeze_boxes: boxes stay where the first stage found them.
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

    def __post_init__(self) -> None:
        if self.filters not in get_args(FilterSource):
            raise LabError(f'filters must be "own", "mean" or "rolled", found {self.filters!r}.')
        if any(len(pair) != 2 for pair in self.swap_filters):
            raise LabError(
                f"swap_filters must be pairs of proposals, as ((3, 7),), found {self.swap_filters}."
            )

    def check(self, num_heads: int, num_proposals: int) -> None:
        """Raises LabError for a head or a proposal that the model does not have."""
        for head in self.heads or ():
            if not 0 <= head < num_heads:
                raise LabError(f"heads must be 0..{num_heads - 1}, found {head}.")
        for index in (index for pair in self.swap_filters for index in pair):
            if not 0 <= index < num_proposals:
                raise LabError(f"swap_filters must be 0..{num_proposals - 1}, found {index}.")

    def __str__(self) -> str:
        words = []
        if not self.self_attention:
            words.append("no self-attention")
        if self.heads is not None:
            heads = ", ".join(map(str, self.heads)) or "none"
            words.append(f"attention heads on: {heads}")
        if self.filters != "own":
            kind = {"mean": "average filters for all", "rolled": "the neighbour's filters"}
            words.append(kind[self.filters])
        words += [f"filters of {a} and {b} swapped" for a, b in self.swap_filters]
        if self.freeze_boxes:
            words.append("boxes frozen")
        if self.freeze_features:
            words.append("features frozen")
        return "; ".join(words) or "nothing switched"


NORMAL = Ablation()
