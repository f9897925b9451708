"""The plain training loop makes the steps of ``fit``, and its AP is COCO's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.inputs import Targets
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import average_precision, detect, train
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.runtime import for_training
from sparse_rcnn_lab.training.coco_eval import coco_stats
from sparse_rcnn_lab.training.loader import train_loader

DATA = Shapes(6, size=(64, 96))  # not a multiple of the batch: the third step begins a new epoch


def recipe(**changes: Any) -> Recipe:
    """nano without what the plain loop leaves out, four steps of it."""
    return srl.recipe(
        "nano", model__num_classes=6, model__num_stages=3, train__steps=4, train__optimizer="adamw",
        train__denoising=0, train__warmup_steps=1, augment__size=(64, 96), **changes,
    )  # fmt: skip


def batches(recipe: Recipe) -> Iterator[tuple[Tensor, Targets]]:
    """What fit is given."""
    augment, inputs = Augment(recipe.augment, recipe.model.input.antialias), recipe.model.input
    for batch in train_loader(DATA, augment, recipe.train, inputs, 0, 4, workers=0):
        yield batch.images, batch.targets


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Fixed batch norms, another schedule, several proposals an object.
        {
            "model__train_batch_norm": False,
            "train__schedule": "step",
            "loss__matches_per_object": [2, 1, 1],
        },
    ],
    ids=["nano", "fixed norms"],
)
def test_fit_makes_the_same_steps(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a fit whose rate, loss or update are not those of the plain
    loop, and a faster backward pass with other gradients."""
    # Folded fixed norms are rounded otherwise; their gradients have a test of their own.
    monkeypatch.setattr(for_training, "fold_fixed_norms", lambda backbone: None)
    wanted: list[float] = []
    srl.fit(
        DATA, recipe(**changes), tmp_path, workers=0, evaluate_every=0, progress=False,
        on_step=lambda step, loss: wanted.append(float(loss.total().detach())),
    )  # fmt: skip
    own = recipe(**changes)
    torch.manual_seed(own.train.seed)
    model, losses = SparseRCNN(own.model), []
    train(model, batches(own), own, lambda step, loss: losses.append(loss))
    assert len(losses) == 4 and losses[0] != losses[1]
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert losses[0] == pytest.approx(wanted[0], rel=1e-6)


def test_average_precision_is_cocos() -> None:
    """Catches an object found twice, ranks that mix classes, and recall read at the wrong place."""
    generator = torch.Generator().manual_seed(0)
    data = Shapes(12, size=(96, 128))
    samples = [data[i] for i in range(len(data))]
    found, rows = [], []
    for sample in samples:
        boxes = sample.boxes.repeat(2, 1)
        boxes = boxes + 6 * torch.randn(boxes.shape, generator=generator)
        labels = sample.labels.repeat(2)
        labels[::5] = 0
        scores, order = torch.rand(len(labels), generator=generator).sort(descending=True)
        boxes, labels = boxes[order], labels[order]
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        found.append(
            Detections(boxes, scores, labels, torch.arange(len(order)), (96, 128), data.class_names)
        )
        ids = torch.tensor(data.category_ids())[labels]
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        image = torch.full((len(order), 1), sample.image_id)
        rows.append(torch.cat([image, xywh, scores[:, None], ids[:, None]], dim=1))
    wanted = coco_stats(data.ground_truth(), torch.cat(rows).double().numpy()).AP
    assert 0.05 < wanted < 0.9
    assert average_precision(found, samples) == pytest.approx(wanted, abs=1e-4)
    assert average_precision([d[:0] for d in found], samples) == 0.0


def test_detect_is_the_detector() -> None:
    """Catches a last stage that is not the last, and boxes of another frame."""
    detector = srl.load("nano-shapes")
    image = Shapes(1, size=128)[0].image
    found = detect(detector.model, image, detector.class_names)
    wanted = detector(image)
    assert np.array_equal(found.labels[:5], wanted.labels[:5])
    torch.testing.assert_close(found.boxes[:5], wanted.boxes[:5], rtol=1e-3, atol=1e-2)


def test_training_leaves_a_model_that_detects() -> None:
    """Catches batch norms left following each image that is looked at."""
    own = recipe()
    torch.manual_seed(0)
    model = SparseRCNN(own.model)
    train(model, batches(own), replace(own, train=replace(own.train, steps=1)))
    assert not any(module.training for module in model.modules())
