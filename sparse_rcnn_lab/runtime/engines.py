"""The engines that run an ONNX graph, behind one call; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from numpy import ndarray

# Named inputs -> named outputs, in the graph's order.
Graph = Callable[[Mapping[str, ndarray]], dict[str, ndarray]]


def open_onnxruntime(content: bytes, threads: int) -> Graph:
    """A graph in ONNX Runtime, on the CPU. May be called from several threads at once.

    Raises ImportError where onnxruntime is missing.
    """
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning threads cost other programs, and ours, their time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run
