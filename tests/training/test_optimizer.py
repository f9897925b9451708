"""Muon: its step, and which weights it is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_rcnn_lab.core.config import TrainConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.training.muon import Muon
from sparse_rcnn_lab.training.optimizer import CombinedOptimizer, make_optimizer

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
def test_singular_values_become_alike_and_directions_stay(shape: tuple[int, int]) -> None:
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


def test_each_matrix_of_a_batch_is_treated_alone() -> None:
    """Catches a norm that is taken over all of them."""
    several = torch.stack([random(6, 9), 1000 * random(6, 9).flip(0)])
    for one, whole in zip(orthogonal(several), several, strict=True):
        assert torch.allclose(one, orthogonal(whole[None])[0], atol=1e-5)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    """Catches a division by a norm of zero."""
    assert orthogonal(torch.zeros(2, 4, 7)).abs().max() == 0


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
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


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(LabError, match="Muon is for matrices"):
        Muon([nn.Parameter(torch.zeros(4, 3, 2))], lr=0.1)


def small(optimizer: str) -> tuple[torch.optim.Optimizer, dict[int, str]]:
    recipe = recipes.recipe("nano", train__optimizer=optimizer)
    model = SparseRCNN(recipe.model)
    made = make_optimizer(recipe.train, model, model.backbone.body)
    return made, {id(p): name for name, p in model.named_parameters()}


def test_muon_gets_the_matrices_of_the_stages_and_adamw_the_rest() -> None:
    """Catches a parameter that nobody trains, or two do; and class rows made orthogonal."""
    optimizer, names = small("muon")
    assert isinstance(optimizer, CombinedOptimizer)
    adamw, muon = (
        [names[id(p)] for group in part.param_groups for p in group["params"]]
        for part in optimizer.parts
    )
    assert sorted(adamw + muon) == sorted(names.values())
    assert "stages.0.interaction.generate.weight" in muon
    assert "stages.5.attention.qkv.weight" in muon
    kept = ("stages.0.classify.weight", "stages.0.regress.weight", "proposals.features")
    assert set(kept) <= set(adamw)
    assert all(name.startswith("stages.") for name in muon)


def test_published_recipes_train_with_adamw() -> None:
    """Catches a default that leaves the paper."""
    for recipe in recipes.RECIPES.values():
        if recipe.published_ap:
            assert recipe.train.optimizer == "adamw"
    assert isinstance(small("adamw")[0], torch.optim.AdamW)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(LabError, match=r"train\.optimizer 'sgd' is unknown.*adamw, muon"):
        TrainConfig(optimizer="sgd")  # type: ignore[arg-type]
