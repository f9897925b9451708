"""Training: the loop, its files, and what must survive an interrupt."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.cli.train_settings import run_settings
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig, Recipe, TrainConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.matching import Targets
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import lr_factor, total_steps
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.training import update
from sparse_rcnn_lab.training.denoising import SHIFT, STRETCH, denoising_queries
from sparse_rcnn_lab.training.engine import Run, fit
from sparse_rcnn_lab.training.loader import StepSampler, TrainBatch, train_loader
from sparse_rcnn_lab.training.optimizer import make_optimizer
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.step import StepLoss, step_loss

DATA = Shapes(length=12, seed=5, size=64)
VAL = Shapes(length=4, seed=6, size=64)


def tiny(**changes: object) -> Recipe:
    settings = {
        "model__dim": 16,
        "model__num_heads": 2,
        "model__ffn_dim": 16,
        "model__dynamic_dim": 4,
        "model__num_proposals": 8,
        "model__num_stages": 2,
        "train__steps": 6,
        "train__batch_size": 2,
        "train__denoising": 2,
        "augment__size": (64, 64),
    }
    return recipes.recipe("nano", **{**settings, **changes})


def train(out: Path, recipe: Recipe | None = None, **options: object) -> Run:
    settings = {"val": VAL, "workers": 0, "progress": False, "evaluate_every": 0}
    return fit(DATA, recipe or tiny(), out, **{**settings, **options})  # type: ignore[arg-type]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.detector.model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_unbroken_one_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    """Catches state left out of a checkpoint: optimizer moments, statistics, place in the data."""
    recipe = tiny(train__optimizer=optimizer)
    whole = train(tmp_path / "whole", recipe)

    def stop(step: int, _: object) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    broken = train(tmp_path / "broken", recipe, on_step=stop)
    assert not broken.finished and broken.step == 3
    resumed = train(tmp_path / "broken", recipe, resume=True)
    assert resumed.finished and resumed.step == 6
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key
    rows = RunFolder(resumed.folder).rows("metrics")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    same = [row["loss"] for row in RunFolder(whole.folder).rows("metrics")]
    assert [row["loss"] for row in rows] == same


def test_batch_norm_learns_its_statistics(tmp_path: Path) -> None:
    """Catches training in eval mode, where batch norm of a backbone from scratch does nothing."""
    modes: list[bool] = []
    run = train(tmp_path / "run", evaluate_every=2, on_evaluation=lambda *_: modes.append(True))
    counters = [v for k, v in weights(run).items() if k.endswith("num_batches_tracked")]
    assert len(modes) == 3 and counters
    assert {int(counter) for counter in counters} == {6}  # an evaluation does not end it


def test_interrupt_during_an_evaluation_loses_no_step(tmp_path: Path) -> None:
    """Catches a Ctrl-C that arrives between the save and the end of the evaluation."""

    def stop(step: int, _: object) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = train(tmp_path / "run", evaluate_every=2, on_evaluation=stop)
    rows = RunFolder(run.folder).rows("metrics")
    assert not run.finished and run.step == rows[-1]["step"] == 3


def test_last_evaluation_is_made_up_for(tmp_path: Path) -> None:
    """Catches a run stopped after its last step that never gets its AP."""
    recipe = tiny(train__steps=1)

    def stop(step: int, _: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    stopped = train(tmp_path / "run", recipe, evaluate_every=None, on_step=stop)
    assert stopped.evaluation is None
    resumed = train(tmp_path / "run", recipe, evaluate_every=None, resume=True)
    assert resumed.evaluation is not None


def test_false_start_leaves_the_folder_free(tmp_path: Path) -> None:
    """Catches a mistyped weights file, or other classes in val, after which the folder is taken."""
    with pytest.raises(LabError, match="no checkpoint"):
        train(tmp_path / "run", start_from=tmp_path / "missing.safetensors")

    class Other(Shapes):
        class_names = ("cat",)

    with pytest.raises(LabError, match="different classes"):
        train(tmp_path / "run", val=Other(length=2, size=64))
    assert train(tmp_path / "run", tiny(train__steps=1)).finished


def test_damaged_state_says_how_to_go_on(tmp_path: Path) -> None:
    """Catches a traceback of the unpickler where the state before could be used."""
    run = train(tmp_path / "run", tiny(train__steps=1))
    state = RunFolder(run.folder).states()[-1][1]
    (state / "optimizer.pt").write_bytes(b"half")
    with pytest.raises(LabError, match=r"step_0000001.*Delete that folder"):
        train(tmp_path / "run", tiny(train__steps=1), resume=True)


def test_workers_do_not_change_the_run(tmp_path: Path) -> None:
    """Catches augmentation that draws from a worker's own random state."""
    recipe = tiny(train__steps=2)
    one, two = train(tmp_path / "a", recipe), train(tmp_path / "b", recipe, workers=2)
    for key, value in weights(one).items():
        assert torch.equal(value, weights(two)[key]), key


