"""A stage: what gradients reach, what each switch does, and how it starts."""

import math
from itertools import product

import pytest
import torch
from small_model import CLASSES, DIM, PROPOSALS, STAGES, small_batch, small_config, small_model
from torch import Tensor, nn

from sparse_rcnn_lab import Ablation, LabError
from sparse_rcnn_lab.core.boxes import iou
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import Stage, StageOutput


@pytest.fixture
def model() -> SparseRCNN:
    return small_model()


@pytest.fixture
def inputs(model) -> tuple[Pyramid, Tensor, Tensor]:
    images, sizes = small_batch()
    with torch.no_grad():
        boxes, features = model.proposals(sizes)
        return model.pyramid(images), boxes, features


def same(a: list[StageOutput], b: list[StageOutput]) -> bool:
    """Bit for bit."""
    names = ("boxes", "logits", "features", "levels")
    return len(a) == len(b) and all(
        torch.equal(getattr(x, n), getattr(y, n)) for x, y in zip(a, b, strict=True) for n in names
    )


def test_boxes_are_detached_and_features_are_not(model):
    """Catches box gradient running back through stages, or stages trained in isolation."""
    images, sizes = small_batch()
    outputs = model(images, sizes)
    # Box loss of the last stage: through features to every stage, but not through their boxes.
    outputs[-1].boxes.sum().backward()
    for index, stage in enumerate(model.stages):
        assert stage.ffn_out.weight.grad.any()
        reached = stage.regress.weight.grad
        assert (reached is not None and reached.any()) == (index == STAGES - 1)
    assert model.proposals.features.grad.any()
    assert model.proposals.boxes.grad is None


def test_learned_boxes_train_through_the_first_stage_only(model):
    """Catches learned boxes that never move, or that get gradient from every stage."""
    images, sizes = small_batch()
    outputs = model(images, sizes)
    first = torch.autograd.grad(outputs[0].boxes.sum(), model.proposals.boxes, retain_graph=True)
    assert first[0].any()
    for output in outputs[1:]:
        rest = torch.autograd.grad(
            output.boxes.sum() + output.logits.sum(),
            model.proposals.boxes,
            retain_graph=True,
            allow_unused=True,
        )
        assert rest == (None,)


def test_recording_changes_no_number(model, inputs):
    """Catches a second code path for traces, and a documented shape that is not the real one."""
    record = ("attention", "roi_features", "dynamic_filters")
    plain, recorded = model.run_stages(*inputs), model.run_stages(*inputs, record=record)
    assert same(plain, recorded)
    for a, b in zip(plain, recorded, strict=True):
        assert [getattr(a, name) for name in record] == [None] * 3
        assert (a.boxes.shape, a.levels.shape) == ((2, PROPOSALS, 4), (2, PROPOSALS))
        assert (a.logits.shape, a.features.shape) == ((2, PROPOSALS, CLASSES), (2, PROPOSALS, DIM))
        assert b.attention.shape == (2, 2, PROPOSALS, PROPOSALS)
        torch.testing.assert_close(b.attention.sum(-1), torch.ones(2, 2, PROPOSALS))
        assert b.roi_features.shape == (2, PROPOSALS, 9, DIM)
        assert b.dynamic_filters.shape == (2, PROPOSALS, 2 * DIM * 5)
    with pytest.raises(LabError, match="roi"):
        model.run_stages(*inputs, record=["roi"])


def test_attention_equals_torch(model):
    """Catches heads cut across, a wrong scale, or a mask that is upside down."""
    ours = model.stages[0].attention
    theirs = nn.MultiheadAttention(DIM, 2, batch_first=True).eval()
    names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias"}
    state = {names.get(k, k.replace("out.", "out_proj.")): v for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, PROPOSALS, DIM)
    mask = torch.rand(PROPOSALS, PROPOSALS) > 0.4
    mask.fill_diagonal_(True)
    for may_look in (None, mask):
        blocked = None if may_look is None else ~may_look
        mixed, attention = ours(x, may_look)
        wanted, weights = theirs(x, x, x, attn_mask=blocked, average_attn_weights=False)
        torch.testing.assert_close(mixed, wanted)
        torch.testing.assert_close(attention, weights)


