"""A backbone for inference: batch norm folded, channels last, its pyramid one table from the start.

Built from a :class:`sparse_rcnn_lab.core.backbone.Backbone`, whose weights it copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.backbone import Backbone, Block
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.runtime.convolution import Activation, FoldedConvolution
from sparse_rcnn_lab.runtime.int8 import Int8Convolution, suits

# Our block and torchvision's, by name: its import takes seconds.
_RESIDUAL = ("Block", "BasicBlock", "Bottleneck", "InvertedResidual")


@dataclass(frozen=True)
class Numerics:
    """What a part of the network is computed in: dtype, or int8 between maps of that dtype."""

    dtype: torch.dtype
    int8: bool = False


_EXACT = Numerics(torch.float32)
Convolution = FoldedConvolution | Int8Convolution


class FastBackbone(nn.Module):
    """``[B, 3, H, W]`` -> p2..p5, as the backbone it is made of gives in eval mode.

    dtype: of the weights, and of what is computed, but for the first part: next to the pixels,
    bf16 costs AP and saves little. int8: convolutions after it multiply 8-bit numbers, but for
    those of inverted residuals. public_only: no operations of torch's own that are not public, and
    so no int8.
    """

    def __init__(
        self,
        backbone: Backbone,
        dtype: torch.dtype,
        public_only: bool = False,
        int8: bool = False,
    ) -> None:
        super().__init__()
        assert not (int8 and public_only)
        self.dtype, self.public_only, self.int8 = dtype, public_only, int8
        numerics, fpn = Numerics(dtype, int8), backbone.fpn
        first, *others = backbone.body.values()
        self.parts = nn.ModuleList([nn.Sequential(*self._fold([first], _EXACT))])
        self.parts.extend(nn.Sequential(*self._fold([part], numerics)) for part in others)
        self.inner = nn.ModuleList(self._single(block, numerics) for block in fpn.inner_blocks)
        self.outer = nn.ModuleList(self._single(block, numerics) for block in fpn.layer_blocks)

    def levels(self, images: Tensor) -> list[Tensor]:
        """What goes into the last convolutions of the pyramid, p2..p5, each ``[B, D, h, w]``."""
        first, *others = self.parts
        x = first(images.contiguous(memory_format=torch.channels_last)).to(self.dtype)
        maps = [x]
        for part in others:
            x = part(x)
            maps.append(x)
        merged = [self.inner[-1](maps[-1])]
        for x, inner in zip(maps[-2:0:-1], list(self.inner)[-2::-1], strict=True):
            above = F.interpolate(merged[0], size=x.shape[-2:], mode="nearest")
            merged.insert(0, inner(x, above))
        return merged

    def forward(self, images: Tensor) -> Pyramid:
        """Normalised images ``[B, 3, H, W]``, sides multiples of 32 -> their pyramid."""
        if self.int8 and len(images) > 1:
            return _together([self(image) for image in images.split(1)])
        levels = self.levels(images)
        outer: Any = self.outer
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        batch = len(images)
        rows = [batch * h * w for h, w in shapes]
        table = levels[0].new_empty(sum(rows), outer[0].width)
        for level, layer, out in zip(levels, outer, table.split(rows), strict=True):
            layer.into(level, out.view(batch, *level.shape[2:], -1))
        return Pyramid(table, shapes, batch)

    def _single(self, block: nn.Module, numerics: Numerics) -> Convolution:
        (step,) = self._fold([block], numerics)
        assert isinstance(step, Convolution)
        return step

    def _conv(
        self,
        conv: nn.Module,
        norm: nn.Module | None,
        activation: Activation,
        numerics: Numerics,
    ) -> Convolution:
        assert isinstance(conv, nn.Conv2d)
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        if numerics.int8 and suits(conv) and activation != "relu6":
            return Int8Convolution(conv, norm, activation == "relu", numerics.dtype)
        return FoldedConvolution(conv, norm, activation, numerics.dtype, self.public_only)

    def _fold(self, modules: Iterable[nn.Module], numerics: Numerics) -> list[nn.Module]:
        """Modules that run one after the other -> fewer steps that do the same."""
        todo = [leaf for module in modules for leaf in _flat(module)]
        steps: list[nn.Module] = []
        while todo:
            module = todo.pop(0)
            if isinstance(module, nn.Conv2d):
                norm = todo.pop(0) if todo and isinstance(todo[0], nn.BatchNorm2d) else None
                activation: Activation = "none"
                if todo and isinstance(todo[0], nn.ReLU | nn.ReLU6):
                    activation = "relu6" if isinstance(todo.pop(0), nn.ReLU6) else "relu"
                steps.append(self._conv(module, norm, activation, numerics))
            elif type(module).__name__ in _RESIDUAL:
                steps.append(self._residual(module, not steps, numerics))
            else:
                steps.append(module)
        return steps

    def _residual(self, block: Any, first: bool, numerics: Numerics) -> _Residual:
        if type(block).__name__ == "InvertedResidual":
            # Its maps are narrow and partly not rectified: int8 costs AP and spares little.
            steps = self._fold(block.conv.children(), replace(numerics, int8=False))
            if not block.use_res_connect:
                return _Residual(steps, None, add=False, keep=False)
            return _Residual(steps, None, add=True, keep=first)
        count = 3 if type(block).__name__ == "Bottleneck" else 2
        branch: list[nn.Module] = [
            self._conv(getattr(block, f"conv{i}"), getattr(block, f"bn{i}"), "relu", numerics)
            for i in range(1, count + 1)
        ]
        shortcut = block.shortcut if isinstance(block, Block) else block.downsample
        single = self._single(shortcut, numerics) if isinstance(shortcut, nn.Sequential) else None
        return _Residual(branch, single, add=True, keep=first)


class _Residual(nn.Module):
    """A branch whose last convolution adds the shortcut.

    keep: its input is somebody else's too, so the sum may not be made in its place.
    """

    def __init__(
        self, branch: list[nn.Module], shortcut: Convolution | None, add: bool, keep: bool
    ) -> None:
        super().__init__()
        self.branch, self.last = nn.Sequential(*branch[:-1]), branch[-1]
        self.shortcut, self.add, self.keep = shortcut, add, keep

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if not self.add:
            return self.last(y)
        assert isinstance(self.last, Convolution)
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.keep:
            x = x.clone()
        return self.last(y, x)


def _together(pyramids: list[Pyramid]) -> Pyramid:
    """The pyramids of single images as that of a batch."""
    shapes = pyramids[0].shapes
    rows = [h * w for h, w in shapes]
    levels = zip(*(pyramid.table.split(rows) for pyramid in pyramids), strict=True)
    return Pyramid(torch.cat([part for level in levels for part in level]), shapes, len(pyramids))


def _flat(module: nn.Module) -> Iterable[nn.Module]:
    """Sequences taken apart, identities left out."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _flat(child)
    elif not isinstance(module, nn.Identity):
        yield module
