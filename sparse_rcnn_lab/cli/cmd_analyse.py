"""``sparse-rcnn-lab analyse``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.cli.common import (
    add_data,
    add_model,
    check_place,
    count,
    fraction,
    open_model,
    plural,
    stage_list,
    whole_number,
)
from sparse_rcnn_lab.core.errors import LabError

if TYPE_CHECKING:
    from sparse_rcnn_lab.analysis.table import Table
    from sparse_rcnn_lab.data.sample import DetectionData
    from sparse_rcnn_lab.detect.detector import Detector
    from sparse_rcnn_lab.views.figures.canvas import Page

HELP = """find out what proposals and stages do: experiments over a data set

what:
  curve       AP, time and memory by the number of proposals and of stages
  rank        an order of the proposals whose first n are a good choice of n, and a copy of the
              model in that order (use the images it was trained on: --split train)
  proposals   where each proposal works: places, sizes, classes, how often it detects; idle ones
  objects     which stage found, improved or lost each object; errors by kind and stage; a
              gallery of the images on which the stages disagree most
  ablations   what self-attention, its heads and the dynamic filters contribute to AP
  readout     AP of each stage's features under the heads of every stage
  pruning     fewer proposals at each stage: AP against time
  early-exit  each image stops once its detections have settled: AP against stages

Each experiment writes its table as json and its figures as png. Finished parts are cached (by a
hash of weights, data and settings): stop it at any time, and the same command continues.

examples:
  sparse-rcnn-lab analyse objects --model nano-shapes --data shapes
  sparse-rcnn-lab analyse rank --model runs/cells --data data/cells --split train --out ranked
  sparse-rcnn-lab analyse curve --model runs/cells --data data/cells --order ranked/rank.json
