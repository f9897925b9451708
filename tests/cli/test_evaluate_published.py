"""The row of the published table that ``evaluate`` prints, and when it must not be believed."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from small_model import small_config, small_model

from sparse_rcnn_lab import RECIPES, Detector
from sparse_rcnn_lab.cli import cmd_evaluate as command
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.models.config_edit import to_dict
from sparse_rcnn_lab.models.layouts import COCO_CLASSES

NAME = "r50_3x_300"
# COCO's category ids have gaps.
MISSING = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
IDS = [i for i in range(1, 91) if i not in MISSING]


@pytest.fixture
def small_recipe(monkeypatch) -> None:
    """The recipe of that name has a model small enough to run."""
    model = small_config(num_classes=80)
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], model=model))


@pytest.fixture
def coco(tmp_path) -> Path:
    """COCO's own folders with three images."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "train2017").mkdir()
    images, annotations = [], []
    for number in (139, 285, 632):
        image = {"id": number, "file_name": f"{number:012}.jpg", "width": 80, "height": 60}
        Image.new("RGB", (80, 60), (number % 256, 90, 30)).save(
            root / "val2017" / image["file_name"]
        )
        box = {"bbox": [10.0, 10.0, 40.0, 30.0], "area": 1200.0, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 18, **box})
        images.append(image)
    categories = [{"id": i, "name": name} for i, name in zip(IDS, COCO_CLASSES, strict=True)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("val", "train"):
        path = root / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(truth))
    return root


def run(coco: Path, tmp_path: Path, recipe: str = NAME, *more: str) -> tuple[int, Any]:
    """Evaluates a model of that recipe; exit code and evaluation.json."""
    path = tmp_path / "mine.safetensors"
    info = {"recipe": to_dict(RECIPES[recipe])}
    save_checkpoint(path, small_model(num_classes=80), COCO_CLASSES, NAME, info)
    out = tmp_path / "out"
    arguments = ["evaluate", "--model", str(path), "--data", str(coco), "--out", str(out)]
    code = cli.main([*arguments, "--device", "cpu", *more])
    return code, json.loads((out / "evaluation.json").read_text())


def test_row_on_what_is_not_val2017(coco, tmp_path, small_recipe, capsys):
    """Catches a verdict on three images, and COCO's own folders not being understood."""
    code, report = run(coco, tmp_path)
    assert code == 0
    head, row, why = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert head.split() == ["model", "AP", "published", "difference", "tolerance", "verdict"]
    ap = 100 * report["stages"][-1]["AP"]
    wanted = [NAME, f"{ap:.2f}", "45.0", f"{ap - 45:+.2f}", "0.3", "not", "comparable"]
    assert row.split() == wanted
    assert "does not apply here: 3 images, not the 5,000 of COCO's val2017." in why
    assert report["published"]["within"] is None


def test_parts_of_a_model_do_not_compare(coco, tmp_path, small_recipe, monkeypatch):
    """Catches a verdict on the third stage, or on a few of the proposals."""
    monkeypatch.setattr(command, "VAL2017", 3)
    _, report = run(coco, tmp_path, NAME, "--stages", "1,3", "--proposals", "2")
    assert report["published"]["why_not"] == ["2 of 6 proposals", "stage 3, not the last"]
    assert run(coco, tmp_path)[1]["published"]["within"] is False  # an untrained model


def test_no_row_for_other_models(coco, tmp_path, small_recipe, capsys):
    """Catches a model of one's own measured against somebody else's number."""
    assert "published" not in run(coco, tmp_path, "nano")[1]
    assert "published" not in run(coco, tmp_path, "r50_3x_100")[1]  # the name, another model
    assert "verdict" not in capsys.readouterr().out


def compared(ap: float, **changes: Any) -> dict[str, Any] | None:
    """What is said of a last stage with this AP (0..1)."""
    info = {"recipe": to_dict(RECIPES[NAME])}
    detector = Detector(small_model(num_classes=80), COCO_CLASSES, NAME, info)
    values = {"per_stage": [SimpleNamespace(AP=ap)], "num_images": 5000, "stages": (4,)}
    result: Any = SimpleNamespace(**{**values, **changes})
    data: Any = SimpleNamespace(class_names=COCO_CLASSES[::-1])
    return command.compare(detector, data, result, detector.num_proposals)


@pytest.mark.parametrize(
    ("ap", "verdict", "difference"),
    [
        (0.4502, "within", "+0.02"),
        (0.4471, "within", "-0.29"),
        (0.4469, "outside", "-0.31"),
        (0.4531, "outside", "+0.31"),
    ],
)
def test_verdict(ap, verdict, difference, small_recipe):
    """Catches AP 0..1 against AP of 100, a wrong sign, a tolerance on one side only."""
    row = compared(ap)
    text = command.comparison_text(row)
    assert text.splitlines()[1].split() == [
        NAME,
        f"{100 * ap:.2f}",
        "45.0",
        difference,
        "0.3",
        verdict,
    ]
    assert len(text.splitlines()) == 2


def test_nothing_to_compare(small_recipe):
    """Catches AP -1, which means that there are no objects, read as a bad result."""
    assert compared(-1.0) is None
