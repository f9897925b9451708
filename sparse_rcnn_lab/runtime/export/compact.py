"""Stores an ONNX graph's weights in two bytes per number, for use in a web page."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparse_rcnn_lab.runtime.graph_writer import require_onnx

SMALL = 512  # tensors with fewer numbers stay as they are


def compact(graph: Any, exact: bool = False) -> bool:
    """Stores a ModelProto's float32 weights in 16 bits, in place; returns whether it was lossless.

    Weights that are bfloat16 numbers (as in the shipped checkpoints) keep their values; others are
    rounded to float16 unless ``exact``, which leaves them float32. A Cast makes them float32
    again, which an engine does once when it opens the graph.
    """
    onnx = require_onnx()
    kinds, lossless, casts = onnx.TensorProto, True, []
    for tensor in graph.graph.initializer:
        if tensor.data_type != kinds.FLOAT or np.prod(tensor.dims) < SMALL:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        bits = values.view(np.uint32)
        if not (bits & 0xFFFF).any():
            kind, raw = kinds.BFLOAT16, (bits >> 16).astype("<u2")
        else:
            half = values.clip(-65504, 65504).astype("<f2")
            same = bool((half == values).all())
            if exact and not same:
                continue
            lossless = lossless and same
            kind, raw = kinds.FLOAT16, half
        name = tensor.name
        tensor.name, tensor.data_type, tensor.raw_data = f"{name}_16", kind, raw.tobytes()
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], name, to=kinds.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return lossless
