"""Several processes train, evaluate, stop and fail as one. On gloo and the CPU."""

import signal
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_training
import torch
from several import in_processes
from torch import Tensor

from sparse_rcnn_lab import Detector, LabError, Recipe, Shapes, evaluate
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.training import step as step_module
from sparse_rcnn_lab.training.distributed import Group, join, synchronise_batch_norm
from sparse_rcnn_lab.training.fit import begin
from sparse_rcnn_lab.training.loader import StepSampler, TrainBatch
from sparse_rcnn_lab.training.nested import expected_positives
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.step import StepLoss, step_loss, train_step

CPU = torch.device("cpu")
DATA = Shapes(length=20, seed=5, size=64)
State = dict[str, Tensor]


def tiny(**changes: Any) -> Recipe:
    """Batches of 5, so that no number of processes gets equal shards; the rate is low."""
    settings = {
        "model__proposal_init": "random",
        "model__zero_init_box_head": False,
        "model__train_batch_norm": False,
        "model__fpn_norm": False,
        "train__steps": 20,
        "train__batch_size": 5,
        "train__lr": 2.5e-6,
        "train__denoising": 0,
    }
    return small_training.tiny(**{**settings, **changes})


def train(out: Path, changes: dict[str, Any], **options: Any) -> State:
    return small_training.weights(small_training.train(out, tiny(**changes), DATA, **options))


def distance(a: State, b: State) -> float:
    return sum(((a[k].double() - b[k].double()) ** 2).sum().item() for k in a) ** 0.5


def assert_same_training(a: State, b: State, **changes: Any) -> None:
    """Two runs agree to a hundredth of the way they moved the weights.

    Sums of float32 in another order differ by about 1e-6 of a gradient; AdamW divides by the
    gradient's own size, so where that is near zero the error is of the order of the update.
    Measured at this rate: 2e-5 to 2e-4 of the way after 20 steps, up to 1e-3 after 6, where the way
    is short. (At ten times the rate training is chaotic: such errors double in each step until a
    match falls the other way.) A process left out of the average would be half the way off.
    """
    torch.manual_seed(tiny().train.seed)
    start = SparseRCNN(tiny(**changes).model).state_dict()
    assert distance(a, b) < 1e-2 * distance(a, start)


def test_two_processes_give_the_weights_of_one(tmp_path):
    """Catches a normaliser or noise of each process's own, gradients averaged over unequal shares,
    and a log that shows one process's loss.
    """
    changes = {"train__denoising": 3, "train__denoising_negatives": True, "train__steps": 5}
    whole = train(tmp_path / "one", changes)
    first, second = in_processes(2, tmp_path, train, tmp_path / "two", changes)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert_same_training(whole, first, **changes)
    one, two = (RunFolder(tmp_path / name).rows("metrics") for name in ("one", "two"))
    assert [row["positives"] for row in one] == [row["positives"] for row in two]
    for key in ("loss", "cls", "l1", "giou", "grad_norm", "denoising"):
        np.testing.assert_allclose([row[key] for row in one], [row[key] for row in two], rtol=1e-3)


def gradients(changes: dict[str, Any]) -> dict[str, Tensor]:
    """Gradients and batch-norm statistics after one step."""
    recipe = tiny(**changes)
    with join(CPU) as group:
        training = begin(recipe, CPU, group)
        training.connect()
        shard = group.shard(recipe.train.batch_size)
        batch = small_training.first_batch(recipe, DATA, shard)
        whole = tuple(chain.from_iterable(group.gather(batch.targets.counts)))
        for parameters in training.optimizer.param_groups:
            parameters["lr"] = 0.0
        train_step(training, batch, whole, 0, 0.0)
        model = training.model
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return found | {n: b.float() for n, b in model.named_buffers()}


