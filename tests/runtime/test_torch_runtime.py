"""Every runtime of torch gives the eager one's numbers, each within its own limit."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_model import BACKBONES, lively, small_batch, small_config, small_model
from torch import nn

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Ablation, LabError
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.pooling import build_pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.runtime import torch_runtime
from sparse_rcnn_lab.runtime.folding import fold_fixed_norms, folded
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime

# Largest difference, relative to the largest value.
FLOAT32, BF16 = 1e-5, 0.03


@torch.no_grad()
def run(runtime: Runtime) -> list[StageOutput]:
    images, sizes = small_batch()
    boxes, features = runtime.model.proposals(sizes)
    return runtime.run_stages(runtime.pyramid(images), boxes, features)


@pytest.mark.parametrize("name", BACKBONES)
def test_folded_backbone_equals_the_eager_one(name):
    """Catches a batch norm lost or left, a map that is overwritten, a copy that is the original."""
    torch.manual_seed(0)
    changes = {"backbone": name, "train_batch_norm": name == "nano", "fpn_norm": name == "nano"}
    backbone = lively(Backbone(small_config(**changes)))
    fold_fixed_norms(backbone)  # as a model has them that was just trained
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    images, _ = small_batch(2)
    given = images.clone()
    with torch.no_grad():
        eager = build_pyramid(backbone(images))
        fast = folded(backbone)
        found = [build_pyramid(fast(given)).table for _ in range(2)][1]
        rough = build_pyramid(folded(backbone, torch.bfloat16)(images)).table
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert torch.equal(given, images) and rough.dtype == torch.bfloat16
    largest = eager.table.abs().max()
    assert (found - eager.table).abs().max() < FLOAT32 * largest
    assert (rough.float() - eager.table).abs().max() < BF16 * largest
    after = backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_folded_where_nothing_forbids_it():
    """Catches a runtime that is not taken, or is where gradients or training need the model."""
    model = small_model()
    lively(model.backbone)
    runtime = TorchRuntime(model)
    for a, b in zip(run(runtime), run(TorchRuntime(model, "eager")), strict=True):
        torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(a.logits, b.logits, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert runtime._applies()
        model.train()
        assert not runtime._applies()
    model.eval()
    assert not runtime._applies()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not runtime._applies()


def test_bf16_stages_keep_boxes_and_logits_in_float32():
    """Catches boxes rounded to 8 bits (whole pixels at best), logits that tie, and filters of
    others left out where an ablation wants them."""
    model = small_model()
    rough, exact = TorchRuntime(model, precision="bf16"), TorchRuntime(model, "eager")
    found = run(rough)
    for a in found:
        assert a.boxes.dtype == a.logits.dtype == a.features.dtype == torch.float32
    first, wanted = found[0], run(exact)[0]  # later stages pool other boxes, and drift
    assert (first.logits - wanted.logits).abs().max() < 0.05 * wanted.logits.abs().max()
    assert (first.boxes - wanted.boxes).abs().max() < 2
    assert (first.boxes != first.boxes.bfloat16()).any()
    images, sizes = small_batch()
    same = {"stop": 1, "record": ["dynamic_filters"], "ablation": Ablation(filters="rolled")}
    with torch.no_grad():
        a, b = (r.run_stages(r.pyramid(images), *model.proposals(sizes), **same)[0]
                for r in (rough, exact))  # fmt: skip
    assert (a.dynamic_filters - b.dynamic_filters).abs().max() < 0.05
    assert (a.logits - b.logits).abs().max() < 0.05 * b.logits.abs().max()


def test_first_images_in_many_threads():
    """Catches a thread that uses what another has not finished making."""
    runtime = TorchRuntime(small_model())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: run(runtime)[-1].logits, range(8)))
    assert all(torch.equal(a, found[0]) for a in found)


def test_weights_of_inference_mode():
    """Catches a detector that was made or copied in inference mode, whose weights tell nobody that
    they have changed."""
    with torch.inference_mode():
        detector = srl.load("nano-shapes")
        twin = copy.deepcopy(detector)
        found = run(twin.runtime)[-1].logits
    assert not detector.model.proposals.boxes.is_inference()
    for runtime in (detector.runtime, twin.runtime):
        torch.testing.assert_close(run(runtime)[-1].logits, found, rtol=1e-4, atol=1e-4)


class _WritesToData(torch.optim.Optimizer):
    def step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.data.copy_(parameter.data.flip(-1))


def test_changed_weights_are_seen():
    """Catches answers of weights that are gone: after an update, loading, or optimizers that
    change weights without raising their version, fused ones and those that write to ``.data``."""
    model = small_model()
    float32, bf16 = TorchRuntime(model), TorchRuntime(model, precision="bf16")
    before = [run(r)[-1].logits for r in (float32, bf16)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    after = [run(r)[-1].logits for r in (float32, bf16)]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    model.load_state_dict(small_model(seed=3).state_dict())
    fused = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    images, sizes = small_batch()
    for optimizer in (fused, _WritesToData(model.parameters(), {}), fused):
        wanted = run(TorchRuntime(model, "eager"))[-1].logits
        torch.testing.assert_close(run(float32)[-1].logits, wanted, rtol=1e-4, atol=1e-4)
        model(images, sizes)[-1].logits.sum().backward()
        optimizer.step()


def test_steps_of_other_optimizers(monkeypatch):
    """Catches everything made again for each image while anything else is trained."""
    runtime = TorchRuntime(small_model())
    run(runtime)
    monkeypatch.setattr(runtime, "_backbone", lambda: pytest.fail("was made again"))
    other = torch.nn.Linear(2, 2)
    other(torch.ones(2)).sum().backward()
    torch.optim.AdamW(other.parameters(), fused=True).step()
    run(runtime)


def test_what_a_runtime_made_is_not_the_models():
    """Catches checkpoints with extra weights, and a model or detector that cannot be copied or
    sent to another process."""
    model = small_model()
    keys, wanted = set(model.state_dict()), run(TorchRuntime(model, precision="bf16"))
    assert set(model.state_dict()) == keys
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        again = run(TorchRuntime(model).for_model(twin))
        torch.testing.assert_close(again[0].logits, wanted[0].logits, rtol=0, atol=0.3)
    runtime = TorchRuntime(model, precision="bf16")
    for twin in (copy.deepcopy(runtime), pickle.loads(pickle.dumps(runtime))):
        assert torch.equal(run(twin)[-1].logits, run(runtime)[-1].logits)
        assert twin.model is not model
    sent = pickle.loads(pickle.dumps(srl.load("nano-shapes", runtime="onnxruntime")))
    assert repr(sent).endswith("onnxruntime float32)") and sent.runtime.model is sent.model


def test_detector_chooses_its_runtime(monkeypatch):
    """Catches an option that does nothing, or that changes the detector it was asked of; "auto"
    where there are no units for bf16."""
    detector = srl.load("nano-shapes")
    image = srl.Shapes(length=1)[0].image
    rough, eager = detector.with_runtime(precision="bf16"), detector.with_runtime("eager")
    assert srl.load("nano-shapes", precision="bf16").runtime.about() == rough.runtime.about()
    fine, same, coarse = (d(image) for d in (detector, eager, rough))
    torch.testing.assert_close(fine.scores, same.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fine.scores, coarse.scores, rtol=0, atol=0.1)
    assert (fine.scores != coarse.scores).any()
    made = [d.runtime.about() for d in (detector, eager, rough)]
    assert [tuple(about.values()) for about in made] == [
        ("folded", "float32"), ("eager", "float32"), ("folded", "bf16"),
    ]  # fmt: skip
    for units, precision in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch_runtime, "has_bf16_units", lambda _, units=units: units)
        about = detector.with_runtime(precision="auto").runtime.about()
        assert about["precision"] == precision
    for arguments, message in (
        (("folded", "fp8"), "precision 'fp8' is unknown. Choose one of float32, bf16, int8, auto"),
        (("fast", "float32"), "runtime 'fast' is unknown. Choose one of auto, eager"),
        (("eager", "bf16"), "eager runtime computes in float32"),
    ):
        with pytest.raises(LabError, match=message):
            detector.with_runtime(*arguments)


def test_a_model_with_stages_of_its_own_runs_as_it_is_written(detector, ants):
    """Catches a subclass whose pyramid is passed over by a folded backbone."""
    found = detector.with_runtime(precision="bf16")(ants[0].image, threshold=0.5)
    assert len(found) == len(detector(ants[0].image, threshold=0.5)) > 0


def test_training_with_folded_statistics_has_the_same_gradients():
    """Catches an affine term of a batch norm that no longer learns, or learns something else."""
    config = small_config(backbone="mobilenet_v2", frozen_stages=1)
    torch.manual_seed(0)
    theirs = Backbone(config).train()
    lively(theirs)
    ours = copy.deepcopy(theirs)
    fold_fixed_norms(ours)
    images, _ = small_batch()
    for backbone in (ours.train(), theirs.train()):
        sum(level.square().mean() for level in backbone(images)).backward()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (not a.requires_grad), name
        if a.grad is not None and b.grad is not None:
            limit = 1e-4 * float(b.grad.abs().max()) + 1e-9
            assert (a.grad - b.grad).abs().max() < limit, name


def test_compiled_runtime_computes_on_the_image_as_it_is(monkeypatch):
    """Catches padding to sizes that are convenient to compile, which moves boxes by pixels."""
    monkeypatch.setattr(torch, "compile", lambda part, **options: part)
    model = small_model(num_stages=2)
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        start = model.proposals(torch.tensor([[96.0, 160.0]]))
        found, wanted = (
            runtime.run_stages(runtime.pyramid(images), *start)[-1]
            for runtime in (TorchRuntime(model, "compiled"), TorchRuntime(model, "eager"))
        )
    torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.slow  # the compiler takes minutes
def test_compiled_runtime_gives_the_eager_numbers():
    """Catches a compiled graph that keeps the first image's numbers, or its size."""
    model = small_model(num_stages=2)
    twin = TorchRuntime(model, "compiled")
    with torch.no_grad():
        for height, width in ((96, 96), (96, 96), (64, 96), (96, 128), (160, 64)):
            start = model.proposals(torch.tensor([[float(height), float(width)]]))
            images = torch.randn(1, 3, height, width)
            found = twin.run_stages(twin.pyramid(images), *start)[-1]
            wanted = model.run_stages(model.pyramid(images), *start)[-1]
            torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-3, atol=1e-3)
