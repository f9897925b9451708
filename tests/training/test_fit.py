"""Training: the loop, its files, and what must survive an interrupt."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import DATA, VAL, signal_at, tiny, train, weights

from sparse_rcnn_lab import LabError, Recipe, Shapes
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.cli.train_settings import run_settings
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.models.releases import RELEASES
from sparse_rcnn_lab.training import step as step_module
from sparse_rcnn_lab.training.run_folder import RunFolder, check_folder, run_header
from sparse_rcnn_lab.training.step import StepLoss


@pytest.mark.parametrize(("optimizer", "threads"), [("adamw", 1), ("muon", 1), ("adamw", 2)])
def test_resumed_run_equals_unbroken_one_bit_for_bit(tmp_path, optimizer, threads):
    """Catches state left out of a checkpoint: optimizer moments, statistics, place in the data; and
    threads whose gradients are added as they come."""
    recipe = tiny(
        train__optimizer=optimizer,
        model__train_batch_norm=threads == 1,
        model__fpn_norm=threads == 1,
    )
    whole = train(tmp_path / "whole", recipe, threads=threads)
    broken = train(tmp_path / "broken", recipe, threads=threads, on_step=signal_at(3))
    assert not broken.finished and broken.step == 3
    resumed = train(tmp_path / "broken", recipe, threads=threads, resume=True)
    assert resumed.finished and resumed.step == 6
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key
    rows = RunFolder(resumed.folder).rows("metrics")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    same = [row["loss"] for row in RunFolder(whole.folder).rows("metrics")]
    assert [row["loss"] for row in rows] == same


def test_interrupt_during_an_evaluation_loses_no_step(tmp_path):
    """Catches a Ctrl-C that arrives between the save and the end of the evaluation."""
    run = train(tmp_path / "run", evaluate_every=2, on_evaluation=signal_at(2))
    rows = RunFolder(run.folder).rows("metrics")
    assert not run.finished and run.step == rows[-1]["step"] == 3


def test_last_evaluation_is_made_up_for(tmp_path):
    """Catches a run stopped after its last step that never gets its AP."""
    recipe = tiny(train__steps=1)
    stopped = train(tmp_path / "run", recipe, evaluate_every=None, on_step=signal_at(1))
    assert stopped.evaluation is None
    resumed = train(tmp_path / "run", recipe, evaluate_every=None, resume=True)
    assert resumed.evaluation is not None


def test_false_start_leaves_the_folder_free(tmp_path):
    """Catches a mistyped weights file, other classes in val or none of its images, or a number out
    of range, after which the folder is taken or the whole training was for nothing."""
    with pytest.raises(LabError, match="There is no model"):
        train(tmp_path / "run", start_from=tmp_path / "missing.safetensors")

    class Other(Shapes):
        class_names = ("cat",)

        def category_ids(self) -> tuple[int, ...]:
            return (1,)

    class Empty(Shapes):
        def __len__(self) -> int:
            return 0

    with pytest.raises(LabError, match="different classes"):
        train(tmp_path / "run", val=Other(length=2, size=64))
    with pytest.raises(LabError, match="validation data has no images"):
        train(tmp_path / "run", val=Empty(length=2, size=64), evaluate_every=None)
    numbers = {"threads": 0, "workers": -1, "evaluate_every": -1, "evaluate_limit": 0}
    for name, value in numbers.items():
        with pytest.raises(LabError, match=rf"{name} must be a whole .*, found {value}"):
            train(tmp_path / "run", **{name: value})
    with pytest.raises(LabError, match="hflip must be in"):
        train(tmp_path / "run", tiny(augment__hflip=50))
    assert train(tmp_path / "run", tiny(train__steps=1)).finished


def test_damaged_state_says_how_to_go_on(tmp_path):
    """Catches a traceback of the unpickler where the state before could be used, and moments with
    a byte of the disk's own, which torch does not notice."""
    run = train(tmp_path / "run", tiny(train__steps=1))
    file = RunFolder(run.folder).states()[-1][1] / "optimizer.pt"
    flipped = bytearray(file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for content in (b"half", flipped):
        file.write_bytes(content)
        with pytest.raises(LabError, match=r"step_0000001.*Delete that folder"):
            train(tmp_path / "run", tiny(train__steps=1), resume=True)


def test_full_disk_is_said(tmp_path):
    """Catches torch's words about a position in a file that it could not write, from a save within
    the loop and again from the one that rescues."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    whole = train(tmp_path / "whole", tiny(train__steps=1))
    weights_alone = (whole.folder / "model.safetensors").stat().st_size + 5000

    def fill(step: int, _: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights_alone, before[1]))

    try:
        with pytest.raises(LabError, match=r'write ".*optimizer\.pt".*disk is not full'):
            train(tmp_path / "run", tiny(train__steps=1), on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_workers_do_not_change_the_run(tmp_path):
    """Catches augmentation that draws from a worker's own random state."""
    recipe = tiny(train__steps=2)
    one, two = train(tmp_path / "a", recipe), train(tmp_path / "b", recipe, workers=2)
    for key, value in weights(one).items():
        assert torch.equal(value, weights(two)[key]), key


def test_run_folder_holds_what_repeats_the_run(tmp_path):
    """Catches a run that cannot be repeated: recipe, seed, versions, data, metrics, model; training
    in eval mode, where batch norm of a backbone from scratch does nothing; and a detector that
    keeps its last gradients, as large as itself."""
    run = train(tmp_path / "run", evaluate_every=3)
    assert all(p.grad is None for p in run.detector.model.parameters())
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
    counters = {int(v) for k, v in weights(run).items() if k.endswith("num_batches_tracked")}
    assert counters == {6}  # an evaluation does not end it


def test_what_may_be_different_when_a_run_is_resumed(tmp_path):
    """Catches a forgotten --out that destroys an hour of training; a run that cannot go on on a
    smaller machine, or goes on as another run; one that silently goes on with another torch; and a
    new field of the recipe that makes every run begun before it unusable.
    """
    once = {"train__steps": 1}
    folder = RunFolder(train(tmp_path / "run", tiny(**once)).folder)
    with pytest.raises(LabError, match="already holds a run"):
        train(folder.path, tiny(**once))
    for field, words in (("lr", r"lr was 0.0005, now 0.5"), ("ema", r"ema was 0\.0, now 0.5")):
        with pytest.raises(LabError, match=rf"train\.{words}"):
            train(folder.path, tiny(**once, **{f"train__{field}": 0.5}), resume=True)
    header = folder.header()
    header["versions"] |= {"torch": "1.0", "platform": "a slower one"}
    for name in ("precision", "accumulate", "ema", "denoising_negatives"):
        del header["recipe"]["train"][name]
    folder.write_header(header)
    fewer = tiny(**once, train__accumulate=2, train__precision="bf16")
    with pytest.warns(UserWarning, match=r"with torch 1\.0 \(now [\w.+]+\); it continues") as told:
        assert train(folder.path, fewer, resume=True).finished
    assert len([w for w in told if "torch 1.0" in str(w.message)]) == 1


def test_a_run_that_is_moved_to_another_machine_goes_on(tmp_path):
    """Catches a shipped or published model taken for another one since its file lies elsewhere, one
    that is downloaded to find out, and a file of the user's own taken for a shipped one."""
    folder = RunFolder(tmp_path)
    files = {"nano-shapes": locate("nano-shapes"), "r50_1x_100": RELEASES["r50_1x_100"].cached}
    for name, file in files.items():
        header = run_header(tiny(), DATA, None, None, name)
        same = 4 if name == "nano-shapes" else 2  # the cache may have another name
        for there in (file, Path("/elsewhere", *file.parts[-same:])):
            folder.write_header({**header, "start_from": str(there)})
            check_folder(folder, header, resume=True)
        folder.write_header({**header, "start_from": f"/my/checkpoints/{file.name}"})
        with pytest.raises(LabError, match=f"another start from.*was '/my/.*now '{name}'"):
            check_folder(folder, header, resume=True)


def test_torn_checkpoint_is_not_used(tmp_path):
    """Catches resuming from a folder that a kill left half written, and one that stays for ever."""
    run = train(tmp_path / "run", tiny(train__steps=2))
    folder = RunFolder(run.folder)

    class Killed(BaseException):
        pass

    with pytest.raises(Killed), folder.new_state(99) as half:
        (half / "model.safetensors").write_bytes(b"half")
        raise Killed
    assert [step for step, _ in folder.states()] == [2]
    other = half.rename(folder.checkpoints / ".step_99.1")  # of a process that is gone
    with folder.new_state(100):
        assert not other.exists()


def test_diverged_loss_names_step_rate_and_images(tmp_path):
    """Catches silent NaN: the message must name step, learning rate and images."""
    recipe = tiny(train__lr=1e30, train__warmup_steps=0, train__clip_norm=1e30)
    with pytest.raises(LabError) as error:
        train(tmp_path / "run", recipe)
    text = str(error.value)
    assert "step 2, learning rate 9.33e+29, images: shapes seed 5 image" in text
    assert "lower learning rate" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            LabError("the boxes or scores have diverged."),
            r"diverged.*at step 4.*state after step 3 is saved",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
            r"step 4 \(CUDA out.*2 GiB\.\).*--accumulate",
        ),
    ],
)
def test_weights_before_a_failed_step_are_saved(tmp_path, error, words):
    """Catches minutes lost by a step that fails, statistics that the failed step has moved, and a
    traceback of CUDA without a way out."""
    honest = step_module.step_loss
    calls = 0

    def fails_at_the_fourth(*arguments: Any) -> StepLoss:
        nonlocal calls
        calls += 1
        loss = honest(*arguments)
        if calls == 4:
            raise error
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "step_loss", fails_at_the_fourth)
        with pytest.raises(LabError, match=words):
            train(tmp_path / "broken")
    assert [step for step, _ in RunFolder(tmp_path / "broken").states()] == [3]
    if isinstance(error, LabError):
        whole = weights(train(tmp_path / "whole"))
        resumed = weights(train(tmp_path / "broken", resume=True))
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_sigterm_saves_and_ends(tmp_path):
    """Catches a batch system's SIGTERM that loses what was trained since the last save, and a
    notebook whose interrupt button is dead after training."""
    before = signal.getsignal(signal.SIGINT)
    run = train(tmp_path / "run", on_step=signal_at(2, signal.SIGTERM))
    assert not run.finished
    assert [step for step, _ in RunFolder(run.folder).states()] == [2]
    assert signal.getsignal(signal.SIGINT) is before


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
def test_published_rate_follows_the_batch(tmp_path, options, rate):
    """Catches a recipe on 4 GPUs that trains at the rate of 8, and a rate that overrides --lr."""
    command = ["train", "--data", "shapes", "--out", str(tmp_path / "run"), *options.split()]
    arguments = cli.build_parser().parse_args(command)
    recipe = run_settings(arguments)[1]
    assert recipe.train.lr == pytest.approx(rate)


