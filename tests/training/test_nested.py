"""Nested proposals: prefixes that train beside all proposals, and nothing else changes."""

import copy
import math

import pytest
import torch
from small_model import PROPOSALS, small_batch, small_model
from small_training import tiny, train
from torch import Tensor, nn

from sparse_rcnn_lab import Recipe, Shapes
from sparse_rcnn_lab.core.config import LossConfig, NestedScheme
from sparse_rcnn_lab.core.matching import Targets
from sparse_rcnn_lab.core.model import Proposals, SparseRCNN, initial_boxes, spread_order
from sparse_rcnn_lab.training import step as step_module
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.nested import draw_lengths, nest, with_prefixes
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.step import Part, StepLoss, step_loss

CONFIG = LossConfig(matches_per_object=(3, 2, 1))
SEED = 3


def batch_of(counts: tuple[int, int] = (3, 1)) -> TrainBatch:
    """Two images with so many objects."""
    images, sizes = small_batch()
    boxes = [torch.tensor([[4.0, 5, 30, 30], [30, 8, 60, 44], [8, 20, 24, 48]])[:m] for m in counts]
    labels = [torch.tensor([0, 2, 1])[:m] for m in counts]
    return TrainBatch(images, Targets.pad(boxes, labels, sizes), ("a", "b"))


def loss_of(
    model: SparseRCNN,
    batch: TrainBatch,
    prefixes: int = 0,
    denoising: int = 0,
    scheme: NestedScheme = "log",
) -> StepLoss:
    random = torch.Generator().manual_seed(SEED)
    return step_loss(model, batch, CONFIG, denoising, random, prefixes=prefixes, scheme=scheme)


def with_lengths(monkeypatch: pytest.MonkeyPatch, *lengths: int) -> None:
    monkeypatch.setattr(step_module, "draw_lengths", lambda *_: lengths)


def cut(model: SparseRCNN, n: int) -> SparseRCNN:
    """The model with its first n proposals alone."""
    model = copy.deepcopy(model)
    model.proposals.boxes = nn.Parameter(model.proposals.boxes[:n].detach())
    model.proposals.features = nn.Parameter(model.proposals.features[:n].detach())
    return model


