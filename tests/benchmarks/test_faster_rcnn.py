"""The yardstick is trained and scored as fairly as the detector it is compared with."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import faster_rcnn
from sparse_rcnn_lab import CocoFolder, Recipe
from sparse_rcnn_lab.core.config import AugmentConfig, InputConfig
from sparse_rcnn_lab.core.train import lr_factor
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes

SIZES = ((100, 140), (120, 80))  # height, width


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images with a coloured rectangle each, of two classes whose ids have a gap."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for i, (h, w) in enumerate(SIZES):
        pixels = np.full((h, w, 3), 90, np.uint8)
        pixels[20:80, 10:60] = (220, 40, 40) if i else (40, 40, 220)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
        images.append({"id": 10 + i, "file_name": f"{i}.png", "width": w, "height": h})
        annotations.append(
            {"id": 1 + i, "image_id": 10 + i, "category_id": (2, 7)[i], "bbox": [10, 20, 50, 60]}
            | {"area": 3000, "iscrowd": 0}
        )
    categories = [{"id": 2, "name": "blue"}, {"id": 7, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def recipe() -> Recipe:
    small = recipes.recipe("nano", model__dim=16, model__num_classes=2, train__batch_size=2)
    return replace(
        small,
        model=replace(small.model, input=InputConfig(64, 64, antialias=True)),
        augment=AugmentConfig(size=(64, 64)),
    )


class Clock:
    """A process that uses one second between any two looks at its clock."""

    def __init__(self) -> None:
        self.ticks: Iterator[int] = iter(range(10**6))

    def __call__(self) -> float:
        return float(next(self.ticks))


def test_run_writes_a_result(folder, recipe, tmp_path):
    """Catches a budget that is not kept, and a result that cannot be repeated from its file."""
    data, val = CocoFolder(folder), CocoFolder(folder, "val")
    out = tmp_path / "out"
    faster_rcnn.run(data, val, recipe, minutes=0.01, out=out, rois=16, progress=False)
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] >= 1
    assert result["cpu_seconds"] >= 0.6
    assert -1 < result["AP"] <= result["AP50"] <= 1
    assert set(result["per_class"]) == {"blue", "red"}
    assert configs.from_dict(Recipe, result["recipe"]).train == recipe.train
    assert result["versions"]["torchvision"] and result["data"]["train"] == data.fingerprint()


def test_schedule_spans_the_budget(folder, recipe, monkeypatch):
    """Catches a learning rate that is cut off high because the steps did not fit the minutes."""
    factors = []

    def noted(*arguments: object) -> float:
        factors.append(lr_factor(*arguments))
        return factors[-1]

    monkeypatch.setattr(faster_rcnn, "lr_factor", noted)
    monkeypatch.setattr(faster_rcnn.time, "process_time", Clock())
    torch.manual_seed(0)
    model = faster_rcnn.build_faster_rcnn(recipe.model, rois=4)
    steps, used = faster_rcnn.train(model, CocoFolder(folder), recipe, 10 / 60, progress=False)
    assert (steps, used) == (10, 10.0)
    peak = int(np.argmax(factors))
    assert 0 < peak < 4 and factors[peak] > 0.9
    assert factors[0] < 0.1 and factors[-1] < 0.05


def test_frozen_as_our_detector(recipe):
    """Catches an unfair comparison: statistics or parts that train here and not in ours."""
    config = replace(recipe.model, frozen_stages=2, train_batch_norm=False)
    model = faster_rcnn.build_faster_rcnn(config, rois=16).train()
    parts = list(model.backbone.body.values())
    frozen = [all(not p.requires_grad for p in part.parameters()) for part in parts]
    assert frozen == [True, True, False, False, False]
    norms = [m for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


class Oracle(nn.Module):
    """Returns what an ideal Faster R-CNN would: boxes in input pixels, class 0 is background."""

    def __init__(self, shift: int = 1) -> None:
        super().__init__()
        self.shift = shift
        self.seen = 0

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        label, (h, w) = self.seen, SIZES[self.seen]
        self.seen += 1
        scale = torch.tensor([image.shape[2] / w, image.shape[1] / h] * 2)
        return [
            {
                "boxes": torch.tensor([[10.0, 20.0, 60.0, 80.0]]) * scale,
                "scores": torch.tensor([0.9]),
                "labels": torch.tensor([(label + self.shift - 1) % 2 + 1]),
            }
        ]


def test_score_of_a_perfect_detector(folder, recipe):
    """Catches boxes left in input pixels, and labels off by the background class."""
    val = CocoFolder(folder, "val")
    assert faster_rcnn.score(Oracle(), val, recipe.model).AP > 0.999
    wrong = faster_rcnn.score(Oracle(shift=2), val, recipe.model)
    assert wrong.AP == 0.0


def test_targets_leave_class_0_to_the_background(folder, recipe):
    """Catches the first class being trained as background."""
    data = CocoFolder(folder)
    batch = faster_rcnn.collate([data[0], data[1]], recipe.model.input)
    targets = faster_rcnn._targets(batch)
    assert [t["labels"].tolist() for t in targets] == [[1], [2]]
    assert [tuple(image.shape[1:]) for image in faster_rcnn._images(batch)] == list(SIZES)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    """Catches a traceback for a mistyped folder."""
    arguments = ["--data", str(tmp_path / "nowhere"), "--minutes", "1", "--out", str(tmp_path)]
    assert faster_rcnn.main(arguments) == 1
    assert "nowhere" in capsys.readouterr().err
