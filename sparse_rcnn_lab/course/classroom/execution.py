"""How a submission is run: whatever one cell does, the others are still graded.

nbgrader's own executor gives up a notebook when its kernel dies or cannot be interrupted. This one
notes it, starts a new kernel, runs the cells above again, without the one at fault, and continues.
"""

from __future__ import annotations

import copy
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_output
from nbgrader.preprocessors import Execute
from traitlets import Integer

from sparse_rcnn_lab.course.classroom.cells import is_locked, name_of, role_of
from sparse_rcnn_lab.course.classroom.course_folder import NOTES, Course
from sparse_rcnn_lab.course.classroom.personal import give_own_tests

# What every notebook imports first. This takes seconds, or a minute on a busy machine: no student's
# time is spent on it, and it measures how slow the machine is. And exit(), which ends a kernel some
# time later, in whatever cell then runs, is made to end the cell it is in.
_WARM_UP = """\
import sys
import sparse_rcnn_lab.course.classroom.checks
get_ipython().ask_exit = sys.exit
del sys, sparse_rcnn_lab
"""
_USUAL = 4.0  # seconds for this on a machine that is not busy
_WORKED = 10  # factor on the limit for locked cells, which hold no student's code


class SturdyExecute(Execute):
    """nbgrader's ``Execute``, made robust to students' code; configured as ``c.SturdyExecute``.

    All limits are for a machine that is not busy; they grow as it gets slower.
    """

    max_characters = Integer(50_000, help="printed characters kept per cell").tag(config=True)
    max_shown = Integer(10_000_000, help="characters of figures kept per cell").tag(config=True)
    max_restarts = Integer(6, help="restarts of the kernel per notebook").tag(config=True)
    max_seconds = Integer(300, help="seconds for all cells of a notebook").tag(config=True)

    def preprocess(self, nb: Any, resources: Any = None, km: Any = None) -> Any:
        """Runs all cells, with tests that have the student's own numbers; adds what went wrong to
        the notebook's metadata."""
        root = Path(resources["metadata"]["path"]).parents[2]  # of autograded/STUDENT/ASSIGNMENT
        who = resources["nbgrader"]
        give_own_tests(nb, Course.open(root), who["student"], who["assignment"])
        self._notes: list[str] = []
        self._left_out: set[int] = set()
        self._shown: Counter[int] = Counter()  # characters shown, by cell
        self._given_up = ""
        self._restarts = 0
        self._slowness = 0.0  # unknown until the kernel is warm
        self.timeout_func = self._seconds_for
        nb, resources = super().preprocess(nb, resources, km)
        nb.metadata[NOTES] = list(dict.fromkeys(self._notes))
        return nb, resources

    def start_new_kernel(self, **options: Any) -> None:
        """Starts the kernel and hides what it prints to the terminal."""
        super().start_new_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> Any:
        """Runs one cell, or marks it as failed."""
        if cell.cell_type != "code" or not cell.source.strip():
            return cell, resources
        if not self._slowness:
            self._warm_up(index)
            self._start = time.monotonic()
        spent = (time.monotonic() - self._start) / self._slowness
        if not self._given_up and spent > self.max_seconds:
            self._give_up(f"the notebook took more than {self.max_seconds} seconds")
        if self._given_up:
            _fail(cell, f"Not run: {self._given_up}.")
            return cell, resources
        try:
            return super().preprocess_cell(cell, resources, index)
        except DeadKernelError:
            problem = "the Python process ended while this cell ran"
        except CellTimeoutError:
            problem = "this cell could not be stopped after its time"
        _fail(cell, f"Stopped: {problem}.")
        self.nb.cells[index] = cell
        self._blame(index, problem)
        self._revive(index)
        return cell, resources

    def on_cell_executed(self, **kwargs: Any) -> None:
        """Notes a cell that ran out of time, after nbgrader has recorded the error."""
        super().on_cell_executed(**kwargs)
        if kwargs["execute_reply"]["content"].get("ename") == "CellTimeoutError":
            limit = self._seconds_for(kwargs["cell"])
            self._blame(kwargs["cell_index"], f"stopped after {limit} s")

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Keeps the first part of what a cell prints and shows."""
        content = msg["content"]
        if msg["msg_type"] == "stream":
            before = sum(len(out["text"]) for out in outs if out["output_type"] == "stream")
            text = content["text"]
            if before > self.max_characters:
                return None
            if before + len(text) > self.max_characters:
                content["text"] = text[: self.max_characters - before] + "\n... cut off\n"
                self._notes.append(f"cell {cell_index}: printed more than is kept")
        elif "data" in content:
            before = self._shown[cell_index]
            self._shown[cell_index] += sum(len(str(part)) for part in content["data"].values())
            if self._shown[cell_index] > self.max_shown:
                if before <= self.max_shown:
                    self._notes.append(f"cell {cell_index}: showed more than is kept")
                return None
        return super().output(outs, msg, display_id, cell_index)

    def clear_output(self, outs: Any, msg: Any, cell_index: int) -> None:
        """Restarts the count of what a cell shows, as an animation may be long."""
        self._shown[cell_index] = 0
        super().clear_output(outs, msg, cell_index)

    def _blame(self, index: int, problem: str) -> None:
        """Notes what a cell has done; a student's cell is left out when the cells run again."""
        cell = self.nb.cells[index]
        self._notes.append(f"cell {name_of(cell) or index}: {problem}")
        if not _locked(cell):
            self._left_out.add(index)

    def _give_up(self, why: str) -> None:
        self._given_up = why
        self._notes.append(why)

    def _seconds_for(self, cell: Any) -> int:
        """The time limit of a cell, by the clock."""
        if not self._slowness:
            return 600
        usual = self.timeout * (_WORKED if _locked(cell) else 1)
        limit = cell.metadata.get("seconds", usual)
        return round(limit * self._slowness)

    def _warm_up(self, index: int) -> None:
        cell, start, self._slowness = self.nb.cells[index], time.monotonic(), 0.0
        self.execute_cell(new_code_cell(_WARM_UP), index)
        self.nb.cells[index] = cell
        self._slowness = max(1.0, (time.monotonic() - start) / _USUAL)
        self.iopub_timeout = round(4 * self._slowness)

    def _revive(self, index: int) -> None:
        """Starts a new kernel and brings it to the state after the cells before ``index``."""
        self._restarts += 1
        self._cleanup_kernel()
        self.km = self.create_kernel_manager()
        self.start_new_kernel()
        self.start_new_kernel_client()
        if self._restarts > self.max_restarts:
            return self._give_up(f"its Python process had to be started {self._restarts} times")
        self._warm_up(index)
        for before in range(index):
            cell = self.nb.cells[before]
            if cell.cell_type != "code" or role_of(cell).get("grade") or before in self._left_out:
                continue
            try:
                self.execute_cell(copy.deepcopy(cell), before)
            except (DeadKernelError, CellTimeoutError):
                return self._give_up("it does not run twice alike")
            finally:
                self.nb.cells[before] = cell


def _locked(cell: Any) -> bool:
    """Whether a cell is the instructor's and not a test, so that it runs no student's code."""
    return is_locked(cell) and not role_of(cell).get("grade")


def _fail(cell: Any, sentence: str) -> None:
    """Adds an error as the cell's last output, without which nbgrader counts it as passed."""
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    error = new_output("error", ename="NotRun", evalue=sentence, traceback=[sentence])
    cell.outputs = [*streams[:3], error]
