"""``sparse-rcnn-lab analyse``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.cli.common import (
    add_model,
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
  curve     AP, time and memory over both dials: how many proposals, how many stages
  rank      an order for the proposals, and a copy of the model in that order, whose first n
            are a good choice of n (give it the images it was trained on: --split train)
  careers   where each proposal works: places, sizes, classes, how often it wins; idle ones
  verdicts  which stage found each object, improved or lost it; errors by kind and stage;
            a gallery of the pictures on which the stages disagree most
  switches  what self-attention, its heads and the dynamic filters are worth
  lens      AP of each stage's features under the heads of every stage
  funnel    fewer proposals at each stage: AP against time
  stop      each picture stops when it has settled: AP against stages

Every one writes its table as json and its figure as png. What is done is kept (in the user's
cache, by a hash of weights, data and settings): stop it at any time, the same command goes on.

examples:
  sparse-rcnn-lab analyse verdicts --model nano-shapes --data shapes
  sparse-rcnn-lab analyse rank --model runs/cells --data data/cells --split train --out ranked
  sparse-rcnn-lab analyse curve --model runs/cells --data data/cells --order ranked/rank.json
"""

WHAT = ("curve", "rank", "careers", "verdicts", "switches", "lens", "funnel", "stop")
GALLERY = 6  # pictures


