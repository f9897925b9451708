"""Matching film: who is matched with whom, over a training that kept snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.analysis.experiments.cache import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.snapshots import snapshots
from sparse_rcnn_lab.analysis.experiments.trace_dataset import check_images, trace_images, traces_of
from sparse_rcnn_lab.analysis.flips import flip_table, proposals_of_objects
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.models.load import load

IMAGES = 64  # of a flip count: enough for a share of some per cent

MEANING = {
    "stage": "1 to S",
    "object": "number of the object, counted through all images",
    "proposal": "id of the proposal that it is matched with, or -1",
}


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
    check_images(data, images)
    bar = tqdm(snapshots(run).items(), desc="snapshots", leave=False, disable=not progress)
    with bar:
        return {step: list(traces_of(load(path), data, images)) for step, path in bar}


def matching_flips(
    run: str | Path,
    data: DetectionData,
    limit: int = IMAGES,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """How often an object changes its proposal, per stage, from snapshot to snapshot.

    limit: the first so many pictures of ``data``; take images that the run was not trained on, or
    a fixed part of those it was.  cache: folder for what is done (default the user's cache), or
    False. Raises LabError when the run kept no snapshots.
    """
    matched = {}
    bar = tqdm(snapshots(run).items(), desc="snapshots", leave=False, disable=not progress)
    with bar:
        for step, path in bar:
            job = Job("matches", load(path), data, limit, {}, cache, progress)
            matched[step] = _matches(job, batch_size)
    about = {
        "analysis": "matching_flips",
        "run": Path(run).name,
        "data": data.fingerprint(),
        "images": min(limit, len(data)),
        "sparse_rcnn_lab": __version__,
    }
    return flip_table(matched, about)


def _matches(job: Job, batch_size: int) -> np.ndarray:
    """``[S, M]`` id of the proposal of each object of the images at each stage, or -1."""

    def do(images: range) -> Part:
        found = [proposals_of_objects(trace) for trace in trace_images(job, images)[0]]
        return {"proposals": torch.cat(found, dim=1).numpy()}

    def finish(parts: list[Part]) -> Tables:
        proposals = np.concatenate([part["proposals"] for part in parts], axis=1)
        rows = [
            {"stage": stage, "object": number, "proposal": proposal}
            for stage, of_stage in enumerate(proposals.tolist(), 1)
            for number, proposal in enumerate(of_stage)
        ]
        return {"matches": Table.of("Who is matched", rows, MEANING, job.about())}

    table = job.run(do, finish, batch_size)["matches"]
    return np.array(table["proposal"], dtype=np.int64).reshape(job.detector.num_stages, -1)
