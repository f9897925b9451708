"""``sparse-rcnn-lab evaluate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sparse_rcnn_lab.commands.common import add_model, open_model, stage_list, whole_number

HELP = """measure a model: COCO AP of every stage on a data set

Files in the output folder: evaluation.json (all twelve COCO numbers of each stage, AP of each
class) and detections.json (the last stage's detections as COCO results).

example:
  sparse-rcnn-lab evaluate --model runs/cells --data data/cells
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_model(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help='a folder with val.json and images/, a COCO json file, or "shapes"',
    )
    parser.add_argument("--split", default="val", help="train or val (default: %(default)s)")
    parser.add_argument(
        "--proposals", type=whole_number, metavar="N", help="use only the first N proposals"
    )
    parser.add_argument(
        "--stages", type=stage_list, metavar="1,3,6", help="only these stages (default: all)"
    )
    parser.add_argument("--limit", type=whole_number, metavar="N", help="only the first N images")
    parser.add_argument("--batch-size", type=whole_number, default=8, metavar="N")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: evaluation-SPLIT in the run folder, else "
        "evaluations/MODEL-SPLIT)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the table and writes both files."""
    from sparse_rcnn_lab.data.coco import open_data
    from sparse_rcnn_lab.files import write_text
    from sparse_rcnn_lab.training.evaluate import evaluate
    from sparse_rcnn_lab.training.run_folder import versions

    detector = open_model(arguments)
    data = open_data(arguments.data, arguments.split)
    result = evaluate(
        detector,
        data,
        stages=arguments.stages,
        num_proposals=arguments.proposals,
        batch_size=arguments.batch_size,
        limit=arguments.limit,
    )
    proposals = arguments.proposals or detector.num_proposals
    print(
        f"{detector.name} on {arguments.data} ({arguments.split}): {result.num_images} images, "
        f"{proposals} of {detector.num_proposals} proposals, {result.seconds:.0f} s"
    )
    print(result.table())
    out = arguments.out or _default_folder(arguments.model, detector.name, arguments.split)
    report = {
        "model": detector.name,
        "model_source": arguments.model,
        "data": arguments.data,
        "split": arguments.split,
        "fingerprint": data.fingerprint(),
        "num_proposals": proposals,
        "limit": arguments.limit,
        **result.to_dict(),
        "versions": versions(),
    }
    write_text(out / "evaluation.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "detections.json", json.dumps(result.results) + "\n")
    print(f"\nwritten: {out / 'evaluation.json'}, {out / 'detections.json'}")
    return 0


def _default_folder(model: str, name: str, split: str) -> Path:
    if Path(model).is_dir():
        return Path(model) / f"evaluation-{split}"
    return Path("evaluations") / f"{name or Path(model).stem}-{split}"
