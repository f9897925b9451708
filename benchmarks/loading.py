"""How many training images a second the data loader gives: what a GPU must not wait for."""

from __future__ import annotations

import time
import warnings
from typing import Any

from benchmarks.clock import Clock
from sparse_rcnn_lab.cli.common import plural
from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.subset import usable_images
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.training.loader import collate, train_loader

STEPS = 8


def loading_speed(data: DetectionData, recipe: Recipe, workers: int = 0) -> dict[str, Any]:
    """Loads batches of ``recipe`` as for a GPU; plain values that json can hold.

    ``one_process``: images a second of CPU time, and the milliseconds an image takes to be read,
    augmented and put into a batch. ``workers``: images a second on the clock, with so many worker
    processes; None for 0. Raises LabError where the data has no image to train on.
    """
    data, train = usable_images(data, recipe.augment), recipe.train
    if not len(data):
        raise LabError("The data set has no images; there is nothing to load.")
    augment = Augment(recipe.augment, recipe.model.input.antialias)
    loader = train_loader(data, augment, train, recipe.model.input, 0, STEPS + 1, 0)
    clock = Clock("cpu", "process")
    for step, batch in enumerate(loader.batch_sampler or ()):
        with clock.part("reading"):
            samples = [data[index] for index, *_ in batch]
        with clock.part("augmentation"):
            samples = [
                augment(sample, seed) for sample, (_, seed, _) in zip(samples, batch, strict=True)
            ]
        with clock.part("batch"):
            collate(samples, recipe.model.input, raw=True)
        if not step:
            clock.parts.clear()  # the first one warms up
    images = STEPS * train.batch_size
    parts = {name: round(spent / images, 2) for name, spent in clock.parts.items()}
    return {
        "recipe": recipe.name,
        "batch": train.batch_size,
        "one_process": {
            "images_per_second": round(1000 / sum(parts.values()), 1),
            "milliseconds": parts,
        },
        "workers": _with_workers(data, augment, recipe, workers) if workers else None,
    }


def _with_workers(
    data: DetectionData, augment: Augment, recipe: Recipe, workers: int
) -> dict[str, Any]:
    begun, stop = 3 * workers, 3 * workers + 4 * max(workers, 4)  # what was ready is not counted
    inputs = (recipe.train, recipe.model.input, 0, stop, workers)
    loader = train_loader(data, augment, *inputs, pin_memory=True)  # as for a GPU: bytes
    start = 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory'")  # said where there is no GPU
        for step, _ in enumerate(loader):
            if step == begun - 1:
                start = time.perf_counter()
    rate = (stop - begun) * recipe.train.batch_size / (time.perf_counter() - start)
    return {"number": workers, "images_per_second": round(rate, 1)}


def as_text(result: dict[str, Any]) -> str:
    """One or two lines."""
    one, many = result["one_process"], result["workers"]
    parts = ", ".join(f"{name} {ms:.1f}" for name, ms in one["milliseconds"].items())
    text = (
        f"loading for {result['recipe']}, batches of {result['batch']}: "
        f"{one['images_per_second']:.0f} images/s a core ({parts} ms an image)"
    )
    if many:
        number = many["number"]
        text += f"\n{plural(number, 'worker')}: {many['images_per_second']:.0f} images/s"
    return text
