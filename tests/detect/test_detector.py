"""The whole model in parts and in batches, its frozen parts; then images in, detections out."""

import argparse
import functools
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import CLASSES, DIM, PROPOSALS, STAGES, small_batch, small_config, small_model
from torch import nn

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Detections, Detector, LabError, Shapes, Trace
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.backbone import Backbone, torchvision_models
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.model import Proposals, SparseRCNN, initial_boxes
from sparse_rcnn_lab.models.imagenet import load_backbone, torchvision_keys

NAMES = ("circle", "square", "star")


@pytest.fixture
def model() -> SparseRCNN:
    return small_model()


def test_stages_in_parts(model):
    """Catches a start that counts from 1, a stop that is included, the wrong stage repeated."""
    images, sizes = small_batch()
    with torch.no_grad():
        pyramid = model.pyramid(images)
        boxes, features = model.proposals(sizes)
        whole = model(images, sizes)
        assert len(whole) == STAGES
        head = model.run_stages(pyramid, boxes, features, stop=2)
        tail = model.run_stages(pyramid, head[-1].boxes, head[-1].features, start=2)
        for a, b in zip(whole, head + tail, strict=True):
            assert torch.equal(a.logits, b.logits)
            assert torch.equal(a.boxes, b.boxes)
        beyond = model.run_stages(pyramid, boxes, features, stop=STAGES + 2)
        assert len(beyond) == STAGES + 2
        last = model.stages[-1](pyramid, beyond[-2].boxes, beyond[-2].features)
        assert torch.equal(beyond[-1].logits, last.logits)
        for start, stop in ((STAGES, None), (-1, None), (2, 2), (0, 0)):
            with pytest.raises(LabError, match="start"):
                model.run_stages(pyramid, boxes, features, start=start, stop=stop)


