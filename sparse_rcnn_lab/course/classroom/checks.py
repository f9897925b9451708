"""``check``: what every test cell of the assignments calls.

``check(iou, a, b, gives=expected)`` calls the student's function on copies of its inputs, within a
time limit, with the package's own answers out of reach, and compares.

A mistake should cost marks only where it was made: while one function is checked, the other
functions of the assignment that it may call are first the package's, then the student's own, and
either may pass.
"""

from __future__ import annotations

import contextlib
import copy
import io
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import FrameType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.course.classroom.reference_solutions import SOLUTIONS, refusing, standing_in

# Literals in the notebooks have four decimals.
ATOL, RTOL = 3e-4, 3e-4
KEPT = 2000  # characters that are kept of what student code prints in one call


class NotYet(AssertionError):
    """A check that failed. Jupyter shows only its sentence, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Check:
    """The checks of one assignment."""

    def __init__(self, assignment: str) -> None:
        self.assignment = assignment
        self._slow: dict[int, Any] = {}  # what did not end, by id, as names may be shared

    def __call__(
        self,
        target: Callable[..., Any],
        *args: Any,
        gives: Any,
        of: Any = None,
        hints: dict[str, Any] | None = None,
        within: float = 5.0,
        unchanged: bool = False,
    ) -> None:
        """Passes, with a line, if ``target(*args)`` gives ``gives``; else raises :class:`NotYet`.

        of: the function under test, where ``target`` is a lambda around it.
        hints: sentence -> the wrong result to which it applies; shown in that case.
        within: seconds. What was too slow once is not tried a second time.
        unchanged: the inputs must be left as they were.
        """
        tested = target if of is None else of
        notebook = sys.modules["__main__"].__dict__
        # The required name under which the notebook has the object under test.
        own = [name for name in SOLUTIONS[self.assignment] if notebook.get(name) is tested]
        name = next(iter(own), getattr(tested, "__name__", "it"))
        problems = []
        for others in (self._others(own), nullcontext()):
            try:
                with others:
                    got = self._call(name, tested, target, args, within, unchanged)
            except NotYet as error:
                problems.append(str(error))
                continue
            problem = difference(got, gives, name)
            if problem is None:
                print(f"ok: {name}")
                return
            hint = [h for h, wrong in (hints or {}).items() if not difference(got, wrong, name)]
            problems.append("\n".join([problem, *hint[:1]]))
        raise NotYet(problems[0])

    def that(self, condition: Any, otherwise: str) -> None:
        """Passes if ``condition`` is true; else raises :class:`NotYet` with the sentence."""
        if not bool(condition):
            raise NotYet(otherwise)
        print("ok")

    def _call(
        self, name: str, tested: Any, target: Any, args: Any, within: float, unchanged: bool
    ) -> Any:
        if id(tested) in self._slow:
            raise NotYet(f"{name} did not come to an end in an earlier check.")
        try:
            with few_words(), time_limit(within), refusing(self.assignment):
                result = target(*(given := [_copied(argument) for argument in args]))
        except OutOfTime:
            self._slow[id(tested)] = tested
            raise NotYet(
                f"{name} did not come to an end within {within:g} seconds. A loop without end?"
            ) from None
        except NotImplementedError:
            raise NotYet(f"{name} has no code so far.") from None
        except NotYet:
            raise
        except (Exception, SystemExit) as error:
            raise NotYet(f"{name} stops with {_told(error)}") from None
        if unchanged and difference(given, list(args)):
            raise NotYet(f"{name} changes its input, which others still need. Change a copy of it.")
        return result

    def _others(self, own: list[str]) -> contextlib.AbstractContextManager[Any]:
        """A context in which all functions of the assignment except ``own`` are the package's, even
        those that the notebook lacks because their cell has stopped."""
        solutions = SOLUTIONS[self.assignment]
        others: dict[str, Any] = {n: standing_in(solutions[n]) for n in solutions if n not in own}
        notebook = sys.modules["__main__"]
        return patch.multiple(notebook, create=True, **others) if others else nullcontext()


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return copy.deepcopy(value)


def _told(error: BaseException) -> str:
    """The error and the line of the notebook where it was raised."""
    text = f"{type(error).__name__}: {str(error)[:300]}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<ipython")]
    if lines and lines[-1].line:
        text += f"\nin line {lines[-1].lineno} of the cell that defines it: {lines[-1].line}"
    return text


def difference(got: Any, want: Any, name: str = "the result") -> str | None:
    """None where ``got`` equals ``want`` closely enough, else a sentence about the difference.

    Tensors and arrays are compared by shape and value (floats within ``ATOL`` and ``RTOL``,
    integers exactly), tuples, lists and dictionaries part by part, True and False by identity.
    """
    if isinstance(want, Tensor):
        return _tensor(got, want, name)
    if isinstance(want, bool):
        if isinstance(got, Tensor | np.generic) and got.ndim == 0:
            got = bool(got)
        return None if got is want else f"{name} should be {want}, yours is {_short(got)}."
    if isinstance(want, int | float):
        if isinstance(got, Tensor | np.ndarray) and np.size(got.tolist()) == 1:
            got = float(got.reshape(-1)[0])
        if isinstance(got, bool) or not isinstance(got, int | float | np.number):
            return f"{name} should be a number, yours is {_short(got)}."
        return _tensor(torch.tensor(float(got), dtype=torch.float64), torch.tensor(want), name)
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return f"{name} should be a dictionary, yours is {_short(got)}."
        if lacks := [key for key in want if key not in got]:
            return f'{name} has no "{lacks[0]}".'
        parts = [(got[key], value, f'{name}["{key}"]') for key, value in want.items()]
    elif isinstance(want, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(want):
            return f"{name} should be {len(want)} values, yours is {_short(got)}."
        parts = [(got[i], value, f"{name}[{i}]") for i, value in enumerate(want)]
    else:
        return None if got == want else f"{name} should be {_short(want)}, yours is {_short(got)}."
    return next((found for part in parts if (found := difference(*part))), None)


def _tensor(got: Any, want: Tensor, name: str) -> str | None:
    if isinstance(got, np.ndarray):
        got = torch.from_numpy(np.ascontiguousarray(got))
    if not isinstance(got, Tensor):
        return f"{name} should be a tensor of shape {list(want.shape)}, yours is {_short(got)}."
    if got.shape != want.shape:
        return f"{name} should have the shape {list(want.shape)}, yours has {list(got.shape)}."
    rtol = RTOL if want.is_floating_point() else 0.0
    got, want = got.detach().cpu().double(), want.double()
    near = torch.isclose(got, want, atol=ATOL, rtol=rtol)
    if near.all():
        return None
    at = tuple(int(i) for i in (~near).nonzero()[0])
    where = f"{name}[{', '.join(map(str, at))}]" if at else name
    wrong = int((~near).sum())
    more = f" ({wrong} of {want.numel()} values differ)" if want.numel() > 1 else ""
    return f"{where} should be {want[at]:.4f}, yours is {got[at]:.4f}{more}."


def _short(value: Any) -> str:
    if value is None:
        return "None (is there a return?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class OutOfTime(BaseException):
    """Not an Exception, so that student code which catches everything in a loop cannot catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """A context that raises :class:`OutOfTime` after this many seconds, and then every second.

    These are seconds of process time, as the machine may be busy; for code that waits, four times
    as many by the clock. It has no effect where there is no alarm (Windows, other threads): there
    only nbgrader's time limit for a cell applies.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, ring) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds, 1.0)
    try:
        yield
    finally:
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


class _Sink(io.StringIO):
    length = 0

    def write(self, text: str) -> int:
        self.length += len(text)
        return super().write(text[: KEPT - self.tell()])


@contextlib.contextmanager
def few_words() -> Iterator[None]:
    """A context that shows prints only at its end and only ``KEPT`` characters; hides warnings.

    nbgrader takes anything on stderr, even a warning of torch, for a failed test.
    """
    sink = _Sink()
    try:
        with (
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        print(sink.getvalue(), end="")
        if sink.length > KEPT:
            print(f"\n... {sink.length - KEPT:,} more characters were printed")


boxes = Check("boxes")
matching = Check("matching")
stage = Check("stage")
experiment = Check("experiment")
