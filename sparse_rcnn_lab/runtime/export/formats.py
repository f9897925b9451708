"""The two file formats: how each is written, and how it is run again."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import gather
from sparse_rcnn_lab.runtime.export.graph import AXES, DetectionGraph, trace_graph
from sparse_rcnn_lab.runtime.gather import plain_gather

FormatName = Literal["onnx", "torch-export"]
SUFFIXES: dict[FormatName, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
# The lowest that torch's exporter writes without converting, so the one most runtimes can read.
OPSET = 18
METADATA_FILE = "metadata.json"

# What viewers group the nodes by. The exporter's other notes hold paths of the exporting machine.
_NODE_NOTES = {"namespace"}

# (images [B, 3, H, W], sizes [B, 2] or None) -> the named outputs
Runner = Callable[[Tensor, Tensor | None], dict[str, Tensor]]


# (graph, whether it takes sizes, metadata, the file to fill)
Writer = Callable[[DetectionGraph, bool, Mapping[str, str], Path], None]


def require_onnx() -> None:
    """Raises LabError where ONNX files cannot be written."""
    for name in ("onnx", "onnxscript"):
        try:
            import_module(name)
        except ImportError as error:
            raise LabError(
                f"Writing ONNX needs the package {name}, which is not installed. "
                "Install it with: pip install 'sparse-rcnn-lab[export]'"
            ) from error


def write_onnx(
    graph: DetectionGraph, with_sizes: bool, metadata: Mapping[str, str], path: Path
) -> None:
    """One ``.onnx`` file with the weights inside."""
    require_onnx()
    program = trace_graph(graph, with_sizes, plain_gather)
    axes: dict[str, dict[int, str]] = {"images": AXES}
    if with_sizes:
        axes["sizes"] = {0: AXES[0]}
    with _quiet():
        onnx_program = torch.onnx.export(
            program,
            (),
            opset_version=OPSET,
            output_names=graph.output_names(),
            dynamic_shapes=axes,
            verbose=False,
        )
    assert onnx_program is not None  # for the type checker
    model: Any = onnx_program.model
    model.metadata_props.update(metadata)
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        for name in node.metadata_props.keys() - _NODE_NOTES:
            del node.metadata_props[name]
    model.doc_string = metadata["description"]
    model.producer_name, model.producer_version = "sparse_rcnn_lab", metadata["version"]
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.doc_string = metadata[value.name]
    onnx_program.save(str(path), external_data=False)


def write_torch_export(
    graph: DetectionGraph, with_sizes: bool, metadata: Mapping[str, str], path: Path
) -> None:
    """One ``.pt2`` file for ``torch.export.load``."""
    program = trace_graph(graph, with_sizes, gather)
    with path.open("wb") as file, _quiet():
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(dict(metadata))})


def run_onnx(path: Path, names: list[str]) -> Runner | None:
    """Opens the file in onnxruntime; None where that is not installed."""
    try:
        ort = import_module("onnxruntime")
    except ImportError:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
        inputs = {"images": images.numpy()}
        if sizes is not None:
            inputs["sizes"] = sizes.numpy()
        return dict(zip(names, map(torch.from_numpy, session.run(names, inputs)), strict=True))

    return run


def run_torch_export(path: Path, names: list[str]) -> Runner | None:
    """Loads the file again."""
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
    """Keeps the exporters' notes to their developers from a reader."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
