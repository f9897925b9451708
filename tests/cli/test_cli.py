"""The command line, run in this process with tiny models: files, exit codes, words."""

import contextlib
import copy
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sparse_rcnn_lab
from sparse_rcnn_lab import LabError, Shapes, fit, load, load_trace
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.cli import train_settings
from sparse_rcnn_lab.cli.cmd_predict import output_names
from sparse_rcnn_lab.cli.train_settings import apply_overrides
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.training import fit as fit_module

TINY = [
    *("--set", "model.dim=16", "--set", "model.num_heads=2", "--set", "model.ffn_dim=16"),
    *("--set", "model.dynamic_dim=4", "--set", "model.num_stages=2", "--proposals", "6"),
    *("--set", "augment.size=64,64", "--set", "model.input.short_side=64"),
    *("--batch-size", "2", "--steps", "3", "--workers", "0", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A COCO folder of six drawn images."""
    root = tmp_path_factory.mktemp("data") / "drawn"
    (root / "images").mkdir(parents=True)
    drawn = Shapes(length=6, size=64)
    truth = drawn.ground_truth()
    for sample, entry in zip(drawn, truth["images"], strict=True):
        pixels = sample.image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / "images" / entry["file_name"])
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(truth))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    """The folder of one finished run."""
    out = tmp_path_factory.mktemp("run") / "tiny"
    assert cli.main(["train", "--data", str(data), "--out", str(out), *TINY]) == 0
    return out


def test_help_without_torch():
    """Catches a torch import at module level, which makes --help take seconds."""
    code = "import sys\nfrom sparse_rcnn_lab.cli import main as cli\n"
    code += "cli.build_parser().format_help()\nsys.exit('torch' in sys.modules)"
    root = Path(sparse_rcnn_lab.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_each_help_has_an_example(capsys):
    """Catches a % in a help text, which makes argparse fail, a help without an example, and a usage
    line that leaves a newcomer without the commands."""
    assert cli.main([]) == 2
    commands = re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, re.M)
    files = Path(cli.__file__).parent.glob("cmd_*.py")
    assert sorted(commands) == sorted(file.stem.removeprefix("cmd_") for file in files)
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0
        assert f"sparse-rcnn-lab {command}" in capsys.readouterr().out.split("example", 1)[1]


def test_train_writes_the_run_and_says_what_it_does(data, tmp_path, capsys, monkeypatch):
    """Catches options that do not reach the recipe, a missing table or next command."""
    monkeypatch.chdir(tmp_path)
    options = ["--lr", "2e-3", "--seed", "7", "--denoising", "1"]
    assert cli.main(["train", "--data", str(data), *TINY, *options]) == 0
    text = capsys.readouterr().out
    out = Path("runs/nano-drawn")
    recipe = json.loads((out / "run.json").read_text())["recipe"]
    assert recipe["train"]["lr"] == 2e-3 and recipe["train"]["seed"] == 7
    assert recipe["train"]["denoising"] == 1 and recipe["train"]["steps"] == 3
    assert recipe["model"]["dim"] == 16 and recipe["model"]["num_proposals"] == 6
    assert recipe["augment"]["size"] == [64, 64]
    assert (out / "model.safetensors").exists()
    boxes = len(json.loads((data / "train.json").read_text())["annotations"])
    assert f"train.json: 6 images (0 without a box), {boxes} boxes and 0 crowds of 6 cl" in text
    assert "AP50" in text and f"predict IMAGE --model {out}" in text


def test_interrupted_run_resumes_to_the_same_weights(data, trained, tmp_path, capsys, monkeypatch):
    """Catches a --resume that needs the options again, or that goes on with other numbers."""
    out = tmp_path / "run"
    honest = fit_module.train_step

    def interrupted(*arguments: Any) -> Any:
        result = honest(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "train_step", interrupted)
        assert cli.main(["train", "--data", str(data), "--out", str(out), *TINY]) == 130
    text = capsys.readouterr().out
    assert "Stopped after step 1" in text and f"train --resume --out {out}" in text
    assert cli.main(["train", "--resume", "--out", str(out)]) == 0
    whole, resumed = (sparse_rcnn_lab.load(p).model.state_dict() for p in (trained, out))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_second_run_does_not_touch_the_first(data, trained, capsys):
    """Catches a run that overwrites another one in the same folder."""
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    assert cli.main(["train", "--data", str(data), "--out", str(trained), *TINY]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_failed_start_leaves_the_folder_free(data, tmp_path, capsys):
    """Catches a typo in --backbone-weights that blocks the folder for the corrected command."""
    command = ["train", "--data", str(data), "--out", str(tmp_path / "run"), *TINY]
    command += ["--set", "model.backbone=mobilenet_v2"]
    weights = ["--backbone-weights", str(tmp_path / "missing.pth")]
    assert cli.main([*command, *weights]) == 2
    assert "missing.pth" in capsys.readouterr().err
    assert cli.main([*command, "--backbone-weights", "none", "--evaluate-every", "0"]) == 0


def test_one_json_is_not_its_own_validation(data, tmp_path, capsys):
    """Catches a model that is measured on the very images it was trained on, in silence."""
    one, out = data / "train.json", tmp_path / "run"
    assert cli.main(["train", "--data", str(one), "--out", str(out), *TINY]) == 2
    assert "is one json file and has no validation part" in capsys.readouterr().err
    with pytest.raises(LabError, match="val= may be another data set"):
        fit(one, "nano", out, device="cpu", progress=False)
    assert not out.exists()


def test_pretrained_backbone_is_never_left_out_silently(data, tmp_path, capsys, monkeypatch):
    """Catches a preset that trains from scratch because the download failed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    out = tmp_path / "run"
    assert cli.main(["train", "--data", str(data), "--preset", "small", "--out", str(out)]) == 2
    assert "--backbone-weights" in capsys.readouterr().err
    assert not (out / "run.json").exists()


def test_fine_tuning_takes_the_recipe_of_the_model_and_resumes_by_its_name(
    data, trained, tmp_path, capsys
):
    """Catches --start-from that falls back to a preset whose shapes do not fit, and a --resume that
    takes the same model, by name, for another one than the file it stands for."""
    out = tmp_path / "tuned"
    options = ["--start-from", str(trained), "--steps", "1", "--workers", "0"]
    command = ["train", "--data", str(data), "--out", str(out), *options]
    assert cli.main(command) == 0
    header = json.loads((out / "run.json").read_text())
    assert header["recipe"]["model"]["dim"] == 16 and header["recipe"]["train"]["steps"] == 1
    assert Path(header["start_from"]) == (trained / "model.safetensors").resolve()
    assert cli.main([*command, "--resume"]) == 0
    command[command.index(str(trained))] = "nano-shapes"
    assert cli.main([*command, "--resume"]) == 2
    assert "started with another start from" in capsys.readouterr().err


def test_fine_tuning_does_not_take_over_how_steps_were_computed(tmp_path):
    """Catches bf16 of the machine that trained a model on one that has no units for it."""
    other = load("nano-shapes")
    info = copy.deepcopy(dict(other.info))
    info["recipe"]["train"]["precision"] = "bf16"
    file = save_checkpoint(tmp_path / "a.safetensors", other.model, other.class_names, "a", info)
    recipe = train_settings._base_recipe(Namespace(start_from=str(file), preset=None))
    assert recipe.train.precision == "float32" and recipe.model.num_proposals == 20


def test_evaluate_writes_numbers_and_detections(data, trained, tmp_path, capsys):
    """Catches a wrong choice of stages, proposals or images, and unreadable results."""
    command = ["evaluate", "--model", str(trained), "--data", str(data), "--out", str(tmp_path)]
    assert cli.main([*command, "--stages", "1,2", "--proposals", "4", "--limit", "3"]) == 0
    assert "4 of 6 proposals" in capsys.readouterr().out
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["stage"] for row in report["stages"]] == [1, 2]
    assert report["num_images"] == 3 and report["num_proposals"] == 4
    found = json.loads((tmp_path / "detections.json").read_text())
    assert {row["image_id"] for row in found} <= {0, 1, 2}
    assert 0 < len(found) <= 12 and all(1 <= row["category_id"] <= 6 for row in found)


def test_a_name_goes_before_a_folder_of_that_name(data, tmp_path, monkeypatch):
    """Catches numbers of a shipped model among somebody's files, and its weights packed with the
    story of another training.
    """
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nano-shapes"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    command = ["--model", "nano-shapes", "--data", str(data)]
    assert cli.main(["evaluate", *command, "--limit", "1"]) == 0
    assert (tmp_path / "evaluations" / "nano-shapes-val" / "evaluation.json").exists()
    assert cli.main(["pack", *command, "--name", "mine"]) == 0
    report = json.loads((tmp_path / "models" / "mine.json").read_text())
    assert report["recipe"]["name"] == "nano"


def test_pack_stores_half_precision_and_evaluates_what_it_stored(data, trained, tmp_path):
    """Catches a packed file that cannot be loaded, numbers that are those of another file, and
    the run's own weights rounded.
    """
    command = ["pack", "--model", str(trained), "--data", str(data), "--out", str(tmp_path)]
    assert cli.main([*command, "--name", "drawn", "--source", "drawn here"]) == 0
    packed, whole = tmp_path / "drawn.safetensors", trained / "model.safetensors"
    assert packed.stat().st_size < 0.6 * whole.stat().st_size
    report = json.loads((tmp_path / "drawn.json").read_text())
    again = tmp_path / "again"
    arguments = ["evaluate", "--model", str(packed), "--data", str(data), "--out", str(again)]
    assert cli.main(arguments) == 0
    evaluation = json.loads((again / "evaluation.json").read_text())
    assert report["evaluation"]["stages"] == evaluation["stages"]
    assert report["recipe"]["train"]["steps"] == 3 and report["source"] == "drawn here"
    assert cli.main([*command, "--name", "../drawn"]) == 2
    assert cli.main([*command[:-1], str(trained), "--name", "model"]) == 2
    assert cli.main([*command, "--name", "drawn", "--calibrate"]) == 2  # nothing is right yet


def test_pack_evaluates_as_it_was_asked_to(data, trained, tmp_path, monkeypatch):
    """Catches --device and --precision that do not reach the evaluation."""
    asked = []
    module = importlib.import_module("sparse_rcnn_lab.training.evaluate")
    monkeypatch.setattr(module, "evaluate", lambda detector, data: asked.append(detector))
    command = ["pack", "--model", str(trained), "--data", str(data), "--out", str(tmp_path)]
    with pytest.raises(AttributeError):  # there is no result to print
        cli.main([*command, "--name", "a", "--precision", "bf16", "--debug"])
    (detector,) = asked
    assert detector.runtime.about()["precision"] == "bf16"


def test_predict_does_the_others_when_one_is_bad(data, trained, tmp_path, capsys):
    """Catches one bad file that costs the good ones, and two images of one name in one file."""
    bad = tmp_path / "notes.jpg"
    bad.write_text("no image")
    (tmp_path / "more").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "more" / "000000.jpg")
    out = tmp_path / "out"
    images = [str(bad), str(data / "images"), str(tmp_path / "more" / "*.jpg")]
    command = ["predict", *images, "--model", str(trained), "--threshold", "0"]
    assert cli.main([*command, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "notes.jpg" in error and "1 file could not be read" in error
    drawn = sorted(path.name for path in out.glob("*.detections.jpg"))
    assert drawn[:2] == ["000000-2.detections.jpg", "000000.detections.jpg"] and len(drawn) == 7
    with Image.open(out / drawn[0]) as drawn_image:
        assert drawn_image.size == (50, 40)
    rows = json.loads((out / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == set(range(1, 8))
    assert rows[-1]["file_name"].endswith("more/000000.jpg") and rows[-1]["category_name"]


def test_predict_never_overwrites_its_input(data, trained, tmp_path):
    """Catches --out in the images' own folder: overwritten photos, images of images."""
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 40), "red").save(photo)
    before = photo.read_bytes()
    command = ["predict", str(tmp_path), "--model", str(trained), "--out", str(tmp_path)]
    assert cli.main(command) == cli.main(command) == 0
    command[1] = str(tmp_path / "*.jpg")
    assert cli.main(command) == 0
    assert photo.read_bytes() == before
    assert len(list(tmp_path.glob("*.jpg"))) == 2


def test_output_names_differ_without_case():
    """Catches names that are one file on Windows or macOS, or that meet a numbered one."""
    paths = [Path(name) for name in ("a/x.jpg", "b/X.png", "c/x-2.jpg", "d/x.jpg")]
    names = output_names(paths)
    assert len({name.lower() for name in names}) == 4


def test_trace_records_what_was_asked_for(data, trained, tmp_path):
    """Catches --record that is not passed on."""
    image, out = data / "images" / "000000.png", tmp_path / "a.trace"
    command = ["trace", str(image), "--model", str(trained), "--out", str(out)]
    assert cli.main([*command, "--record", "roi_features"]) == 0
    trace = load_trace(out)
    assert trace.roi_features is not None and trace.attention is None
    assert trace.size == (64, 64)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train"], "--data"),
        (["train", "--resume"], "--out"),
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--data", "shapes", "--set", "train.lr=fast"], "train.lr=fast"),
        (["train", "--data", "shapes", "--set", "train.rate=1"], "rate"),
        (["train", "--data", "shapes", "--lr", "-1"], "train.lr"),
        (["predict", "photo.jpg", "--model", "nothing"], "nothing"),
        (["predict", 300 * "photo"], "photo"),  # longer than a name may be
        (["predict", "photo.jpg", "--model", "{run}", "--stage", "3"], "1..2"),
        (["trace", "photo.jpg", "--record", "everything"], "everything"),
        (["benchmark", "--size", "100x100"], "32"),
    ],
)
def test_wrong_input_is_one_line(command, words, trained, capsys):
    """Catches a traceback, or a message that does not name what was wrong."""
    assert cli.main([part.replace("{run}", str(trained)) for part in command]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and words in error and "\n" not in error


def test_a_place_that_cannot_be_is_told_before_the_work(data, trained, capsys, monkeypatch):
    """Catches an hour of measuring that ends in "Could not write"."""
    for work in (
        "sparse_rcnn_lab.training.evaluate.evaluate",
        "sparse_rcnn_lab.analysis.early_exit",
        "sparse_rcnn_lab.cli.cmd_benchmark.measure",
    ):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked"))
    place = str(trained / "run.json" / "results")
    common = ["--model", str(trained), "--data", str(data), "--out", place]
    for command in (
        ["evaluate", *common],
        ["analyse", "early-exit", *common],
        ["benchmark", "--json", str(Path(place, "a.json"))],
    ):
        assert cli.main(command) == 2
        assert 'run.json" is no folder' in capsys.readouterr().err


def test_debug_shows_the_traceback():
    """Catches --debug that is swallowed."""
    with pytest.raises(LabError):
        cli.main(["trace", "photo.jpg", "--record", "everything", "--debug"])


def test_a_number_that_may_be_zero_says_so(capsys):
    """Catches "at least 1" said of a number for which 0 is right."""
    with pytest.raises(SystemExit):
        cli.main(["train", "--seed", "-1"])
    assert "at least 0 is needed, found '-1'" in capsys.readouterr().err


def test_overrides_follow_the_type_of_the_field():
    """Catches "1" read as a float, "none" as text, or a nested field that is not reached."""
    given = ["train.steps=none", "augment.size=64,96", "augment.short_sides=480,512,544"]
    given += ["model.input.antialias=False", "train.lr=1", "model.backbone=resnet18"]
    recipe = apply_overrides(recipes.recipe("nano"), given)
    assert recipe.train.steps is None and isinstance(recipe.train.lr, float)
    assert recipe.augment.size == (64, 96) and recipe.augment.short_sides == (480, 512, 544)
    assert recipe.model.input.antialias is False and recipe.model.backbone == "resnet18"
    assert recipe.model.input.short_side == recipes.NANO.model.input.short_side


@pytest.mark.parametrize(
    "wrong",
    [
        "train.lr",
        "model=3",
        "model.backbone=vgg",
        "train.lr.x=1",
        "augment.size=64",
        "model.train_batch_norm=1",
        "model.dim=7",
        "train.batch_size=0",
    ],
)
def test_wrong_overrides_are_refused(wrong):
    """Catches an override that is dropped or leaves a recipe that cannot train."""
    with pytest.raises(LabError):
        apply_overrides(recipes.recipe("nano"), [wrong])


WRITES = {
    "evaluate": ("evaluation.json", ["--data", "{data}", "--out", "{out}"]),
    "pack": ("a.json", ["--name", "a", "--data", "{data}", "--out", "{out}"]),
    "predict": ("猫 ł.detections.jpg", ["{image}", "--out", "{out}"]),
    "trace": ("猫.trace", ["{image}", "--out", "{out}/猫.trace"]),
    "analyse": ("readout.json", ["readout", "--data", "{data}", "--out", "{out}", "--no-cache"]),
    "benchmark": ("a.json", ["--size", "64x64", "--repeat", "1", "--json", "{out}/a.json"]),
}


class Closed(io.StringIO):
    """A pipe whose reader, `head` say, has seen enough."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("command", WRITES)
def test_nothing_is_lost_because_it_cannot_be_printed(
    command, closed, data, trained, tmp_path, monkeypatch
):
    """Catches results that are lost where the console's code page lacks a character of them, or
    where nobody reads on."""
    image, out = tmp_path / "猫 ł.png", tmp_path / "出力"
    shutil.copy(data / "images" / "000000.png", image)
    written, options = WRITES[command]
    given = [option.format(data=data, image=image, out=out) for option in options]
    page = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    console = Closed() if closed else page
    monkeypatch.setattr(sys, "stdout", console)
    assert cli.main([command, *given, "--model", str(trained)]) == 0
    assert (out / written).exists()
    assert closed or b"??" in page.buffer.getvalue()


def test_predict_does_all_images_though_nobody_reads_on(data, trained, tmp_path, monkeypatch):
    """Catches `predict holiday/ | head` that leaves out the later images, in silence."""
    monkeypatch.setattr(sys, "stdout", Closed())
    command = ["predict", str(data / "images"), "--model", str(trained), "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert len(list(tmp_path.glob("*.detections.jpg"))) == 6


def test_help_that_nobody_reads(monkeypatch):
    """Catches Python's complaint, at its end, about a pipe that is closed."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = [sys.executable, "-m", "sparse_rcnn_lab", "train", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("page", ["cp1252", "cp932", "ascii"])
def test_help_on_any_console(page, monkeypatch):
    """Catches a help text with a character that the console cannot show."""
    for command in ("models", "train --help", "evaluate --help"):
        console = io.TextIOWrapper(io.BytesIO(), encoding=page)
        monkeypatch.setattr(sys, "stdout", console)
        with contextlib.suppress(SystemExit):
            assert cli.main(command.split()) == 0
        console.flush()
        assert b"nano" in console.buffer.getvalue()