def test_batch_equals_single_images(model):
    """Catches images that influence each other, or a RoI read from the neighbour."""
    images, sizes = small_batch()
    with torch.no_grad():
        both = model(images, sizes)[-1]
        for i in range(2):
            one = model(images[i : i + 1], sizes[i : i + 1])[-1]
            torch.testing.assert_close(both.logits[i], one.logits[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(both.boxes[i], one.boxes[0], rtol=1e-4, atol=1e-2)
    assert not torch.allclose(both.logits[0], both.logits[1], atol=1e-2)


def test_fewer_proposals_are_the_first(model):
    """Catches a random choice, or boxes and features of different proposals."""
    _, sizes = small_batch()
    boxes, features = model.proposals(sizes)
    few_boxes, few_features = model.proposals(sizes, 2)
    assert torch.equal(few_boxes, boxes[:, :2])
    assert torch.equal(few_features, features[:, :2])
    wanted = box_ops.cxcywh_to_xyxy(model.proposals.boxes[1]) * torch.tensor([70.0, 50, 70, 50])
    torch.testing.assert_close(boxes[1, 1], wanted)  # (width, height) of the second image
    for count in (0, PROPOSALS + 1):
        with pytest.raises(LabError, match=f"found {count}"):
            model.proposals(sizes, count)


def test_initial_boxes():
    """Catches boxes outside the image, a grid with holes, a prefix that is one corner."""
    assert torch.equal(initial_boxes(7, "image"), torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(7, 4))
    random = box_ops.cxcywh_to_xyxy(initial_boxes(200, "random"))
    assert random.min() >= -1e-6 and random.max() <= 1 + 1e-6
    assert (random[:, 2:] - random[:, :2]).min() > 0.05
    for count in (1, 9, 10, 20, 100):
        grid = initial_boxes(count, "grid")
        assert grid.shape == (count, 4)
        assert grid.min() > 0 and grid.max() <= 1
        assert len(torch.unique(grid[:, :2], dim=0)) == count
    grid = box_ops.cxcywh_to_xyxy(initial_boxes(100, "grid"))
    places = torch.cartesian_prod(torch.linspace(0.02, 0.98, 30), torch.linspace(0.02, 0.98, 30))
    inside = ((places[:, None] >= grid[:, :2]) & (places[:, None] <= grid[:, 2:])).all(-1)
    assert inside.any(1).all()
    quarters = (initial_boxes(100, "grid")[:25, :2] > 0.5).long() @ torch.tensor([1, 2])
    assert set(quarters.tolist()) == {0, 1, 2, 3}
    assert not torch.equal(Proposals(5, 8, "random").boxes, Proposals(5, 8, "random").boxes)


def test_parameter_count_by_hand():
    """Catches a bias too many, shared stages, a missing norm or layer."""
    d, f, h, p, c, n = 16, 24, 5, 3, 3, 6
    attention = d * 3 * d + 3 * d + d * d + d
    interaction = (d + 1) * 2 * d * h + 2 * h + 2 * d + (p * p * d + 1) * d + 2 * d
    feed_forward = (d + 1) * f + (f + 1) * d
    towers = (1 + 3) * (d * d + 2 * d)
    heads = (d + 1) * c + (d + 1) * 4
    stage = attention + interaction + feed_forward + 3 * 2 * d + towers + heads
    body = 3 * 24 * 9 + 2 * 24
    before = 24
    for width in (32, 64, 96, 128):
        body += 9 * before * width + 9 * width * width + before * width + 3 * 2 * width
        before = width
    pyramid = sum((width + 1) * d for width in (32, 64, 96, 128)) + 4 * (9 * d * d + d)
    total = body + pyramid + n * (4 + d) + STAGES * stage
    assert sum(q.numel() for q in small_model().parameters()) == total


def test_backbone_strides():
    """Catches a backbone whose levels are not at the strides 4, 8, 16, 32."""
    for name in ("nano", "mobilenet_v2", "resnet18"):
        backbone = Backbone(small_config(backbone=name)).eval()
        with torch.no_grad():
            shapes = [tuple(level.shape) for level in backbone(torch.randn(1, 3, 64, 96))]
        assert shapes == [(1, DIM, 64 // s, 96 // s) for s in (4, 8, 16, 32)]


@functools.cache
def random_weights(name: str) -> dict[str, torch.Tensor]:
    return torchvision_models().get_model(name, weights=None).state_dict()


def saved(path: Path, name: str) -> Path:
    torch.save(random_weights(name), path)
    return path


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_backbone_takes_torchvisions_file(name, tmp_path):
    """Catches a file of the very network that is refused, or weights that stay as they were."""
    path = saved(tmp_path / "own.pth", name)
    body = Backbone(small_config(backbone=name))
    load_backbone(body, name, path)
    kept, state, keys = body.body.state_dict(), torch.load(path), torchvision_keys(body, name)
    assert all(torch.equal(kept[ours], state[theirs]) for theirs, ours in keys.items())


@pytest.mark.parametrize(
    ("wrap", "warning"),
    [
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
        (lambda s: {"model": s, "optimizer": {}, "args": argparse.Namespace(lr=1)}, ""),
        (lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}, "model_ema": s}, ""),
        (lambda s: {"meta": {}, "state_dict": {f"backbone.{k}": v for k, v in s.items()}}, ""),
        (
            lambda s: {
                "state_dict": {f"module.backbone.{k}": v for k, v in s.items()} | {"neck.w": s}
            },
            "left out 1 other",
        ),
    ],
)
def test_backbone_in_what_others_wrap_around_it(wrap, warning, tmp_path):
    """Catches a torchvision backbone refused for how DDP, timm or mmdetection saved it, and
    tensors left out without a word."""
    plain = torch.load(saved(tmp_path / "w.pth", "resnet18"))
    torch.save(wrap(plain), tmp_path / "w.pth")
    body = Backbone(small_config(backbone="resnet18"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_backbone(body, "resnet18", tmp_path / "w.pth")
    assert body.body.state_dict()["stem.conv1.weight"].equal(plain["conv1.weight"])
    assert warning in " ".join(str(w.message) for w in said) and bool(said) == bool(warning)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {}, "log": Fraction(1)}, r"running code from it \(fractions\.Fraction\)"),
        (torch.ones(3), "it contains a Tensor, not a state dict"),
    ],
)
def test_backbone_file_of_something_else(content, words, tmp_path):
    """Catches torch's advice to switch its safety off, in our name, and a bare TypeError."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(LabError, match=words) as caught:
        load_backbone(Backbone(small_config(backbone="resnet18")), "resnet18", tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("resnet18", "resnet34", r'"layer1\.2\.conv1\.weight" and \d+ more belong to another'),
        ("resnet18", "resnet50", r"\d+ more "),
        ("resnet50", "resnext50_32x4d", r'"layer1\.0\.conv1\.weight" is \[128, 64, 1, 1\], not'),
        ("resnet50", "resnet18", r"more are missing"),
    ],
)
def test_backbone_of_another_network(name, other, words, tmp_path):
    """Catches the first layers of a deeper network taken for the whole, and a RuntimeError."""
    path = saved(tmp_path / "other.pth", other)
    with pytest.raises(LabError, match=words):
        load_backbone(Backbone(small_config(backbone=name)), name, path)


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k}


@pytest.mark.parametrize(
    ("frozen", "train_batch_norm"), [(0, False), (2, False), (2, True), (0, True)]
)
def test_frozen_parts(frozen, train_batch_norm):
    """Catches frozen statistics that drift in train mode, or a frozen part that trains."""
    model = small_model(frozen_stages=frozen, train_batch_norm=train_batch_norm)
    parts = list(model.backbone.body)
    before = statistics(model)
    outputs = model.train()(*small_batch())
    sum(o.logits.sum() + o.boxes.sum() for o in outputs).backward()
    after = statistics(model)
    moved = {key.split(".")[2] for key in before if not torch.equal(before[key], after[key])}
    assert moved == (set(parts[frozen:]) if train_batch_norm else set())
    for index, part in enumerate(model.backbone.body.values()):
        gradients = [q.grad is not None for q in part.parameters()]
        assert gradients == [index >= frozen] * len(gradients)
    assert all(m.training for m in model.modules() if isinstance(m, nn.LayerNorm))


@pytest.mark.parametrize(
    "wrong",
    [{"num_classes": 0}, {"dim": 10, "num_heads": 4}, {"backbone": "vgg"}, {"ffn_dim": 2.5}],
)
def test_impossible_config(wrong):
    """Catches a config that fails somewhere inside torch."""
    with pytest.raises(LabError, match=next(iter(wrong))):
        ModelConfig(**wrong)


# Images


@pytest.fixture
def detector() -> Detector:
    return Detector(small_model(), NAMES, name="small")


def noise(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def equal(a: Detections, b: Detections) -> bool:
    names = ("boxes", "scores", "labels", "proposals")
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)


def test_one_image_or_a_list(detector):
    """Catches a list of one that loses its list, or a kind of image read differently."""
    pixels = noise()
    one = detector(pixels)
    assert isinstance(one, Detections)
    assert len(one) > 0
    assert one.size == (90, 120)
    assert one.class_names == NAMES
    for same in (Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        assert equal(detector(same), one)
    (listed,) = detector([pixels])
    assert equal(listed, one)
    assert [d.size for d in detector([pixels, noise(50, 40)])] == [(90, 120), (50, 40)]
    with pytest.raises(LabError, match="empty"):
        detector([])


def test_boxes_are_in_original_pixels(detector):
    """Catches boxes left in input pixels, or x scaled by the height's factor."""
    pixels = noise(90, 200)
    batch = detector.prepare([pixels])
    height, width = batch.sizes[0].tolist()
    assert (height, width) != (90, 200)
    output = detector.run(batch)[-1]
    found = detector.decode(output, batch, 0)
    for box, proposal in zip(found.boxes, found.proposals, strict=True):
        x1, y1, x2, y2 = output.boxes[0, proposal].tolist()
        factors = (200 / width, 90 / height)
        wanted = [x1 * factors[0], y1 * factors[1], x2 * factors[0], y2 * factors[1]]
        limits = [200, 90, 200, 90]
        clipped = [min(max(v, 0), top) for v, top in zip(wanted, limits, strict=True)]
        assert box.tolist() == pytest.approx(clipped, abs=1e-2)


