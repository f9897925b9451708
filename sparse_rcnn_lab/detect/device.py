"""Which device to compute on, and what it is called."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from sparse_rcnn_lab.core.errors import LabError


def pick_device(name: str | torch.device | None = None) -> str:
    """The device ``name`` as a string; for None or "auto" the fastest one: cuda, else cpu.

    Raises LabError when this machine does not have it.

    >>> pick_device("cpu")
    'cpu'
    """
    name = "auto" if name is None else str(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        return name  # not tried out: each of several processes would take memory on the first GPU
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        # For a backend that this torch was built without, the message is a page long.
        reason = str(error).splitlines()[0].split(". ")[0]
        if isinstance(error, ImportError) or reason.startswith("Could not run"):
            reason = "this build of torch does not have it"
        raise LabError(
            f"There is no device {name!r} here ({reason}). Leave device (--device) out, or use cpu."
        ) from error
    return name


def machine(device: str) -> dict[str, str]:
    """The name of the processor, and of the GPU where one is used."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    names = {"cpu": cpu}
    if torch.device(device).type == "cuda":
        names["gpu"] = torch.cuda.get_device_name(device)
    return names
