"""Every number that defines a model or a training run, as frozen dataclasses.

Each checkpoint contains its config. Named recipes are in :mod:`sparse_rcnn_lab.models.recipes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sparse_rcnn_lab.core.errors import LabError

BackboneName = Literal["resnet50", "resnet101", "resnet18", "mobilenet_v2", "nano"]
ProposalInit = Literal["image", "grid", "random"]
Schedule = Literal["step", "one-cycle"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["float32", "bf16", "fp16", "auto"]
NestedScheme = Literal["log", "uniform"]
_MOST = 100_000  # for any size; far above what anybody builds, far below what fills the memory


def _check_whole(name: str, value: Any, low: int, high: int = _MOST) -> None:
    if not isinstance(value, int) or value < low:
        raise LabError(f"{name} must be a whole number of at least {low}, found {value!r}.")
    if value > high:
        raise LabError(f"{name} must be at most {high:,}, found {str(value)[:20]}.")


def _check_choice(name: str, value: Any, kind: Any) -> None:
    if value not in get_args(kind):
        choices = ", ".join(get_args(kind))
        raise LabError(f"{name} {value!r} is unknown. Choose one of {choices}.")


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the model's input.

    short_side, long_side: limits of the keep-ratio resize in pixels; the tighter one applies.
    mean, std: of RGB, in units of 0..255.  multiple: zeros pad right and bottom to a multiple.
    antialias: filter when shrinking; the published models were trained without.
    """

    short_side: int = 800
    long_side: int = 1333
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    multiple: int = 32
    antialias: bool = False

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side"):
            _check_whole(f"input.{name}", getattr(self, name), 1)
        if self.multiple % 32 or not 0 < self.multiple <= _MOST:
            raise LabError(f"input.multiple must be a multiple of 32, found {self.multiple!r}.")
        if not all(value > 0 for value in self.std):
            raise LabError(f"input.std must be above 0, found {self.std}.")


@dataclass(frozen=True)
class ModelConfig:
    """The architecture; the defaults are those of the published R-50 model with 100 proposals.

    num_classes: without the background. num_proposals, num_stages: N and S. dim: width of the
    proposal features and the pyramid. num_heads: of self-attention; must divide dim. ffn_dim: inner
    width of the feed-forward network. dynamic_dim: that of the dynamic interaction. roi_size: the
    RoI grid is roi_size x roi_size. num_cls_layers, num_reg_layers: linear layers before the class
    scores and before the box. backbone: the bottom-up network. proposal_init: the learned boxes
    start as the whole image, a grid, or random boxes. prior_probability: a new model's every score.
    input: how images are prepared. frozen_stages: backbone parts, stem first, without gradient.
    train_batch_norm: batch-norm statistics follow the data; for a backbone trained from scratch, as
    pretrained ones keep theirs. fpn_norm: batch norm after each convolution of the pyramid.
    zero_init_box_head: a new model's stages leave the boxes where they are, instead of moving them
    at random as published. freeze_proposal_boxes: the learned boxes get no gradient.
    overlap_attention: how much more a proposal attends to overlapping ones of higher confidence,
    which suppresses duplicates; 0 as published.
    """

    num_classes: int = 80
    backbone: BackboneName = "resnet50"
    num_proposals: int = 100
    num_stages: int = 6
    dim: int = 256
    num_heads: int = 8
    ffn_dim: int = 2048
    dynamic_dim: int = 64
    roi_size: int = 7
    num_cls_layers: int = 1
    num_reg_layers: int = 3
    proposal_init: ProposalInit = "image"
    frozen_stages: int = 2
    train_batch_norm: bool = False
    fpn_norm: bool = False
    prior_probability: float = 0.01
    zero_init_box_head: bool = False
    freeze_proposal_boxes: bool = False
    overlap_attention: float = 0.0
    input: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self) -> None:
        sizes = ("num_classes", "num_proposals", "num_stages", "dim", "num_heads", "ffn_dim")
        for name in (*sizes, "dynamic_dim", "roi_size"):
            _check_whole(name, getattr(self, name), 1)
        for name in ("num_cls_layers", "num_reg_layers", "frozen_stages"):
            _check_whole(name, getattr(self, name), 0)
        _check_whole("num_stages", self.num_stages, 1, 100)
        if not 0 < (prior := self.prior_probability) < 1:
            raise LabError(f"prior_probability must lie between 0 and 1, found {prior!r}.")
        if self.dim % self.num_heads:
            which = f"dim ({self.dim}) must be a multiple of num_heads ({self.num_heads})"
            raise LabError(f"{which}, because each attention head takes an equal share.")
        if not 0 <= (overlap := self.overlap_attention) < math.inf:
            raise LabError(f"overlap_attention must be a number of at least 0, found {overlap!r}.")
        for name, kind in (("backbone", BackboneName), ("proposal_init", ProposalInit)):
            _check_choice(name, getattr(self, name), kind)