def test_resize_off(detector):
    """Catches resize=False that still resizes."""
    batch = detector.prepare([noise(70, 110)], resize=False)
    assert batch.sizes.tolist() == [[70, 110]]
    assert batch.scale(0).tolist() == [1, 1]
    assert batch.images.shape[-2:] == (96, 128)


def test_dials(detector):
    """Catches a stage that counts from 0, a threshold on the logit, a dial without effect."""
    pixels = noise()
    trace = detector.trace(pixels)
    assert isinstance(trace, Trace)
    for stage in range(1, STAGES + 1):
        assert equal(detector(pixels, stage=stage), trace.detections(stage))
    assert equal(detector(pixels), trace.detections())
    everything = detector(pixels)
    middle = float(everything.scores.median())
    some = detector(pixels, threshold=middle)
    assert equal(some, everything.above(middle))
    assert 0 < len(some) < len(everything)
    few = detector(pixels, num_proposals=2)
    assert len(few) <= 2 and few.proposals.max() < 2


@pytest.mark.parametrize(
    ("dial", "wrong"), [("threshold", "0.5"), ("num_proposals", 2.0), ("stage", float(STAGES))]
)
def test_a_dial_of_another_kind(detector, dial, wrong):
    """Catches a TypeError from somewhere inside, and 6.0 that is a stage where 5.0 is none."""
    with pytest.raises(LabError, match="must be"):
        detector(noise(), **{dial: wrong})


