"""Backbones and their feature pyramid: an image ``[B, 3, H, W]`` becomes p2..p5.

The ResNets and MobileNetV2 are torchvision's; ``nano`` and the code of the pyramid are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_lab.core.config import BackboneName, ModelConfig

# Which of torchvision's `features` make up each part.
_MOBILENET_CUTS = {"stem": (0, 2), "s4": (2, 4), "s8": (4, 7), "s16": (7, 14), "s32": (14, 18)}


def torchvision_models() -> Any:
    """``torchvision.models``, imported only when needed because the import takes seconds."""
    return import_module("torchvision.models")


def _resnet(name: BackboneName, channels: list[int]) -> tuple[nn.ModuleDict, list[int]]:
    net = torchvision_models().get_model(name, weights=None)
    stem = nn.Sequential(
        OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool)
    )
    layers = {f"layer{i}": getattr(net, f"layer{i}") for i in (1, 2, 3, 4)}
    return nn.ModuleDict({"stem": stem, **layers}), channels


def _mobilenet_v2() -> tuple[nn.ModuleDict, list[int]]:
    layers = torchvision_models().mobilenet_v2(weights=None).features
    parts = {name: layers[a:b] for name, (a, b) in _MOBILENET_CUTS.items()}
    return nn.ModuleDict(parts), [24, 32, 96, 320]


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, K, h, w]``."""
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


def _nano() -> tuple[nn.ModuleDict, list[int]]:
    stem = nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True)
    )
    channels, parts = [24, 32, 64, 96, 128], nn.ModuleDict({"stem": stem})
    for index, (before, width) in enumerate(pairwise(channels)):
        parts[f"s{4 * 2**index}"] = Block(before, width, 2)
    return parts, channels[1:]


_BUILDERS: dict[BackboneName, Callable[[], tuple[nn.ModuleDict, list[int]]]] = {
    "resnet50": lambda: _resnet("resnet50", [256, 512, 1024, 2048]),
    "resnet101": lambda: _resnet("resnet101", [256, 512, 1024, 2048]),
    "resnet18": lambda: _resnet("resnet18", [64, 128, 256, 512]),
    "mobilenet_v2": _mobilenet_v2,
    "nano": _nano,
}


class FeaturePyramid(nn.Module):
    """Four maps of one width from the body's four (arXiv 1612.03144).

    Weights are named as in torchvision's FeaturePyramidNetwork, whose import takes seconds.
    """

    def __init__(self, channels: list[int], dim: int, norm: bool) -> None:
        super().__init__()
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for width in channels:
            self.inner_blocks.append(_normed(nn.Conv2d(width, dim, 1, bias=not norm), norm))
            conv = nn.Conv2d(dim, dim, 3, padding=1, bias=not norm)
            self.layer_blocks.append(_normed(conv, norm))
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for conv in convolutions:
            # Drawn and discarded, as in torchvision's class, so that a seed gives the same model.
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for conv in convolutions:
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """c2..c5, each ``[B, C_i, h, w]`` -> p2..p5, each ``[B, D, h, w]``."""
        merged = [self.inner_blocks[-1](maps[-1])]
        for x, inner in zip(maps[-2::-1], list(self.inner_blocks)[-2::-1], strict=True):
            above = F.interpolate(merged[0], size=x.shape[-2:], mode="nearest")
            merged.insert(0, inner(x) + above)
        return [layer(x) for layer, x in zip(self.layer_blocks, merged, strict=True)]


def _normed(conv: nn.Conv2d, norm: bool) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)) if norm else nn.Sequential(conv)


class Backbone(nn.Module):
    """The bottom-up network and its feature pyramid.

    The body has five parts: the stem, then one part for each of the strides 4, 8, 16, 32. The
    first ``frozen_stages`` parts get no gradient. Batch-norm statistics stay as loaded unless
    ``train_batch_norm`` is set; the affine terms of unfrozen parts are trained (as in mmdetection).

    frozen: True where the whole backbone is frozen, batch-norm statistics included.
    """

    frozen = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.body, channels = _BUILDERS[config.backbone]()
        self.fpn = FeaturePyramid(channels, config.dim, config.fpn_norm)
        self.frozen_stages = config.frozen_stages
        self.train_batch_norm = config.train_batch_norm
        for part in list(self.body.values())[: self.frozen_stages]:
            part.requires_grad_(False)
        # Channels last throughout: convolutions are faster and the pooling's table is a mere view.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised ``[B, 3, H, W]`` (H, W multiples of 32) -> p2..p5, each ``[B, D, h, w]``."""
        maps = []
        x = images.contiguous(memory_format=torch.channels_last)
        for part in self.body.values():
            x = part(x)
            maps.append(x)
        levels: list[Tensor] = self.fpn(maps[1:])  # all but the stem's map
        return levels

    def train(self, mode: bool = True) -> Self:
        """As ``nn.Module.train``, but batch norms that keep their statistics stay in eval mode.

        In a ``frozen`` backbone all of them do.
        """
        super().train(mode and not self.frozen)
        for part in self.fixed_parts():
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def fixed_parts(self) -> list[nn.Module]:
        """The parts of the body whose batch norms keep their statistics even in training."""
        parts = list(self.body.values())
        return parts[: self.frozen_stages] if self.train_batch_norm else parts
