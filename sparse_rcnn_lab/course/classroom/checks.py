"""``check``: what every test cell of the assignments calls.

``check(iou, a, b, gives=expected)`` calls the student's function on copies of its inputs, within a
time limit, with the package's own answers out of reach, and compares.

A mistake shall cost where it was made and nowhere else: while one function is checked, the other
functions of the assignment that it may call are first the package's, then the student's own, and
either may pass.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.course.classroom.compare import difference
from sparse_rcnn_lab.course.classroom.limits import OutOfTime, few_words, time_limit
from sparse_rcnn_lab.course.classroom.reference_solutions import SOLUTIONS, refusing, standing_in


class NotYet(AssertionError):
    """A check that failed. Jupyter shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Check:
    """The checks of one assignment."""

    def __init__(self, assignment: str) -> None:
        self.assignment = assignment
        self._slow: list[Any] = []  # what did not come to an end: objects, as names may be shared

    def __call__(
        self,
        target: Callable[..., Any],
        *args: Any,
        gives: Any,
        of: Any = None,
        hints: dict[str, Any] | None = None,
        within: float = 5.0,
    ) -> None:
        """Passes, with a line, if ``target(*args)`` gives ``gives``; else raises :class:`NotYet`.

        of: the function under test, where ``target`` is a lambda around it.
        hints: sentence -> the wrong result that would make it true; shown when it is the case.
        within: seconds. What was too slow once is not tried a second time.
        """
        tested = target if of is None else of
        own = self._names_of(tested)
        name = next(iter(own), getattr(tested, "__name__", "it"))
        if self._is_slow(tested):
            raise NotYet(f"{name} did not come to an end in an earlier check.")
        first: NotYet | None = None
        for stand_ins in (True, False):
            try:
                with self._others(own) if stand_ins else contextlib.nullcontext():
                    got = self._call(name, tested, target, args, within)
                problem = difference(got, gives, name)
            except NotYet as error:
                first = first or error
                if self._is_slow(tested):
                    break
                continue
            if problem is None:
                print(f"ok: {name}")
                return
            for hint, wrong in (hints or {}).items():
                if difference(got, wrong, name) is None:
                    problem += f"\n{hint}"
                    break
            first = first or NotYet(problem)
        assert first is not None
        raise first

    def that(self, condition: Any, otherwise: str) -> None:
        """Passes if ``condition`` is true; else raises :class:`NotYet` with the sentence."""
        if not bool(condition):
            raise NotYet(otherwise)
        print("ok")

    def _call(
        self, name: str, tested: Any, target: Callable[..., Any], args: Any, within: float
    ) -> Any:
        try:
            with few_words(), time_limit(within), refusing(self.assignment):
                return target(*(_copied(argument) for argument in args))
        except OutOfTime:
            self._slow.append(tested)
            raise NotYet(
                f"{name} did not come to an end within {within:g} seconds. A loop without end?"
            ) from None
        except NotImplementedError:
            raise NotYet(f"{name} has no code so far.") from None
        except NotYet:
            raise
        except (Exception, SystemExit) as error:
            raise NotYet(f"{name} stops with {_told(error)}") from None

    def _is_slow(self, tested: Any) -> bool:
        return any(slow is tested for slow in self._slow)

    def _names_of(self, tested: Any) -> list[str]:
        """What the notebook calls the object under test, of the names that are asked for."""
        notebook = sys.modules["__main__"].__dict__
        return [name for name in SOLUTIONS[self.assignment] if notebook.get(name) is tested]

    @contextlib.contextmanager
    def _others(self, own: list[str]) -> Iterator[None]:
        """In the block all functions of the assignment but those named ``own`` are the package's,
        also those that the notebook lacks as their cell has stopped."""
        notebook = sys.modules["__main__"].__dict__
        solutions = SOLUTIONS[self.assignment]
        others = [name for name in solutions if name not in own]
        kept = {name: notebook[name] for name in others if name in notebook}
        notebook.update({name: standing_in(solutions[name]) for name in others})
        try:
            yield
        finally:
            for name in others:
                notebook.pop(name, None)
            notebook.update(kept)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return copy.deepcopy(value)


def _told(error: BaseException) -> str:
    """The error and the line of the notebook it comes from."""
    text = f"{type(error).__name__}: {str(error)[:300]}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<ipython")]
    if lines and lines[-1].line:
        text += f"\nin line {lines[-1].lineno} of the cell that defines it: {lines[-1].line}"
    return text


boxes = Check("boxes")
matching = Check("matching")
stage = Check("stage")
experiment = Check("experiment")
