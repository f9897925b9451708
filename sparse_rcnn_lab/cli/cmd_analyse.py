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

HELP = """ask what proposals and stages are for: experiments over a data set

what:
  curve       AP, time and memory by how many proposals and how many stages
  rank        an order for the proposals, and a copy of the model in that order, whose first n
              are a good choice of n (give it the images it was trained on: --split train)
  proposals   where each proposal works: places, sizes, classes, how often it wins; idle ones
  objects     which stage found each object, improved or lost it; errors by kind and stage;
              a gallery of the images on which the stages disagree most
  ablations   what self-attention, its heads and the dynamic filters are worth
  readout     AP of each stage's features under the heads of every stage
  pruning     fewer proposals at each stage: AP against time
  early-exit  each image stops when it has settled: AP against stages

Every one writes its table as json and its figure as png. What is done is kept (in the user's
cache, by a hash of weights, data and settings): stop it at any time, the same command goes on.

examples:
  sparse-rcnn-lab analyse objects --model nano-shapes --data shapes
  sparse-rcnn-lab analyse rank --model runs/cells --data data/cells --split train --out ranked
  sparse-rcnn-lab analyse curve --model runs/cells --data data/cells --order ranked/rank.json
"""

# What -> the function of analysis, options of the command line that it takes, the figure.
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
    add("what", choices=WHAT, metavar="WHAT", help="see below")
    add_model(parser)
    add_data(parser)
    limit = "only the first N images (default: all; rank: 1000)"
    add("--limit", type=whole_number, metavar="N", help=limit)
    add("--out", type=Path, metavar="FOLDER", help="default: analyses/MODEL-WHAT")
    add("--theme", choices=("light", "dark"), default="light", help="of figures")
    add("--no-cache", action="store_true", help="neither read nor keep what is done")
    add = parser.add_argument_group("for some of them").add_argument
    add("--n", type=stage_list, metavar="1,5,20", help="curve: numbers of proposals")
    stages = "curve, ablations: whose answers to take"
    add("--stages", type=stage_list, metavar="1,3,6", help=stages)
    order = "curve: a rank.json to keep the best by; may be given several times"
    add("--order", type=Path, action="append", default=[], metavar="FILE", help=order)
    add("--random", type=count, default=0, metavar="K", help="curve: and K random orders")
    by = "rank: by what each adds to what others reach, or by how often it wins"
    add("--by", choices=("reach", "wins"), default="reach", help=by)
    score = "proposals, objects, ablations: least score of a detection (default: %(default)s)"
    add("--threshold", type=fraction, default=0.3, metavar="SCORE", help=score)
    add("--pages", action="store_true", help="proposals: also a page for each proposal")
    schedule = "pruning: proposals that enter each stage; may be given several times"
    add(
        "--schedule",
        dest="schedules",
        type=stage_list,
        action="append",
        metavar="20,20,10,10,5,5",
        help=schedule,
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyses, prints the table and writes tables and figures."""
    from sparse_rcnn_lab.data.coco.folder import open_data
    from sparse_rcnn_lab.detect.files import write_whole

    detector = open_model(arguments)
    data = open_data(arguments.data, arguments.split)
    # An option that is not given leaves the function its own default.
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


# What to print, tables and figures by file name.
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
        raise LabError(f'"{path}" says no order of proposals. Give a rank.json of analyse rank.')
    return list(table["proposal"])


def _names_of_orders(paths: list[Path]) -> list[str]:
    """A name for each order: of its file, or, where files are called the same, of its folder.

    Raises LabError where that leaves two of one name.
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
