"""How fast batches are loaded."""

import json
from dataclasses import replace

import pytest
from coco_folders import coco_folder
from test_loader import PUBLISHED, Made

from benchmarks import __main__ as cli
from benchmarks.loading import loading_speed


def test_loading_speed_is_that_of_the_recipes_batches(tmp_path, capsys):
    """Catches a rate of batches taken for one of images, and parts that do not add up."""
    data = Made([(40, 60), (60, 40)] * 8, [1] * 16)
    small = replace(PUBLISHED.augment, short_sides=(32,), crop=0.0)
    recipe = replace(PUBLISHED, augment=small, train=replace(PUBLISHED.train, batch_size=4))
    result = loading_speed(data, recipe, workers=1)
    assert data.opened == 9 * 4  # the worker counts by itself
    parts = result["one_process"]["milliseconds"]
    assert set(parts) == {"reading", "augmentation", "batch"}
    rate = result["one_process"]["images_per_second"]
    assert rate == pytest.approx(1000 / sum(parts.values()), rel=0.01)
    assert result["batch"] == 4 and result["workers"]["number"] == 1

    written = tmp_path / "speed.json"
    folder = str(coco_folder(tmp_path / "data"))
    arguments = ["--model", "nano", "--data", folder, "--json", str(written)]
    assert cli.main(arguments) == 0
    assert "loading for nano, batches of 4: " in capsys.readouterr().out
    assert json.loads(written.read_text())["recipe"] == "nano"