def test_self_attention_off(model, inputs):
    """Catches a switch that leaves proposals in touch: each must then be as if alone."""
    pyramid, boxes, features = inputs
    off = Ablation(self_attention=False)
    together = model.run_stages(*inputs, ablation=off)[-1]
    alone = model.run_stages(pyramid, boxes[:, 2:3], features[:, 2:3], ablation=off)[-1]
    torch.testing.assert_close(together.logits[:, 2:3], alone.logits, rtol=1e-4, atol=1e-5)
    normal = model.run_stages(pyramid, boxes[:, 2:3], features[:, 2:3])[-1]
    assert not torch.allclose(together.logits[:, 2:3], normal.logits, atol=1e-3)


def test_heads(model, inputs):
    """Catches the wrong head switched off: without its values, a head's output is zero."""
    stages = model.stages
    only_second = model.run_stages(*inputs, ablation=Ablation(heads=(1,)))
    assert same(
        model.run_stages(*inputs, ablation=Ablation(heads=(0, 1))), model.run_stages(*inputs)
    )
    for stage in stages:  # the values of head 0 are the first half of the last third of qkv
        rows = slice(2 * DIM, 2 * DIM + DIM // 2)
        stage.attention.qkv.weight.data[rows] = 0
        stage.attention.qkv.bias.data[rows] = 0
    for a, b in zip(only_second, model.run_stages(*inputs), strict=True):
        torch.testing.assert_close(a.logits, b.logits)


@pytest.mark.parametrize(
    ("ablation", "source"),
    [
        (Ablation(filters="rolled"), [5, 0, 1, 2, 3, 4]),
        (Ablation(swap_filters=((1, 4),)), [0, 4, 2, 3, 1, 5]),
        (Ablation(swap_filters=((0, 1), (2, 5))), [1, 0, 5, 3, 4, 2]),
        (Ablation(filters="mean"), None),
    ],
)
def test_filters(model, inputs, ablation, source):
    """Catches filters that go to the wrong proposal, or are mixed across images."""
    record = ("dynamic_filters",)
    own = model.run_stages(*inputs, stop=1, record=record)[0]
    changed = model.run_stages(*inputs, stop=1, record=record, ablation=ablation)[0]
    if source is None:
        wanted = own.dynamic_filters.mean(1, keepdim=True).expand_as(own.dynamic_filters)
        torch.testing.assert_close(changed.dynamic_filters, wanted)
    else:
        assert torch.equal(changed.dynamic_filters, own.dynamic_filters[:, source])
        touched = torch.tensor(source) != torch.arange(PROPOSALS)
        differs = (changed.logits != own.logits).any(-1)
        assert torch.equal(differs, touched.expand(2, -1))


def test_freeze(model, inputs):
    """Catches boxes that move, or features that go on from stage to stage, while frozen."""
    _, boxes, features = inputs
    for output in model.run_stages(*inputs, ablation=Ablation(freeze_boxes=True)):
        assert torch.equal(output.boxes, boxes)
    frozen = model.run_stages(*inputs, ablation=Ablation(freeze_features=True))
    normal = model.run_stages(*inputs)
    assert same(frozen[:1], normal[:1])
    again = model.run_stages(inputs[0], frozen[0].boxes, features, start=1, stop=2)
    assert same(frozen[1:2], again)
    assert not same(frozen[1:2], normal[1:2])


@pytest.mark.parametrize(
    "ablation", [Ablation(heads=(2,)), Ablation(heads=(-1,)), Ablation(swap_filters=((0, 6),))]
)
def test_impossible_switches(model, inputs, ablation):
    """Catches a raw IndexError, or -1 silently taken for the last head."""
    with pytest.raises(LabError, match="must be 0"):
        model.run_stages(*inputs, ablation=ablation)


def test_an_ablation_in_other_words(model, inputs):
    """Catches heads that are gone at the second stage, a mask taken for numbers, a word for a
    switch that is then on, and two ablations alike that are not equal."""
    given = Ablation(heads=[0], swap_filters=[[1, 4]])
    assert given == Ablation(heads=(0,), swap_filters=((1, 4),)) and hash(given)
    one, once = Ablation(heads=(0,)), Ablation(heads=iter([0]))
    assert same(model.run_stages(*inputs, ablation=once), model.run_stages(*inputs, ablation=one))
    for wrong in (
        {"heads": 0},
        {"heads": (True, False)},
        {"heads": (0.5,)},
        {"swap_filters": (3, 7)},
        {"self_attention": "mean"},
    ):
        with pytest.raises(LabError, match="must be"):
            Ablation(**wrong)
    with pytest.raises(LabError, match="must be an Ablation, found 'mean'"):
        model.run_stages(*inputs, ablation="mean")


def test_mask(model, inputs):
    """Catches a mask that leaks: the first three must not notice the others."""
    pyramid, boxes, features = inputs
    mask = torch.ones(PROPOSALS, PROPOSALS, dtype=torch.bool)
    mask[:3, 3:] = False
    masked = model.run_stages(*inputs, mask=mask)[-1]
    alone = model.run_stages(pyramid, boxes[:, :3], features[:, :3])[-1]
    torch.testing.assert_close(masked.logits[:, :3], alone.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [4, 5, 16, 24, 64])
def test_class_bias_by_name(classes):
    """Catches a bias set by shape: 4 classes are also 4 deltas, 64 a layer's width."""
    stage = Stage(small_config(num_classes=classes, dim=64 if classes == 64 else 16))
    prior = -math.log(0.99 / 0.01)
    for name, parameter in stage.named_parameters():
        if name == "classify.bias":
            assert torch.allclose(parameter, torch.full((classes,), prior))
        elif parameter.dim() == 1:
            assert parameter.min() > -1, name
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, name.endswith("weight")))
    assert not stage.regress.bias.any()


