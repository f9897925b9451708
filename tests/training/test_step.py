"""One step: parts of a batch, 16 bits, averaged weights, compiled code, denoising queries."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_training import VAL, first_batch, tiny, train
from torch import Tensor, nn

from sparse_rcnn_lab import LabError, Recipe
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.runtime import for_training
from sparse_rcnn_lab.training import step as step_module
from sparse_rcnn_lab.training.class_loss import balance, class_loss
from sparse_rcnn_lab.training.denoising import SHIFT, STRETCH, denoising_queries
from sparse_rcnn_lab.training.fit import begin
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.step import MAX_SKIPPED, MixedPrecision, step_loss, train_step

CPU = torch.device("cpu")


def small(**changes: Any) -> Recipe:
    return tiny(**{"train__batch_size": 5, "train__steps": 4, **changes})


def one_step(
    recipe: Recipe, start_from: Path | None = None, threads: int = 1
) -> tuple[dict[str, Tensor], float]:
    """Gradients, and the loss, of the first step."""
    training = begin(recipe, CPU, start_from=start_from, threads=threads)
    if recipe.train.precision == "fp16":  # the scale at which it arrives by itself
        training.mixed.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batch = first_batch(recipe)
    for parameters in training.optimizer.param_groups:
        parameters["lr"] = 0.0
    _, values, _ = train_step(training, batch, batch.targets.counts, 0, 0.0)
    model = training.model
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found, values.minimised


@pytest.mark.parametrize(("parts", "threads"), [(2, 1), (5, 1), (1, 2), (1, 8), (2, 2)])
def test_parts_equal_the_whole_batch(parts, threads):
    """Catches parts that are normalised, or given noise, each for itself, one after the other or in
    threads.

    Batch norm keeps its statistics here: those of a part are not the whole batch's. The bound is
    relative to a tensor's largest gradient; measured 3e-6, with a normaliser for each part 0.5.
    """
    changes = {
        "model__train_batch_norm": False,
        "model__fpn_norm": False,
        "train__clip_norm": 1e9,
        "loss__among_classes": 2.0,
        "loss__balanced": True,
    }
    whole, loss = one_step(small(**changes))
    added, same = one_step(small(**changes, train__accumulate=parts), threads=threads)
    assert same == pytest.approx(loss, rel=1e-5)
    for name, value in whole.items():
        assert (value - added[name]).abs().max() <= 1e-4 * value.abs().max().clamp(min=1e-6), name


def test_batch_norm_sees_the_whole_batch():
    """Catches statistics of a thread's images alone, and gradients that the backbone loses."""
    recipe = small(train__clip_norm=1e9)
    trainings = [begin(recipe, CPU, threads=threads) for threads in (1, 2)]
    batch = first_batch(recipe)
    values = [train_step(one, batch, batch.targets.counts, 0, 0.0)[1] for one in trainings]
    assert values[1].minimised == pytest.approx(values[0].minimised, rel=1e-5)
    whole, shared = (one.model for one in trainings)
    kept = zip(whole.named_buffers(), shared.buffers(), strict=True)
    assert all(torch.equal(a, b) for (_, a), b in kept)
    for (name, a), b in zip(whole.named_parameters(), shared.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert (a.grad - b.grad).abs().max() <= 1e-4 * a.grad.abs().max().clamp(min=1e-6), name


def test_an_error_in_a_thread_is_heard():
    """Catches a step that goes on with half of its images."""
    recipe = small(model__train_batch_norm=False, model__fpn_norm=False)
    training = begin(recipe, CPU, threads=2)
    batch = first_batch(recipe)
    batch.images[-1] = math.nan
    before = [p.clone() for p in training.model.parameters()]
    with pytest.raises(LabError, match=batch.names[-1]):
        train_step(training, batch, batch.targets.counts, 0, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("preset", "start", "precision", "nearness"),
    [
        ("nano", "nano-shapes", "bf16", 0.96),
        ("nano", "nano-shapes", "fp16", 0.999),
        ("small", "small-everyday", "bf16", 0.98),
    ],
)
def test_16_bits_stay_near_float32(preset, start, precision, nearness, monkeypatch):
    """Catches autocast that reaches matching or losses, or does not reach the model.

    On a trained model; a fresh one's features are all alike, and normalising them loses bits.
    Measured: losses within 0.02 %, cosine of the gradients 0.974 in bf16, 0.9998 in fp16 (of eight
    images, which take four times as long: 0.991 and 0.99999). `small` has 0.999; with its
    body in bf16 too 0.92.
    """
    seen: list[torch.dtype] = []
    honest = step_module.match

    def match(logits: Tensor, boxes: Tensor, *rest: Any) -> Any:
        seen.append(logits.dtype)
        assert boxes.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return honest(logits, boxes, *rest)

    monkeypatch.setattr(step_module, "match", match)
    trained = locate(start)
    config = read_checkpoint(trained).config
    recipe = recipes.recipe(preset, model=config, train__batch_size=2, train__clip_norm=1e9)
    exact, loss = one_step(recipe, trained)
    changed = configs.with_changes(recipe, train__precision=precision)
    rough, near = one_step(changed, trained)
    assert seen == [torch.float32, MixedPrecision(changed.train.precision, CPU).dtype]
    assert near != loss and near == pytest.approx(loss, rel=0.01)
    flat = [torch.cat([g[n].flatten() for n in exact]) for g in (exact, rough)]
    assert nn.functional.cosine_similarity(*flat, dim=0) > nearness


def test_auto_is_what_the_device_is_good_at(tmp_path, monkeypatch):
    """Catches an "auto" that is float32 everywhere, and a run that does not say what it was."""
    recipe = small(train__precision="auto", train__steps=1)
    for units, precision in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(for_training, "has_bf16_units", lambda _, units=units: units)
        expected = MixedPrecision(precision, CPU).dtype
        assert begin(recipe, CPU).mixed.dtype == expected
        run = train(tmp_path / precision, recipe)
        header = json.loads((run.folder / "run.json").read_text())
        assert header["recipe"]["train"]["precision"] == precision


def test_overflow_of_fp16_skips_the_step():
    """Catches an overflow taken for divergence, weights changed by it, and a skipping without end.

    After it the scale is half; 25 in a row are an error, and one is in bf16.
    """
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    mixed = MixedPrecision("fp16", CPU)

    def step(gradient: float) -> bool:
        optimizer.zero_grad()
        mixed.scaler.scale((weight * gradient).sum()).backward()
        mixed.scaler.unscale_(optimizer)
        return mixed.update(optimizer, float(nn.utils.get_total_norm([weight.grad])))

    assert not step(math.inf) and torch.equal(weight.detach(), torch.ones(3))
    assert mixed.scaler.get_scale() == 2**15
    assert step(1.0) and not torch.equal(weight.detach(), torch.ones(3)) and mixed.skipped == 0
    with pytest.raises(LabError, match=f"{MAX_SKIPPED + 1} steps in a row"):
        for _ in range(MAX_SKIPPED + 1):
            step(math.nan)
    mixed = MixedPrecision("bf16", CPU)
    with pytest.raises(LabError, match="not a finite number"):
        step(math.inf)


def test_fp16_run_resumes_with_its_scale(tmp_path):
    """Catches a scale that starts over, and a log that json cannot hold after an overflow."""
    recipe = small(train__precision="fp16", train__steps=2)
    run = train(tmp_path / "run", recipe)
    state = RunFolder(run.folder).states()[-1][1]
    scaler = json.loads((state / "scaler.json").read_text())
    assert scaler["scale"] > 0 and scaler["_growth_tracker"] >= 0
    (state / "scaler.json").write_text(json.dumps(scaler | {"scale": 2.0**40}))
    longer = configs.with_changes(recipe, train__steps=3)
    header = json.loads((run.folder / "run.json").read_text())
    header["recipe"]["train"]["steps"] = 3
    (run.folder / "run.json").write_text(json.dumps(header))
    train(tmp_path / "run", longer, resume=True)
    rows = RunFolder(run.folder).rows("metrics")
    assert rows[-1]["step"] == 3 and rows[-1]["grad_norm"] is None  # at that scale it overflows
    state = RunFolder(run.folder).states()[-1][1]
    assert json.loads((state / "scaler.json").read_text())["scale"] == 2.0**39


def test_averaged_weights_are_kept_evaluated_and_resumed(tmp_path):
    """Catches an average that the model file, the evaluation or a resumed run does not know."""
    recipe = small(train__ema=0.9)
    whole = train(tmp_path / "whole", recipe, val=VAL, evaluate_every=2)
    plain = train(tmp_path / "plain", small())
    kept = read_checkpoint(whole.folder / "model.safetensors").state
    last = read_checkpoint(RunFolder(whole.folder).states()[-1][1] / "model.safetensors").state
    for key, value in plain.detector.model.state_dict().items():
        assert torch.equal(last[key], value), key  # averaging does not touch the training
    assert not torch.equal(kept["proposals.features"], last["proposals.features"])
    for key, value in whole.detector.model.state_dict().items():
        assert torch.equal(kept[key], value), key

    def stop(step: int, _: object) -> None:
        if step == 3:
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="lights"):
        train(tmp_path / "broken", recipe, val=VAL, evaluate_every=2, on_step=stop)
    resumed = train(tmp_path / "broken", recipe, val=VAL, evaluate_every=2, resume=True)
    for key, value in read_checkpoint(resumed.folder / "model.safetensors").state.items():
        assert torch.equal(kept[key], value), key