def test_training_reduces_the_loss(tmp_path):
    """Catches an update that never reaches the weights or goes uphill."""
    recipe = tiny(train__steps=24, train__denoising=0, train__warmup_steps=3, train__lr=3e-3)
    one = Shapes(length=2, seed=5, size=64)
    run = train(tmp_path / "run", recipe, one, val=None)
    losses = [row["loss"] for row in RunFolder(run.folder).rows("metrics")]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_fine_tuning_takes_over_all_but_the_class_layers(tmp_path):
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


@pytest.mark.parametrize("n", [3, 9])
def test_fine_tuning_with_another_number_of_proposals(tmp_path, n, capsys):
    """Catches a start that throws away all proposals where only their number is another one, or
    that keeps quiet about what it could not take."""
    first = train(tmp_path / "first", tiny(train__steps=1))
    before = read_checkpoint(first.folder / "model.safetensors").state["proposals.features"]
    recipe = tiny(train__steps=1, train__lr=1e-30, model__num_proposals=n)
    second = train(tmp_path / "second", recipe, start_from=first.folder, progress=True)
    after = weights(second)["proposals.features"]
    assert len(after) == n != len(before)
    same = min(n, len(before))
    assert torch.equal(after[:same], before[:same])
    said = capsys.readouterr()
    assert f"all but {abs(n - len(before))} of the {max(n, len(before))} proposals." in (
        said.out + said.err
    )


