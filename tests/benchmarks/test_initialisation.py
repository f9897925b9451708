"""Starting boxes: where they are put, whether they may learn, and what is said of them."""

import numpy as np
import pytest
import torch
from scripted import A, B, GreyImages
from small_model import small_config, small_model

from benchmarks.initialisation import first_model, kmeans_boxes, train
from sparse_rcnn_lab import LabError, Recipe, Shapes
from sparse_rcnn_lab.core.config import AugmentConfig, LossConfig, TrainConfig
from sparse_rcnn_lab.models.checkpoint import read_checkpoint, save_checkpoint

DATA = Shapes(4, seed=1, size=64)
RECIPE = Recipe(
    "tiny",
    "for a test",
    small_config(num_stages=2, num_classes=6),
    TrainConfig(batch_size=2, lr=1e-3, schedule="one-cycle", steps=2, warmup_steps=1),
    LossConfig(),
    AugmentConfig(size=(64, 64)),
)


@pytest.fixture
def source(tmp_path) -> str:
    path = tmp_path / "source.safetensors"
    save_checkpoint(path, small_model(9, num_stages=2), ("ant", "bee", "cat"), "source")
    return str(path)


def test_runs_differ_in_their_boxes_alone(source, tmp_path):
    """Catches a freeze that weight decay does not respect, starts with other weights, and a run
    that is trained again where it is there already.
    """
    learned, frozen = (
        train(RECIPE, "grid", freeze, DATA, DATA, tmp_path, source, every=1, progress=False)
        for freeze in (False, True)
    )
    assert learned.step.tolist() == frozen.step.tolist() == [1, 2]
    assert frozen.moved.tolist() == [0.0, 0.0] and learned.moved.iloc[-1] > 0
    models = [first_model(RECIPE, start, DATA, source).state_dict() for start in ("grid", "kmeans")]
    differ = {name for name in models[0] if not torch.equal(models[0][name], models[1][name])}
    assert differ == {"proposals.boxes"}
    given = read_checkpoint(source).state
    assert torch.equal(models[0]["backbone.fpn.inner_blocks.0.0.weight"],
                       given["backbone.fpn.inner_blocks.0.0.weight"])  # fmt: skip
    again = train(RECIPE, "grid", True, DATA, DATA, tmp_path, source, every=1, progress=False)
    assert again.equals(frozen)


def test_kmeans_finds_the_clusters():
    """Catches corners clustered in place of centres and sides, and pixels in place of shares."""
    boxes = [[(A, 0), (B, 1)] for _ in range(5)]
    found = kmeans_boxes(GreyImages(boxes), 2)
    expected = np.array([[14, 14, 20, 20], [47, 47, 26, 26]]) / 64
    assert found[found[:, 0].argsort()].numpy() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(LabError, match="There are 2 objects, too few"):
        kmeans_boxes(GreyImages(boxes), 3, limit=1)
