"""What a training writes, when, and who of several processes writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.training.distributed import LostProcess
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.states import save_state
from sparse_rcnn_lab.training.update import Training

SAVE_EVERY_SECONDS = 120


class RunKeeper:
    """Writes a run's files in process 0; in the others every method does nothing."""

    def __init__(
        self,
        folder: RunFolder,
        training: Training,
        names: tuple[str, ...],
        header: Mapping[str, Any],
        done: int,
    ) -> None:
        self.folder, self.training, self.names, self.header = folder, training, names, header
        self.writes = training.group.first
        self.saved, self._saved_at = done, time.monotonic()
        if self.writes:
            if not folder.exists():
                folder.write_header(header)
            folder.rewind(done)

    def log(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds one line to ``name``.jsonl."""
        if self.writes:
            self.folder.log(name, row)

    def overdue(self) -> bool:
        """Whether the last complete state is so old that a new one should be written."""
        return time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS

    def save_state(self, step: int) -> None:
        """Writes the complete state after ``step`` steps."""
        if self.writes:
            save_state(self.folder, self.training, self.names, step)
        self.saved, self._saved_at = step, time.monotonic()

    def save_model(self, step: int) -> None:
        """Writes the model to use: the averaged weights where they are kept."""
        average = self.training.average
        if self.writes:
            save_checkpoint(
                self.folder.model,
                self.training.model,
                self.names,
                self.folder.path.name,
                {"step": step, **self.header},
                state=None if average is None else average.state,
            )

    @contextmanager
    def rescue(self, done: Callable[[], int]) -> Iterator[None]:
        """Saves what there is when a step fails in here, and says so.

        done: the steps done. A failing step has not touched the weights they left. Where process 0
        is lost, the first of those left writes.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, LostProcess) and error.missing:
                left = set(range(self.training.group.world)) - set(error.missing)
                self.writes = self.training.group.rank == min(left, default=0)
            if done() > self.saved:
                with suppress(LabError, OSError):  # the first error is the one to tell
                    self.save_state(done())
            if isinstance(error, LabError) and self.saved:
                place = f'The state after step {self.saved} is saved in "{self.folder.path}".'
                error.args = (f"{error} {place}",)
            if isinstance(error, torch.OutOfMemoryError):
                raise LabError(
                    f"The GPU has too little memory for step {done() + 1} "
                    f"({str(error).splitlines()[0]}). What was done is saved. Resume with a larger "
                    "accumulate (--accumulate), or with precision bf16."
                ) from error
            raise