@dataclass(frozen=True)
class AugmentConfig:
    """Which images are trained on, and how they are augmented (``data/transforms.py``).

    size: (height, width) in pixels that images are fitted into, their aspect ratio kept, or None
    for the published resize to a short side drawn from ``short_sides`` (long side at most
    ``long_side``).  scale: range of a random zoom relative to that.
    crop: share of images that are first resized to one of ``crop_short_sides`` and cut down to a
    part whose sides are each drawn from ``crop_size`` (low, high), in pixels: the published crop.
    min_visible, min_side, min_source_side: a box is dropped when nothing or less than this share of
    its area is left, or a side is below this many pixels after resizing, or in the original.
    drop_empty, min_image_side: images without objects, or with a side below this, are left out.
    mosaic, paste, blur, turn: shares of images so changed (``Augment`` says how); 0 as published.
    """

    hflip: float = 0.5
    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    short_sides: tuple[int, ...] = (800,)
    long_side: int = 1333
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    crop: float = 0.0
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop_size: tuple[int, int] = (384, 600)
    min_visible: float = 0.3
    min_side: float = 1.0
    min_source_side: float = 0.0
    drop_empty: bool = False
    min_image_side: int = 0
    group_by_aspect: bool = False
    mosaic: float = 0.0
    paste: float = 0.0
    blur: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True)
class LossConfig:
    """Weights of the set loss and of the matching cost (paper, sections 3.2 and 4).

    cls, l1, giou: weights of the focal loss, of the boxes' L1 distance relative to the image, and
    of 1 - GIoU. focal_alpha: the positives' weight in the focal loss; focal_gamma: its exponent.
    matches_per_object: how many proposals each object trains, one number a stage; 1 as published.
    among_classes: weight of a cross-entropy over the classes of all proposals on an object; 0 as
    published. balanced: all classes of an image weigh the same, however many objects they have.
    """

    cls: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    matches_per_object: tuple[int, ...] = (1, 1, 1, 1, 1, 1)
    among_classes: float = 0.0
    balanced: bool = False

    def __post_init__(self) -> None:
        if not self.matches_per_object:
            raise LabError("loss.matches_per_object needs at least one number, found (). Give 1.")


@dataclass(frozen=True)
class TrainConfig:
    """The optimizer and its schedule.

    A run lasts ``epochs`` or, where set (as in the small presets), ``steps``. schedule: "step", or
    "one-cycle", which falls along a cosine to near 0. warmup_steps: steps until the learning rate
    is ``lr``; warmup_start: that of the first step relative to it. drop_epochs: epochs after which
    the rate falls to a tenth (schedule "step"). backbone_lr: factor on the learning rate of the
    bottom-up network. weight_decay: decoupled. clip_norm: largest norm of the gradient. seed: for
    the weights, the order of the images and the augmentation.
    optimizer: "adamw" as published, or "muon": Muon for the stages' matrices, at ``muon_lr`` times
    the learning rate, and AdamW for all else.
    denoising: how many denoising queries per object train beside the proposals; 0 as published.
    denoising_negatives: beside each of them trains a contrastive query, which is to find nothing.
    nested_proposals: train so that the first n proposals suffice, for every n (decision 0009).
    nested_prefixes: how many n a step tries besides N. nested_scheme: "log" draws small n as often
    as large ones and weighs each prefix as much as all proposals; "uniform" draws every n equally
    often and weighs all prefixes of a step together as much as all proposals.
    frozen_backbone: backbone and pyramid stay as they are, which halves the cost of fine-tuning.

    batch_size: images in one update, over all processes. accumulate: the parts into which each
    process splits its share to save memory; the gradients add up to those of the whole batch.
    precision: of the forward pass; matching and losses are float32. "auto": bf16 if in hardware.
    ema: decay, 0..1, of a moving average of the weights, which is evaluated and kept; 0: none.
    progressive_resizing: in this first share of the steps, images have 0.7 of their usual sides.
    """

    batch_size: int = 16
    lr: float = 2.5e-5
    backbone_lr: float = 1.0
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    optimizer: Optimizer = "adamw"
    muon_lr: float = 8.0
    schedule: Schedule = "step"
    epochs: int = 12
    drop_epochs: tuple[int, ...] = (8, 11)
    steps: int | None = None
    warmup_steps: int = 500
    warmup_start: float = 0.001
    denoising: int = 0
    denoising_negatives: bool = False
    nested_proposals: bool = False
    nested_prefixes: int = 5
    nested_scheme: NestedScheme = "log"
    frozen_backbone: bool = False
    accumulate: int = 1
    precision: Precision = "float32"
    ema: float = 0.0
    progressive_resizing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "nested_prefixes"):
            _check_whole(f"train.{name}", getattr(self, name), 1)
        _check_whole("train.denoising", self.denoising, 0)
        _check_whole("train.epochs", self.epochs, int(self.steps is None))
        _check_whole("train.steps", 1 if self.steps is None else self.steps, 1, 10**9)
        _check_whole("train.seed", self.seed, 0, 10**12)  # so that its multiples fit 64 bits
        if not isinstance(self.lr, int | float) or not 0 < self.lr < math.inf:
            raise LabError(f"train.lr must be a number above 0, found {self.lr!r}.")
        kinds = {"nested_scheme": NestedScheme, "precision": Precision}
        for name, kind in {**kinds, "optimizer": Optimizer, "schedule": Schedule}.items():
            _check_choice(f"train.{name}", getattr(self, name), kind)
        for name in ("ema", "progressive_resizing"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise LabError(f"train.{name} must be at least 0 and below 1, found {value!r}.")


@dataclass(frozen=True)
class Recipe:
    """A model, how to train it, and the accuracy to expect.

    published_ap: COCO val2017 AP (0..100) that the paper's authors or mmdetection report.
    """

    name: str
    summary: str
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    published_ap: float | None = None
