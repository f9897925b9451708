"""Two tiny models and a served page for the tests of the app."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials
from sparse_rcnn_lab.app.limits import Limits
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES
from sparse_rcnn_lab.models.checkpoint import save_checkpoint
from sparse_rcnn_lab.models.recipes import recipe


def checkpoint(folder: Path, name: str = "tiny", classes=CLASS_NAMES, proposals: int = 8) -> str:
    torch.manual_seed(0)
    config = recipe(
        "nano",
        model__num_classes=len(classes),
        model__num_proposals=proposals,
        model__dim=16,
        model__ffn_dim=32,
        model__dynamic_dim=4,
    ).model
    return str(save_checkpoint(folder / f"{name}.safetensors", SparseRCNN(config), classes, name))


def dials(bench: Bench, **changes) -> Dials:
    start = {"proposals": 8, "stage": 6, "threshold": 0.0, "show": SHOWN[0], **changes}
    return Dials(bench.first, **start)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(names: list[str], limits: Limits | None = None) -> Iterator[str]:
    """The address of a page with these models, while the block runs."""
    from sparse_rcnn_lab.app.server import Address, serve

    address = Address(port=free_port())
    page = serve(Bench(names, "cpu", limits), address)
    try:
        yield address.url
    finally:
        page.close()
