"""The models in the package: whole, described, and as good as the README says."""

import json

import pytest
import torch

from sparse_rcnn_lab import LabError, evaluate, fit, load, open_data, shipped_models
from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.detect.images import read_image
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.models.load import CHECKPOINTS

PROMISED = ("nano-shapes", "small-cards", "small-cells")
EXAMPLES = CHECKPOINTS.parents[1] / "data" / "examples"


@pytest.mark.parametrize("name", sorted({*shipped_models(), *PROMISED}))
def test_each_model_is_small_and_described(name):
    """Catches a model that is not there, too large, or without recipe, seed, source or AP."""
    path = CHECKPOINTS / f"{name}.safetensors"
    assert path.stat().st_size < (10e6 if name.startswith("nano") else 25e6)
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["source"] and about["command"] and "seed" in about["recipe"]["train"]
    detector = load(name)
    assert tuple(about["class_names"]) == detector.class_names
    assert len(about["evaluation"]["stages"]) == detector.num_stages


def test_nano_shapes_is_as_good_as_its_file_says():
    """Catches a checkpoint that does not belong to the numbers beside it."""
    about = json.loads((CHECKPOINTS / "nano-shapes.json").read_text(encoding="utf-8"))
    said = about["evaluation"]["stages"][-1]["AP"]
    found = evaluate(load("nano-shapes"), open_data("shapes", "val"), limit=30, progress=False)
    assert pytest.approx(said, abs=0.06) == found.per_stage[-1].AP


def test_small_cards_reads_the_cards():
    """Catches swapped class names or colours: four cards on a table, each read off by a person."""
    found = load("small-cards")(EXAMPLES / "cards_1.jpg", threshold=0.3)
    height, width = read_image(EXAMPLES / "cards_1.jpg").shape[1:]
    cards = {}
    for name, box in zip(found.names(), box_ops.xyxy_to_cxcywh(found.boxes).tolist(), strict=True):
        side = ("top" if box[1] < height / 2 else "bottom", "left" if box[0] < 145 else "right")
        cards.setdefault(side, name)
    assert cards == {
        ("top", "left"): "nine",
        ("top", "right"): "king",
        ("bottom", "left"): "ace",
        ("bottom", "right"): "jack",
    }
    assert found.size == (height, width)


def test_small_cells_finds_the_white_cells():
    """Catches swapped class names or colours: two white cells in one image, one in the others."""
    detector = load("small-cells")
    for name, count in (("cells_1.jpg", 2), ("cells_2.jpg", 1), ("cells_3.jpg", 1)):
        found = detector(EXAMPLES / name, threshold=0.5)
        assert found.names().count("WBC") == count
        assert found.names().count("RBC") >= 2


def test_small_everyday_finds_everyday_things():
    """Catches swapped class names or colours: what a person sees first in each photograph."""
    detector = load("small-everyday")
    for name, thing in (("1", "bus"), ("2", "tv monitor"), ("3", "horse"), ("4", "motorbike")):
        assert thing in detector(EXAMPLES / f"everyday_{name}.jpg", threshold=0.5).names()[:2]


def test_overlap_may_be_another_one(tmp_path):
    """Catches an option that does nothing, reaches the first stage, or is lost in a file."""
    image = open_data("shapes", "val")[6].image
    usual, other = load("nano-shapes"), load("nano-shapes", overlap_attention=9.0)
    one, two = usual.trace(image).logits, other.trace(image).logits
    assert torch.equal(one[0], two[0]) and not torch.equal(one[1], two[1])
    file = save_checkpoint(tmp_path / "a.safetensors", other.model, other.class_names, "a")
    assert torch.equal(load(file).trace(image).logits, two)
    with pytest.raises(LabError, match="overlap_attention must be a number of at least 0"):
        load("nano-shapes", overlap_attention=-1.0)
    command = ["evaluate", "--model", "nano-shapes", "--data", "shapes", "--limit", "4"]
    for number in ("0", "9"):
        out = ["--out", str(tmp_path / number)]
        assert main([*command, "--overlap-attention", number, *out]) == 0
    said = [json.loads(next((tmp_path / n).glob("*.json")).read_text()) for n in ("0", "9")]
    assert [report["overlap_attention"] for report in said] == [0, 9]
    assert said[0]["stages"] != said[1]["stages"]


def test_a_device_that_is_not_there_is_said(tmp_path):
    """Catches torch's RuntimeError where LabError is promised."""
    with pytest.raises(LabError, match=r"There is no device .* Leave device \(--device\) out"):
        load("nano-shapes", device="cuda:99")
    with pytest.raises(LabError, match="There is no device 'cuda:99'"):
        fit("shapes", out=tmp_path / "run", device="cuda:99")
    assert load("nano-shapes", device="auto").model.device.type in ("cpu", "cuda")
