"""A second process shares each batch where there is a second core: a quarter more steps a minute.

``fit`` does the sharing, as under torchrun. Here the second process is started, ends with the first
one whatever becomes of that, and where it cannot be had the first goes on alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sparse_rcnn_lab

READY = b"ready"
_LEAVE = 60.0  # seconds it has to end by itself


def can_have_one(device: str) -> bool:
    """Whether a second process pays: two cores, no GPU, and no torchrun that shares already."""
    return device == "cpu" and (os.cpu_count() or 1) > 1 and "RANK" not in os.environ


@contextmanager
def partner(folder: Path, resume: bool) -> Iterator[subprocess.Popen[bytes]]:
    """In here a ``fit`` shares its batches with that of a second process on the run in ``folder``.

    resume: what both tell ``fit``. Where the process does not come up ``fit`` has all to itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    package = str(Path(sparse_rcnn_lab.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    group["MASTER_PORT"] = str(port)
    second = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), *["resume"] * resume],
        env={**os.environ, **group, "RANK": "1", "LOCAL_RANK": "1", "PYTHONPATH": path},
        stdin=subprocess.PIPE,  # closed when this process is gone, and with that the other ends
        stdout=subprocess.PIPE,
    )
    assert second.stdin is not None and second.stdout is not None
    try:
        group |= {"RANK": "0", "LOCAL_RANK": "0"}
        if second.stdout.readline().strip() == READY:
            os.environ.update(group)
        else:
            second.kill()
        yield second
    finally:
        for name in group:
            os.environ.pop(name, None)
        try:
            second.wait(_LEAVE if sys.exc_info()[0] is None else 0.0)
        except subprocess.TimeoutExpired:
            second.kill()
            second.wait()
        second.stdin.close()
        second.stdout.close()


def main(folder: str, resume: bool) -> None:
    """The second process."""
    from sparse_rcnn_lab.training.teach.teaching import share  # which imports this file

    threading.Thread(target=_end_with_the_first, daemon=True).start()
    share(Path(folder), resume, lambda: print(READY.decode(), flush=True))


def _end_with_the_first() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when it is closed
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], "resume" in sys.argv[2:])
