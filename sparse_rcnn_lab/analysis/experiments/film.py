"""Matching film: who is matched with whom, over a training that kept snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from sparse_rcnn_lab.analysis.experiments.snapshots import snapshots
from sparse_rcnn_lab.analysis.experiments.traced import traces_of
from sparse_rcnn_lab.analysis.flips import flips_of
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.trace import Trace
from sparse_rcnn_lab.version import __version__
from sparse_rcnn_lab.zoo import load

IMAGES = 64  # of a flip count: enough for a share of some per cent


def matching_film(
    run: str | Path,
    data: DetectionData,
    images: Sequence[int] = (0,),
    progress: bool = True,
) -> dict[int, list[Trace]]:
    """Step -> traces of the same pictures, with the one-to-one matches of every stage then.

    run: a run folder whose training kept snapshots (``keep_snapshots``).  images: numbers of the
    pictures in ``data``. :func:`matching_flips` counts; ``views.figures.match_film`` shows.
    Matches are one to one at every stage, whatever the preset trains with.
    Raises LabError when there are no snapshots or no such picture.
    """
    wrong = [i for i in images if not 0 <= i < len(data)]
    if not images or wrong:
        raise LabError(f"images must be 0..{len(data) - 1}, found {wrong or 'none'}.")
    bar = tqdm(snapshots(run).items(), desc="snapshots", leave=False, disable=not progress)
    with bar:
        return {step: list(traces_of(load(path), data, images)) for step, path in bar}


def matching_flips(
    run: str | Path,
    data: DetectionData,
    limit: int = IMAGES,
    progress: bool = True,
) -> Table:
    """How often an object changes its proposal, per stage, from snapshot to snapshot.

    limit: the first so many pictures of ``data``; take images that the run was not trained on, or
    a fixed part of those it was. Raises LabError when the run kept no snapshots.
    """
    pictures = range(min(limit, len(data)))
    traces = matching_film(run, data, pictures, progress)
    about = {
        "analysis": "matching_flips",
        "run": Path(run).name,
        "data": data.fingerprint(),
        "images": len(pictures),
        "sparse_rcnn_lab": __version__,
    }
    return flips_of(traces, about)
