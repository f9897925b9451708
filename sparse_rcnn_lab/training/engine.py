"""``fit``: trains a recipe on a data set, in a terminal or a notebook alike.

Read from top to bottom: set up or resume, then one loop over steps, each of them forward, match,
loss, backward, clip, update, log; now and then evaluate and save. Whatever ends the loop early
(an interrupt, a loss that is not finite), the last complete state is on disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab import config as configs
from sparse_rcnn_lab import recipes
from sparse_rcnn_lab.checkpoint import read_checkpoint, save_checkpoint
from sparse_rcnn_lab.config import Recipe
from sparse_rcnn_lab.data.coco import open_data
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detector import Detector
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.files import write_whole
from sparse_rcnn_lab.model.backbone import load_backbone
from sparse_rcnn_lab.model.detector import SparseRCNN
from sparse_rcnn_lab.training.evaluate import Evaluation, evaluate, label_category_ids
from sparse_rcnn_lab.training.interrupt import polite_interrupt
from sparse_rcnn_lab.training.loader import train_loader
from sparse_rcnn_lab.training.run_folder import RunFolder, versions
from sparse_rcnn_lab.training.schedule import lr_factor, total_steps
from sparse_rcnn_lab.training.step import StepLoss
from sparse_rcnn_lab.training.update import make_optimizer, train_step

SAVE_EVERY_SECONDS = 120
OPTIMIZER_FILE = "optimizer.pt"


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    finished: False when it was interrupted; ``fit(..., resume=True)`` then goes on.
    evaluation: the last one, or None without validation data.
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
    evaluate_every: int | None = None,
    evaluate_limit: int | None = None,
    progress: bool = True,
    on_step: Callable[[int, StepLoss], None] | None = None,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> Run:
    """Trains and returns the run.

    data: "shapes", a folder in COCO's format (its validation part is used by itself), or a data
        set object (then ``val`` is the other).
    recipe: a name out of ``recipes.RECIPES`` or a :class:`~sparse_rcnn_lab.config.Recipe`.
    out: the run folder, which must not hold a run yet, unless ``resume``.
    resume: go on where the run in ``out`` stopped; gives the same weights as an unbroken run.
    backbone_weights: a file, "download" for torchvision's ImageNet weights, or None to start
        from scratch.
    start_from: a checkpoint whose weights to start with, where shapes fit (fine-tuning).
    evaluate_every: steps between evaluations; default: only at the end. 0: never.
    on_step, on_evaluation: called with the step number (from 1) and what it gave.

    Raises LabError when data and settings do not fit, and when the loss stops being finite.
    """
    recipe = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    train_data, val = _open(data, val)
    names = tuple(train_data.class_names)
    recipe = configs.with_changes(recipe, model__num_classes=len(names))
    if val is not None:
        label_category_ids(names, val)  # other classes: said now, not after the training
    folder = RunFolder(Path(out))
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    length = total_steps(recipe.train, len(train_data))

    header = {
        "recipe": configs.to_dict(recipe),
        "class_names": list(names),
        "data": {"train": train_data.fingerprint(), "val": val.fingerprint() if val else None},
        "backbone_weights": str(backbone_weights) if backbone_weights else None,
        "start_from": str(start_from) if start_from else None,
        "steps": length,
        "versions": versions(),
    }
    _check_folder(folder, header, resume)

    torch.manual_seed(recipe.train.seed)
    model = SparseRCNN(recipe.model)
    states = folder.states() if resume else []
    if not states:
        if backbone_weights is not None:
            load_backbone(model.backbone, recipe.model.backbone, backbone_weights)
        if start_from is not None:
            _start_from(model, Path(start_from))
    model.to(device)
    optimizer = make_optimizer(recipe.train, model, model.backbone.body)
    done = 0
    if states:
        done, state = states[-1]
        _restore(state, model, optimizer, device)
    if not folder.exists():
        folder.write_header(header)
    folder.rewind(done)
    detector = Detector(model, names, name=folder.path.name, info={"recipe": header["recipe"]})
    if workers is None:
        workers = min(4, (os.cpu_count() or 1) - 1)

    def save(step: int) -> None:
        temporary = folder.begin_state(step)
        save_checkpoint(temporary / "model.safetensors", model, names, folder.path.name)
        with write_whole(temporary / OPTIMIZER_FILE) as file:
            torch.save(optimizer.state_dict(), file)
        folder.finish_state(temporary, step)

    def save_model(step: int) -> None:
        save_checkpoint(folder.model, model, names, folder.path.name, {"step": step, **header})

    def evaluate_now(step: int, val: DetectionData) -> Evaluation:
        save_model(step)
        result = evaluate(detector, val, limit=evaluate_limit, progress=progress)
        folder.log("evaluations", {"step": step, **result.to_dict()})
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
        workers=workers,
        pin_memory=device.type == "cuda",
    )
    evaluation: Evaluation | None = None
    stop = False
    model.train()  # a Detector puts its model into eval mode
    last_save = last_step = time.monotonic()
    bar = tqdm(total=length, initial=done, unit="step", disable=not progress)
    with bar, polite_interrupt() as interrupted:
        for step, batch in enumerate(loader, start=done):
            factor = lr_factor(recipe.train, step, len(train_data))
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            rate = recipe.train.lr * factor

            loss, norm = train_step(
                model, optimizer, batch.to(device), recipe, step, rate, folder.path
            )

            now = time.monotonic()
            row = _row(step + 1, loss, rate, norm, now - last_step)
            last_step = now
            folder.log("metrics", row)
            bar.set_postfix_str(_summary(row), refresh=False)
            bar.update()
            if on_step is not None:
                on_step(step + 1, loss)

            done, stop = step + 1, interrupted()  # asked once: it may change at any moment
            due = bool(evaluate_every) and done % (evaluate_every or 1) == 0 and done < length
            if stop or due or done == length or now - last_save > SAVE_EVERY_SECONDS:
                save(done)
                last_save = now
            if stop:
                break
            if due and val is not None:
                evaluation = evaluate_now(done, val)
                last_step = time.monotonic()
    save_model(done)
    # After the loop, so that a run that was stopped in its last evaluation gets it when resumed.
    if val is not None and evaluate_every != 0 and done == length and not stop:
        rows = folder.rows("evaluations")
        if not rows or rows[-1]["step"] < length:
            evaluation = evaluate_now(length, val)
    if done < length:
        tqdm.write(f"Stopped; everything is saved. resume=True (--resume) goes on in {folder.path}")
    model.eval()
    return Run(folder.path, detector, done == length, done, evaluation)


def _open(
    data: str | Path | DetectionData, val: DetectionData | None
) -> tuple[DetectionData, DetectionData | None]:
    if not isinstance(data, str | Path):
        return data, val
    return open_data(data, "train"), val or open_data(data, "val")


def _check_folder(folder: RunFolder, header: dict[str, Any], resume: bool) -> None:
    """Raises LabError unless the folder is free, or holds this very run and is to be resumed."""
    if not folder.exists():
        return
    if not resume:
        raise LabError(
            f'"{folder.path}" already holds a run. Choose another folder, or resume it '
            "(resume=True, --resume)."
        )
    before, now = folder.header(), json.loads(json.dumps(header))
    for key in ("recipe", "class_names", "data", "backbone_weights", "start_from"):
        if before.get(key) != now[key]:
            raise LabError(
                f'The run in "{folder.path}" was started with another {key.replace("_", " ")}: '
                f"{_difference(before.get(key), now[key])}. Resume with the same settings and "
                "data, or start a new run in another folder."
            )


def _difference(before: Any, now: Any, where: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return _difference(before.get(key), now[key], f"{where}.{key}" if where else key)
    return f"{where or 'it'} was {before!r}, now {now!r}"


def _start_from(model: SparseRCNN, path: Path) -> None:
    """Takes over a checkpoint's weights; only class layers and proposals may be other ones."""
    own = model.state_dict()
    state = read_checkpoint(path).state
    free = (".classify.", "proposals.")
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    for key in own:
        if key not in fitting and not any(part in key for part in free):
            raise LabError(
                f'"{path}" does not fit this recipe: {key} is missing or of another shape. '
                "Fine-tune with the recipe that trained it."
            )
    model.load_state_dict(fitting, strict=False)


