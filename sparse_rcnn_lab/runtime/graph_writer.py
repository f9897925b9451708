"""Writes an ONNX graph operator by operator; describes each input and output of our graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import SAMPLES, STRIDES

OPSET, IR_VERSION = 17, 8  # the lowest with LayerNormalization
_BAG = (2 * SAMPLES) ** 2  # pixels that a bin reads

# Inputs and outputs by name: the shape of each (names are free sizes) and its meaning.
Tensors = Mapping[str, tuple[tuple[str | int, ...], str]]
TENSORS: Tensors = {
    "images": (
        ("batch", 3, "height", "width"),
        "float32: RGB of 0..255, normalised with mean and std, then padded with zeros at the right "
        "and bottom so that height and width are multiples of 32",
    ),
    "sizes": (("batch", 2), "float32: height and width of each image before padding"),
    "table": (("rows", "dim"), "float32: the feature pyramid, one row a pixel; hand it on"),
    "levels": (
        ("batch", len(STRIDES), 4),
        "int32: width, height, stride and first row in table of each image's p2..p5; hand it on",
    ),
    "boxes": (("batch", "proposals", 4), "float32: x1, y1, x2, y2 in pixels of images"),
    "features": (("batch", "proposals", "dim"), "float32: the proposals' features"),
    "confidence": (
        ("batch", "proposals"),
        "float32: the largest of each proposal's logits after the stage before",
    ),
    "refined_boxes": (("batch", "proposals", 4), "float32: boxes of the next stage; not clipped"),
    "logits": (("batch", "proposals", "classes"), "float32: before the sigmoid"),
    "refined_features": (("batch", "proposals", "dim"), "float32: features of the next stage"),
    "attention": (
        ("batch", "heads", "proposals", "proposals"),
        "float32: how much a proposal (row) looks at another (column); rows sum to 1",
    ),
    "roi": (("batch", "proposals", "bins", "dim"), "float32: RoI features"),
    "filtered": (("batch", "proposals", "bins", "dim"), "float32: roi after the dynamic filters"),
    "attend": ((1,), "float32: 1; 0 switches self-attention off"),
    "heads_on": (("heads",), "float32: 1 of each attention head that is on, 0 of the others"),
    "exchange": (
        ("proposals", "proposals"),
        "float32: whose dynamic filters each proposal (row) is given: the identity, a permutation, "
        "or shares that sum to 1",
    ),
    "asked": (
        ("asked",),
        "int32: the proposals that the stage is run for; boxes and outputs are of those alone, but "
        "attention of all. All of them where attention sees overlap",
    ),
    "attended": (("batch", "proposals", "dim"), "float32: features after self-attention"),
    "filters": (("batch", "proposals", "filters"), "float32: numbers of the dynamic filters"),
    "read": (("batch", "proposals"), "int64: level that was pooled, 0 for p2 to 3 for p5"),
    "rows": (("batch", "proposals", "bins", _BAG), "int32: rows of table that a bin reads"),
    "weights": (("batch", "proposals", "bins", _BAG), "float32: and their weights"),
}


def require_onnx() -> Any:
    """The package onnx. Raises LabError where it is not installed."""
    try:
        return import_module("onnx")
    except ImportError as error:
        raise LabError(
            "Writing ONNX needs the package onnx, which is not installed. "
            "Install it with: pip install 'sparse-rcnn-lab[export]'"
        ) from error


class GraphWriter:
    """An ONNX graph under construction. A value is represented by its name."""

    def __init__(self) -> None:
        self.onnx = require_onnx()
        self.types = self.onnx.TensorProto
        self.nodes: list[Any] = []
        self.constants: dict[tuple[Any, ...], Any] = {}

    def op(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns its output, or a list of several; non-names become constants."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        made = [f"{kind}_{len(self.nodes)}" + f"_{i}" * (i > 0) for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, made, made[0], **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, value: Any) -> str:
        """Adds a tensor, an array, or plain numbers (float32; int64 where all are int).

        Equal small constants are written once.
        """
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        number = len(self.constants)
        content = array.tobytes() if array.size < 4096 else number
        key = (array.shape, array.dtype.str, content)
        if key not in self.constants:
            array = np.ascontiguousarray(array).reshape(array.shape)
            self.constants[key] = self.onnx.numpy_helper.from_array(array, f"constant_{number}")
        name: str = self.constants[key].name
        return name

    def model(
        self,
        model: SparseRCNN,
        name: str,
        inputs: Sequence[str],
        outputs: dict[str, str],
        tensors: Tensors = TENSORS,
    ) -> Any:
        """The finished ModelProto. outputs: output name -> its value."""
        config, helper = model.config, self.onnx.helper
        sizes = {"dim": config.dim, "classes": config.num_classes, "heads": config.num_heads}
        sizes["bins"] = config.roi_size**2

        def info(value: str) -> Any:
            shape, text = tensors[value]
            kind = getattr(self.types, text.partition(":")[0].upper().replace("FLOAT32", "FLOAT"))
            axes = [sizes.get(str(axis), axis) for axis in shape]
            return helper.make_tensor_value_info(value, kind, axes, doc_string=text)

        called = {value: output for output, value in outputs.items()}
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [called.get(value, value) for value in names]
        graph = helper.make_graph(
            self.nodes, name, list(map(info, inputs)), list(map(info, outputs)),
            list(self.constants.values()),
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="sparse_rcnn_lab"
        )
