"""The fast ways of inference give the plain way's numbers, each within its own limit."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_model import BACKBONES, lively, small_batch, small_config, small_model, way
from torch import nn

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.benchmark import growth
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.core.ablation import Ablation
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import build_pyramid
from sparse_rcnn_lab.runtime import convolution, interaction
from sparse_rcnn_lab.runtime.folded_backbone import FastBackbone
from sparse_rcnn_lab.runtime.paths import Way
from sparse_rcnn_lab.runtime.winograd import Winograd

# Largest difference, relative to the largest value.
FLOAT32, BF16 = 1e-5, 0.03


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_folded_backbone_equals_the_plain_one(name: str, public: bool) -> None:
    """Catches a lost batch norm, activation or shortcut, and a map that is overwritten later."""
    torch.manual_seed(0)
    changes = {"backbone": name, "train_batch_norm": name == "nano", "fpn_norm": name == "nano"}
    backbone = lively(Backbone(small_config(**changes)))
    images, _ = small_batch(2)
    with torch.no_grad():
        plain = build_pyramid(backbone(images))
        fast = FastBackbone(backbone, torch.float32, public_only=public)
        given = images.clone()
        for _ in range(2):  # the second time would see what the first has overwritten
            found = fast(given)
        rough = FastBackbone(backbone, torch.bfloat16, public_only=public)(images)
    assert torch.equal(given, images)
    assert found.shapes == plain.shapes and found.batch == plain.batch
    largest = plain.table.abs().max()
    assert (found.table - plain.table).abs().max() < FLOAT32 * largest
    assert (rough.table.float() - plain.table).abs().max() < BF16 * largest


@pytest.mark.parametrize("size", [(8, 12), (13, 7), (1, 5), (25, 38)])
@pytest.mark.parametrize("relu", [False, True])
def test_winograd_equals_the_direct_convolution(size: tuple[int, int], relu: bool) -> None:
    """Catches wrong borders, tiles cut at the edge, images of a batch mixed up, a lost bias."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(5, 6, 3, 3), torch.randn(5)
    wanted = F.conv2d(x, weight, bias, padding=1)
    wanted = wanted.relu() if relu else wanted
    out = torch.full((2, *size, 5), 7.0)
    found = Winograd(weight, bias)(x, relu, out)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert found.data_ptr() == out.data_ptr()


