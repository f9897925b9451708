"""``sparse-rcnn-lab train``."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from sparse_rcnn_lab.cli.common import (
    add_device,
    count,
    fraction,
    plural,
    run_together,
    whole_number,
)
from sparse_rcnn_lab.cli.train_settings import (
    COMMAND_FILE,
    remember,
    resume_command,
    run_settings,
    scaled_rate,
)
from sparse_rcnn_lab.core.config import Precision, Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.recipes import RECIPES

if TYPE_CHECKING:
    import torch

    from sparse_rcnn_lab.data.sample import DetectionData
    from sparse_rcnn_lab.training.distributed import Group
    from sparse_rcnn_lab.training.fit import Run
    from sparse_rcnn_lab.training.run_folder import RunFolder

HELP = """train a detector on your images, or on drawn shapes

Your images are a folder with train.json, val.json (in COCO format) and images/.

Every preset but nano starts from a backbone trained on ImageNet; from scratch, on few images,
it would hardly learn. --backbone-weights download (the default) downloads torchvision's once;
without a network give a file that holds them, or "none" to train from scratch.

Ctrl-C stops after the current step and saves. `train --resume --out FOLDER` continues the run and
gives the same weights as an uninterrupted one.

For several GPUs start it with torchrun. --batch-size remains the number of images in one step,
which the processes share. A run may be resumed on any number of GPUs. See docs/training.md.

