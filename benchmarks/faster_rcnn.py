"""The yardstick: torchvision's Faster R-CNN with our backbone, images and minutes.

``python -m benchmarks.faster_rcnn --data FOLDER --minutes M --out DIR``

What both detectors share comes from the same code: backbone, pyramid and what is frozen in them,
input size, augmentation, order of the images, optimizer and learning-rate curve. What differs is
the detector behind the pyramid. The budget is the process's CPU time in training, so that waiting
for other work does not count; other work still slows the memory (by 40% where we measured), so
run both sides alone, on one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from tqdm.auto import tqdm

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.backbone import Backbone
from sparse_rcnn_lab.core.config import ModelConfig, Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.train import lr_factor
from sparse_rcnn_lab.data.coco.folder import open_train_val
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.detect.images import resize_image
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.imagenet import load_backbone
from sparse_rcnn_lab.runtime.folding import fold_fixed_norms
from sparse_rcnn_lab.training.coco_metrics import CocoResult, coco_stats
from sparse_rcnn_lab.training.loader import TrainBatch, collate, train_loader
from sparse_rcnn_lab.training.optimizer import make_optimizer
from sparse_rcnn_lab.training.run_folder import versions
from sparse_rcnn_lab.training.step import MixedPrecision

LEVELS = ("p2", "p3", "p4", "p5")
_ENDLESS = 10**9


class PooledPyramid(nn.Module):
    """Our backbone as torchvision wants it: named levels, and a fifth one for large anchors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = Backbone(config)
        fold_fixed_norms(self.inner)  # as our own training does
        self.out_channels = config.dim

    @property
    def body(self) -> nn.ModuleDict:
        """The bottom-up part; the optimizer may give it a lower rate."""
        return self.inner.body

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """``[B, 3, H, W]`` -> p2..p5 and "pool", p5 at half its resolution."""
        levels = self.inner(images)
        pool = nn.functional.max_pool2d(levels[-1], 1, 2)
        return OrderedDict(zip((*LEVELS, "pool"), (*levels, pool), strict=True))


def build_faster_rcnn(config: ModelConfig, rois: int = 512) -> FasterRCNN:
    """Faster R-CNN on our backbone, with torchvision's settings but for the image size.

    rois: regions an image that train the second stage. On a CPU a quarter of torchvision's 512,
    out of a quarter of its 2,000 candidates, halves the time of a step.
    Anchors: a side each level, doubling, 16 to 256 pixels for a 320-pixel input, three aspects.
    Class 0 is the background, so label i of the data is i + 1 here.
    """
    side = config.input.short_side / 20
    anchors = AnchorGenerator(
        tuple((round(side * 2**i),) for i in range(5)), ((0.5, 1.0, 2.0),) * 5
    )
    return FasterRCNN(
        PooledPyramid(config),
        config.num_classes + 1,
        # Images come normalised and sized by our own code; these leave them alone.
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        min_size=config.input.short_side,
        max_size=config.input.long_side,
        size_divisible=config.input.multiple,
        rpn_anchor_generator=anchors,
        rpn_post_nms_top_n_train=min(2000, 4 * rois),
        box_roi_pool=MultiScaleRoIAlign(list(LEVELS), output_size=7, sampling_ratio=2),
        box_batch_size_per_image=rois,
        box_score_thresh=0.01,
    )


def train(
    model: FasterRCNN, data: DetectionData, recipe: Recipe, minutes: float, progress: bool = True
) -> tuple[int, float]:
    """Trains for so many minutes of CPU time. Returns steps made and CPU seconds used.

    The recipe's learning-rate curve is stretched over the budget, whatever number of steps that
    gives, so it ends where it should. Raises LabError when the loss is not finite.
    """
    budget = 60 * minutes
    length = recipe.train.steps or 1000  # only the curve's resolution
    schedule = replace(recipe.train, steps=length)
    optimizer = make_optimizer(recipe.train, model, model.backbone.inner.body)
    augment = Augment(recipe.augment, recipe.model.input.antialias)
    loader = train_loader(data, augment, recipe.train, recipe.model.input, 0, _ENDLESS, workers=0)
    mixed = MixedPrecision(recipe.train.precision, torch.device("cpu"))
    model.train()
    steps, start, used = 0, time.process_time(), 0.0
    with tqdm(total=round(budget), unit="s", disable=not progress) as bar:
        for batch in loader:
            factor = lr_factor(schedule, int(length * used / budget), len(data))
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            with mixed.autocast():
                losses = model(_images(batch), _targets(batch))
            loss = torch.stack(list(losses.values())).sum()
            if not math.isfinite(float(loss.detach())):
                raise LabError(
                    f"The loss is not finite at step {steps + 1}, images "
                    f"{', '.join(batch.names)}; try a lower learning rate (--lr)."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, recipe.train.clip_norm)
            optimizer.step()
            steps += 1
            used = time.process_time() - start
            bar.set_postfix_str(f"{steps} steps, loss {float(loss.detach()):.2f}", refresh=False)
            bar.update(min(round(used), bar.total) - bar.n)
            if used >= budget:
                break
    return steps, used


