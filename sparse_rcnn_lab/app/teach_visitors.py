"""The visitors of Teach: each has a folder, found by a link that only that visitor has."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sparse_rcnn_lab.app.teach_run import Trainings, at_end
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.project import LABELS, Project
from sparse_rcnn_lab.training.teach.progress import is_alive
from sparse_rcnn_lab.training.teach.suggest import Suggestions

DAYS = 7  # for which a visitor's folder is kept after the last change
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,43}")
_ROOM = 300e6  # bytes of the disk that must stay free


@dataclass
class Visitor:
    """project: the images and boxes.  suggestions: created when first needed."""

    token: str
    project: Project
    suggestions: Suggestions | None = None
    suggested_by: str = ""
    resumed: Counter[str] = field(default_factory=Counter)

    @property
    def folder(self) -> Path:
        """The folder with everything of this visitor."""
        return self.project.folder

    @property
    def runs(self) -> list[Path]:
        """The run folders, oldest first."""
        return sorted(path for path in (self.folder / "runs").glob("[0-9]*") if path.is_dir())

    @property
    def until(self) -> float:
        """When the folder is removed if nothing changes in it, in seconds since 1970."""
        return _last_change(self.folder) + DAYS * 86400


class Visitors:
    """The visitors with folders under ``root``. trainings: for those that outlived their app."""

    def __init__(self, root: Path, trainings: Trainings) -> None:
        self.root, self.trainings = root, trainings
        self._known: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._sweep()

    def new(self) -> Visitor:
        """Creates a visitor. Raises LabError where the disk is full."""
        self._sweep()
        self.check_disk()
        token = secrets.token_urlsafe(24)
        (self.root / token).mkdir(mode=0o700)
        return self.get(token)

    def get(self, token: str) -> Visitor:
        """The visitor with this token. Raises LabError where there is nothing, or no longer."""
        if not _TOKEN.fullmatch(token) or not (self.root / token).is_dir():
            raise LabError(
                f"There is nothing under this link any more: what is taught is kept for {DAYS} "
                "days after the last change. Start over with new images."
            )
        with self._lock:  # two projects in one folder would overwrite each other
            if token not in self._known:
                self._known[token] = Visitor(token, Project(self.root / token))
            return self._known[token]

    def check_disk(self) -> None:
        """Raises LabError where little disk space is left."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self.root).free
        if free < _ROOM:
            raise LabError(
                f"The disk of this app is nearly full ({free / 1e6:.0f} MB free). Nothing of yours "
                "is lost; whoever runs it has to free some space."
            )

    def _sweep(self) -> None:
        """Removes folders untouched for days; counts trainings that outlived their app."""
        for folder in self.root.glob("*") if self.root.is_dir() else ():
            runs = sorted((folder / "runs").glob("[0-9]*"))
            if any(is_alive(run) and not at_end(run) for run in runs):
                self.trainings.adopt(folder.name, runs[-1])
            elif _last_change(folder) + DAYS * 86400 < time.time():
                shutil.rmtree(folder, ignore_errors=True)
                self._known.pop(folder.name, None)


def _last_change(folder: Path) -> float:
    times = [0.0]
    for path in (folder / LABELS, *folder.glob("runs/*/metrics.jsonl"), folder):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
