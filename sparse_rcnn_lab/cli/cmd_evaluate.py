"""``sparse-rcnn-lab evaluate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.cli.common import (
    add_data,
    add_model,
    add_proposals,
    check_place,
    run_folder,
    run_together,
    stage_list,
    whole_number,
)

if TYPE_CHECKING:
    import torch

    from sparse_rcnn_lab.data.sample import DetectionData
    from sparse_rcnn_lab.detect.detector import Detector
    from sparse_rcnn_lab.training.distributed import Group
    from sparse_rcnn_lab.training.evaluate import Evaluation

VAL2017 = 5000  # images

HELP = """evaluate a model: COCO AP of every stage on a data set

The output folder gets evaluation.json (the twelve COCO metrics of each stage and the AP of each
class) and detections.json (the last stage's detections as COCO results).

On COCO, a published model or a run of its recipe is compared with the published AP. COCO's own
folders can be used as they are: annotations/instances_val2017.json and val2017/.

examples:
  sparse-rcnn-lab evaluate --model runs/cells --data data/cells
  sparse-rcnn-lab evaluate --model r50_3x_300 --data coco
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add_model(parser)
    add_data(parser)
    add_proposals(parser)
    add("--stages", type=stage_list, metavar="1,3,6", help="only these stages (default: all)")
    add("--limit", type=whole_number, metavar="N", help="use only the first N images")
    size = "images in a batch (default: %(default)s)"
    add("--batch-size", type=whole_number, default=8, metavar="N", help=size)
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: evaluation-SPLIT in the run folder, or "
        "evaluations/MODEL-SPLIT)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, writes both files and prints the table."""
    return run_together(arguments, _evaluate)


def _evaluate(arguments: argparse.Namespace, device: torch.device, group: Group) -> int:
    from sparse_rcnn_lab.data.coco.folder import open_data
    from sparse_rcnn_lab.detect.files import write_text
    from sparse_rcnn_lab.models.load import load
    from sparse_rcnn_lab.training.evaluate import evaluate
    from sparse_rcnn_lab.training.run_folder import versions

    # One process per machine downloads what is needed; the others wait for its lock.
    how = {"precision": arguments.precision, "overlap_attention": arguments.overlap_attention}
    detector = group.agree(lambda: load(arguments.model, device, **how))
    out = arguments.out or _default_folder(arguments.model, detector.name, arguments.split)
    group.agree(lambda: check_place(out) if group.first else None)
    data = group.agree(lambda: open_data(arguments.data, arguments.split))
    result = evaluate(
        detector,
        data,
        stages=arguments.stages,
        num_proposals=arguments.proposals,
        batch_size=arguments.batch_size,
        limit=arguments.limit,
    )
    if not group.first:
        return 0
    proposals = arguments.proposals or detector.num_proposals
    as_published = arguments.overlap_attention is None
    published = compare(detector, data, result, proposals) if as_published else None
    report = {
        "model": detector.name,
        "model_source": arguments.model,
        "data": arguments.data,
        "split": arguments.split,
        "fingerprint": data.fingerprint(),
        "num_proposals": proposals,
        "overlap_attention": detector.config.overlap_attention,
        "limit": arguments.limit,
        **result.to_dict(),
        **({"published": published} if published else {}),
        "versions": versions(),
    }
    write_text(out / "evaluation.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "detections.json", json.dumps(result.results) + "\n")
    print(
        f"{detector.name} on {arguments.data} ({arguments.split}): {result.num_images} images, "
        f"{proposals} of {detector.num_proposals} proposals, {result.seconds:.0f} s"
    )
    print(result.table())
    if published:
        print("\n" + comparison_text(published))
    print(f"\nwritten: {out / 'evaluation.json'}, {out / 'detections.json'}")
    return 0


def compare(
    detector: Detector, data: DetectionData, result: Evaluation, proposals: int
) -> dict[str, Any] | None:
    """The last stage's AP beside the published one, as plain values, AP 0..100.

    None unless the model is one of the five published ones, or trained with such a recipe, and the
    data has COCO's classes. Where the two are not comparable, "within" is None and "why_not" says
    why. proposals: how many of the model's proposals were used.
    """
    from sparse_rcnn_lab.models.layouts import COCO_CLASSES
    from sparse_rcnn_lab.models.recipes import PUBLISHED_TOLERANCE, RECIPES

    recipe = RECIPES.get((detector.info.get("recipe") or {}).get("name", ""))
    if recipe is None or recipe.published_ap is None or detector.config != recipe.model:
        return None
    if set(data.class_names) != set(COCO_CLASSES) or result.per_stage[-1].AP < 0:  # no objects
        return None
    ap = 100 * result.per_stage[-1].AP
    difference = ap - recipe.published_ap
    why_not = []
    if result.num_images != VAL2017:
        why_not.append(f"{result.num_images:,} images, not the {VAL2017:,} of COCO's val2017")
    if proposals < detector.num_proposals:
        why_not.append(f"{proposals} of {detector.num_proposals} proposals")
    if result.stages[-1] != detector.num_stages:
        why_not.append(f"stage {result.stages[-1]}, not the last")
    return {
        "model": detector.name,
        "recipe": recipe.name,
        "AP": ap,
        "published_AP": recipe.published_ap,
        "difference": difference,
        "tolerance": PUBLISHED_TOLERANCE,
        "within": None if why_not else abs(difference) <= PUBLISHED_TOLERANCE,
        "why_not": why_not,
    }


def comparison_text(row: dict[str, Any]) -> str:
    """The row of :func:`compare` as a table, with the reason where the two do not compare."""
    within = row["within"]
    cells = {
        "model": row["model"],
        "AP": f"{row['AP']:.2f}",
        "published": f"{row['published_AP']:.1f}",
        "difference": f"{row['difference']:+.2f}",
        "tolerance": f"{row['tolerance']}",
        "verdict": "not comparable" if within is None else "within" if within else "outside",
    }
    columns = [(f"{head:<{len(cell)}}", f"{cell:<{len(head)}}") for head, cell in cells.items()]
    lines = ["  ".join(texts).rstrip() for texts in zip(*columns, strict=True)]
    if within is None:
        lines.append(
            f"The published AP of {row['recipe']} does not apply here: {'; '.join(row['why_not'])}."
        )
    return "\n".join(lines)


def _default_folder(model: str, name: str, split: str) -> Path:
    if run := run_folder(model):
        return run / f"evaluation-{split}"
    return Path("evaluations") / f"{name or Path(model).stem}-{split}"