"""

# WHAT -> the function in `analysis`, the command-line options it takes, its figure.
SIMPLE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ablations": ("ablation_costs", ("stages", "threshold"), "ablation_bars"),
    "readout": ("cross_stage_readout", (), "readout_matrices"),
    "pruning": ("proposal_pruning", ("schedules",), "trade_off"),
    "early-exit": ("early_exit", (), "trade_off"),
}
WHAT = ("curve", "rank", "proposals", "objects", *SIMPLE)
GALLERY = 6  # images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("what", choices=WHAT, metavar="WHAT", help="the experiment, see below")
    add_model(parser)
    add_data(parser)
    limit = "use only the first N images (default: all; rank: 1000)"
    add("--limit", type=whole_number, metavar="N", help=limit)
    where = "where to write (default: analyses/MODEL-WHAT)"
    add("--out", type=Path, metavar="FOLDER", help=where)
    theme = "colours of the figures (default: %(default)s)"
    add("--theme", choices=("light", "dark"), default="light", help=theme)
    add("--no-cache", action="store_true", help="neither read nor write the cache")
    add = parser.add_argument_group("options of single experiments").add_argument
    add("--n", type=stage_list, metavar="1,5,20", help="curve: the numbers of proposals to try")
    stages = "curve, ablations: the stages whose detections are measured"
    add("--stages", type=stage_list, metavar="1,3,6", help=stages)
    order = "curve: a rank.json whose first n proposals are kept; may be repeated"
    add("--order", type=Path, action="append", default=[], metavar="FILE", help=order)
    add("--random", type=count, default=0, metavar="K", help="curve: also try K random orders")
    by = "rank: by the objects that each proposal adds, or by how often it detects one"
    add("--by", choices=("reach", "wins"), default="reach", help=by)
    score = "proposals, objects, ablations: lowest score of a detection (default: %(default)s)"
    add("--threshold", type=fraction, default=0.3, metavar="SCORE", help=score)
    add("--pages", action="store_true", help="proposals: also write a page for each proposal")
    schedule = "pruning: how many proposals enter each stage; may be repeated"
    add(
        "--schedule",
        dest="schedules",
        type=stage_list,
        action="append",
        metavar="20,20,10,10,5,5",
        help=schedule,
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the experiment, prints its table and writes tables and figures."""
    from sparse_rcnn_lab.data.coco.folder import open_data
    from sparse_rcnn_lab.detect.files import write_whole

    detector = open_model(arguments)
    data = open_data(arguments.data, arguments.split)
    # Where an option is not given, the function's own default applies.
    options: dict[str, Any] = {} if arguments.limit is None else {"limit": arguments.limit}
    if arguments.no_cache:
        options["cache"] = False
    what = arguments.what
    arguments.out = arguments.out or Path("analyses") / f"{detector.name or 'model'}-{what}"
    check_place(arguments.out)
    work = {"curve": _curve, "rank": _rank, "proposals": _proposals, "objects": _objects}
    said, tables, figures = work.get(what, _simple)(arguments, detector, data, options)
    for name, table in tables.items():
        table.save(arguments.out / f"{name}.json")
    for name, figure in figures.items():
        with write_whole(arguments.out / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png")
    print(said)
    pages = [f"{name}.png" for name in figures]
    if len(pages) > 4:
        pages = [*pages[:2], plural(len(pages) - 2, "page")]
    print(f"\nwritten to {arguments.out}: {', '.join([*(f'{n}.json' for n in tables), *pages])}")
    return 0


# What to print, then the tables and the figures by file name.
Result = tuple[object, "dict[str, Table]", "dict[str, Page]"]


def _simple(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Result:
    from sparse_rcnn_lab import analysis
    from sparse_rcnn_lab.views import figures

    analyse, takes, draw = SIMPLE[arguments.what]
    options |= {name: getattr(arguments, name) for name in takes}
    table = getattr(analysis, analyse)(detector, data, **options)
    name = arguments.what.replace("-", "_")
    return table, {name: table}, {name: getattr(figures, draw)(table, theme=arguments.theme)}


def _curve(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Result:
    from sparse_rcnn_lab.analysis import ap_curve, random_orders
    from sparse_rcnn_lab.views.figures import ap_curves

    names = _names_of_orders(arguments.order)
    orders: dict[str, Any] = dict(zip(names, map(_read_order, arguments.order), strict=True))
    orders |= {"own": None, **random_orders(detector, arguments.random)}
    options |= {"n": arguments.n, "stages": arguments.stages, "order": orders}
    table = ap_curve(detector, data, **options)
    return table, {"curve": table}, {"curve": ap_curves(table, theme=arguments.theme)}


def _read_order(path: Path) -> list[int]:
    from sparse_rcnn_lab.analysis import Table

    table = Table.read(path)
    if "proposal" not in table:
        raise LabError(
            f'"{path}" holds no order of proposals. Give a rank.json that analyse rank wrote.'
        )
    return list(table["proposal"])


def _names_of_orders(paths: list[Path]) -> list[str]:
    """A name for each order: that of its file or, where two files share it, of its folder.

    Raises LabError where two orders would still have the same name.
    """
    if len(paths) == 1:
        return ["ranked"]
    stems = [path.stem for path in paths]
    names = [
        path.resolve().parent.name if stems.count(path.stem) > 1 else path.stem for path in paths
    ]
    for name in names:
        if names.count(name) > 1 or name == "own" or name.startswith("random "):
            raise LabError(
                f'Two orders would be called "{name}". Give each --order once, and rename files '
                "or folders so that they differ."
            )
    return names


def _rank(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Result:
    from sparse_rcnn_lab.analysis import rank_proposals, reordered
    from sparse_rcnn_lab.models.checkpoint import save_checkpoint

    table = rank_proposals(detector, data, by=arguments.by, **options)
    copy = reordered(detector, table["proposal"])
    path = arguments.out / "ranked.safetensors"
    save_checkpoint(path, copy.model, copy.class_names, f"{copy.name}-ranked", copy.info)
    return f"{table}\n\nwritten: {path}, the model in this order", {"rank": table}, {}


def _proposals(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Result:
    from sparse_rcnn_lab.analysis import proposal_statistics
    from sparse_rcnn_lab.views.figures import proposal_overview, proposal_page

    found = proposal_statistics(detector, data, threshold=arguments.threshold, **options)
    figures = {"overview": proposal_overview(found, theme=arguments.theme)}
    for proposal in found.proposals["proposal"] if arguments.pages else ():
        page = proposal_page(found, proposal, theme=arguments.theme)
        figures[f"proposal_{proposal:03d}"] = page
    return found, vars(found), figures


def _objects(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Result:
    from sparse_rcnn_lab.analysis import object_outcomes, traces_of
    from sparse_rcnn_lab.views.figures import gallery, outcome_stages

    threshold, theme = arguments.threshold, arguments.theme
    found = object_outcomes(detector, data, threshold=threshold, **options)
    shown = traces_of(detector, data, found.images.image.head(GALLERY))
    figures = {
        "stages": outcome_stages(found, theme=theme),
        "gallery": gallery(shown, threshold=threshold, theme=theme),
    }
    return found, vars(found), figures