def test_overlap_in_attention(model, inputs):
    """Catches rows taken for columns, heads mixed up, a look at a proposal that is less sure, and a
    mask passed over."""
    _, boxes, features = inputs
    aware = SparseRCNN(small_config(overlap_attention=3.0))
    aware.load_state_dict(model.state_dict())
    confidence = torch.randn(boxes.shape[:2])
    hidden = torch.ones(1, 1, PROPOSALS, PROPOSALS, dtype=torch.bool)
    hidden[..., 2, 4] = False
    with torch.no_grad():
        _, before = model.stages[1].attention(features)
        part = aware.stages[1]
        bias = part.overlap_bias(boxes, confidence)
        _, after = part.attention(features, hidden, bias=bias)
    overlap = iou(boxes, boxes)
    assert ((overlap > 0.1) & (overlap < 0.9)).any()
    for b, h, i in product(range(len(boxes)), range(2), range(PROPOSALS)):
        scores = before[b, h, i].log()
        for j in range(PROPOSALS):
            if confidence[b, j] > confidence[b, i]:
                scores[j] += (1.5, 3)[h] * overlap[b, i, j]
        scores[[j for j in range(PROPOSALS) if (i, j) == (2, 4)]] = -torch.inf
        torch.testing.assert_close(after[b, h, i], scores.softmax(0), rtol=1e-4, atol=1e-6)


def test_overlap_bias_off(model, inputs):
    """Catches a switch that leaves some of it on, or switches more off."""
    aware = SparseRCNN(small_config(overlap_attention=3.0))
    aware.load_state_dict(model.state_dict())
    blind = aware.run_stages(*inputs, ablation=Ablation(overlap_bias=False))
    assert same(blind, model.run_stages(*inputs)) and not same(blind, aware.run_stages(*inputs))
    assert str(Ablation(overlap_bias=False)) == "no overlap bias"


def test_confidence_goes_from_stage_to_stage():
    """Catches stages that are given no confidence, or that of another stage."""
    model = small_model(overlap_attention=8.0)
    images, sizes = small_batch()
    pyramid, start = model.pyramid(images), model.proposals(sizes)
    whole = model.run_stages(pyramid, *start)
    entering, confidence = start, None
    for index, wanted in enumerate(whole):
        how = {"start": index, "stop": index + 1, "confidence": confidence}
        (one,) = model.run_stages(pyramid, *entering, **how)
        assert same([one], [wanted])
        entering, confidence = (one.boxes, one.features), one.logits.amax(-1)
    with pytest.raises(LabError, match="needs the confidence with which"):
        model.run_stages(pyramid, whole[0].boxes, whole[0].features, start=1, stop=2)