@pytest.mark.parametrize("overlap", [0.0, 8.0])
def test_a_prefix_is_a_run_with_fewer_proposals(overlap):
    """Catches a mask through which a prefix sees the other proposals, or they see it: what is
    trained would not be what ``num_proposals=n`` runs."""
    model = small_model(overlap_attention=overlap)
    images, sizes = small_batch()
    pyramid = model.pyramid(images)
    boxes, features = model.proposals(sizes)
    rows = with_prefixes(boxes, features, None, (2, 4))
    together = model.run_stages(pyramid, rows[0], rows[1], mask=rows[2])
    places = {PROPOSALS: slice(0, 6), 2: slice(6, 8), 4: slice(8, 12)}
    assert rows[0].shape[1] == 12
    for n, place in places.items():
        alone = model.run_stages(pyramid, *model.proposals(sizes, n))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(b.logits[:, place], a.logits, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(b.boxes[:, place], a.boxes, rtol=1e-4, atol=1e-2)


def test_prefixes_leave_the_mask_of_other_rows_as_it_is():
    """Catches prefixes that open the mask which hides the denoising queries."""
    hidden = torch.eye(5, dtype=torch.bool).expand(2, 1, 5, 5)
    boxes, features = torch.rand(2, 5, 4), torch.rand(2, 5, 7)
    wide_boxes, wide_features, mask = with_prefixes(boxes, features, hidden, (3,))
    assert mask is not None and mask.shape == (2, 1, 8, 8)
    assert torch.equal(mask[..., :5, :5], hidden) and mask[..., 5:, 5:].all()
    assert not mask[..., :5, 5:].any() and not mask[..., 5:, :5].any()
    assert torch.equal(wide_boxes[:, 5:], boxes[:, :3])
    assert torch.equal(wide_features[:, 5:], features[:, :3])
    assert with_prefixes(boxes, features, hidden, ())[2] is hidden


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("denoising", [0, 2])
def test_the_loss_of_a_prefix_is_that_of_a_model_with_so_many_proposals(n, denoising, monkeypatch):
    """Catches rows of denoising queries or of all proposals among a prefix's, matches that are
    those of all proposals, and a normaliser for all; with fewer proposals than objects, too."""
    model, batch = small_model(), batch_of()
    with_lengths(monkeypatch, n)
    nested = loss_of(model, batch, prefixes=1, denoising=denoising).nested
    with_lengths(monkeypatch)
    alone = loss_of(cut(model, n), batch).total()
    assert nested.item() == pytest.approx(alone.item(), rel=1e-4)


@pytest.mark.parametrize(("scheme", "share"), [("log", 1.0), ("uniform", 0.5)])
def test_what_several_prefixes_count(scheme, share, monkeypatch):
    """Catches a mean instead of the sum, or the other way round."""
    model, batch = small_model(), batch_of()
    found = []
    for lengths in ((2,), (5,), (2, 5)):
        with_lengths(monkeypatch, *lengths)
        nested = loss_of(model, batch, prefixes=len(lengths), scheme=scheme).nested
        found.append(nested.item())
    assert found[2] == pytest.approx((found[0] + found[1]) * share, rel=1e-4)
    assert found[0] != pytest.approx(found[1], rel=1e-2)


def test_proposals_and_denoising_queries_train_as_without_prefixes():
    """Catches prefixes that change the set loss, its matches, or the noise of denoising queries."""
    model, batch = small_model(), batch_of()
    plain, nested = loss_of(model, batch, 0, 2), loss_of(model, batch, 2, 2)
    assert plain.nested is None and nested.nested is not None
    pairs: list[tuple[Tensor, Tensor]] = [
        (plain.loss.total(), nested.loss.total()),
        (plain.denoising.total(), nested.denoising.total()),
    ]
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert torch.equal(plain.matches.proposal, nested.matches.proposal)
    wanted = pairs[0][1] + pairs[1][1] + nested.nested
    torch.testing.assert_close(nested.total(), wanted)


def test_parts_of_a_batch_train_the_same_prefixes():
    """Catches lengths drawn for each part (or process) and a normaliser of each part's own."""
    model, batch = small_model(), batch_of()
    whole = loss_of(model, batch, prefixes=2).nested
    added = torch.zeros(())
    for i in range(2):
        one, part = step_module._images(batch, i, i + 1), Part(i, batch.targets.counts)
        random = torch.Generator().manual_seed(SEED)
        found = step_loss(model, one, CONFIG, 0, random, prefixes=2, part=part).nested
        added = added + found
    torch.testing.assert_close(added, whole, rtol=1e-4, atol=0)


def test_lengths_reach_from_one_to_all_but_one():
    """Catches lengths of 0 or N, lengths never drawn, and short ones alone in a step."""
    random = torch.Generator().manual_seed(0)
    one = {draw_lengths(6, 1, random, "uniform") for _ in range(200)}
    assert one == {(1,), (2,), (3,), (4,), (5,)} == {draw_lengths(6, 1, random) for _ in range(200)}
    two = {draw_lengths(5, 2, random, "uniform") for _ in range(200)}
    assert two == {(a, b) for a in (1, 2) for b in (3, 4)}
    assert draw_lengths(1, 2, random) == () and draw_lengths(6, 0, random) == ()


def test_short_lengths_are_drawn_as_often_as_long_ones():
    """Catches a logarithmic scale that is none: with 20 proposals a fifth of all lengths is 1."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw_lengths(20, 5, random) for _ in range(400)])
    assert (drawn[:, 0] == 1).all() and drawn.max() == 19
    assert (drawn[:, 1:].diff() >= 0).all()
    # Between 20^(k/5) and 20^((k+1)/5): 1, 1..3, 3..6, 6..10, 10..19.
    for part, (low, high) in enumerate(((1, 1), (1, 3), (3, 6), (6, 10), (10, 19))):
        assert (drawn[:, part].min(), drawn[:, part].max()) == (low, high)


def test_no_objects_no_trouble():
    """Catches a division by the number of objects."""
    loss = loss_of(small_model(), batch_of((0, 0)), prefixes=1, denoising=2)
    assert loss.denoising is None and math.isfinite(loss.total().item())


def small(**changes: object) -> Recipe:
    return tiny(**{"model__num_proposals": 6, "train__steps": 3, "train__denoising": 1, **changes})


def test_a_training_says_what_its_prefixes_lost(tmp_path):
    """Catches a setting that does not reach the step, and a log that hides its loss."""
    data = Shapes(length=8, seed=5, size=64)
    rows = {}
    for nested in (False, True):
        recipe = small(train__nested_proposals=nested)
        out = tmp_path / str(nested)
        run = train(out, recipe, data)
        rows[nested] = RunFolder(run.folder).rows("metrics")
    assert [row["nested"] for row in rows[False]] == [None] * 3
    assert all(row["nested"] > 0 for row in rows[True])


def test_every_prefix_of_the_order_covers_the_image():
    """Catches an order that leaves a corner for last, as a random one does.

    Measured: the mean distance from a point of the image to the nearest of n centres is 0.42 to
    0.48 / sqrt(n); in the random order of this seed, up to 0.58.
    """
    torch.manual_seed(0)
    centres = initial_boxes(20, "grid")[torch.randperm(20), :2]
    order = spread_order(centres)
    assert sorted(order) == list(range(20))
    assert (centres[order[0]] - 0.5).norm() < 0.2
    points = torch.cartesian_prod(torch.linspace(0, 1, 21), torch.linspace(0, 1, 21))
    for n in (2, 3, 5, 8, 10, 15):
        for first in (centres[order[:n]], initial_boxes(20, "grid")[:n, :2]):
            assert torch.cdist(points, first).amin(1).mean() < 0.5 / n**0.5, n


def test_nesting_reorders_boxes_with_their_features_and_enlarges_the_first():
    """Catches a box that loses its feature, a large box made smaller, and an order that changes
    what all proposals together find."""
    torch.manual_seed(0)
    proposals = Proposals(12, 4, "grid")
    with torch.no_grad():
        proposals.boxes.copy_(proposals.boxes[torch.randperm(12)])  # the grid is in order already
        proposals.features[:, :2] = proposals.boxes[:, :2]
        proposals.boxes[5, 2:] = 0.95
    before = proposals.boxes.detach().clone()
    nest(proposals)
    after = proposals.boxes.detach()
    assert not torch.equal(before[:, :2], after[:, :2])
    assert torch.equal(proposals.features[:, :2], after[:, :2])
    assert sorted(map(tuple, before[:, :2].tolist())) == sorted(map(tuple, after[:, :2].tolist()))
    assert (after[0, 2:] == 1).all() and (after[:, 2:] >= before[:, 2:].min() - 1e-6).all()
    assert (after[:, 2:] > 0.94).all(1).sum() == 2  # the first one, and the one that was so large


def test_fine_tuning_nests_once_and_leaves_a_frozen_backbone_alone(tmp_path):
    """Catches a nested model whose order is shuffled when it is trained on, and a frozen backbone
    whose weights or statistics move."""
    data = Shapes(length=8, seed=5, size=64)
    plain = train(tmp_path / "plain", small(train__steps=1), data)
    still = small(
        train__steps=2, train__lr=1e-9, train__nested_proposals=True, train__frozen_backbone=True
    )
    once = train(tmp_path / "once", still, data, start_from=plain.folder)
    twice = train(tmp_path / "twice", still, data, start_from=once.folder / "model.safetensors")
    boxes = [run.detector.model.proposals.boxes.detach() for run in (plain, once, twice)]
    assert (boxes[0] - boxes[1]).abs().max() > 0.1
    torch.testing.assert_close(boxes[1], boxes[2], rtol=0, atol=1e-4)
    before, after = (run.detector.model.backbone.state_dict() for run in (plain, once))
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert any("running_mean" in key for key in before)
