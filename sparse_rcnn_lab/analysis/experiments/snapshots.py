"""Models kept during a training, to look at what changes: a callback, nothing in the loop."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_whole
from sparse_rcnn_lab.training.evaluate import Evaluation
from sparse_rcnn_lab.training.run_folder import RunFolder

FOLDER = "snapshots"
_NAME = re.compile(r"step_(\d+)\.safetensors")


def keep_snapshots(out: str | Path) -> Callable[[int, Evaluation], None]:
    """What to give to ``fit`` so that the model of every evaluation is kept in the run folder:

    >>> fit(data, out="runs/a", evaluate_every=100, on_evaluation=keep_snapshots("runs/a"))

    With ``evaluate_every`` as long as an epoch there is one an epoch; ``evaluate_limit=1`` makes
    the evaluations themselves cheap. Each takes as much disk as the model.
    """
    folder = RunFolder(Path(out))

    def keep(step: int, evaluation: Evaluation) -> None:
        target = folder.path / FOLDER / f"step_{step:07d}.safetensors"
        with write_whole(target) as temporary:
            shutil.copyfile(folder.model, temporary)

    return keep


def snapshots(run: str | Path) -> dict[int, Path]:
    """Step -> checkpoint file, in order. Raises LabError when the run has kept none."""
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