def test_interrupt_handler_is_put_back(tmp_path: Path) -> None:
    """Catches a notebook whose interrupt button is dead after training."""
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path / "run", tiny(train__steps=1))
    assert signal.getsignal(signal.SIGINT) is before


def test_run_folder_holds_what_repeats_the_run(tmp_path: Path) -> None:
    """Catches a run that cannot be repeated: recipe, seed, versions, data, metrics, model."""
    run = train(tmp_path / "run", evaluate_every=3)
    folder = RunFolder(run.folder)
    header = folder.header()
    rebuilt = configs.from_dict(Recipe, header["recipe"])
    expected = configs.with_changes(tiny(), model__num_classes=len(DATA.class_names))
    assert rebuilt == expected
    assert header["data"] == {"train": DATA.fingerprint(), "val": VAL.fingerprint()}
    assert header["versions"]["torch"] == torch.__version__
    rows = folder.rows("metrics")
    assert len(rows) == 6 and len(rows[0]["loss_per_stage"]) == 2
    assert [row["step"] for row in folder.rows("evaluations")] == [3, 6]
    checkpoint = read_checkpoint(folder.model)
    assert checkpoint.class_names == DATA.class_names
    for key, value in checkpoint.build().state_dict().items():
        assert torch.equal(value, weights(run)[key]), key


def test_second_run_does_not_overwrite_the_first(tmp_path: Path) -> None:
    """Catches a forgotten --out that destroys an hour of training."""
    recipe = tiny(train__steps=1)
    train(tmp_path / "run", recipe)
    with pytest.raises(LabError, match="already holds a run"):
        train(tmp_path / "run", recipe)
    with pytest.raises(LabError, match=r"train\.lr was 0.0005, now 0.1"):
        train(tmp_path / "run", tiny(train__steps=1, train__lr=0.1), resume=True)


def test_torn_checkpoint_is_not_used(tmp_path: Path) -> None:
    """Catches resuming from a folder that a kill left half written, and one that stays for ever."""
    run = train(tmp_path / "run", tiny(train__steps=2))
    folder = RunFolder(run.folder)
    half = folder.begin_state(99)
    (half / "model.safetensors").write_bytes(b"half")
    assert [step for step, _ in folder.states()] == [2]
    other = half.rename(folder.checkpoints / ".step_99.1")  # of a process that is gone
    folder.begin_state(100)
    assert not other.exists()


def test_diverged_loss_names_step_rate_and_images(tmp_path: Path) -> None:
    """Catches silent NaN: the message must name step, learning rate and images."""
    recipe = tiny(train__lr=1e30, train__warmup_steps=0, train__clip_norm=1e30)
    with pytest.raises(LabError) as error:
        train(tmp_path / "run", recipe)
    text = str(error.value)
    assert "step 2, learning rate 9.33e+29, images: shapes seed 5 image" in text
    assert "lower learning rate" in text


def test_weights_before_a_failed_step_are_saved(tmp_path: Path) -> None:
    """Catches minutes lost by a step that fails, and statistics that the failed step has moved."""
    whole = train(tmp_path / "whole")
    honest = update.step_loss
    calls = 0

    def fails_at_the_fourth(*arguments: Any) -> StepLoss:
        nonlocal calls
        calls += 1
        loss = honest(*arguments)
        if calls == 4:
            raise LabError("boxes or scores have diverged.")
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "step_loss", fails_at_the_fourth)
        with pytest.raises(LabError, match=r"diverged.*at step 4.*state after step 3 is saved"):
            train(tmp_path / "broken")
    assert [step for step, _ in RunFolder(tmp_path / "broken").states()] == [3]
    resumed = train(tmp_path / "broken", resume=True)
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key