def test_fine_tuning_the_first_stages(tmp_path, capsys):
    """Catches other stages than the first ones, and a start that keeps quiet about the rest."""
    first = train(tmp_path / "first", tiny(train__steps=1, model__num_stages=4))
    before = read_checkpoint(first.folder / "model.safetensors").state
    recipe = tiny(train__steps=1, train__lr=1e-30)
    second = train(tmp_path / "second", recipe, start_from=first.folder, progress=True)
    after, name = weights(second), "interaction.generate.weight"
    for stage in range(2):
        assert torch.equal(after[f"stages.{stage}.{name}"], before[f"stages.{stage}.{name}"])
    said = capsys.readouterr()
    assert "all but its last 2 of 4 stages." in said.out + said.err
    with pytest.raises(LabError, match=r"stages\.2\.attention"):
        more = tiny(train__steps=1, model__num_stages=5)
        train(tmp_path / "third", more, start_from=second.folder)


def test_fine_tuning_and_overlap(tmp_path, capsys):
    """Catches a start that keeps quiet about attention which sees another thing than it learned."""
    unaware = tiny(train__steps=1, model__overlap_attention=0.0)
    first, aware = train(tmp_path / "first", unaware), tiny(train__steps=1)
    second = train(tmp_path / "second", aware, start_from=first.folder, progress=True)
    train(tmp_path / "third", aware, start_from=second.folder, progress=True)
    said = capsys.readouterr()
    said = said.out + said.err
    assert "all but its overlap_attention." in said
    assert 'Taken from "model": all weights.' in said


def test_batch_without_objects_trains(tmp_path):
    """Catches a division by the number of objects, and copies of nothing."""

    class Empty(Shapes):
        def __getitem__(self, index: int):
            sample = super().__getitem__(index)
            return replace(sample, boxes=sample.boxes[:0], labels=sample.labels[:0])

    run = train(tmp_path / "run", tiny(train__steps=2), Empty(length=2, seed=0, size=64), val=None)
    losses = [row["loss"] for row in RunFolder(run.folder).rows("metrics")]
    assert all(math.isfinite(value) for value in losses)


def test_damaged_files_are_named_or_read_as_far_as_they_go(tmp_path):
    """Catches a traceback of the json module, and a resume that fails because the last line of the
    metrics was half written."""
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"st', encoding="utf-8")
    assert folder.rows("metrics") == [{"step": 1}]
    folder.rewind(0)
    assert folder.rows("metrics") == []
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match=r"run\.json"):
        train(tmp_path, resume=True)
