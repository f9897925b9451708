"""What a person changed in a session: small records that say themselves in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError


@dataclass(frozen=True, eq=False)
class Edit:
    """A proposal's box or feature exchanged at a state.

    proposal: its id.  stage: the state, 0 the learned proposals.  box: ``[4]`` xyxy, pixels of
    the original image, or None.  feature: ``[D]`` or None.
    """

    proposal: int
    stage: int
    box: Tensor | None = None
    feature: Tensor | None = None

    def __str__(self) -> str:
        said = []
        if self.box is not None:
            said.append("box set to " + ", ".join(f"{v:.0f}" for v in self.box.tolist()) + " px")
        if self.feature is not None:
            said.append("feature zeroed" if not self.feature.any() else "feature exchanged")
        return f"proposal {self.proposal}, {_when(self.stage)}: {', '.join(said)}"


@dataclass(frozen=True)
class Drop:
    """Proposals (ids) taken out from a state on."""

    proposals: tuple[int, ...]
    stage: int

    def __str__(self) -> str:
        some = ", ".join(map(str, self.proposals[:8]))
        more = f" and {len(self.proposals) - 8} more" if len(self.proposals) > 8 else ""
        plural = "s" * (len(self.proposals) > 1)
        return f"proposal{plural} {some}{more} dropped, {_when(self.stage)}"


Change = Edit | Drop


def _when(stage: int) -> str:
    return "before stage 1" if stage == 0 else f"after stage {stage}"


def checked_box(box: Tensor | Sequence[float], size: tuple[int, int]) -> Tensor:
    """A box as ``[4]`` float32 xyxy, in pixels of the image of ``size`` (height, width).

    Raises LabError when it is no such box, has no area, or lies outside the image.
    """
    try:
        values = torch.as_tensor(box, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if values.shape != (4,) or not values.isfinite().all():
        raise LabError(
            f"A box is four finite numbers (left, top, right, bottom, in pixels), found {box!r}."
        )
    x1, y1, x2, y2 = values.tolist()
    if x2 <= x1 or y2 <= y1:
        raise LabError(
            f"The box {x1:g}, {y1:g}, {x2:g}, {y2:g} has no area; right must be larger than left "
            "and bottom larger than top."
        )
    height, width = size
    whole = torch.tensor([0.0, 0.0, width, height])
    reach = torch.tensor([-width, -height, 2.0 * width, 2.0 * height])
    outside = (values[:2] < reach[:2]).any() or (values[2:] > reach[2:]).any()
    if outside or box_ops.intersection(values, whole) <= 0:
        raise LabError(
            f"The box {x1:g}, {y1:g}, {x2:g}, {y2:g} lies outside the image of {width}x{height} "
            "px. It must overlap the image and reach no further than its own size beyond."
        )
    return values


def checked_feature(feature: Tensor | Sequence[float] | str, dim: int) -> Tensor:
    """A feature as ``[D]`` float32; "zero" gives zeros. Raises LabError for anything else."""
    if isinstance(feature, str):
        if feature != "zero":
            raise LabError(f'A feature is {dim} numbers or "zero", found {feature!r}.')
        return torch.zeros(dim)
    try:
        values = torch.as_tensor(feature, dtype=torch.float32).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(f'A feature is {dim} numbers or "zero": {error}.') from None
    if values.shape != (dim,) or not values.isfinite().all():
        raise LabError(
            f"A feature of this model is {dim} finite numbers, found shape {list(values.shape)}"
            f"{'' if values.isfinite().all() else ' with NaN or infinity'}."
        )
    return values