def test_full_gpu_is_said_and_costs_nothing(tmp_path: Path) -> None:
    """Catches a traceback of CUDA, without a way out, and steps that are lost with it."""
    honest = update.step_loss
    calls = 0

    def full_at_the_third(*arguments: Any) -> StepLoss:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return honest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "step_loss", full_at_the_third)
        with pytest.raises(LabError, match=r"step 3 \(CUDA out.*2 GiB\.\).*--accumulate"):
            train(tmp_path / "run")
    assert [step for step, _ in RunFolder(tmp_path / "run").states()] == [2]


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    """Catches a batch system's SIGTERM that loses what was trained since the last save."""

    def stop(step: int, _: object) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    run = train(tmp_path / "run", on_step=stop)
    assert not run.finished
    assert [step for step, _ in RunFolder(run.folder).states()] == [2]


def test_resuming_with_other_versions_warns_once(tmp_path: Path) -> None:
    """Catches a run that silently goes on with another torch, and is then not repeatable."""
    run = train(tmp_path / "run", tiny(train__steps=1))
    header = RunFolder(run.folder).header()
    header["versions"] |= {"torch": "1.0", "platform": "a slower one"}
    RunFolder(run.folder).write_header(header)
    with pytest.warns(
        UserWarning, match=r"started with torch 1\.0 \(now [\w.+]+\); it goes"
    ) as told:
        train(tmp_path / "run", tiny(train__steps=1), resume=True)
    assert len([w for w in told if "torch 1.0" in str(w.message)]) == 1


def test_run_of_an_older_package_is_resumed(tmp_path: Path) -> None:
    """Catches a field added to the recipe that makes every run begun before it unusable."""
    run = train(tmp_path / "run", tiny(train__steps=1))
    header = RunFolder(run.folder).header()
    for name in ("precision", "accumulate", "ema", "denoising_negatives"):
        del header["recipe"]["train"][name]
    RunFolder(run.folder).write_header(header)
    assert train(tmp_path / "run", tiny(train__steps=1), resume=True).finished


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ("--recipe r50_1x_100", 2.5e-5),
        ("--recipe r50_1x_100 --batch-size 8", 1.25e-5),
        ("--recipe r50_1x_100 --set train.batch_size=32", 5e-5),
        ("--recipe r50_1x_100 --batch-size 8 --lr 1e-4", 1e-4),
        ("--recipe r50_1x_100 --batch-size 8 --set train.lr=3e-5", 3e-5),
        ("--preset nano --batch-size 4", 5e-4),
    ],
)
def test_published_rate_follows_the_batch(tmp_path: Path, options: str, rate: float) -> None:
    """Catches a recipe on 4 GPUs that trains at the rate of 8, and a rate that overrides --lr."""
    command = ["train", "--data", "shapes", "--out", str(tmp_path / "run"), *options.split()]
    arguments = cli.build_parser().parse_args(command)
    recipe = run_settings(arguments)[1]
    assert recipe.train.lr == pytest.approx(rate)


def test_memory_settings_may_change_on_resuming(tmp_path: Path) -> None:
    """Catches a run that cannot go on on a smaller machine, or goes on as another run."""
    train(tmp_path / "run", tiny(train__steps=1))
    fewer = tiny(train__steps=1, train__accumulate=2, train__precision="bf16")
    assert train(tmp_path / "run", fewer, resume=True).finished
    with pytest.raises(LabError, match=r"train\.ema was 0\.0, now 0\.9"):
        train(tmp_path / "run", tiny(train__steps=1, train__ema=0.9), resume=True)


