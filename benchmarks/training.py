"""Training as it is run, in one precision beside float32: images a second, memory, loss curve.

Each precision starts from the same weights and sees the same batches. These are made beforehand
and used again and again, so that no step waits for data; how fast data come is measured apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from benchmarks import loading
from benchmarks.clock import Clock
from sparse_rcnn_lab.cli.cmd_benchmark import default_size, threads
from sparse_rcnn_lab.cli.common import plural
from sparse_rcnn_lab.core.config import Precision, Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.train import lr_factor
from sparse_rcnn_lab.data.coco.folder import open_data
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.data.subset import usable_images
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.runtime.for_training import compile_model
from sparse_rcnn_lab.training.fit import begin
from sparse_rcnn_lab.training.loader import TrainBatch, train_loader
from sparse_rcnn_lab.training.run_folder import versions
from sparse_rcnn_lab.training.step import train_step

BATCHES = 8  # made beforehand
ROWS = 10  # of the table of losses


@dataclass(frozen=True)
class TrainSettings:
    """What to train, and how long.

    recipe: a name out of ``recipes.RECIPES``; its schedule is squeezed into ``steps``.
    size: (height, width) of the drawn images, default the recipe's own.  data: a folder in COCO's
    format to take images from instead; ``workers`` processes load them.
    batch: default the recipe's; on a CPU at most 8, and 2 at the published size. The learning rate
    follows it linearly.  precision: measured beside float32.
    backbone_weights: a file or "download"; None starts from scratch, where rounding is magnified.
    """

    recipe: str = "nano"
    size: tuple[int, int] | None = None
    data: str | None = None
    batch: int | None = None
    steps: int = 20
    precision: Precision = "float32"
    compiled: bool = False
    backbone_weights: str | None = None
    device: str = "cpu"
    threads: int = 1
    workers: int = 0


def training_speed(settings: TrainSettings) -> dict[str, Any]:
    """Trains and returns plain values that json can hold.

    ``runs``: for each precision ``images_per_second`` and ``milliseconds`` a step (medians without
    the first fifth of the steps), ``memory`` in GB (None on a CPU) and ``loss``, one number a
    step, of all stages.  ``loading``: see ``loading_speed``; None for drawn images.
    Raises LabError where settings do not fit, or the GPU's memory is too small.
    """
    if settings.steps < 2:
        raise LabError(f"steps must be at least 2 (the first warms up), found {settings.steps}.")
    with threads(settings.threads):
        return _measure(settings)


def _measure(settings: TrainSettings) -> dict[str, Any]:
    recipe, data, size = _recipe_and_data(settings)
    device = torch.device(settings.device)
    loaded = None
    if settings.data is not None:
        loaded = loading.loading_speed(data, recipe, settings.workers)
    loader = train_loader(
        data,
        Augment(recipe.augment, recipe.model.input.antialias),
        recipe.train,
        recipe.model.input,
        start=0,
        stop=min(BATCHES, settings.steps),
        workers=settings.workers,
        pin_memory=device.type == "cuda",
    )
    batches = list(loader)
    runs = {}
    for precision in dict.fromkeys(("float32", settings.precision)):
        changed = configs.with_changes(recipe, train__precision=precision)
        try:
            runs[precision] = _train(changed, batches, device, settings)
        except torch.OutOfMemoryError as error:
            raise LabError(
                f"The GPU has too little memory for {precision} and batches of "
                f"{recipe.train.batch_size} ({str(error).splitlines()[0]}). Try a smaller batch."
            ) from error
    return {
        "settings": {**asdict(settings), "size": size},
        "batch": recipe.train.batch_size,
        "proposals": recipe.model.num_proposals,
        "runs": runs,
        "loading": loaded,
        "clock": Clock(settings.device).kind,
        "machine": machine(settings.device),
        "versions": versions(),
    }


def _recipe_and_data(
    settings: TrainSettings,
) -> tuple[Recipe, DetectionData, tuple[int, int] | None]:
    recipe = recipes.recipe(settings.recipe)
    published = recipe.model.input.short_side >= 800
    most = recipe.train.batch_size if settings.device != "cpu" else (2 if published else 8)
    batch = settings.batch or min(recipe.train.batch_size, most)
    train = replace(
        recipe.train,
        batch_size=batch,
        lr=recipe.train.lr * batch / recipe.train.batch_size,
        steps=settings.steps,
    )
    augment, size = recipe.augment, None
    if settings.data is None:
        size = settings.size or default_size(recipe.model.input)
        data: DetectionData = Shapes(length=BATCHES * batch, size=size)
        augment = replace(augment, size=size, crop=0.0)
    elif settings.size:
        raise LabError("size is that of drawn images; images of a folder are resized as published.")
    else:
        data = usable_images(open_data(settings.data), augment)
    classes = max(recipe.model.num_classes, len(data.class_names))
    model = replace(recipe.model, num_classes=classes)
    return replace(recipe, model=model, train=train, augment=augment), data, size


def _train(
    recipe: Recipe, batches: Sequence[TrainBatch], device: torch.device, settings: TrainSettings
) -> dict[str, Any]:
    """One run; what it needed on the GPU is free again afterwards."""
    cuda, steps, size = device.type == "cuda", settings.steps, recipe.train.batch_size
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    training = begin(recipe, device, backbone_weights=settings.backbone_weights)
    training.connect()
    if settings.compiled:
        compile_model(training.model, device)
    spent, losses = [], []
    for step in range(steps):
        factor = lr_factor(recipe.train, step, steps * size)  # one epoch: the rate does not drop
        for parameters in training.optimizer.param_groups:
            parameters["lr"] = parameters["base_lr"] * factor
        clock = Clock(settings.device)
        with clock.part("step"):
            batch = batches[step % len(batches)]
            counts, rate = batch.targets.counts, recipe.train.lr * factor
            _, values, _ = train_step(training, batch.to(device), counts, step, rate)
        spent.append(clock.parts["step"])
        losses.append(round(values.minimised, 4))
    milliseconds = statistics.median(spent[max(1, steps // 5) :])
    memory = None
    if cuda:
        memory = {
            "allocated": round(torch.cuda.max_memory_allocated(device) / 1e9, 2),
            "reserved": round(torch.cuda.max_memory_reserved(device) / 1e9, 2),
        }
    return {
        "images_per_second": round(1000 * size / milliseconds, 3),
        "milliseconds": round(milliseconds, 2),
        "memory": memory,
        "loss": losses,
    }


def as_text(result: dict[str, Any]) -> str:
    """Speed and memory of each run, and their losses side by side."""
    settings, runs = result["settings"], result["runs"]
    where = f'images of "{settings["data"]}"'
    if settings["data"] is None:
        where = "drawn images of {}x{} pixels".format(*settings["size"])
    lines = [
        f"training {settings['recipe']}: {where}, batches of {result['batch']}, "
        f"{result['proposals']} proposals, {settings['steps']} steps"
        + (", compiled" if settings["compiled"] else ""),
        f"{', '.join(result['machine'].values())}, {plural(settings['threads'], 'thread')}, "
        f"{result['clock']} time, torch {result['versions']['torch']}",
        "",
        f"{'precision':<12}{'images/s':>10}{'ms a step':>12}{'GPU memory':>24}",
    ]
    for name, run in runs.items():
        memory = "–"
        if run["memory"]:
            memory = "{allocated:.1f} GB ({reserved:.1f} held)".format(**run["memory"])
        speed, step = run["images_per_second"], run["milliseconds"]
        lines.append(f"{name:<12}{speed:>10.2f}{step:>12.1f}{memory:>24}")
    lines += ["", f"{'loss, steps':<12}" + "".join(f"{name:>10}" for name in runs)]
    lines[-1] += "  difference" * (len(runs) > 1)
    lines += _loss_rows([run["loss"] for run in runs.values()])
    if result["loading"]:
        lines += ["", _loader_against_step(result)]
    return "\n".join(lines)


def _loss_rows(curves: list[list[float]]) -> list[str]:
    steps = len(curves[0])
    cuts = sorted({steps * i // ROWS for i in range(ROWS + 1)})
    rows = []
    for start, stop in pairwise(cuts):
        means = [statistics.mean(curve[start:stop]) for curve in curves]
        row = f"{f'{start + 1}-{stop}':<12}" + "".join(f"{mean:>10.3f}" for mean in means)
        rows.append(row + "".join(f"{mean / means[0] - 1:>+12.2%}" for mean in means[1:]))
    return rows


def _loader_against_step(result: dict[str, Any]) -> str:
    found = result["loading"]
    fastest = max(run["images_per_second"] for run in result["runs"].values())
    speed = (found["workers"] or found["one_process"])["images_per_second"]
    waits = "does not wait" if speed > fastest else "waits"
    return (
        f"{loading.as_text(found)}\n"
        f"the step takes {fastest:.1f} images/s: it {waits} for {speed:.1f} that are loaded"
    )