def test_batch_norm_sees_the_images_of_all_processes(tmp_path):
    """Catches statistics of each process's own images, in forward, backward or what is kept.

    The bound: largest error of a tensor relative to its largest value. Measured 4e-5, with
    statistics of each share alone 1 to 4.
    """
    changes = {"model__train_batch_norm": True, "model__fpn_norm": True, "train__denoising": 2}
    changes |= {"model__proposal_init": "grid", "model__zero_init_box_head": True}
    changes["train__clip_norm"] = 1e9
    one = gradients(changes)
    two = in_processes(2, tmp_path, gradients, changes)[0]
    assert one.keys() == two.keys() and any("running_var" in name for name in one)
    for name, value in one.items():
        assert (value - two[name]).abs().max() <= 1e-3 * value.abs().max().clamp(min=1e-6), name


def test_on_gpus_torch_synchronises_the_norms_that_follow():
    """Catches weights that are no longer the model's own, other names in a checkpoint, and norms
    of frozen parts that follow the data once training goes on after an evaluation."""
    recipe = tiny(model__train_batch_norm=True, model__fpn_norm=True, model__frozen_stages=1)
    model = SparseRCNN(recipe.model).train()
    before = model.state_dict(keep_vars=True)
    kept = [name for name, m in model.named_modules() if name.endswith("1") and not m.training]
    synchronise_batch_norm(model, torch.device("cuda"))
    after = model.state_dict(keep_vars=True)
    assert list(before) == list(after) and all(before[name] is after[name] for name in before)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
    assert norms and not any(
        type(m) is torch.nn.BatchNorm2d and m.training for m in model.modules()
    )
    model.eval().train()
    assert all(m.training for m in norms)
    assert kept and not any(model.get_submodule(name).training for name in kept)


def two_evaluations(seed: int) -> list[tuple[np.ndarray, float]]:
    torch.manual_seed(seed)
    detector = Detector(SparseRCNN(tiny().model), DATA.class_names)
    with join(CPU):
        results = [
            evaluate(detector, Shapes(length=size, seed=1), batch_size=2, progress=False)
            for size in (5, 7)
        ]
    return [
        (r.detections[-1] if r.detections else np.empty(0), r.per_stage[-1].AP) for r in results
    ]


def test_sharded_evaluation_equals_unsharded(tmp_path):
    """Catches images lost, seen twice or in another order where the sizes do not divide."""
    expected = two_evaluations(3)
    answers = in_processes(3, tmp_path, two_evaluations, 3)
    for (rows, ap), (sharded, sharded_ap) in zip(expected, answers[0], strict=True):
        assert len(rows) and np.array_equal(rows, sharded) and ap == sharded_ap
    for answer in answers[1:]:  # all know the numbers
        assert [ap for _, ap in answer] == [ap for _, ap in expected]


def stop_at(out: Path, changes: dict[str, Any], step: int, by: int) -> int:
    """Trains until process ``by`` gets a Ctrl-C in ``step``; the steps done."""
    interrupt = small_training.signal_at(step, signal.SIGINT, by)
    return small_training.train(out, tiny(**changes), DATA, on_step=interrupt).step


def test_run_is_resumed_on_another_number_of_processes(tmp_path):
    """Catches data or noise that depend on the number of processes, and a Ctrl-C that reaches one
    process and leaves the other waiting.
    """
    changes = {"train__denoising": 2, "train__steps": 5}
    whole = train(tmp_path / "whole", changes)
    assert in_processes(2, tmp_path, stop_at, tmp_path / "fewer", changes, 2, 1) == [2, 2]
    assert_same_training(whole, train(tmp_path / "fewer", changes, resume=True), **changes)

    assert stop_at(tmp_path / "more", changes, 2, 0) == 2
    more = in_processes(2, tmp_path, resumed, tmp_path / "more", changes)
    assert_same_training(whole, more[0], **changes)
    steps = [row["step"] for row in RunFolder(tmp_path / "more").rows("metrics")]
    assert steps == list(range(1, 6))


def resumed(out: Path, changes: dict[str, Any]) -> State:
    return train(out, changes, resume=True)


