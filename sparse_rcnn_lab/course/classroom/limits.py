"""Student code that runs too long or prints too much does so within bounds."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType

KEPT = 2000  # characters of what student code prints in one call


class OutOfTime(BaseException):
    """Not an Exception: student code that catches everything inside its loop shall not catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises :class:`OutOfTime` in the block after so many seconds, and again each second.

    Seconds of this process's own work, as the machine may be busy; of one that waits, four times
    as many on the clock. Without effect where there is no alarm (Windows, other threads): there
    nbgrader's limit of a cell holds alone.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 4 * seconds),
    )
    before = [signal.signal(number, ring) for number, _, _ in timers]
    for _, timer, after in timers:
        signal.setitimer(timer, after, 1.0)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


class _Sink(io.TextIOBase):
    def __init__(self) -> None:
        self.kept: list[str] = []
        self.length = 0

    def write(self, text: str) -> int:
        if self.length < KEPT:
            self.kept.append(text[: KEPT - self.length])
        self.length += len(text)
        return len(text)


@contextlib.contextmanager
def few_words() -> Iterator[None]:
    """Shows the first part of what the block prints, afterwards; hides warnings.

    nbgrader takes anything on stderr for a failed test, a warning of torch included.
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
        if sink.length:
            sys.stdout.write("".join(sink.kept))
            if sink.length > KEPT:
                sys.stdout.write(f"\n... {sink.length - KEPT:,} more characters were printed\n")
