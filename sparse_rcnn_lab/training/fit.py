"""``fit``: trains a recipe on a data set, in a terminal or a notebook alike.

Read it from top to bottom: it sets up or resumes, then loops over steps, each of which fetches,
updates and logs; now and then it evaluates and saves. Under torchrun every process runs the same
lines on its shard of each batch, and process 0 alone writes. Whatever ends the loop early (an
interrupt, a loss that is not finite, a killed process), the last complete state is on disk.

``core/train.py`` is the same without files, several processes, precision and resuming.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.train import lr_factor
from sparse_rcnn_lab.data.coco.folder import open_data, open_train_val
from sparse_rcnn_lab.data.data_check import first_lines
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.subset import usable_images
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.imagenet import load_backbone
from sparse_rcnn_lab.models.load import locate
from sparse_rcnn_lab.runtime.for_training import compile_model, resolve_precision, speed_up_training
from sparse_rcnn_lab.runtime.torch_runtime import threads_for
from sparse_rcnn_lab.training.distributed import Group, join, synchronise_batch_norm
from sparse_rcnn_lab.training.evaluate import Evaluation, check_whole, evaluate, shared_category_ids
from sparse_rcnn_lab.training.loader import TrainBatch, check_main_guard, train_loader
from sparse_rcnn_lab.training.nested import nest
from sparse_rcnn_lab.training.optimizer import make_optimizer
from sparse_rcnn_lab.training.run_folder import (
    RunFolder,
    RunWriter,
    check_folder,
    load_state,
    run_header,
)
from sparse_rcnn_lab.training.score_calibration import uncalibrated
from sparse_rcnn_lab.training.step import MixedPrecision, StepLoss, Training, train_step


@dataclass(frozen=True)
class Run:
    """A training run, finished or interrupted.

    finished: False when it was interrupted; ``fit(..., resume=True)`` then continues it.
    step: the steps done.  folder: the run folder, with ``model.safetensors`` in it.
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
    threads: int = 1,
    compiled: bool = False,
    evaluate_every: int | None = None,
    evaluate_limit: int | None = None,
    progress: bool = True,
    on_step: Callable[[int, StepLoss], None] | None = None,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> Run:
    """Trains a model and returns the run. Under torchrun all its processes train together.

    data: "shapes", a folder in COCO format (which has its own validation part), one json file
        (only with ``val``), or a data set object.
    val: the data set to evaluate on; with a data set object as ``data``, None evaluates nothing.
    recipe: a name in ``srl.RECIPES`` or a :class:`sparse_rcnn_lab.Recipe`.
    out: the run folder; unless ``resume`` is set it must not hold a run yet.
    resume: continue the run in ``out``; gives the same weights as an uninterrupted run (up to
        rounding, where the number of processes has changed).
    backbone_weights: a file, "download" for torchvision's ImageNet weights, or None to start
        from scratch.
    start_from: fine-tune this model, given by name, run folder or checkpoint file. Its classes and
        the number of its proposals may differ, all other weights must have the same shapes.
    device: "cpu", "cuda", ...; None or "auto" is the GPU where there is one.
    workers: number of processes that load images, for each training process.
    threads: number of threads that share the images of a batch on a CPU, for a model whose
        operations are too short to be parallel themselves. Batch norms that are trained must see
        the whole batch; then only the stages are shared. Weights are the same up to rounding.
    compiled: run backbone and stages through torch.compile.
    evaluate_every: steps between evaluations; None: only at the end, 0: never.
    evaluate_limit: evaluate on only this many images, the first ones.
    progress: show a progress bar and messages.
    on_step, on_evaluation: called in every process with the step number (from 1) and its result;
        the loss is that of the process's own images (of the last part, with train.accumulate).

    Raises LabError when data and settings do not fit, when the loss stops being finite, and when
    another process is lost.

    >>> import tempfile
    >>> import sparse_rcnn_lab as srl
    >>> recipe = srl.recipe("nano", train__steps=2, train__batch_size=2, augment__size=(64, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     drawn = srl.Shapes(length=8, size=64)
    ...     run = srl.fit(drawn, recipe, folder, workers=0, progress=False)
    ...     print(run.finished, run.step, (run.folder / "model.safetensors").exists())
    True 2 True
    """
    _check_order(data, recipe)
    check_whole("threads", threads)
    check_whole("workers", workers, 0)
    check_whole("evaluate_every", evaluate_every, 0)
    check_whole("evaluate_limit", evaluate_limit)
    if workers != 0:
        check_main_guard()
    recipe = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    device = torch.device(pick_device(device))
    here = resolve_precision(recipe.train.precision, device)
    recipe = configs.with_changes(recipe, train__precision=here)  # run.json keeps what was used
    folder = RunFolder(Path(out))
    with threads_for(recipe.model.backbone), join(device) as group:
        workers = _default_workers(group) if workers is None else workers
        # Open the data and check that it can be trained on, before anything is written.
        train_data, val = group.agree(lambda: _open(data, val))
        augment, antialias = recipe.augment, recipe.model.input.antialias
        augmented = group.agree(lambda: Augment(augment, antialias))
        train_data = group.agree(lambda: usable_images(train_data, augment))
        names = tuple(train_data.class_names)
        recipe = configs.with_changes(recipe, model__num_classes=len(names))
        header = run_header(recipe, train_data, val, backbone_weights, start_from)

        def check() -> list[str]:
            _check_batch(recipe, group.world)
            # Validation data without images, or with other classes, is reported before training.
            if val is not None and evaluate_every != 0 and not len(val):
                raise LabError("The validation data has no images; evaluate_every=0 needs none.")
            notes = [] if val is None else shared_category_ids(names, val)[1]
            check_folder(folder, header, resume)
            return notes

        class_notes = group.agree(check)  # from here on process 0 may write
        if progress and group.first:
            lines = first_lines(train_data, val, recipe.model.num_proposals)
            tqdm.write("\n".join([*lines, *class_notes]))

        def say(text: str) -> None:
            if progress:
                tqdm.write(text)

        # Model, optimizer and batches, new or from the last complete state.
        states = group.gather(folder.states() if resume else [])[0]
        done, state = states[-1] if states else (0, None)
        training = group.agree(
            lambda: begin(
                recipe, device, group, state, backbone_weights, start_from, say, names, threads
            )
        )
        training.connect()
        if compiled:
            compile_model(training.model, device)
        writer = RunWriter(folder, training, names, header, done)
        about = {"recipe": header["recipe"]}
        detector = Detector(training.model, names, name=folder.path.name, info=about)
        length = header["steps"]
        loader = train_loader(
            train_data,
            augmented,
            recipe.train,
            recipe.model.input,
            start=done,
            stop=length,
            workers=workers,
            pin_memory=device.type == "cuda",
            shard=group.shard(recipe.train.batch_size),
        )

        def fetch() -> tuple[TrainBatch, tuple[int, ...]]:
            batch = next(batches)
            return batch, batch.targets.counts

        def evaluate_now(step: int, val: DetectionData) -> Evaluation:
            writer.save_model(step)
            average = training.average
            with nullcontext() if average is None else average.in_the_model():
                result = evaluate(
                    detector, val, limit=evaluate_limit, progress=progress, notes=False
                )
            writer.log("evaluations", {"step": step, **result.to_dict()})
            if on_evaluation is not None:
                on_evaluation(step, result)
            return result

        evaluation: Evaluation | None = None
        stop = False
        training.model.train()  # a Detector puts its model into eval mode
        last_step = time.monotonic()
        with (
            tqdm(
                total=length, initial=done, unit="step", disable=not (progress and group.first)
            ) as bar,
            graceful_interrupt(patient=group.world > 1) as interrupted,
            closing(iter(loader)) as batches,
            writer.rescue(lambda: done),
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
                row = values.row(done, rate, norm, now - last_step)
                last_step = now
                writer.log("metrics", row)
                bar.set_postfix_str(_summary(row), refresh=False)
                bar.update()
                if on_step is not None:
                    on_step(done, loss)

                stop = any(group.gather(interrupted()))  # read once, as it may change at any moment
                every = evaluate_every or length
                due = bool(evaluate_every) and done % every == 0 and done < length
                if stop or due or done == length or writer.overdue():
                    writer.save_state(done)
                if due and val is not None and not stop:
                    evaluation = evaluate_now(done, val)
                    last_step = time.monotonic()
        writer.save_model(done)
        # After the loop, so that a run stopped during its last evaluation gets it when resumed.
        if val is not None and evaluate_every != 0 and done == length and not stop:
            rows = group.gather(folder.rows("evaluations"))[0]
            if not rows or rows[-1]["step"] < length:
                evaluation = evaluate_now(length, val)
        if done < length and group.first:
            how = "resume=True (--resume)"
            tqdm.write(f"Stopped; everything is saved. {how} continues the run in {folder.path}")
        if training.average is not None:
            training.average.apply()
        training.optimizer.zero_grad()  # gradients are as large as the model and no longer needed
        training.model.eval()
        return Run(folder.path, detector, done == length, done, evaluation)


def _check_order(data: object, recipe: object) -> None:
    """Raises LabError where data and recipe are given in the wrong order."""
    swapped = isinstance(data, Recipe) or (
        isinstance(data, str) and data in recipes.RECIPES and not Path(data).exists()
    )
    if swapped or not isinstance(recipe, str | Recipe):
        raise LabError(
            f"fit takes the data first, then the recipe: fit(data, recipe, out). Found "
            f"{_named(data)} as data and {_named(recipe)} as recipe."
        )


def _named(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _open(
    data: str | Path | DetectionData, val: DetectionData | None
) -> tuple[DetectionData, DetectionData | None]:
    if not isinstance(data, str | Path):
        return data, val
    if val is not None:
        return open_data(data, "train"), val
    return open_train_val(data)


def _check_batch(recipe: Recipe, world: int) -> None:
    train = recipe.train
    smallest = train.batch_size // world
    if smallest < train.accumulate:
        parts = "" if train.accumulate == 1 else f", each in {train.accumulate} parts"
        raise LabError(
            f"A batch of {train.batch_size} cannot be shared by {world} processes{parts}: every "
            f"part needs an image. Use train.batch_size {world * train.accumulate} or more, or "
            "fewer processes or parts."
        )


def begin(
    recipe: Recipe,
    device: torch.device,
    group: Group = Group(),  # noqa: B008 - frozen
    state: Path | None = None,
    backbone_weights: str | Path | None = None,
    start_from: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    names: Sequence[str] = (),
    threads: int = 1,
) -> Training:
    """The model and everything that trains it, from ``state`` or as the settings say.

    Only process 0 reads weights from files; ``Training.connect`` passes them on. say: is called
    with one line that says what ``start_from`` could not provide.  names: the class names, which
    ``start_from`` needs.  threads: as in :func:`fit`.
    """
    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(recipe.model)
    speed_up_training(model)
    if state is None and group.first:
        if backbone_weights is not None:
            load_backbone(model.backbone, recipe.model.backbone, backbone_weights)
        nested = False
        if start_from is not None:
            nested = _start_from(model, names, locate(start_from), say)
        if recipe.train.nested_proposals and not nested:
            nest(model.proposals)
    model.backbone.frozen = recipe.train.frozen_backbone
    if model.backbone.frozen:
        model.backbone.requires_grad_(False)
    model.to(device).train()
    if group.world > 1:
        synchronise_batch_norm(model, device)
    optimizer = make_optimizer(recipe.train, model, model.backbone.body)
    mixed = MixedPrecision(recipe.train.precision, device)
    if group.world > 1 or device.type != "cpu":
        threads = 1
    training = Training(model, recipe, optimizer, mixed, group=group, threads=threads)
    if state is not None:
        load_state(state, training, device)
    return training


def _start_from(
    model: SparseRCNN, names: Sequence[str], path: Path, say: Callable[[str], None]
) -> bool:
    """Copies what fits from a checkpoint. Returns whether all proposals are now those of a nested
    checkpoint.

    A class that the checkpoint knows by name keeps its weights; a new one starts from the mean of
    all known classes, as what separates objects from background holds for it too. Where the number
    of proposals differs, the first ones are copied.
    """
    own = model.state_dict()
    checkpoint = read_checkpoint(path)
    known = {name.casefold(): row for row, name in enumerate(checkpoint.class_names)}
    names = names or checkpoint.class_names
    rows = [known.get(name.casefold()) for name in names]
    new = rows.count(None)
    missing = [f"the scores of {new} new class{'es' * (new != 1)}"] if new else []
    for key, value in own.items():
        given = checkpoint.state.get(key)
        if given is not None:
            given = uncalibrated(key, given, checkpoint.info)
        if given is not None and ".classify." in key and given.shape[1:] == value.shape[1:]:
            value.copy_(torch.stack([given.mean(0) if r is None else given[r] for r in rows]))
        elif given is not None and given.shape == value.shape:
            value.copy_(given)
        elif (
            given is not None and key.startswith("proposals.") and given[0].shape == value[0].shape
        ):
            value[: len(given)] = given[: len(value)]
        else:
            raise LabError(
                f'"{path}" does not fit this recipe: {key} is missing or has another shape. '
                "Fine-tune with the recipe that trained it."
            )
    n, there = len(model.proposals), len(checkpoint.state["proposals.boxes"])
    if n != there:
        missing.append(f"{abs(n - there)} of the {max(n, there)} proposals")
    if left := checkpoint.config.num_stages - len(model.stages):
        missing.append(f"its last {left} of {checkpoint.config.num_stages} stages")
    if model.config.overlap_attention != checkpoint.config.overlap_attention:
        missing.append("its overlap_attention")
    taken = f"all but {' and '.join(missing)}" if missing else "all weights"
    say(f'Taken from "{path.stem}": {taken}.')
    trained = (checkpoint.info.get("recipe") or {}).get("train") or {}
    return n <= there and bool(trained.get("nested_proposals"))


def _default_workers(group: Group) -> int:
    """Loading processes for one training process, which keeps one core of its share for itself."""
    return max(0, min(4, (os.cpu_count() or 1) // group.local_world - 1))


def _summary(row: dict[str, Any]) -> str:
    """A line for the progress bar."""
    stages = " ".join(f"{value:.1f}" for value in row["loss_per_stage"])
    return f"loss {row['loss']:.1f} (stages {stages}), lr {row['lr']:.1e}"


@contextmanager
def graceful_interrupt(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a flag, so that no step is cut short.

    The second one interrupts as usual or, with ``patient``, does nothing: torchrun may pass on the
    same Ctrl-C several times, and itself kills what does not stop within 30 seconds.
    Outside the main thread signals are left as they are.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        flag.set()
        for n, handler in before.items() if not patient else ():
            signal.signal(n, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield flag.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
