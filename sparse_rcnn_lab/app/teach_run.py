"""Trainings of the tab Teach: each is a separate process, one runs at a time, others are queued.

In a separate process a crash is contained and the page stays responsive. The process outlives an
app that is killed; an app that ends normally ends it too, and the run continues when its visitor
returns.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sparse_rcnn_lab
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.training.teach.progress import ALIVE, STATE, STOP, is_alive, read_progress

log = logging.getLogger("sparse_rcnn_lab.app")

MINUTES = 4.0
_LOOK = 0.5  # seconds between two checks of the running processes


@dataclass
class _Waiting:
    visitor: str
    project: Path
    run: Path
    start_from: str
    minutes: float


class Trainings:
    """Starts trainings one at a time, since on two cores several would slow each other down.

    It may be used from several threads.
    """

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._running: dict[str, tuple[Path, subprocess.Popen[bytes] | None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        atexit.register(self.end)

    def ask(self, visitor: str, project: Path, run: Path, start_from: str, minutes: float) -> None:
        """Queues a training. Raises LabError where this visitor has one already."""
        with self._lock:
            if visitor in self._running or any(one.visitor == visitor for one in self._queue):
                raise LabError("A training of yours is already running or waiting.")
            self._queue.append(_Waiting(visitor, project, run, start_from, minutes))
            self._begin_to_watch()
        self._next()

    def adopt(self, visitor: str, run: Path) -> None:
        """Counts a training that was started by an app which no longer runs."""
        with self._lock:
            self._running.setdefault(visitor, (run, None))
            self._begin_to_watch()

    def place(self, visitor: str) -> int | None:
        """0: the training runs; 1, 2, ..: its place in the queue; None: there is none."""
        with self._lock:
            if visitor in self._running:
                return 0
            names = [one.visitor for one in self._queue]
        return names.index(visitor) + 1 if visitor in names else None

    def stop(self, visitor: str) -> Path | None:
        """Ends a visitor's training; what it has learned is kept.

        One that waits is removed from the queue, and its run folder is returned.
        """
        with self._lock:
            for one in self._queue:
                if one.visitor == visitor:
                    self._queue.remove(one)
                    return one.run
            run = self._running.get(visitor)
        if run is not None:
            (run[0] / STOP).touch()
        return None

    def end(self) -> None:
        """Ends the processes that this app started; their last state is on disk."""
        with self._lock:
            self._queue.clear()
            for _, process in self._running.values():
                if process is not None:
                    process.kill()
            self._running.clear()

    def _begin_to_watch(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            self._next()

    def _next(self) -> None:
        with self._lock:
            for visitor, (run, process) in list(self._running.items()):
                over = process.poll() is not None if process is not None else not is_alive(run)
                if over:
                    (run / ALIVE).unlink(missing_ok=True)  # left by a killed process
                    del self._running[visitor]
            while self._queue and not self._running:
                one = self._queue.pop(0)
                try:
                    self._running[one.visitor] = (one.run, _start(one))
                except OSError as error:  # such as a full disk; the others still get their turn
                    log.error("A training could not be started.", exc_info=error)


def _start(one: _Waiting) -> subprocess.Popen[bytes]:
    one.run.mkdir(parents=True, exist_ok=True)
    (one.run / ALIVE).unlink(missing_ok=True)  # a killed process's would count for some seconds
    command = [sys.executable, "-m", "sparse_rcnn_lab", "teach", str(one.project)]
    command += ["--out", str(one.run), "--minutes", str(one.minutes), "--quiet"]
    command += ["--start-from", one.start_from]
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    elif shutil.which("nice"):
        command = ["nice", "-n", "5", *command]  # visitors of the page have priority
    package = str(Path(sparse_rcnn_lab.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with (one.run / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            **options,
        )


def unfinished(run: Path) -> bool:
    """Whether a run was begun, has not ended, and no process works on it."""
    return (run / STATE).exists() and not at_end(run) and not is_alive(run)


def at_end(run: Path) -> bool:
    """Whether a run is done, or failed."""
    return read_progress(run)["phase"] in ("done", "failed")