def test_wide_convolutions_go_through_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a fast path that is never taken, and a table written at the wrong place by it."""
    monkeypatch.setattr(convolution, "MIN_CHANNELS", 16)
    torch.manual_seed(0)
    backbone = lively(Backbone(small_config(backbone="resnet18", fpn_norm=True)))
    images, _ = small_batch(2)
    with torch.no_grad():
        fast = FastBackbone(backbone, torch.float32)
        assert sum(getattr(m, "winograd", None) is not None for m in fast.modules()) > 8
        plain, found = build_pyramid(backbone(images)).table, fast(images).table
    assert (found - plain).abs().max() < 1e-4 * plain.abs().max()


def test_model_takes_the_fast_way_by_itself() -> None:
    """Catches a path not taken, or taken where gradients or training need the plain one."""
    model, (images, sizes) = small_model(), small_batch()
    lively(model.backbone)
    with torch.no_grad():
        assert model.inference.applies(model)
        fast, plain = model(images, sizes), way(model, Way(plain=True))(images, sizes)
        for a, b in zip(fast, plain, strict=True):
            torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(a.logits, b.logits, rtol=1e-4, atol=1e-4)
        model.train()
        assert not model.inference.applies(model)
    model.eval()
    assert not model.inference.applies(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not model.inference.applies(model)


def test_bf16_stages_keep_boxes_and_logits_in_float32() -> None:
    """Catches boxes rounded to 8 bits (whole pixels at best), and logits that tie."""
    model, (images, sizes) = small_model(), small_batch()
    with torch.no_grad():
        rough = way(model, Way(precision="bf16"))(images, sizes)
        exact = model(images, sizes)
    for a in rough:
        assert a.boxes.dtype == a.logits.dtype == torch.float32
        assert a.features.dtype == torch.float32
    first, wanted = rough[0], exact[0]  # later stages pool other boxes, and drift
    assert (first.logits - wanted.logits).abs().max() < 0.05 * wanted.logits.abs().max()
    assert (first.boxes - wanted.boxes).abs().max() < 2
    assert (first.boxes != first.boxes.bfloat16()).any()


@pytest.mark.parametrize("chosen", [Way(), Way(precision="bf16")])
def test_interaction_in_portions(chosen: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches portions that mix up proposals or images, lose the last ones, or are never taken;
    recording that changes numbers; filters of others left out where a switch wants them."""
    model, (images, sizes) = small_model(), small_batch()
    images, sizes = torch.cat([images, images.flip(0)]), torch.cat([sizes, sizes.flip(0)])
    quick = way(model, chosen)
    taken = []
    portion = interaction._portion
    monkeypatch.setattr(interaction, "_portion", lambda *a: taken.append(len(a[1])) or portion(*a))
    monkeypatch.setattr(interaction, "ONEDNN_WEIGHTS", 1)
    monkeypatch.setattr(interaction, "BYTES", 7 * quick_filter_bytes(quick))
    record, limit = ("dynamic_filters", "filtered_features"), 1e-4 if chosen == Way() else 0.05
    with torch.no_grad():
        start = quick.pyramid(images), *model.proposals(sizes)
        count = start[1].shape[:2].numel()
        found, recorded = quick.run_stages(*start), quick.run_stages(*start, record=record)
        rest = [count % 7] if count % 7 else []
        assert taken == ([7] * (count // 7) + rest) * len(found) * 2 and len(taken) > 24
        wanted = quick.inference.stages(quick)[0](*start, record=frozenset(record))
        same = {"start": 0, "stop": 1, "ablation": Ablation(filters="rolled")}
        mixed = [
            m.run_stages(m.pyramid(images), *start[1:], **same)[0]
            for m in (quick, way(model, Way(plain=True)))
        ]
    for a, b in zip(found, recorded, strict=True):
        assert torch.equal(a.logits, b.logits) and torch.equal(a.boxes, b.boxes)
    pairs = [(recorded[0], wanted), (mixed[0], mixed[1])]
    for a, b in pairs:
        assert (a.logits - b.logits).abs().max() < limit * b.logits.abs().max()
    for name in record:
        one, other = getattr(recorded[0], name), getattr(wanted, name)
        assert one.shape == other.shape
        assert (one.float() - other).abs().max() < limit * other.abs().max()


def quick_filter_bytes(model: SparseRCNN) -> int:
    """Of one proposal."""
    first = model.inference.stages(model)[0]
    weight = first.interaction.generate.weight
    return len(weight) * weight.element_size()


def test_large_layers_do_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a torch without it, or one whose numbers differ, that breaks or is believed."""
    layer, x = nn.Linear(16, 8), torch.randn(5, 16)
    monkeypatch.setattr(interaction, "ONEDNN_WEIGHTS", 1)
    with torch.no_grad():
        wanted = layer(x)
        torch.testing.assert_close(interaction.linear(layer, x), wanted, rtol=1e-4, atol=1e-5)
        for broken in (lambda *_: missing(), lambda x, w, b: x @ w.t()):
            monkeypatch.setattr(interaction, "_onednn", broken)
            interaction.has_onednn_linear.cache_clear()
            assert not interaction.has_onednn_linear(torch.float32)
            torch.testing.assert_close(interaction.linear(layer, x), wanted)
    interaction.has_onednn_linear.cache_clear()


def missing() -> torch.Tensor:
    """What torch does for an operation it was built without."""
    raise AttributeError("no such operator")


def test_first_pictures_in_many_threads() -> None:
    """Catches a thread that uses what another has not finished making."""
    model, (images, sizes) = small_model(), small_batch()

    def logits(_: int) -> torch.Tensor:
        with torch.no_grad():
            return model(images, sizes)[-1].logits

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(logits, range(8)))
    assert all(torch.equal(a, found[0]) for a in found)


def test_changed_weights_are_seen() -> None:
    """Catches answers of weights that are gone: after training, loading or moving the model."""
    model, (images, sizes) = small_model(), small_batch()
    bf16 = way(model, Way(precision="bf16"))
    with torch.no_grad():
        before = [m(images, sizes)[-1].logits for m in (model, bf16)]
        for parameter in model.parameters():
            parameter.mul_(0.5)
        after = [m(images, sizes)[-1].logits for m in (model, bf16)]
        plain = way(model, Way(plain=True))(images, sizes)[-1].logits
        torch.testing.assert_close(after[0], plain, rtol=1e-4, atol=1e-4)
        assert all((a != b).any() for a, b in zip(before, after, strict=True))
        model.load_state_dict(small_model(seed=3).state_dict())
        other = way(model, Way(plain=True))(images, sizes)[-1].logits
        torch.testing.assert_close(model(images, sizes)[-1].logits, other, rtol=1e-4, atol=1e-4)


def test_weights_changed_by_a_fused_optimizer_are_seen() -> None:
    """Catches an evaluation during training that answers with the backbone of the last one: fused
    optimizers change weights without raising their version."""
    model, (images, sizes) = small_model(), small_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    plain = way(model, Way(plain=True))
    for _ in range(2):
        with torch.no_grad():
            found, wanted = (m(images, sizes)[-1].logits for m in (model, plain))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        model(images, sizes)[-1].logits.sum().backward()
        optimizer.step()


def test_what_was_made_is_not_copied_or_saved() -> None:
    """Catches checkpoints with extra weights, and copies that answer for their original."""
    model, (images, sizes) = small_model(), small_batch()
    keys = set(model.state_dict())
    with torch.no_grad():
        model(images, sizes)
    assert set(model.state_dict()) == keys
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.inference is not model.inference and twin.inference.way == model.inference.way
        assert not twin.inference._made


def test_detector_chooses_its_way() -> None:
    """Catches a flag that does nothing, or that changes the detector it was asked of."""
    detector = srl.load("nano-shapes")
    sample = srl.Shapes(length=1)[0]
    rough, plain = detector.faster("bf16"), detector.faster(plain=True)
    assert detector.model.inference.way == Way() and plain.model.inference.way.plain
    assert srl.load("nano-shapes", precision="bf16").model.inference.way.precision == "bf16"
    fine, same, coarse = (d(sample.image) for d in (detector, plain, rough))
    torch.testing.assert_close(fine.scores, same.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fine.scores, coarse.scores, rtol=0, atol=0.1)
    assert (fine.scores != coarse.scores).any()
    with pytest.raises(LabError, match="precision"):
        detector.faster("fp8")  # type: ignore[arg-type]
    with pytest.raises(LabError, match="plain"):
        Way(plain=True, precision="bf16")


def test_plain_operations_where_the_fused_ones_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a crash on a torch without oneDNN."""

    def gone(*_: object) -> None:
        raise AttributeError("no such operation")

    monkeypatch.setattr(convolution, "_fused", gone)
    convolution.fused_operations.cache_clear()
    try:
        assert not convolution.fused_operations(torch.float32)
        backbone = lively(Backbone(small_config()))
        images, _ = small_batch()
        with torch.no_grad():
            found = FastBackbone(backbone, torch.float32)(images).table
            torch.testing.assert_close(
                found, build_pyramid(backbone(images)).table, rtol=1e-4, atol=1e-4
            )
    finally:
        convolution.fused_operations.cache_clear()


def test_training_with_folded_statistics_has_the_same_gradients() -> None:
    """Catches an affine term of a batch norm that no longer learns, or learns something else."""
    config = small_config(backbone="mobilenet_v2", frozen_stages=1)
    torch.manual_seed(0)
    ours = Backbone(config).train()
    lively(ours)
    theirs = copy.deepcopy(ours)
    for module in theirs.modules():  # torch's own classes again
        if isinstance(module, nn.Conv2d):
            module.__class__ = nn.Conv2d
        elif isinstance(module, nn.BatchNorm2d):
            module.__class__ = nn.BatchNorm2d
    images, _ = small_batch()
    for backbone in (ours.train(), theirs.train()):
        sum(level.square().mean() for level in backbone(images)).backward()  # type: ignore[union-attr]
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (not a.requires_grad), name
        if a.grad is not None and b.grad is not None:
            limit = 1e-4 * float(b.grad.abs().max()) + 1e-9
            assert (a.grad - b.grad).abs().max() < limit, name


def test_growth_finds_a_known_curve() -> None:
    """Catches coefficients of the wrong power, and negative ones."""
    found = growth.fit([5, 10, 20, 40], [2 + 3 * x + 0.5 * x**2 for x in (5, 10, 20, 40)], True)
    assert found == pytest.approx({"fixed": 2, "linear": 3, "quadratic": 0.5}, rel=1e-3)
    assert growth.fit([1, 2, 4], [5.0, 5.0, 5.0]) == pytest.approx({"fixed": 5, "linear": 0})


def test_peers_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a peer that is not there and stops the others, or is passed over in silence."""
    out = tmp_path / "peers.json"
    options = ["--size", "64x96", "--repeat", "1", "--json", str(out)]
    against = "plain,roialign,bf16,torchvision,mmdetection"
    assert cli.main(["benchmark", *options, "--against", against]) == 0
    result = json.loads(out.read_text())
    assert set(result["milliseconds"]) == {"ours", "plain", "roialign", "bf16"}
    assert set(result["missing"]) == {"torchvision", "mmdetection"}
    assert "mmdetection: not measured" in capsys.readouterr().out
    assert cli.main(["benchmark", *options, "--against", "yolo"]) == 2


def test_ways_are_told_apart() -> None:
    """Catches "auto" that ignores what the processor can do."""
    cpu = torch.device("cpu")
    assert Way(precision="bf16").dtype(cpu) == torch.bfloat16
    assert Way().dtype(cpu) == torch.float32
    auto = replace(Way(), precision="auto").dtype(cpu)
    assert (auto == torch.bfloat16) == torch.cpu._is_avx512_bf16_supported()


@pytest.mark.slow  # the compiler takes minutes
def test_compiled_way_equals_the_plain_one() -> None:
    """Catches a compiled graph that keeps the first picture's numbers, or shifts its padding."""
    model = small_model(num_stages=2)
    twin = way(model, Way(compiled=True))
    sizes = torch.tensor([[128.0, 128.0]])
    with torch.no_grad():
        for _ in range(2):
            images = torch.randn(1, 3, 128, 128)
            found, wanted = twin(images, sizes)[-1], model(images, sizes)[-1]
            torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-3, atol=1e-3)