MEMORY = """
import resource, sys
from pathlib import Path
sys.path[:0] = {tests!r}
import torch
torch.set_num_threads(1)
from test_training import tiny, train
unit = 1 if sys.platform == "darwin" else 1024
peaks = {{}}
def watch(step, _):
    peaks[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
train(Path({out!r}), tiny(train__steps=400, train__ema=0.9), on_step=watch)
print(peaks[100], peaks[400])
"""


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Catches graphs, batches or logs that pile up. Slow: 400 steps.

    Measured: 0 to 3 MB more after 400 steps than after 100; the graph of one tiny step is 30 MB.
    """
    tests = [str(folder) for folder in Path(__file__).parents[:2]]
    code = MEMORY.format(tests=tests, out=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    early, late = map(float, done.stdout.split())
    assert late - early < 10, f"{early:.0f} MB after 100 steps, {late:.0f} MB after 400"


def test_training_reduces_the_loss(tmp_path: Path) -> None:
    """Catches an update that never reaches the weights or goes uphill."""
    recipe = tiny(train__steps=60, train__denoising=0, train__warmup_steps=5, train__lr=3e-3)
    one = Shapes(length=2, seed=5, size=64)
    run = fit(one, recipe, tmp_path / "run", workers=0, progress=False)
    losses = [row["loss"] for row in RunFolder(run.folder).rows("metrics")]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_optimizer_covers_every_trainable_parameter_once() -> None:
    """Catches parameters that are in no group, in two, or frozen ones that decay."""
    model = SparseRCNN(recipes.recipe("small").model)
    optimizer = make_optimizer(recipes.recipe("small").train, model, model.backbone.body)
    inside = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(inside) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {g["lr"] for g in optimizer.param_groups} == {
        recipes.SMALL.train.lr,
        recipes.SMALL.train.lr * recipes.SMALL.train.backbone_lr,
    }


def test_fine_tuning_takes_over_all_but_the_class_layers(tmp_path: Path) -> None:
    """Catches start_from that silently loads nothing, or fails on another class count."""
    first = train(tmp_path / "first", tiny(train__steps=1))
    state = read_checkpoint(first.folder / "model.safetensors").state
    second = train(
        tmp_path / "second",
        tiny(train__steps=1, train__lr=1e-30),
        start_from=first.folder / "model.safetensors",
    )
    assert torch.equal(weights(second)["proposals.boxes"], state["proposals.boxes"])
    with pytest.raises(LabError, match="does not fit this recipe"):
        train(
            tmp_path / "third", tiny(model__dim=32), start_from=first.folder / "model.safetensors"
        )


def test_sampler_visits_every_image_once_an_epoch_and_continues_where_it_stopped() -> None:
    """Catches images left out at the end of an epoch, and a resumed run that starts over."""
    whole = list(StepSampler(10, 4, seed=3, start=0, stop=5))
    indices = [index for batch in whole for index, _ in batch]
    assert sorted(indices[:10]) == list(range(10)) and sorted(indices[10:]) == list(range(10))
    assert indices[:10] != indices[10:]
    assert list(StepSampler(10, 4, seed=3, start=2, stop=5)) == whole[2:]
    seeds = [seed for batch in whole for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_step_schedule_drops_after_the_published_epochs() -> None:
    """Catches a drop an epoch early or late: 12 epochs, drops after 8 and 11, 500 warm-up steps."""
    config = recipes.recipe("r50_1x_100").train
    images = 1600  # 100 steps an epoch
    assert total_steps(config, images) == 1200
    assert lr_factor(config, 0, images) == pytest.approx(0.001)
    assert lr_factor(config, 250, images) == pytest.approx(0.001 + 0.999 * 0.5)
    assert lr_factor(config, 799, images) == 1
    assert lr_factor(config, 800, images) == pytest.approx(0.1)
    assert lr_factor(config, 1100, images) == pytest.approx(0.01)


def test_one_cycle_rises_and_ends_near_zero() -> None:
    """Catches a schedule that ends before it is annealed."""
    config = TrainConfig(schedule="one-cycle", steps=100, warmup_steps=10, warmup_start=0.1)
    factors = [lr_factor(config, step, 50) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) == 10 and factors[-1] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_noised_copies_stay_near_their_object_and_apart_from_the_proposals() -> None:
    """Catches a mask that lets the answer leak into the proposals, and misattributed copies."""
    boxes = [torch.tensor([[10.0, 10, 50, 30], [60, 60, 90, 100]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.long)]
    targets = Targets.pad(boxes, labels, torch.tensor([[128.0, 128], [128, 128]]))
    features = torch.arange(18.0).view(6, 3)
    copies = denoising_queries(targets, features, 5, torch.Generator().manual_seed(0))
    assert copies is not None
    n, q = 6, 6  # no more copies than proposals: three groups of two, not five
    assert copies.target[0].tolist() == [0, 1, 0, 1, 0, 1] and (copies.target[1] == -1).all()
    near = box_ops.paired_iou(copies.boxes[0], boxes[0].repeat(3, 1))
    assert near.min() > 0.3 and near.max() < 0.999
    mask = copies.mask[0, 0]
    assert mask[:n, :n].all() and not mask[:n, n:].any() and not mask[n:, :n].any()
    assert mask[n, n + 1] and not mask[n, n + 2]
    padded = copies.mask[1, 0][n:, n:]
    assert torch.equal(padded, torch.eye(q, dtype=torch.bool))
    pairs = copies.matches(2)
    assert len(pairs.stage) == 12 and (pairs.image == 0).all()


def test_negative_copies_stand_farther_off_and_are_to_find_nothing() -> None:
    """Catches negatives that are as near as the positives, that count as padding (no class loss
    then), that another group can see, or that change the positives' noise bound."""
    boxes = torch.tensor([[10.0, 10, 50, 30], [60, 60, 90, 100]])
    targets = Targets.pad([boxes], [torch.tensor([1, 0])], torch.tensor([[128.0, 128]]))
    random = torch.Generator().manual_seed(0)
    copies = denoising_queries(targets, torch.randn(8, 3), 2, random, negatives=True)
    assert copies is not None
    assert copies.target[0].tolist() == [0, 1, -1, -1] * 2
    assert copies.real.all()
    overlap = box_ops.paired_iou(copies.boxes[0], boxes.repeat(4, 1)).view(2, 2, 2)
    assert overlap[:, 0].min() > 0.3 and overlap[:, 1].max() < overlap[:, 0].max()
    centre = box_ops.xyxy_to_cxcywh(copies.boxes[0]) - box_ops.xyxy_to_cxcywh(boxes.repeat(4, 1))
    relative = (centre / box_ops.xyxy_to_cxcywh(boxes.repeat(4, 1))[:, [2, 3, 2, 3]]).abs()
    relative = relative.view(2, 2, 2, 4) / torch.tensor([SHIFT, SHIFT, STRETCH, STRETCH])
    assert relative[:, 0].max() <= 1 <= relative[:, 1].min() and relative.max() <= 2
    group = copies.mask[0, 0][8:, 8:]
    assert group[:4, :4].all() and not group[:4, 4:].any()


