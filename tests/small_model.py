"""A Sparse R-CNN of a few thousand parameters and a batch to run it on, for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.config import InputConfig, ModelConfig
from sparse_rcnn_lab.core.model import SparseRCNN

STAGES, PROPOSALS, CLASSES, DIM = 4, 6, 3, 16
BACKBONES = ("nano", "mobilenet_v2", "resnet18", "resnet50")


def small_config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "num_classes": CLASSES,
        "backbone": "nano",
        "num_proposals": PROPOSALS,
        "num_stages": STAGES,
        "dim": DIM,
        "num_heads": 2,
        "ffn_dim": 24,
        "dynamic_dim": 5,
        "roi_size": 3,
        "proposal_init": "random",
        "frozen_stages": 0,
        "input": InputConfig(short_side=64, long_side=96, antialias=True),
    }
    return ModelConfig(**{**values, **changes})


def small_model(seed: int = 0, **changes: Any) -> SparseRCNN:
    """In eval mode. Scores are spread, so that no comparison is between equal numbers."""
    torch.manual_seed(seed)
    model = SparseRCNN(small_config(**changes)).eval()
    for stage in model.stages:
        torch.nn.init.normal_(stage.classify.weight, std=0.5)
        torch.nn.init.normal_(stage.attention.qkv.weight, std=0.5)
    return model


def small_batch(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Images ``[B, 3, 64, 96]`` and sizes: the first as large as the batch, the others smaller."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, 64, 96, generator=generator)
    sizes = torch.tensor([[64.0, 96.0], [50.0, 70.0]])[:batch]
    for image, (h, w) in zip(images, sizes.long().tolist(), strict=True):
        image[:, h:] = 0
        image[:, :, w:] = 0
    return images, sizes


def lively(backbone: Backbone) -> Backbone:
    """Statistics and affine terms that a fold has to take into account."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.9)
            nn.init.normal_(module.bias, std=0.2)
    return backbone.eval()


@contextmanager
def no_initialisation() -> Iterator[None]:
    """In here models are made of NaN in place of random weights, for those that a file overwrites:
    the hundred million of an R-50 take seconds."""
    names = [name for name in vars(nn.init) if name.endswith("_") and name[0] != "_"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor.data.fill_(torch.nan))
        yield
