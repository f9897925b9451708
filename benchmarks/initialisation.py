"""Where the learned boxes start, and whether they may learn: docs/report.md, "Where the
boxes start".

``python -m benchmarks.initialisation --out starts``

One recipe, trained on drawn shapes from each start, with the backbone and pyramid of nano-shapes;
all other weights are the same. Runs that are there go on, or are read. Each is an ordinary run
folder that keeps a snapshot an evaluation, so that ``analysis.matching_instability`` reads it too.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.matching_instability import keep_snapshots, snapshots
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.coco.folder import open_data
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.config_edit import with_changes
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.training.fit import fit
from sparse_rcnn_lab.training.run_folder import RunFolder

STARTS = ("image", "grid", "random", "kmeans")


def kmeans_boxes(data: DetectionData, count: int, seed: int = 0, limit: int = 1000) -> Tensor:
    """``[count, 4]`` cxcywh, 0..1: k-means centres of the objects of the first ``limit`` images."""
    found = [torch.zeros(0, 4)]
    for sample in (data[i] for i in range(min(limit, len(data)))):
        height, width = sample.image.shape[-2:]
        boxes = box_ops.xyxy_to_cxcywh(sample.boxes)
        found.append(boxes / torch.tensor([width, height, width, height]))
    boxes = torch.cat(found)
    if len(boxes) < count:
        raise LabError(f"There are {len(boxes)} objects, too few for {count} k-means centres.")
    centres, _ = kmeans2(boxes.double().numpy(), count, minit="++", seed=seed)
    return torch.from_numpy(centres).float()


def first_model(recipe: Recipe, start: str, data: DetectionData, source: str) -> SparseRCNN:
    """The untrained model with its boxes in place; every start has the same other weights."""
    seed = recipe.train.seed
    torch.manual_seed(seed)
    model = SparseRCNN(with_changes(recipe, model__proposal_init="image").model)
    if start == "kmeans":
        boxes = kmeans_boxes(data, recipe.model.num_proposals, seed)
    else:
        torch.manual_seed(seed)
        boxes = SparseRCNN(with_changes(recipe, model__proposal_init=start).model).proposals.boxes
    with torch.no_grad():
        model.proposals.boxes.copy_(boxes)
    state = read_checkpoint(locate(source)).state
    inner = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    model.backbone.load_state_dict(inner)
    return model


def train(
    recipe: Recipe,
    start: str,
    frozen: bool,
    data: DetectionData,
    val: DetectionData,
    out: Path,
    source: str = "nano-shapes",
    every: int = 60,
    limit: int = 100,
    progress: bool = True,
) -> pd.DataFrame:
    """A row an evaluation: AP of the last stage, mean way of the boxes' centres since the start (in
    sides of the image), mean width (of the image's).
    """
    recipe = with_changes(
        recipe,
        model__num_classes=len(data.class_names),
        model__freeze_proposal_boxes=frozen,
    )
    boxes = "frozen" if frozen else "learned"
    folder = RunFolder(out / f"{start}-{boxes}-{recipe.train.seed}")
    first = folder.path.with_suffix(".start.safetensors")
    if not folder.exists():
        model = first_model(recipe, start, data, source)
        save_checkpoint(first, model, tuple(data.class_names), first.stem)
    fit(
        data,
        recipe,
        folder.path,
        val=val,
        resume=folder.exists(),
        start_from=first,
        evaluate_every=every,
        evaluate_limit=limit,
        progress=progress,
        on_evaluation=keep_snapshots(folder.path),
    )
    kept = {0: first, **snapshots(folder.path)}
    now = {step: read_checkpoint(file).state["proposals.boxes"] for step, file in kept.items()}
    rows = [
        {
            "start": start,
            "boxes": boxes,
            "step": row["step"],
            "AP": row["stages"][-1]["AP"],
            "moved": float((now[row["step"]] - now[0])[:, :2].norm(dim=-1).mean()),
            "width": float(now[row["step"]][:, 2].mean()),
        }
        for row in folder.rows("evaluations")
    ]
    return pd.DataFrame(rows)


def main() -> None:
    """Trains every start, boxes learned and frozen, and prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    recipe = recipes.recipe(
        "nano",
        model__frozen_stages=5,
        model__train_batch_norm=False,
        train__warmup_steps=20,
        train__steps=arguments.steps,
        train__seed=arguments.seed,
    )
    data, val = open_data("shapes", "train"), open_data("shapes", "val")
    tables = [
        train(recipe, start, frozen, data, val, arguments.out)
        for start, frozen in product(STARTS, (False, True))
    ]
    print(pd.concat(tables).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
