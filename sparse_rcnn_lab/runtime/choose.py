"""Which runtime a name stands for, and which one "auto" chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.runtime.engine_runtime import EngineRuntime
from sparse_rcnn_lab.runtime.engines import installed_engines
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime

RuntimeName = Literal["auto", "eager", "folded", "compiled", "onnxruntime", "openvino"]
InferencePrecision = Literal["float32", "bf16", "int8", "auto"]


def make_runtime(
    model: SparseRCNN,
    runtime: RuntimeName = "folded",
    precision: InferencePrecision = "float32",
    calibration: Sequence[Tensor] = (),
) -> Runtime:
    """The runtime and precision with these names for a model.

    "auto" measures nothing. On a CPU it is the first installed of ONNX Runtime and OpenVINO that
    has the precision. It is "folded" on any other device, where neither is installed (with the
    package onnx), and for the precision "auto", which only torch has. With both engines, few
    proposals run in OpenVINO, in float32, once images of the same size keep coming.

    Raises LabError for other names, and for a precision that the runtime does not have.
    """
    for what, value, kind in (
        ("runtime", runtime, RuntimeName),
        ("precision", precision, InferencePrecision),
    ):
        if value not in get_args(kind):
            raise LabError(
                f"{what} {value!r} is unknown. Choose one of {', '.join(get_args(kind))}."
            )
    both = False
    if runtime == "auto":
        on_cpu = model.device.type == "cpu" and precision != "auto"
        engines = [e for e in installed_engines() if e == "openvino" or precision != "bf16"]
        runtime = engines[0] if on_cpu and engines else "folded"
        both = runtime == "onnxruntime" and "openvino" in engines and precision == "float32"
    if runtime == "onnxruntime" or runtime == "openvino":
        return EngineRuntime(model, runtime, precision, calibration, both)
    if precision == "int8":
        raise LabError(
            f'The {runtime} runtime has no int8, which needs an engine. Use runtime="onnxruntime" '
            'or "openvino", and install it: pip install onnx onnxruntime.'
        )
    return TorchRuntime(model, runtime, precision)
