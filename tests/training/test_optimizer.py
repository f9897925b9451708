"""Learning rate, Muon and its weights, and the weights' average."""

import pytest
import torch
from torch import nn

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.core.config import TrainConfig
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import lr_factor, total_steps
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.training.optimizer import (
    CombinedOptimizer,
    Muon,
    WeightAverage,
    make_optimizer,
)

SHAPES = [(8, 40), (40, 8), (16, 16), (1, 5)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """What Muon moves zeros by, without its scale."""
    weights = [nn.Parameter(torch.zeros_like(matrix)) for matrix in matrices]
    for weight, matrix in zip(weights, matrices, strict=True):
        weight.grad = matrix.clone()
    Muon(weights, lr=1.0, momentum=0.0).step()
    return torch.stack([-w.detach() for w in weights]) / (0.2 * max(matrices.shape[1:]) ** 0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_alike_and_directions_stay(shape):
    """Catches a polynomial whose order matters, a side mixed up, and a scale left in."""
    # Values from 1 to 0.05, so that all of them have come up after five steps.
    u, _, v = torch.linalg.svd(random(3, *shape), full_matrices=False)
    values = torch.logspace(0, -1.3, min(shape))
    found = orthogonal((u * values) @ v * 70)
    inner = u.mT @ found @ v.mT
    diagonal = inner.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.25
    assert (inner - torch.diag_embed(diagonal)).abs().max() < 1e-3


def test_each_matrix_of_a_batch_is_treated_alone():
    """Catches a norm that is taken over all of them."""
    several = torch.stack([random(6, 9), 1000 * random(6, 9).flip(0)])
    for one, whole in zip(orthogonal(several), several, strict=True):
        assert torch.allclose(one, orthogonal(whole[None])[0], atol=1e-5)


def test_a_gradient_of_zeros_moves_nothing():
    """Catches a division by a norm of zero."""
    assert orthogonal(torch.zeros(2, 4, 7)).abs().max() == 0


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_steps_are_those_of_torch(shape):
    """torch's own computes in bfloat16, hence the limit: 3 % of what was moved."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = (nn.Parameter(random(*shape)) for _ in range(2))
    start = ours.detach().clone()
    a = Muon([ours], lr=0.02, weight_decay=0.1)
    b = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        gradient = random(5, *shape)[step]
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    assert (ours - theirs).norm() < 0.03 * (theirs - start).norm()


def test_what_is_no_matrix_is_refused():
    with pytest.raises(LabError, match="Muon is for matrices"):
        Muon([nn.Parameter(torch.zeros(4, 3, 2))], lr=0.1)


def small(optimizer: str) -> tuple[torch.optim.Optimizer, dict[int, str]]:
    recipe = recipes.recipe("nano", train__optimizer=optimizer)
    model = SparseRCNN(recipe.model)
    made = make_optimizer(recipe.train, model, model.backbone.body)
    return made, {id(p): name for name, p in model.named_parameters()}


def test_muon_gets_the_matrices_of_the_stages_and_adamw_the_rest():
    """Catches a parameter that nobody trains, or two do; class rows made orthogonal; and a default
    that leaves the paper."""
    optimizer, names = small("muon")
    assert isinstance(optimizer, CombinedOptimizer)
    adamw, muon = (
        [names[id(p)] for group in part.param_groups for p in group["params"]]
        for part in optimizer.parts
    )
    assert sorted(adamw + muon) == sorted(names.values())
    assert {"stages.0.interaction.generate.weight", "stages.5.attention.qkv.weight"} <= set(muon)
    kept = ("stages.0.classify.weight", "stages.0.regress.weight", "proposals.features")
    assert set(kept) <= set(adamw)
    assert all(name.startswith("stages.") for name in muon)
    assert isinstance(small("adamw")[0], torch.optim.AdamW)
    published = [recipe for recipe in recipes.RECIPES.values() if recipe.published_ap]
    assert {recipe.train.optimizer for recipe in published} == {"adamw"}


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(LabError, match=r"train\.optimizer 'sgd' is unknown.*adamw, muon"):
        TrainConfig(optimizer="sgd")


def test_step_schedule_drops_after_the_published_epochs():
    """Catches a drop an epoch early or late: 12 epochs, drops after 8 and 11, 500 warm-up steps."""
    config = recipes.recipe("r50_1x_100").train
    images = 1600  # 100 steps an epoch
    assert total_steps(config, images) == 1200
    assert lr_factor(config, 0, images) == pytest.approx(0.001)
    assert lr_factor(config, 250, images) == pytest.approx(0.001 + 0.999 * 0.5)
    assert lr_factor(config, 799, images) == 1
    assert lr_factor(config, 800, images) == pytest.approx(0.1)
    assert lr_factor(config, 1100, images) == pytest.approx(0.01)


def test_one_cycle_rises_and_ends_near_zero():
    """Catches a schedule that ends before it is annealed."""
    config = TrainConfig(schedule="one-cycle", steps=100, warmup_steps=10, warmup_start=0.1)
    factors = [lr_factor(config, step, 50) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) == 10 and factors[-1] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_optimizer_covers_every_trainable_parameter_once():
    """Catches parameters that are in no group, in two, or frozen ones that decay."""
    model = SparseRCNN(recipes.recipe("small").model)
    optimizer = make_optimizer(recipes.recipe("small").train, model, model.backbone.body)
    inside = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(inside) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {g["lr"] for g in optimizer.param_groups} == {
        recipes.SMALL.train.lr,
        recipes.SMALL.train.lr * recipes.SMALL.train.backbone_lr,
    }


def test_average_by_hand():
    """Catches a decay applied to the wrong side, warm-up forgotten, counters that are averaged."""
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, decay=0.5)
    expected, tensors = 1.0, []
    for update, weight in enumerate((2.0, 5.0, -1.0, 4.0), start=1):
        with torch.no_grad():
            module.weight.fill_(weight)
            module.num_batches_tracked.fill_(update)
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight
        tensors.append(average.state["weight"].item())
        assert tensors[-1] == pytest.approx(expected)
    assert tensors[0] == pytest.approx(2 / 11 + 9 / 11 * 2)
    assert average.state["num_batches_tracked"] == 4
    with average.in_the_model():
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 4.0