def killed_at(out: Path, step: int, victim: int) -> State:
    kill = small_training.signal_at(step, signal.SIGKILL, victim)
    return train(out, {"train__steps": 4}, on_step=kill)


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_ends_the_run_and_loses_no_step(tmp_path, victim):
    """Catches survivors that wait for ever, a message that says nothing, steps that are lost."""
    answers = in_processes(2, tmp_path, killed_at, tmp_path / "run", 2, victim)
    assert answers[victim] is None
    kind, message = answers[1 - victim]
    assert kind == "LostProcess" and "Resume" in message
    assert message.startswith(f"Process {victim} of 2") and "state after step 2" in message
    assert [step for step, _ in RunFolder(tmp_path / "run").states()] == [2]
    if victim == 1:
        changes = {"train__steps": 4}
        whole = train(tmp_path / "whole", changes)
        assert_same_training(whole, resumed(tmp_path / "run", changes))


class OneBroken(Shapes):
    """Image 6 cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index == 6:
            raise LabError('"six.jpg" cannot be read.')
        return super().__getitem__(index)


def fails(data: Shapes, out: Path, changes: dict[str, Any], wild: int | None = None) -> None:
    """wild: an image on which the loss is not finite."""
    honest = step_module.step_loss

    def step_loss_of(model: SparseRCNN, batch: TrainBatch, *rest: Any) -> StepLoss:
        if any(name.endswith(f" image {wild}") for name in batch.names):
            batch = replace(batch, images=batch.images * float("nan"))
        return honest(model, batch, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "step_loss", step_loss_of)
        small_training.train(out, tiny(**changes), data)


@pytest.mark.parametrize(
    ("data", "wild", "words"),
    [(OneBroken(20, 5, size=64), None, "six.jpg"), (DATA, 6, "seed 5 image 6")],
)
def test_error_in_one_process_is_told_once(tmp_path, data, wild, words):
    """Catches an error whose words appear in one process while the others wait for it."""
    batches = [[index for index, *_ in batch] for batch in StepSampler(20, 5, 0, 0, 4)]
    step = next(s for s, batch in enumerate(batches) if 6 in batch)
    assert step > 0 and 6 in batches[step][Group(1, 2).shard(5)]  # it is the other process's
    answers = in_processes(2, tmp_path, fails, data, tmp_path / "run", {}, wild)
    assert [kind for kind, _ in answers] == ["LabError", "AlreadyReported"]
    assert words in answers[0][1] and f"state after step {step}" in answers[0][1]
    assert [done for done, _ in RunFolder(tmp_path / "run").states()] == [step]


def test_batch_that_is_too_small_is_refused(tmp_path):
    """Catches a process with no image, which would divide by zero or hang."""
    answers = in_processes(2, tmp_path, fails, DATA, tmp_path / "a", {"train__accumulate": 3})
    assert answers[0][0] == "LabError" and "train.batch_size 6" in answers[0][1]
    assert not (tmp_path / "a").exists()


def test_shares_cover_the_batch():
    """Catches images that no process or two processes get."""
    for size in (1, 2, 5, 16):
        for world in (1, 2, 3, 8):
            shares = [Group(rank, world).shard(size) for rank in range(world)]
            parts = [list(range(size))[share] for share in shares]
            assert list(chain(*parts)) == list(range(size))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("repeats", [(1,), (3, 1), (3, 2, 1)])
def test_positives_are_known_beforehand(repeats):
    """Catches a normaliser that is not the number of pairs that matching finds."""
    recipe = tiny(model__num_stages=3, loss__matches_per_object=repeats)
    torch.manual_seed(0)
    model = SparseRCNN(recipe.model).eval()
    batch = small_training.first_batch(recipe)
    counts = (0, 1, 3, 8, 12)  # none, some, as many as proposals, more
    most = max(counts)
    boxes = torch.tensor([10.0, 10, 40, 50]).repeat(5, most, 1)
    boxes += torch.arange(most)[None, :, None]
    targets = replace(
        batch.targets,
        boxes=boxes,
        labels=torch.zeros(5, most, dtype=torch.long),
        counts=counts,
    )
    found = step_loss(model, replace(batch, targets=targets), recipe.loss)
    expected = expected_positives(counts, 8, 3, recipe.loss)
    assert (
        torch.bincount(found.matches.stage, minlength=3).tolist()
        == expected
        == found.loss.positives.tolist()
    )