examples:
  sparse-rcnn-lab train --data shapes --preset nano --out runs/first
  sparse-rcnn-lab train --data data/cells --preset small --out runs/cells
  sparse-rcnn-lab train --data data/cells --preset small --set train.lr=1e-3 --set model.dim=64
  sparse-rcnn-lab train --resume --out runs/cells
  torchrun --nproc-per-node 8 -m sparse_rcnn_lab train --recipe r50_3x_300 --data coco
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    data = 'a folder with train.json, val.json and images/, or "shapes"'
    add("--data", metavar="FOLDER", help=data)
    add(
        "--preset",
        "--recipe",
        choices=list(RECIPES),
        metavar="NAME",
        help=f"{', '.join(RECIPES)} (default: nano; with --start-from, that model's)",
    )
    add("--out", type=Path, metavar="FOLDER", help="run folder (default: runs/PRESET-DATA)")
    add("--resume", action="store_true", help="continue the run in --out")
    add = parser.add_argument_group("settings (default: the preset's)").add_argument
    add("--steps", type=whole_number, metavar="N", help="number of training steps")
    add("--batch-size", type=whole_number, metavar="N", help="images in one step")
    rate = "learning rate (default of published recipes: in proportion to --batch-size)"
    add("--lr", type=float, metavar="X", help=rate)
    add("--proposals", type=whole_number, metavar="N", help="number of proposals")
    add(
        "--denoising",
        type=count,
        nargs="?",
        const=3,
        metavar="N",
        help="also train on N denoising queries per object (3 if no N is given)",
    )
    add("--precision", choices=get_args(Precision), help="precision of the forward pass")
    parts = "compute each batch in N parts, to save memory"
    add("--accumulate", type=whole_number, metavar="N", help=parts)
    ema = "evaluate and keep a moving average of the weights with this decay, e.g. 0.999"
    add("--ema", type=fraction, metavar="X", help=ema)
    seed = "random seed for weights, image order and augmentation"
    add("--seed", type=count, metavar="N", help=seed)
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="set any other field of the recipe, e.g. augment.hflip=0 (may be repeated)",
    )
    add = parser.add_argument_group("where to start").add_argument
    add("--backbone-weights", metavar="download|FILE|none", help="ImageNet weights, see below")
    add("--start-from", metavar="MODEL", help="fine-tune this model: a name, run folder or file")
    group = parser.add_argument_group("running")
    add = group.add_argument
    often = "steps between evaluations (default: only at the end; 0: never)"
    add("--evaluate-every", type=count, metavar="N", help=often)
    add("--workers", type=count, metavar="N", help="number of processes that load images")
    threads = "CPU threads that share the images of a batch (for small models)"
    add("--threads", type=whole_number, metavar="N", help=threads)
    add("--compile", action="store_true", default=None, help="run the model through torch.compile")
    add_device(group)  # type: ignore[arg-type]


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns 130 when interrupted. Of several processes only the first one prints."""
    return run_together(arguments, _train)


def _train(arguments: argparse.Namespace, device: torch.device, group: Group) -> int:
    from sparse_rcnn_lab.data.coco.folder import open_train_val
    from sparse_rcnn_lab.detect.files import write_text
    from sparse_rcnn_lab.training.fit import fit
    from sparse_rcnn_lab.training.run_folder import RunFolder

    folder, recipe = group.agree(lambda: run_settings(arguments))
    data, val = group.agree(lambda: open_train_val(arguments.data))
    recipe = configs.with_changes(recipe, model__num_classes=len(data.class_names))
    if group.first:
        _announce(arguments, recipe, data, folder, group.world)

    new = group.first and not folder.exists()
    try:
        if new:
            write_text(folder.path / COMMAND_FILE, json.dumps(remember(arguments), indent=2) + "\n")
        result = fit(
            data,
            recipe,
            folder.path,
            val=val,
            resume=arguments.resume,
            backbone_weights=arguments.backbone_weights,
            start_from=arguments.start_from,
            device=device,
            workers=arguments.workers,
            threads=arguments.threads or 1,
            compiled=bool(arguments.compile),
            evaluate_every=arguments.evaluate_every,
        )
    except LabError:
        if new:
            _clear_false_start(folder)
        raise
    except KeyboardInterrupt:
        if group.first:
            print(f"\nStopped at once. {_how_to_resume(folder.path, group)}")
        return 130
    if not group.first:
        return 0 if result.finished else 130
    return _conclude(result, RunFolder(result.folder), group)


def _announce(
    arguments: argparse.Namespace,
    recipe: Recipe,
    data: DetectionData,
    folder: RunFolder,
    processes: int,
) -> None:
    from sparse_rcnn_lab.core.model import SparseRCNN
    from sparse_rcnn_lab.core.train import total_steps
    from sparse_rcnn_lab.data.subset import usable_images

    parameters = sum(p.numel() for p in SparseRCNN(recipe.model).parameters())
    start = arguments.start_from or arguments.backbone_weights or "none (from scratch)"
    train, used = recipe.train, len(usable_images(data, recipe.augment))
    print(
        f"model  {recipe.name}: {recipe.model.backbone}, {recipe.model.num_proposals} proposals, "
        f"{parameters / 1e6:.1f} M parameters; weights: {start}"
    )
    print(
        f"train  {plural(total_steps(train, used), 'step')} of "
        f"{plural(train.batch_size, 'image')}, learning rate {train.lr:g}, seed {train.seed}"
    )
    base = RECIPES.get(recipe.name, recipe)
    if train.lr != base.train.lr and train.lr == scaled_rate(recipe, base):
        print(
            f"       (scaled with the batch size; published: {base.train.lr:g} for "
            f"{base.train.batch_size} images)"
        )
    ways = [f"{processes} processes"] * (processes > 1)
    ways += [f"batches in {train.accumulate} parts"] * (train.accumulate > 1)
    ways += [train.precision] * (train.precision != "float32")
    ways += [f"weights averaged ({train.ema:g})"] * (train.ema > 0)
    if train.progressive_resizing:
        ways.append(f"smaller images in the first {train.progressive_resizing:.0%} of the steps")
    if ways:
        print(f"       {', '.join(ways)}")
    print(f"files  {folder.path}: model.safetensors, metrics.jsonl, evaluations.jsonl, checkpoints")


def _clear_false_start(folder: RunFolder) -> None:
    """Makes the folder of a run that failed before its first checkpoint usable for a new try.

    The metrics stay until then, as they may show why it failed.
    """
    if not folder.states() and not folder.model.exists():
        for name in (COMMAND_FILE, "run.json"):
            (folder.path / name).unlink(missing_ok=True)


def _conclude(result: Run, folder: RunFolder, group: Group) -> int:
    if not result.finished:
        print(f"\nStopped after step {result.step}. {_how_to_resume(folder.path, group)}")
        return 130
    print(f"\ndone: {result.step} steps, in {folder.path}")
    rows = folder.rows("evaluations")
    if result.evaluation is not None:
        print(result.evaluation.table())
    elif rows:
        aps = ", ".join(f"{stage['AP']:.3f}" for stage in rows[-1]["stages"])
        print(f"AP of each stage: {aps}")
    where = shlex.quote(str(folder.path))
    print(f"\nnext:  sparse-rcnn-lab predict IMAGE --model {where} --out predictions")
    return 0


def _how_to_resume(path: Path, group: Group) -> str:
    return f"Continue with:\n  {resume_command(path, group.local_world)}"
