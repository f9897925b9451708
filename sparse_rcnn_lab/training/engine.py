"""``fit``: trains a recipe on a data set, in a terminal or a notebook alike.

Read from top to bottom: set up or resume, then one loop over steps, each of them fetch, update,
log; now and then evaluate and save. Under torchrun every process runs the same lines on its share
of each batch, and process 0 alone writes. Whatever ends the loop early (an interrupt, a loss that
is not finite, a process that was killed), the last complete state is on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.train import lr_factor
from sparse_rcnn_lab.data.coco.folder import open_data, open_train_val
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.selection import Selected, usable_images
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.runtime.for_training import compile_model
from sparse_rcnn_lab.runtime.threads import threads_for
from sparse_rcnn_lab.training.distributed import Group, join
from sparse_rcnn_lab.training.evaluate import Evaluation, evaluate, label_category_ids
from sparse_rcnn_lab.training.interrupt import graceful_interrupt
from sparse_rcnn_lab.training.keeper import RunKeeper
from sparse_rcnn_lab.training.loader import TrainBatch, train_loader
from sparse_rcnn_lab.training.metrics import metrics_row, summary
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.start import begin, check_folder, check_shares, connect, run_header
from sparse_rcnn_lab.training.step import StepLoss
from sparse_rcnn_lab.training.update import train_step


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    finished: False when it was interrupted; ``fit(..., resume=True)`` then goes on.
    evaluation: the last one of this call; None without validation data, with evaluate_every=0,
        and where a run that was finished already has been resumed.
    """

    folder: Path
    detector: Detector
    finished: bool
    step: int
    evaluation: Evaluation | None


