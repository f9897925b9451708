"""Initialisation lab: where the learned boxes start, and whether they may learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from tqdm.auto import tqdm

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.analysis.experiments.kept import state_hash
from sparse_rcnn_lab.analysis.experiments.snapshots import keep_snapshots, snapshots
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.config_edit import with_changes
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.training.fit import fit
from sparse_rcnn_lab.training.run_folder import RunFolder

Start = Literal["image", "grid", "random", "kmeans"]
STARTS: tuple[Start, ...] = get_args(Start)
BACKBONE = "backbone."  # what the names of its weights, and of the pyramid's, begin with
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])  # the image, relative xyxy

MEANING = {
    "start": "where the boxes start: the whole image, a grid, random boxes, or the centres of "
    "k-means over the objects of the training images",
    "boxes": "learned, or frozen where they start",
    "seed": "of weights, boxes and the order of the images",
    "step": "of the training; 0 is its start",
    "stage": "1 to S",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "moved": "mean way of the boxes' centres since the start, in sides of the image",
    "width": "mean width of the boxes, in widths of the image",
    "height": "mean height of the boxes, in heights of the image",
    "near_image": "share of the boxes with an IoU of at least 0.5 with the whole image, 0 to 1",
}


def initialisation_lab(
    data: DetectionData,
    val: DetectionData,
    out: str | Path,
    *,
    recipe: str | Recipe = "nano",
    starts: Sequence[Start] = STARTS,
    frozen: Sequence[bool] = (False, True),
    seeds: Sequence[int] = (0,),
    steps: int = 400,
    evaluate_every: int = 100,
    evaluate_limit: int | None = 200,
    backbone_of: str | Path | None = None,
    progress: bool = True,
) -> Table:
    """Trains the same recipe from different starting boxes, and says what came of it.

    out: a folder with one run for each start, choice of frozen and seed; runs that are finished
    there are read, others go on, also after an interrupt (KeyboardInterrupt). steps: of each run;
    its schedule is stretched to them.
    backbone_of: a trained model by name or path, whose backbone and pyramid all runs start with
    (the rest is fresh): a short run then says more.
    One row a run, evaluation and stage. Raises LabError when a start is unknown, when nothing
    would be evaluated, and when ``out`` holds runs of other settings or data.
    """
    recipe = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    unknown = sorted(set(starts) - set(STARTS))
    if unknown:
        raise LabError(f"A start is one of {', '.join(STARTS)}; found {', '.join(unknown)}.")
    if evaluate_every < 1:
        raise LabError(f"evaluate_every must be at least 1, found {evaluate_every}.")
    backbone = _backbone(backbone_of)
    settings = {
        "backbone_of": None if backbone is None else state_hash(backbone),
        "evaluate_every": evaluate_every,
        "evaluate_limit": evaluate_limit,
    }
    rows: list[dict[str, Any]] = []
    for seed, start, freeze in product(seeds, starts, frozen):
        changed = with_changes(
            recipe,
            model__num_classes=len(data.class_names),
            model__proposal_init="random" if start == "kmeans" else start,
            model__freeze_proposal_boxes=freeze,
            train__steps=steps,
            train__seed=seed,
        )
        name = f"{start}-{'frozen' if freeze else 'learned'}-{seed}"
        folder = Path(out) / name
        file = folder.with_suffix(".start.safetensors")
        if RunFolder(folder).exists():
            _check_settings(folder, file, settings)
        else:
            model = _first_model(changed, start, data, backbone, progress)
            names = tuple(data.class_names)
            save_checkpoint(file, model, names, file.stem, {"lab": settings})
        fit(
            data,
            changed,
            folder,
            val=val,
            resume=RunFolder(folder).exists(),
            start_from=file,
            evaluate_every=evaluate_every,
            evaluate_limit=evaluate_limit,
            progress=progress,
            on_evaluation=keep_snapshots(folder),
        )
        if not _finished(folder, steps):  # fit has waited for the end of its step
            raise KeyboardInterrupt("The same call goes on.")
        told = {
            "start": start, "boxes": "frozen" if freeze else "learned", "seed": seed,
        }  # fmt: skip
        rows += [{**told, **row} for row in _rows(folder, file)]
    about = {
        "analysis": "initialisation_lab",
        "recipe": recipe.name,
        "steps": steps,
        "data": data.fingerprint(),
        "val": val.fingerprint(),
        "evaluate_limit": evaluate_limit,
        "backbone_of": None if backbone_of is None else Path(backbone_of).name,
        "sparse_rcnn_lab": __version__,
    }
    title = f"Where learned boxes start: {recipe.name}, {steps} steps"
    return Table.of(title, rows, MEANING, about)


def kmeans_boxes(
    data: DetectionData, count: int, seed: int = 0, limit: int = 1000, progress: bool = True
) -> Tensor:
    """``[count, 4]`` cxcywh, 0..1: the centres of the boxes of the first ``limit`` images.

    Raises LabError when there are fewer objects than centres.
    """
    found = [torch.zeros(0, 4)]
    images = range(min(limit, len(data)))
    for index in tqdm(images, desc="boxes", unit="image", leave=False, disable=not progress):
        sample = data[index]
        height, width = sample.image.shape[-2:]
        boxes = box_ops.xyxy_to_cxcywh(sample.boxes)
        found.append(boxes / torch.tensor([width, height, width, height]))
    boxes = torch.cat(found)
    if len(boxes) < count:
        raise LabError(f"There are {len(boxes)} objects, too few for {count} k-means centres.")
    centres, _ = kmeans2(boxes.double().numpy(), count, minit="++", seed=seed)
    return torch.from_numpy(centres).float()


def _first_model(
    recipe: Recipe,
    start: Start,
    data: DetectionData,
    backbone: Mapping[str, Tensor] | None,
    progress: bool,
) -> SparseRCNN:
    """The untrained model, its boxes in place; every start has the same weights."""
    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(with_changes(recipe, model__proposal_init="image").model)
    torch.manual_seed(recipe.train.seed)
    count, seed = recipe.model.num_proposals, recipe.train.seed
    boxes = (
        kmeans_boxes(data, count, seed, progress=progress)
        if start == "kmeans"
        else SparseRCNN(recipe.model).proposals.boxes
    )
    with torch.no_grad():
        model.proposals.boxes.copy_(boxes)
    if backbone is not None:
        wanted = {k: v.shape for k, v in model.state_dict().items() if k.startswith(BACKBONE)}
        if {k: v.shape for k, v in backbone.items()} != wanted:
            raise LabError(
                "The backbone of backbone_of has another form than the recipe's, "
                f"{recipe.model.backbone}."
            )
        model.load_state_dict(dict(backbone), strict=False)
    return model


def _backbone(source: str | Path | None) -> dict[str, Tensor] | None:
    if source is None:
        return None
    state = read_checkpoint(locate(source)).state
    return {k: v for k, v in state.items() if k.startswith(BACKBONE)}


def _check_settings(folder: Path, file: Path, settings: Mapping[str, Any]) -> None:
    """Raises LabError unless the run was begun with these; fit compares recipe and data."""
    before = read_checkpoint(file).info.get("lab", {})
    for name, now in settings.items():
        if before.get(name) != now:
            values = "" if name == "backbone_of" else f" (it was {before.get(name)}, now {now})"
            raise LabError(
                f'The run in "{folder}" was made with another {name}{values}. Call the lab with '
                "the same settings, or with another folder for out."
            )


def _finished(folder: Path, steps: int) -> bool:
    evaluations = RunFolder(folder).rows("evaluations")
    return bool(evaluations) and evaluations[-1]["step"] == steps


def _rows(folder: Path, first: Path) -> list[dict[str, Any]]:
    origin = read_checkpoint(first).state["proposals.boxes"]
    boxes = {0: origin}
    boxes |= {s: read_checkpoint(p).state["proposals.boxes"] for s, p in snapshots(folder).items()}
    measured = {row["step"]: row["stages"] for row in RunFolder(folder).rows("evaluations")}
    rows = []
    for step, where in boxes.items():
        seen = measured.get(step, [])
        whole = box_ops.iou(box_ops.cxcywh_to_xyxy(where), WHOLE)[:, 0]
        spread = {
            "step": step,
            "moved": float((where[:, :2] - origin[:, :2]).norm(dim=-1).mean()),
            "width": float(where[:, 2].mean()),
            "height": float(where[:, 3].mean()),
            "near_image": float((whole >= 0.5).float().mean()),
        }
        for result in seen or [{"stage": None, "AP": None, "AP50": None}]:
            rows.append({**spread, **{key: result[key] for key in ("stage", "AP", "AP50")}})
    return rows
