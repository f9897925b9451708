"""``sparse-rcnn-lab pack``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.cli.common import add_model, megabytes, open_model, run_folder
from sparse_rcnn_lab.core.errors import LabError

HELP = """make a trained model small enough to share

Stores the model in half precision, evaluates exactly what was stored, and writes two files:
NAME.safetensors, which --model and srl.load accept, and NAME.json with recipe, seed, AP of each
stage, time, versions and source.

example:
  sparse-rcnn-lab pack --model runs/cells --name cells --data data/cells --out models
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_model(parser)
    parser.add_argument("--name", required=True, help="the name of the packed model")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="its data, to evaluate on")
    where = "where to write (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("models"), metavar="FOLDER", help=where)
    parser.add_argument("--source", default="", help="source and licence of the images")
    parser.add_argument("--command", default="", help="the command that trained the model")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="first calibrate its scores on these images: a score then says how often it is right; "
        "AP stays the same",
    )


def run(arguments: argparse.Namespace) -> int:
    """Packs the model, evaluates the packed file and writes what is known about it."""
    from sparse_rcnn_lab.data.coco.folder import open_data
    from sparse_rcnn_lab.detect.device import pick_device
    from sparse_rcnn_lab.detect.files import write_text
    from sparse_rcnn_lab.models.checkpoint import save_checkpoint
    from sparse_rcnn_lab.models.load import load, locate
    from sparse_rcnn_lab.training.evaluate import evaluate
    from sparse_rcnn_lab.training.score_calibration import INFO_KEY, calibrate_scores

    if not arguments.name or Path(arguments.name).name != arguments.name:
        raise LabError(f"--name must be a plain name, found {arguments.name!r}.")
    detector, data = open_model(arguments), open_data(arguments.data, "val")
    path = arguments.out / f"{arguments.name}.safetensors"
    if path.resolve() == locate(arguments.model).resolve():
        raise LabError(f'"{path}" is the model to pack. Give another --name or --out.')
    training = _training(run_folder(arguments.model), detector.info or {})
    if arguments.calibrate:
        detector = calibrate_scores(detector, data)
        training[INFO_KEY] = (detector.info or {})[INFO_KEY]
    about = {"source": arguments.source, **training}
    save_checkpoint(path, detector.model, detector.class_names, arguments.name, about, half=True)
    packed = load(path, pick_device(arguments.device), precision=arguments.precision)
    result = evaluate(packed, data)
    report = {
        "name": arguments.name,
        "class_names": list(detector.class_names),
        "source": arguments.source,
        "command": arguments.command,
        "evaluation": {"data": Path(arguments.data).name, "split": "val", **result.to_dict()},
        "overlap_attention": detector.config.overlap_attention,
        **training,
    }
    write_text(path.with_suffix(".json"), json.dumps(report, indent=2) + "\n")
    print(result.table())
    print(f"\nwritten: {path} ({megabytes(path)}), {path.with_suffix('.json')}")
    return 0


def _training(run: Path | None, info: Mapping[str, Any]) -> dict[str, Any]:
    """What the run folder, or else the checkpoint itself, says about the training."""
    from sparse_rcnn_lab.training.run_folder import RunFolder
    from sparse_rcnn_lab.training.score_calibration import INFO_KEY

    keys = ("recipe", "steps", "data", "versions")
    if run is None or not (folder := RunFolder(run)).exists():
        return {key: info[key] for key in (*keys, "proposal_order", INFO_KEY) if key in info}
    header, rows = folder.header(), folder.rows("metrics")
    return {
        **{key: header[key] for key in keys},
        "training_minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
    }
