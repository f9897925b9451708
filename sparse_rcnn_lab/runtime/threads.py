"""How many threads of a CPU a model computes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparse_rcnn_lab.core.config import BackboneName

# Their operations are so short that waking a second thread costs more than it brings: an image
# takes nano-shapes 17 ms on one thread and 50 on two, small-cards 54 and 93.
_LIGHT: tuple[BackboneName, ...] = ("nano", "mobilenet_v2")


def thread_count(backbone: BackboneName) -> int:
    """How many threads a model on a CPU should have: one, or as many as torch."""
    light = backbone in _LIGHT and "OMP_NUM_THREADS" not in os.environ
    return 1 if light else torch.get_num_threads()


@contextmanager
def threads_for(backbone: BackboneName) -> Iterator[None]:
    """In here light models compute on one thread.

    Leaves a user's own OMP_NUM_THREADS alone, and other threads of the process too.
    """
    before, wanted = torch.get_num_threads(), thread_count(backbone)
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