def test_missing_compiler_is_a_warning(tmp_path, monkeypatch):
    """Catches a training that fails where there is no compiler."""

    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nand much more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.warns(UserWarning, match=r"Failed to find C compiler\.\); the training continues"):
        assert train(tmp_path / "run", small(train__steps=1), compiled=True).finished


def test_every_proposal_on_an_object_learns_its_class():
    """Catches proposals elsewhere that learn, padding that counts as an object, an object with many
    proposals or a common class that counts more, and a loss that takes sides on whether something
    is there."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 0, 0]])
    sizes, labels = torch.tensor([[64.0, 64.0]]), torch.tensor([[2, 0, 1]])
    targets = Targets(boxes=boxes[None], labels=labels, counts=(2,), sizes=sizes)
    rows = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 40, 38], [40, 40, 64, 64]])
    logits = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = class_loss(logits, rows.expand(2, 1, 4, 4), targets, 2)
    logs = -logits.log_softmax(-1)[:, 0]
    expected = ((logs[:, 0, 2] + logs[:, 1, 2]) / 2 + logs[:, 2, 0]) / 2
    assert torch.allclose(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient[:, 0, 3].abs().max() == 0 and gradient.sum(-1).abs().max() < 1e-6
    twice = replace(targets, labels=torch.tensor([[2, 0, 0]]), counts=(3,))
    rows[3] = boxes[2] = torch.tensor([50.0, 50, 60, 60])
    rare = class_loss(logits, rows.expand(2, 1, 4, 4), replace(twice, boxes=boxes[None]), 3)
    common = (logs[:, 2, 0] + logs[:, 3, 0]) / 2
    assert torch.allclose(rare, ((logs[:, 0, 2] + logs[:, 1, 2]) / 2 + common) / 2)
    nothing = Targets(boxes[None, :0], labels[:, :0], (0,), sizes)
    assert class_loss(logits, rows.expand(2, 1, 4, 4), nothing, 0).tolist() == [0, 0]


def test_a_rare_class_counts_as_much_as_a_common_one():
    """Catches weights that reach the boxes alone, or the scores alone, or the wrong pair."""
    generator = torch.Generator().manual_seed(0)
    boxes = 8 * torch.arange(3.0)[:, None] + torch.tensor([0.0, 0, 6, 6])
    targets = Targets(boxes[None], torch.tensor([[2, 0, 0]]), (3,), torch.tensor([[64.0, 64.0]]))
    logits = torch.randn(1, 1, 4, 3, generator=generator)
    found = boxes[[2, 0, 1, 1]] + torch.rand(4, 4, generator=generator)
    one, config = torch.tensor([1]), LossConfig(focal_gamma=0.0)

    def pairs(proposal: list[int], target: list[int]) -> Matches:
        zero = torch.zeros(len(target)).long()
        return Matches(zero, zero, torch.tensor(proposal).long(), torch.tensor(target).long())

    def alone(proposal: int, target: int) -> Tensor:
        losses = set_loss(
            logits, found[None, None], targets, pairs([proposal], [target]), config, one
        )
        none = set_loss(logits, found[None, None], targets, pairs([], []), config, one)
        # That score taken for a yes costs a quarter of -log p; for a no three of -log (1 - p).
        no = 2 * 0.75 * F.softplus(logits[0, 0, proposal, targets.labels[0, target]])
        return losses.l1 + losses.giou + losses.cls - none.cls + no

    added = balance(
        logits, found[None, None], targets, pairs([1, 2, 0], [0, 1, 2]), config, torch.tensor([3])
    )
    expected = (0.5 * alone(1, 0) - 0.25 * alone(2, 1) - 0.25 * alone(0, 2)) / 3
    assert torch.allclose(added, expected)


def test_denoising_queries_stay_near_their_object_and_apart_from_the_proposals():
    """Catches a mask that lets the answer leak into the proposals, and misattributed queries."""
    boxes = [torch.tensor([[10.0, 10, 50, 30], [60, 60, 90, 100]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.long)]
    targets = Targets.pad(boxes, labels, torch.tensor([[128.0, 128], [128, 128]]))
    features = torch.arange(18.0).view(6, 3)
    queries = denoising_queries(targets, features, 5, torch.Generator().manual_seed(0))
    n, q = 6, 6  # no more queries than proposals: three groups of two, not five
    assert queries.target[0].tolist() == [0, 1, 0, 1, 0, 1] and (queries.target[1] == -1).all()
    near = box_ops.paired_iou(queries.boxes[0], boxes[0].repeat(3, 1))
    assert near.min() > 0.3 and near.max() < 0.999
    mask = queries.mask[0, 0]
    assert mask[:n, :n].all() and not mask[:n, n:].any() and not mask[n:, :n].any()
    assert mask[n, n + 1] and not mask[n, n + 2]
    padded = queries.mask[1, 0][n:, n:]
    assert torch.equal(padded, torch.eye(q, dtype=torch.bool))
    pairs = queries.matches(2)
    assert len(pairs.stage) == 12 and (pairs.image == 0).all()


def test_negative_queries_stand_farther_off_and_are_to_find_nothing():
    """Catches negatives that are as near as the positives, that count as padding (no class loss
    then), that another group can see, or that change the positives' noise bound."""
    boxes = torch.tensor([[10.0, 10, 50, 30], [60, 60, 90, 100]])
    targets = Targets.pad([boxes], [torch.tensor([1, 0])], torch.tensor([[128.0, 128]]))
    random = torch.Generator().manual_seed(0)
    queries = denoising_queries(targets, torch.randn(8, 3), 2, random, contrastive=True)
    assert queries.target[0].tolist() == [0, 1, -1, -1] * 2
    assert queries.real.all()
    overlap = box_ops.paired_iou(queries.boxes[0], boxes.repeat(4, 1)).view(2, 2, 2)
    assert overlap[:, 0].min() > 0.3 and overlap[:, 1].max() < overlap[:, 0].max()
    centre = box_ops.xyxy_to_cxcywh(queries.boxes[0]) - box_ops.xyxy_to_cxcywh(boxes.repeat(4, 1))
    relative = (centre / box_ops.xyxy_to_cxcywh(boxes.repeat(4, 1))[:, [2, 3, 2, 3]]).abs()
    relative = relative.view(2, 2, 2, 4) / torch.tensor([SHIFT, SHIFT, STRETCH, STRETCH])
    assert relative[:, 0].max() <= 1 <= relative[:, 1].min() and relative.max() <= 2
    group = queries.mask[0, 0][8:, 8:]
    assert group[:4, :4].all() and not group[:4, 4:].any()


def test_denoising_leaves_the_proposals_loss_as_it_is():
    """Catches queries that influence the proposals: the set loss must be the same without them."""
    recipe = tiny()
    torch.manual_seed(0)
    model = SparseRCNN(recipe.model).eval()
    batch = first_batch(recipe)
    plain = step_loss(model, batch, recipe.loss)
    with_queries = step_loss(model, batch, recipe.loss, 3, torch.Generator().manual_seed(1))
    for name in ("cls", "l1", "giou"):
        a, b = getattr(plain.loss, name), getattr(with_queries.loss, name)
        assert torch.allclose(a, b, rtol=1e-5), name
    assert with_queries.denoising is not None and with_queries.total() > plain.total()
    torch.testing.assert_close(with_queries.matches.proposal, plain.matches.proposal)
