"""Convolutions in 8-bit whole numbers: what they round, what they leave alone, what they refuse."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_model import BACKBONES, lively, small_batch, small_config, small_model, way
from torch import Tensor, nn

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import build_pyramid
from sparse_rcnn_lab.runtime import int8
from sparse_rcnn_lab.runtime.folded_backbone import FastBackbone
from sparse_rcnn_lab.runtime.int8 import Int8Convolution, has_int8_convolution, quantize
from sparse_rcnn_lab.runtime.paths import Way

DTYPES = (torch.float32, torch.bfloat16)
needs_int8 = pytest.mark.skipif(
    not all(map(has_int8_convolution, DTYPES)), reason="int8 convolutions do not work here"
)


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-1.0, 5.0), (-7.0, -2.0), (0.2, 0.3)])
def test_rounding_is_by_half_a_step_at_most(dtype: torch.dtype, low: float, high: float) -> None:
    """Catches numbers that wrap around, a lost sign, channels mixed up, a zero that is not zero."""
    torch.manual_seed(0)
    x = last((torch.rand(1, 3, 5, 7) * (high - low) + low).to(dtype))
    x[0, 0, 0, 0], x[0, 2, 4, 6] = low, high
    values, scale, zero_point = quantize(x)
    assert values.dtype == torch.uint8 and values.is_contiguous(memory_format=torch.channels_last)
    span = max(high, 0) - min(low, 0)
    assert 0 <= zero_point <= 255 and scale * int8.LEVELS == pytest.approx(span, 0.01)
    error = (values.float() - zero_point) * scale - x.float()
    slack = 0.51 if dtype == torch.float32 else 1.01  # in bf16 the product is rounded before
    assert error.abs().max() <= slack * scale
    assert error.mean().abs() < 0.1 * scale


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_range_wraps_around(dtype: torch.dtype) -> None:
    """Catches one level too many: the largest number would become the smallest."""
    generator = torch.Generator().manual_seed(0)
    for low, high in 10 ** (4 * torch.rand(2000, 2, generator=generator) - 2):
        x = torch.stack([-low, high, 0 * low]).to(dtype).view(1, 3, 1, 1)
        values, scale, zero_point = quantize(x)
        assert (((values.float() - zero_point) * scale - x.float()).abs() < 1.01 * scale).all()


def test_a_map_of_zeros_stays_zero() -> None:
    """Catches a division by a range of nothing."""
    values, scale, zero_point = quantize(last(torch.zeros(1, 2, 3, 3)))
    assert scale > 0 and (values == zero_point).all()


def test_numbers_that_are_not_finite_are_refused() -> None:
    for broken in (float("nan"), float("inf"), -float("inf")):
        x = last(torch.ones(1, 2, 3, 3))
        x[0, 1, 2, 0] = broken
        with pytest.raises(LabError, match=r"not finite.*float32"):
            quantize(x)


@needs_int8
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (1, 2)])
def test_convolution_equals_the_plain_one(
    kernel: int, stride: int, relu: bool, dtype: torch.dtype
) -> None:
    """Catches a lost bias, norm or shortcut, borders that are not zero, one scale for all."""
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 12, kernel, stride, kernel // 2).requires_grad_(False)
    conv.weight *= torch.logspace(-3, 0, 12)[:, None, None, None]  # outputs of very unlike size
    norm = nn.BatchNorm2d(12).requires_grad_(False).eval()
    norm.bias.uniform_(-1, 1)
    # Away from zero: a border that is not zero would show.
    x = last(torch.randn(1, 24, 9, 14) + 2).to(dtype)
    wanted = norm(conv(x.float()))
    shortcut = last(torch.randn_like(wanted)).to(dtype)
    with torch.no_grad():
        ours = Int8Convolution(conv, norm, relu, dtype)
        found, summed = ours(x), ours(x, shortcut.clone())
    assert found.dtype == summed.dtype == dtype
    plain = F.relu(wanted) if relu else wanted
    total = wanted + shortcut.float()
    # Each output by its own size: with one scale for all, the small ones would drown.
    size = (wanted - norm.bias[:, None, None]).abs().amax((0, 2, 3)).clamp(min=1e-3)[:, None, None]
    coarse = 0.01 * wanted.abs().max() if dtype == torch.bfloat16 else 1e-6
    assert ((found.float() - plain).abs() <= 0.02 * size + coarse).all()
    total = F.relu(total) if relu else total
    coarse = 0.01 * total.abs().max() if dtype == torch.bfloat16 else 1e-6
    assert ((summed.float() - total).abs() <= 0.02 * size + coarse).all()


@needs_int8
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_is_near_the_plain_one(name: str, dtype: torch.dtype) -> None:
    """Catches a part left out, a map overwritten while it is needed, images that depend on the
    others of their batch, and inverted residuals in int8."""
    torch.manual_seed(0)
    changes = {"backbone": name, "train_batch_norm": name == "nano", "fpn_norm": name == "nano"}
    backbone = lively(Backbone(small_config(**changes)))
    images, _ = small_batch(2)
    images[1] *= 3
    given = images.clone()
    with torch.no_grad():
        plain = build_pyramid(backbone(images))
        fast = FastBackbone(backbone, dtype, int8=True)
        found, again = fast(images), fast(images)
        alone = [fast(image) for image in images.split(1)]
    assert torch.equal(images, given) and torch.equal(found.table, again.table)
    assert found.shapes == plain.shapes and found.batch == plain.batch == 2
    assert (found.table.float() - plain.table).abs().max() < 0.1 * plain.table.abs().max()
    for index in range(4):
        level = torch.cat([pyramid.level(index) for pyramid in alone])
        assert torch.equal(found.level(index), level)
    whole = [module for module in fast.modules() if isinstance(module, Int8Convolution)]
    assert len(whole) == {"nano": 20, "mobilenet_v2": 8, "resnet18": 27, "resnet50": 60}[name]
    first = fast.parts[0].modules()
    assert not any(isinstance(module, Int8Convolution) for module in first)


@needs_int8
def test_detector_in_int8() -> None:
    """Catches a flag that does nothing, and boxes rounded to 8 bits."""
    detector, sample = srl.load("nano-shapes"), srl.Shapes(length=1)[0]
    whole = srl.load("nano-shapes", precision="int8")
    assert whole.model.inference.way == Way(precision="int8")
    fine, coarse = detector(sample.image), whole(sample.image)
    torch.testing.assert_close(fine.scores, coarse.scores, rtol=0, atol=0.1)
    made = whole.model.inference._made["backbone"][1]
    assert sum(isinstance(module, Int8Convolution) for module in made.modules()) == 20
    assert coarse.boxes.dtype == torch.float32 and (coarse.boxes != coarse.boxes.bfloat16()).any()


@needs_int8
def test_changed_weights_are_seen() -> None:
    """Catches answers of weights that are gone."""
    model, (images, sizes) = small_model(), small_batch()
    whole = way(model, Way(precision="int8"))
    with torch.no_grad():
        before = whole(images, sizes)[-1].logits
        for parameter in model.parameters():
            parameter.mul_(0.5)
        assert (whole(images, sizes)[-1].logits != before).any()


def test_what_int8_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="plain way is neither int8"):
        Way(plain=True, precision="int8")
    with pytest.raises(LabError, match="int8 is not compiled"):
        Way(precision="int8", compiled=True)
    with pytest.raises(LabError, match=r'on a CPU, and this model is on "cuda".*auto'):
        Way(precision="int8").int8(torch.device("cuda"))

    def gone(*_: object) -> Tensor:
        raise AttributeError("no such operation")

    monkeypatch.setattr(Int8Convolution, "forward", gone)
    has_int8_convolution.cache_clear()
    try:
        with pytest.raises(LabError, match=r"do not work here.*VNNI.*auto"):
            srl.load("nano-shapes", precision="int8")(srl.Shapes(length=1)[0].image)
    finally:
        has_int8_convolution.cache_clear()