def fit(
    data: str | Path | DetectionData,
    recipe: str | Recipe = "nano",
    out: str | Path = "runs/latest",
    *,
    val: DetectionData | None = None,
    resume: bool = False,
    backbone_weights: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | torch.device | None = None,
    workers: int | None = None,
    compiled: bool = False,
    evaluate_every: int | None = None,
    evaluate_limit: int | None = None,
    progress: bool = True,
    on_step: Callable[[int, StepLoss], None] | None = None,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> Run:
    """Trains and returns the run. Under torchrun all its processes train together.

    data: "shapes", a folder in COCO's format (its validation part is used by itself), one json
        (only with ``val``), or a data set object.
    val: the data set to evaluate on; with a data set object None evaluates nothing.
    recipe: a name out of ``recipes.RECIPES`` or a :class:`sparse_rcnn_lab.core.config.Recipe`.
    out: the run folder, which must not hold a run yet, unless ``resume``.
    resume: go on where the run in ``out`` stopped; gives the same weights as an unbroken run (to
        rounding, where the number of processes is another one).
    backbone_weights: a file, "download" for torchvision's ImageNet weights, or None to start
        from scratch.
    start_from: a checkpoint whose weights to start with, where shapes fit (fine-tuning).
    device: "cpu", "cuda", ...; None or "auto": the GPU where there is one.
    workers: processes that load images, for each training process.
    compiled: run backbone and stages through torch.compile.
    evaluate_every: steps between evaluations; default: only at the end. 0: never.
    evaluate_limit: evaluate on only the first so many images.
    progress: show a bar and what happens.
    on_step, on_evaluation: called in every process with the step number (from 1) and what it gave;
        the loss is that of the process's own images (of the last part, with train.accumulate).

    Raises LabError when data and settings do not fit, when the loss stops being finite, and when
    another process is gone.
    """
    recipe = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    device = torch.device(pick_device(device))
    folder = RunFolder(Path(out))
    with threads_for(recipe.model.backbone), join(device) as group, group.watched():
        device = group.device(device)
        train_data, val = group.agree(lambda: _open(data, val))
        augment = recipe.augment
        train_data = group.agree(lambda: usable_images(train_data, augment))
        if progress and group.first and isinstance(train_data, Selected):
            tqdm.write(f"{train_data.note}.")
        names = tuple(train_data.class_names)
        recipe = configs.with_changes(recipe, model__num_classes=len(names))
        header = run_header(recipe, train_data, val, backbone_weights, start_from)

        def check() -> None:
            check_shares(recipe, group.world)
            if val is not None:
                label_category_ids(names, val)  # other classes: said now, not after the training
            check_folder(folder, header, resume)

        group.agree(check)  # after it, process 0 may write
        states = group.gather(folder.states() if resume else [])[0]
        done, state = states[-1] if states else (0, None)
        training = group.agree(
            lambda: begin(recipe, device, group, state, backbone_weights, start_from)
        )
        connect(training)
        if compiled:
            compile_model(training.model, device)
        keeper = RunKeeper(folder, training, names, header, done)
        detector = Detector(
            training.model, names, name=folder.path.name, info={"recipe": header["recipe"]}
        )
        length = header["steps"]

        def evaluate_now(step: int, val: DetectionData) -> Evaluation:
            keeper.save_model(step)
            with training.averaged():
                result = evaluate(detector, val, limit=evaluate_limit, progress=progress)
            keeper.log("evaluations", {"step": step, **result.to_dict()})
            if on_evaluation is not None:
                on_evaluation(step, result)
            return result

        loader = train_loader(
            train_data,
            Augment(recipe.augment, recipe.model.input.antialias),
            recipe.train,
            recipe.model.input,
            start=done,
            stop=length,
            workers=_default_workers(group) if workers is None else workers,
            pin_memory=device.type == "cuda",
            share=group.share(recipe.train.batch_size),
        )

        def fetch() -> tuple[TrainBatch, tuple[int, ...]]:
            batch = next(batches)
            return batch, batch.targets.counts

        evaluation: Evaluation | None = None
        stop = False
        training.model.train()  # a Detector puts its model into eval mode
        last_step = time.monotonic()
        bar = tqdm(total=length, initial=done, unit="step", disable=not (progress and group.first))
        interrupts = graceful_interrupt(patient=group.world > 1)
        rescue = keeper.rescue(lambda: done)
        with (
            bar,
            interrupts as interrupted,
            closing(iter(loader)) as batches,
            rescue,
            group.watched(),
        ):
            while done < length and not stop:
                factor = lr_factor(recipe.train, done, len(train_data))
                rate = recipe.train.lr * factor
                for params in training.optimizer.param_groups:
                    params["lr"] = params["base_lr"] * factor

                batch, counts = group.exchange(fetch)
                whole = tuple(chain.from_iterable(counts))
                loss, values, norm = train_step(training, batch.to(device), whole, done, rate)
                done += 1

                now = time.monotonic()
                row = metrics_row(done, values, rate, norm, now - last_step)
                last_step = now
                keeper.log("metrics", row)
                bar.set_postfix_str(summary(row), refresh=False)
                bar.update()
                if on_step is not None:
                    on_step(done, loss)

                stop = group.any(interrupted())  # asked once: it may change at any moment
                every = evaluate_every or length
                due = bool(evaluate_every) and done % every == 0 and done < length
                if stop or due or done == length or keeper.overdue():
                    keeper.save_state(done)
                if due and val is not None and not stop:
                    evaluation = evaluate_now(done, val)
                    last_step = time.monotonic()
        keeper.save_model(done)
        # After the loop, so that a run that was stopped in its last evaluation gets it on resuming.
        if val is not None and evaluate_every != 0 and done == length and not stop:
            rows = group.gather(folder.rows("evaluations"))[0]
            if not rows or rows[-1]["step"] < length:
                evaluation = evaluate_now(length, val)
        if done < length and group.first:
            how = "resume=True (--resume)"
            tqdm.write(f"Stopped; everything is saved. {how} goes on in {folder.path}")
        if training.average is not None:
            training.average.apply()
        training.model.eval()
        return Run(folder.path, detector, done == length, done, evaluation)


def _default_workers(group: Group) -> int:
    """Loaders for one process; one core of its part of the machine stays free for itself."""
    return max(0, min(4, (os.cpu_count() or 1) // group.local_world - 1))


def _open(
    data: str | Path | DetectionData, val: DetectionData | None
) -> tuple[DetectionData, DetectionData | None]:
    if not isinstance(data, str | Path):
        return data, val
    if val is not None:
        return open_data(data, "train"), val
    return open_train_val(data)