def _restore(
    state: Path,
    model: SparseRCNN,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    try:
        checkpoint = read_checkpoint(state / "model.safetensors")
        content = torch.load(state / OPTIMIZER_FILE, map_location=device, weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise LabError(
            f'The checkpoint "{state}" is damaged ({str(error).splitlines()[0]}). Delete that '
            "folder and resume again: the run goes on from the checkpoint before it."
        ) from error
    model.load_state_dict(dict(checkpoint.state))
    optimizer.load_state_dict(content)


def _row(step: int, loss: StepLoss, rate: float, norm: float, seconds: float) -> dict[str, Any]:
    values = {name: getattr(loss.loss, name).detach().tolist() for name in ("cls", "l1", "giou")}
    stages = [sum(parts) for parts in zip(*values.values(), strict=True)]
    extra = None if loss.denoising is None else float(loss.denoising.total().detach())
    return {
        "step": step,
        "loss": sum(stages),
        "loss_per_stage": stages,
        **values,
        "denoising": extra,
        "positives": loss.loss.positives.tolist(),
        "lr": rate,
        "grad_norm": norm,
        "seconds": round(seconds, 4),
    }


def _summary(row: dict[str, Any]) -> str:
    stages = " ".join(f"{value:.1f}" for value in row["loss_per_stage"])
    return f"loss {row['loss']:.1f} (stages {stages}), lr {row['lr']:.1e}"
