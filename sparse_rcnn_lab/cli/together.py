"""Commands that torchrun may start in several processes at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from sparse_rcnn_lab.training.distributed import Group


def run_together(
    arguments: argparse.Namespace,
    work: Callable[[argparse.Namespace, torch.device, Group], int],
) -> int:
    """Joins the processes, if there are several, and does ``work`` in each; its exit code.

    What process 0 already explains is not printed again by the others.
    """
    import torch

    from sparse_rcnn_lab.detect.device import pick_device
    from sparse_rcnn_lab.training.distributed import AlreadyReported, join

    device = torch.device(pick_device(arguments.device))
    try:
        with join(device) as group:
            return work(arguments, device, group)
    except AlreadyReported:
        return 2