@dataclass(frozen=True)
class Outcome:
    """What an analysis leaves: what to print, tables and figures by file name."""

    said: str
    tables: dict[str, Table]
    figures: dict[str, Page]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("what", choices=WHAT, metavar="WHAT", help="see below")
    add_model(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help='a folder with val.json and images/, a COCO json file, or "shapes"',
    )
    parser.add_argument("--split", default="val", help="train or val (default: %(default)s)")
    parser.add_argument(
        "--limit",
        type=whole_number,
        metavar="N",
        help="only the first N images (default: all; rank: 1000)",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: analyses/MODEL-WHAT")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="of figures")
    parser.add_argument(
        "--no-cache", action="store_true", help="neither read nor keep what is done"
    )
    some = parser.add_argument_group("for some of them")
    some.add_argument("--n", type=stage_list, metavar="1,5,20", help="curve: numbers of proposals")
    some.add_argument(
        "--stages", type=stage_list, metavar="1,3,6", help="curve, switches: whose answers to take"
    )
    some.add_argument(
        "--order",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="curve: a rank.json to keep the best by; may be given several times",
    )
    some.add_argument(
        "--random", type=count, default=0, metavar="K", help="curve: and K random orders"
    )
    some.add_argument(
        "--by", choices=("reach", "wins"), default="reach", help="rank: see the documentation"
    )
    some.add_argument(
        "--threshold",
        type=fraction,
        default=0.3,
        metavar="SCORE",
        help="careers, verdicts, switches: least score of a detection (default: %(default)s)",
    )
    some.add_argument("--pages", action="store_true", help="careers: also a page for each proposal")
    some.add_argument(
        "--schedule",
        type=stage_list,
        action="append",
        metavar="20,20,10,10,5,5",
        help="funnel: proposals that enter each stage; may be given several times",
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
    works: dict[str, Callable[..., Outcome]] = {
        "curve": _curve,
        "rank": _rank,
        "careers": _careers,
        "verdicts": _verdicts,
        "switches": _switches,
        "lens": _lens,
        "funnel": _funnel,
        "stop": _stop,
    }
    outcome = works[arguments.what](arguments, detector, data, options)
    print(outcome.said)
    out = _out(arguments, detector)
    for name, table in outcome.tables.items():
        table.to_json(out / f"{name}.json")
    for name, figure in outcome.figures.items():
        with write_whole(out / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png")
    written = [f"{name}.json" for name in outcome.tables]
    figures = [f"{name}.png" for name in outcome.figures]
    if len(figures) > 4:
        figures = [*figures[:2], plural(len(figures) - 2, "page")]
    print(f"\nwritten to {out}: {', '.join([*written, *figures])}")
    return 0


def _out(arguments: argparse.Namespace, detector: Detector) -> Path:
    folder: Path | None = arguments.out
    return folder or Path("analyses") / f"{detector.name or 'model'}-{arguments.what}"


def _curve(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import Table, ap_curve, random_orders
    from sparse_rcnn_lab.views.figures import dial_curves

    names = _names_of_orders(arguments.order)
    orders: dict[str, Any] = {
        name: Table.from_json(path)["proposal"]
        for name, path in zip(names, arguments.order, strict=True)
    }
    orders |= {"own": None, **random_orders(detector, arguments.random)}
    table = ap_curve(
        detector, data, n=arguments.n, stages=arguments.stages, order=orders, **options
    )
    figure = dial_curves(table, theme=arguments.theme)
    return Outcome(str(table), {"curve": table}, {"curve": figure})


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
) -> Outcome:
    from sparse_rcnn_lab.analysis import rank_proposals, reordered
    from sparse_rcnn_lab.models.checkpoint import save_checkpoint

    table = rank_proposals(detector, data, by=arguments.by, **options)
    copy = reordered(detector, table["proposal"])
    path = _out(arguments, detector) / "ranked.safetensors"
    save_checkpoint(path, copy.model, copy.class_names, f"{copy.name}-ranked", copy.info)
    return Outcome(f"{table}\n\nwritten: {path}, the model in this order", {"rank": table}, {})


def _careers(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import careers
    from sparse_rcnn_lab.views.figures import career_overview, career_page

    found = careers(detector, data, threshold=arguments.threshold, **options)
    figures = {"careers": career_overview(found, theme=arguments.theme)}
    if arguments.pages:
        for proposal in found.proposals["proposal"]:
            name = f"proposal_{proposal:03d}"
            figures[name] = career_page(found, proposal, theme=arguments.theme)
    return Outcome(str(found), {"proposals": found.proposals, "ends": found.ends}, figures)


def _verdicts(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import traces_of, verdicts
    from sparse_rcnn_lab.views.figures import gallery, verdict_stages

    found = verdicts(detector, data, threshold=arguments.threshold, **options)
    shown = traces_of(detector, data, found.images.head(GALLERY)["image"])
    figures = {
        "stages": verdict_stages(found, theme=arguments.theme),
        "gallery": gallery(shown, threshold=arguments.threshold, theme=arguments.theme),
    }
    tables = {"objects": found.objects, "stages": found.stages, "images": found.images}
    return Outcome(str(found), tables, figures)


def _switches(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import switch_costs
    from sparse_rcnn_lab.views.figures import switch_bars

    table = switch_costs(
        detector, data, stages=arguments.stages, threshold=arguments.threshold, **options
    )
    figure = switch_bars(table, theme=arguments.theme)
    return Outcome(str(table), {"switches": table}, {"switches": figure})


def _lens(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import lens
    from sparse_rcnn_lab.views.figures import lens_matrices

    table = lens(detector, data, **options)
    figure = lens_matrices(table, theme=arguments.theme)
    return Outcome(str(table), {"lens": table}, {"lens": figure})


def _funnel(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import funnel
    from sparse_rcnn_lab.views.figures import trade_off

    table = funnel(detector, data, schedules=arguments.schedule, **options)
    figure = trade_off(table, theme=arguments.theme)
    return Outcome(str(table), {"funnel": table}, {"funnel": figure})


def _stop(
    arguments: argparse.Namespace, detector: Detector, data: DetectionData, options: dict[str, Any]
) -> Outcome:
    from sparse_rcnn_lab.analysis import adaptive_stop
    from sparse_rcnn_lab.views.figures import trade_off

    table = adaptive_stop(detector, data, **options)
    figure = trade_off(table, theme=arguments.theme)
    return Outcome(str(table), {"stop": table}, {"stop": figure})