def test_samples_can_be_compared():
    """Catches a truth value of many numbers, in a list's ``in`` and ``index`` too."""
    data = Shapes(2)
    samples = [data[0], data[1]]
    assert samples.index(samples[1]) == 1 and data[0] not in samples
    assert repr(samples[0]) == "Sample(image_id=0, name='shapes seed 0 image 0')"
    for wrong in (slice(2), 1.0):
        with pytest.raises(LabError, match="for i in range"):
            data[wrong]


def test_a_device_that_is_not_there(detector):
    """Catches a page of torch's in place of a sentence."""
    with pytest.raises(LabError, match="no device 'gpu' here"):
        detector.to("gpu")


def test_other_default_numbers():
    """Catches a notebook whose numbers are float64 and in which nothing is detected."""
    image = noise()
    wanted = srl.load("small-cells")(image)
    torch.set_default_dtype(torch.float64)
    try:
        found = srl.load("small-cells")(image)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)


def test_things_of_another_kind(tmp_path):
    """Catches an AttributeError for a model's name in the place of the model, and a TypeError for
    None in the place of a name."""
    for call in (srl.Session, srl.calibrate_scores, srl.evaluate):
        with pytest.raises(LabError, match="not a detector: 'nano-shapes'"):
            call("nano-shapes", Shapes(2))
    with pytest.raises(LabError, match="not a detector"):
        srl.export("nano-shapes", tmp_path / "a.onnx")
    with pytest.raises(LabError, match="not a detector: Shapes"):
        srl.evaluate(Shapes(2), srl.load("nano-shapes"))
    with pytest.raises(LabError, match="not a data set: None"):
        srl.evaluate(srl.load("nano-shapes"), None)
    for call in (srl.load, srl.open_data):
        with pytest.raises(LabError, match="name or path, found None"):
            call(None)


def test_trace_holds_what_ran(detector):
    """Catches a trace in input pixels, off by a stage, or of the wrong image of a batch."""
    images = [noise(90, 120), noise(100, 60, seed=1)]
    record = ("attention", "roi_features", "dynamic_filters")
    batch = detector.prepare(images)
    with torch.no_grad():
        boxes, features = detector.model.proposals(batch.sizes)
        outputs = detector.run(batch)
    for i, trace in enumerate(detector.trace(images, record=record)):
        scale = torch.tensor(trace.scale)
        torch.testing.assert_close(box_ops.rescale(trace.boxes[0], scale), boxes[i])
        assert torch.equal(trace.features[0], features[i])
        for s, output in enumerate(outputs):
            torch.testing.assert_close(
                box_ops.rescale(trace.boxes[s + 1], scale), output.boxes[i], rtol=1e-5, atol=1e-3
            )
            assert torch.equal(trace.logits[s], output.logits[i])
            assert torch.equal(trace.features[s + 1], output.features[i])
            assert torch.equal(trace.fpn_level[s], output.levels[i] + 2)
        assert trace.roi_features is not None and trace.attention is not None
        assert trace.roi_features.shape == (STAGES, PROPOSALS, 3, 3, DIM)
        assert trace.dynamic_filters is not None
        assert trace.model_name == "small"
        assert np.array_equal(trace.image.permute(1, 2, 0).numpy(), images[i])


def test_trace_can_be_learned_from(detector):
    """Catches inference tensors, which refuse to take part in training a probe."""
    features = detector.trace(noise()).features
    probe = nn.Linear(DIM, 1)
    probe(features).sum().backward()
    assert probe.weight.grad is not None


def test_class_names_must_fit():
    """Catches labels without a name."""
    with pytest.raises(LabError, match=f"{CLASSES} classes, but 2"):
        Detector(small_model(), NAMES[:2])
