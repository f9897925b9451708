"""The two file formats: how each is written, and how it is run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sparse_rcnn_lab.runtime.engines import open_onnxruntime
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph, trace_graph
from sparse_rcnn_lab.runtime.export.onnx_file import write_detection

FormatName = Literal["onnx", "torch-export"]
SUFFIXES: dict[FormatName, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
METADATA_FILE = "metadata.json"

# (images [B, 3, H, W], sizes [B, 2] or None) -> the named outputs
Runner = Callable[[Tensor, Tensor | None], dict[str, Tensor]]
# (graph, whether it takes sizes, metadata, the file to fill)
Writer = Callable[[DetectionGraph, bool, Mapping[str, str], Path], None]


def write_onnx(
    graph: DetectionGraph, with_sizes: bool, metadata: Mapping[str, str], path: Path
) -> None:
    """Writes one ``.onnx`` file with the weights inside."""
    path.write_bytes(write_detection(graph, with_sizes, metadata).SerializeToString())


def write_torch_export(
    graph: DetectionGraph, with_sizes: bool, metadata: Mapping[str, str], path: Path
) -> None:
    """Writes one ``.pt2`` file for ``torch.export.load``."""
    program = trace_graph(graph, with_sizes)
    with path.open("wb") as file, _quiet():
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(dict(metadata))})


def run_onnx(path: Path, names: list[str]) -> Runner | None:
    """Opens the file in onnxruntime; returns None where that is not installed."""
    try:
        opened = open_onnxruntime(path.read_bytes(), torch.get_num_threads())
    except ImportError:
        return None

    def run(images: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
        given = {"images": images} if sizes is None else {"images": images, "sizes": sizes}
        found = opened({name: value.numpy() for name, value in given.items()})
        return {name: torch.from_numpy(found[name]) for name in names}

    return run


def run_torch_export(path: Path, names: list[str]) -> Runner | None:
    """Loads the file in torch."""
    with _quiet():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(images: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            found = module(images) if sizes is None else module(images, sizes)
        return {name: found[name] for name in names}

    return run


WRITERS: dict[FormatName, Writer] = {"onnx": write_onnx, "torch-export": write_torch_export}
RUNNERS: dict[FormatName, Callable[[Path, list[str]], Runner | None]] = {
    "onnx": run_onnx,
    "torch-export": run_torch_export,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporters' messages, which are for their developers."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
