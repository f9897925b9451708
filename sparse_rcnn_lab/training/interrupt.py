"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def graceful_interrupt(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a flag, so that a step is never torn in two.

    The second one interrupts as usual. patient: it does nothing instead; torchrun may pass the
    same Ctrl-C on several times, and itself ends by force what does not stop within 30 seconds.
    Outside the main thread signals stay as they are.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        flag.set()
        for n, handler in before.items() if not patient else ():
            signal.signal(n, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield flag.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
