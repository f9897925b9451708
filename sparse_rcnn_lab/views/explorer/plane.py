"""The plane of the features' largest variance, kept, so that before and after share their axes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plane:
    """mean ``[D]``, axes ``[D, 2]``, explained: each axis' share of the variance, 0..1.

    reach: the largest coordinate of what it was fitted to.
    """

    mean: Tensor
    axes: Tensor
    explained: tuple[float, float]
    reach: float

    @classmethod
    def fit(cls, features: Tensor) -> Plane:
        """PCA of all ``[..., D]`` vectors together; what is not a number counts as 0."""
        flat = torch.nan_to_num(features).reshape(-1, features.shape[-1]).double()
        mean = flat.mean(0)
        variances, axes = torch.linalg.eigh((flat - mean).T @ (flat - mean))
        two = F.pad(axes.flip(-1)[:, :2], (0, max(0, 2 - axes.shape[1])))
        # The sign of an axis is free; so the same features always give the same picture.
        largest = two.gather(0, two.abs().argmax(0, keepdim=True))
        two = two * torch.where(largest < 0, -1.0, 1.0)
        shares = F.pad(variances.flip(0)[:2].clamp(min=0), (0, max(0, 2 - len(variances))))
        shares = shares / variances.clamp(min=0).sum().clamp(min=1e-12)
        reach = float(((flat - mean) @ two).abs().max()) or 1.0
        return cls(mean, two, (float(shares[0]), float(shares[1])), reach)

    def place(self, features: Tensor) -> Tensor:
        """``[..., D]`` -> ``[..., 2]`` in units of ``reach``."""
        return (torch.nan_to_num(features).double() - self.mean) @ self.axes / self.reach
