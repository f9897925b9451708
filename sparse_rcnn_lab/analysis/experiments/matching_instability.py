"""Matching instability (DN-DETR, arXiv 2203.01305): does an object keep its proposal, from stage to
stage and during a training that kept snapshots?
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from tqdm.auto import tqdm

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part, RunOptions, limited
from sparse_rcnn_lab.analysis.experiments.trace_dataset import check_images, trace_images, traces_of
from sparse_rcnn_lab.analysis.outcomes import matched_proposals
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.files import write_whole
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.training.evaluate import Evaluation
from sparse_rcnn_lab.training.run_folder import RunFolder

FOLDER = "snapshots"
_NAME = re.compile(r"step_(\d+)\.safetensors")

MEANING = {
    "step": "of the training",
    "stage": "1 to S",
    "objects": "objects in these images",
    "since_snapshot": "share of them with another proposal than at the snapshot before, 0 to 1; "
    "none at the first",
    "since_stage": "share of them with another proposal than at the stage before, 0 to 1; none at "
    "stage 1",
}


def keep_snapshots(out: str | Path) -> Callable[[int, Evaluation], None]:
    """An ``on_evaluation`` for ``fit`` that keeps the model of every evaluation in the run folder.

    If ``evaluate_every`` is an epoch, there is one snapshot per epoch; ``evaluate_limit=1`` makes
    the evaluations themselves cheap. Each snapshot takes as much disk space as the model.

    >>> import tempfile, sparse_rcnn_lab as srl
    >>> data, out = srl.Shapes(2), tempfile.mkdtemp()
    >>> options = {"evaluate_every": 1, "evaluate_limit": 1, "progress": False}
    >>> recipe = srl.recipe("nano", train__steps=2, train__batch_size=2)
    >>> run = srl.fit(data, recipe, out, val=data, on_evaluation=keep_snapshots(out), **options)
    >>> list(snapshots(out))
    [1, 2]
    >>> list(matches_over_training(out, data, [1], progress=False))
    [1, 2]
    >>> table = matching_instability(out, data, cache=False, progress=False)
    >>> table.step.tolist() == [1] * 6 + [2] * 6
    True
    """
    folder = RunFolder(Path(out))

    def keep(step: int, evaluation: Evaluation) -> None:
        target = folder.path / FOLDER / f"step_{step:07d}.safetensors"
        with write_whole(target) as temporary:
            shutil.copyfile(folder.model, temporary)

    return keep


def snapshots(run: str | Path) -> dict[int, Path]:
    """Step -> checkpoint file, in order; :func:`keep_snapshots` has an example.

    Raises LabError when the run has kept none.
    """
    found = {
        int(match[1]): path
        for path in (Path(run) / FOLDER).glob("step_*.safetensors")
        if (match := _NAME.fullmatch(path.name))
    }
    if not found:
        raise LabError(
            f'The run "{run}" has kept no snapshots. Train it with fit(..., evaluate_every=..., '
            "on_evaluation=keep_snapshots(out))."
        )
    return dict(sorted(found.items()))


def matches_over_training(
    run: str | Path, data: DetectionData, images: Sequence[int] = (0,), progress: bool = True
) -> dict[int, list[Trace]]:
    """Step -> traces of the same images, with the one-to-one matches of every stage at that step.

    run: a run folder whose training kept snapshots (:func:`keep_snapshots`, which has an example).
    images: numbers of the images in ``data``. :func:`matching_instability` counts the changes,
    ``views.figures.match_frames`` shows them. Matches are one to one at every stage, whatever the
    preset trains with.
    Raises LabError when there are no snapshots or no such image.
    """
    check_images(data, images)
    bar = tqdm(snapshots(run).items(), desc="snapshots", leave=False, disable=not progress)
    return {step: list(traces_of(load(path), data, images)) for step, path in bar}


def matching_instability(
    run: str | Path, data: DetectionData, **options: Unpack[RunOptions]
) -> Table:
    """How often an object changes its proposal, per stage, from snapshot to snapshot.

    run: as in :func:`matches_over_training`.  data: preferably images that the run was not trained
    on, or a fixed part of those it was.  options: :class:`RunOptions`; the default limit is 64.
    :func:`keep_snapshots` has an example. Raises LabError when the run kept no snapshots.
    """
    options = limited(options, 64)  # enough to measure a share of a few per cent
    matched = {}
    progress = options.get("progress", True)
    bar = tqdm(snapshots(run).items(), desc="snapshots", leave=False, disable=not progress)
    for step, path in bar:
        matched[step] = _matches(CachedRun("matches", load(path), data, {}, **options))
    about = {
        "analysis": "matching_instability",
        "run": Path(run).name,
        "data": data.fingerprint(),
        "images": min(options["limit"] or len(data), len(data)),
        "sparse_rcnn_lab": __version__,
    }
    return instability_table(matched, about)


def instability_table(
    matched: Mapping[int, np.ndarray], about: Mapping[str, Any] | None = None
) -> Table:
    """The table for {step: ``[S, M]`` proposal ids of the same objects}, steps ascending."""
    rows: list[dict[str, Any]] = []
    before: np.ndarray | None = None
    for step, now in matched.items():
        for stage in range(len(now)):
            rows.append(
                {
                    "step": step,
                    "stage": stage + 1,
                    "objects": now.shape[1],
                    "since_snapshot": _share(now[stage], None if before is None else before[stage]),
                    "since_stage": _share(now[stage], now[stage - 1] if stage else None),
                }
            )
        before = now
    return Table.of("How often an object changes its proposal", rows, MEANING, about)


def _share(now: np.ndarray, before: np.ndarray | None) -> float | None:
    return None if before is None or not now.size else float((now != before).mean())


def _matches(run: CachedRun) -> np.ndarray:
    """``[S, M]``: the id of the proposal of each object of the images at each stage, or -1."""

    def do(images: range) -> Part:
        traces, _ = trace_images(run.detector, run.data, images)
        found = [matched_proposals(trace) for trace in traces]
        return {"proposals": np.concatenate(found, axis=1)}

    def finish(parts: list[Part]) -> Table:
        proposals = np.concatenate([part["proposals"] for part in parts], axis=1)
        names = [f"stage {stage}" for stage in range(1, len(proposals) + 1)]
        columns = dict(zip(names, proposals, strict=True))
        meaning = dict.fromkeys(names, "id of the proposal that each object is matched with, or -1")
        return Table.of("Who is matched", columns, meaning, run.about())

    return run.table(do, finish).to_numpy(dtype=np.int64).T