@torch.inference_mode()
def score(model: FasterRCNN, data: DetectionData, config: ModelConfig) -> CocoResult:
    """COCO numbers on ``data``, images sized as the detector of this package sizes them."""
    model.eval()
    want, ids, rows = config.input, data.category_ids(), [np.empty((0, 7))]
    for sample in (data[i] for i in range(len(data))):
        image = resize_image(sample.image, want.short_side, want.long_side, want.antialias)
        batch = collate([replace(sample, image=image)], want)
        (found,) = model(_images(batch))
        height, width = sample.image.shape[-2:]
        back = torch.tensor([width / image.shape[-1], height / image.shape[-2]])
        boxes = box_ops.clip(box_ops.rescale(found["boxes"], back), height, width)
        part = np.empty((len(boxes), 7))
        part[:, 0] = sample.image_id
        part[:, 1:5] = box_ops.xyxy_to_xywh(boxes)
        part[:, 5] = found["scores"]
        part[:, 6] = [ids[label - 1] for label in found["labels"].tolist()]
        rows.append(part)
    return coco_stats(data.ground_truth(), np.concatenate(rows))


def run(
    train_data: DetectionData,
    val: DetectionData,
    recipe: Recipe,
    minutes: float,
    out: Path,
    backbone_weights: str | Path | None = None,
    rois: int = 512,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains, scores (outside the budget) and writes ``out``/result.json; returns its content."""
    if not minutes > 0:
        raise LabError(f"minutes must be more than 0, found {minutes}.")
    recipe = configs.with_changes(recipe, model__num_classes=len(train_data.class_names))
    torch.manual_seed(recipe.train.seed)
    model = build_faster_rcnn(recipe.model, rois)
    if backbone_weights is not None:
        load_backbone(model.backbone.inner, recipe.model.backbone, backbone_weights)
    steps, used = train(model, train_data, recipe, minutes, progress)
    result = {
        "detector": "torchvision Faster R-CNN",
        **score(model, val, recipe.model).to_dict(),
        "minutes": minutes,
        "steps": steps,
        "cpu_seconds": round(used, 1),
        "seconds_per_step": round(used / steps, 3),
        "rois": rois,
        "threads": torch.get_num_threads(),
        "seed": recipe.train.seed,
        "recipe": configs.to_dict(recipe),
        "data": {"train": train_data.fingerprint(), "val": val.fingerprint()},
        "versions": versions(),
    }
    write_text(out / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def _images(batch: TrainBatch) -> list[Tensor]:
    sizes = batch.targets.sizes.int().tolist()
    return [image[:, :h, :w] for image, (h, w) in zip(batch.images, sizes, strict=True)]


def _targets(batch: TrainBatch) -> list[dict[str, Tensor]]:
    t = batch.targets
    return [
        {"boxes": t.boxes[i, :count], "labels": t.labels[i, :count] + 1}
        for i, count in enumerate(t.counts)
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faster_rcnn",
        description="Train torchvision's Faster R-CNN as a yardstick for a Sparse R-CNN recipe.",
    )
    what = "folder with train.json, val.json and images/"
    parser.add_argument("--data", required=True, help=what)
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of training")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json")
    parser.add_argument("--recipe", default="small", help="whose settings to use (%(default)s)")
    parser.add_argument("--backbone-weights", help='a file, or "download" for torchvision\'s')
    parser.add_argument("--lr", type=float, help="learning rate, if not the recipe's")
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16", "auto"))
    parser.add_argument("--rois", type=int, default=512, help="train regions (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        recipe = recipes.recipe(
            given.recipe, train__seed=given.seed, train__precision=given.precision
        )
        if given.lr:
            recipe = configs.with_changes(recipe, train__lr=given.lr)
        data, val = open_train_val(given.data)
        result = run(
            data, val, recipe, given.minutes, given.out, given.backbone_weights, given.rois
        )
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"AP {result['AP']:.3f}, AP50 {result['AP50']:.3f} after {result['steps']} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