def test_denoising_leaves_the_proposals_loss_as_it_is() -> None:
    """Catches copies that influence the proposals: the set loss must be the same without them."""
    recipe = configs.with_changes(tiny(), model__num_classes=len(DATA.class_names))
    torch.manual_seed(0)
    model = SparseRCNN(recipe.model).eval()
    loader = train_loader(DATA, Augment(recipe.augment), recipe.train, recipe.model.input, 0, 1, 0)
    batch: TrainBatch = next(iter(loader))
    plain = step_loss(model, batch, recipe.loss)
    with_copies = step_loss(model, batch, recipe.loss, 3, torch.Generator().manual_seed(1))
    for name in ("cls", "l1", "giou"):
        a, b = getattr(plain.loss, name), getattr(with_copies.loss, name)
        assert torch.allclose(a, b, rtol=1e-5), name
    assert with_copies.denoising is not None and with_copies.total() > plain.total()
    torch.testing.assert_close(with_copies.matches.proposal, plain.matches.proposal)


def test_batch_without_objects_trains(tmp_path: Path) -> None:
    """Catches a division by the number of objects, and copies of nothing."""

    class Empty(Shapes):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            sample = super().__getitem__(index)
            return replace(sample, boxes=sample.boxes[:0], labels=sample.labels[:0])

    run = fit(
        Empty(length=2, seed=0, size=64),
        tiny(train__steps=2),
        tmp_path / "run",
        workers=0,
        progress=False,
    )
    losses = [row["loss"] for row in RunFolder(run.folder).rows("metrics")]
    assert all(math.isfinite(value) for value in losses)


def test_damaged_header_is_named(tmp_path: Path) -> None:
    """Catches a traceback of the json module where a sentence would help."""
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match=r"run\.json"):
        train(tmp_path, resume=True)


def test_metrics_cut_by_a_crash_are_read_up_to_the_cut(tmp_path: Path) -> None:
    """Catches a resume that fails because the last line was half written."""
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"st', encoding="utf-8")
    assert folder.rows("metrics") == [{"step": 1}]
    folder.rewind(0)
    assert folder.rows("metrics") == []


def test_matches_per_object_applies_stage_by_stage() -> None:
    """Catches one-to-many matching that is applied to the wrong stage."""
    recipe = configs.with_changes(
        tiny(), model__num_classes=len(DATA.class_names), loss=LossConfig(matches_per_object=(2, 1))
    )
    model = SparseRCNN(recipe.model).eval()
    loader = train_loader(DATA, Augment(recipe.augment), recipe.train, recipe.model.input, 0, 1, 0)
    batch = next(iter(loader))
    matches = step_loss(model, batch, recipe.loss).matches
    found = torch.bincount(matches.stage, minlength=2).tolist()
    objects = sum(batch.targets.counts)
    assert found == [2 * objects, objects]
