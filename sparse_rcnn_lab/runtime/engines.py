"""The engines that run an ONNX graph, all behind the same call and imported only when used.

A graph may be called from several threads at once. Nothing here knows what a graph computes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, Literal, get_args

from numpy import ndarray

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.runtime.cache_folder import cache_folder

EngineName = Literal["onnxruntime", "openvino"]
# Named inputs, of which a graph uses its own -> named outputs, in the graph's order.
Graph = Callable[[Mapping[str, ndarray]], dict[str, ndarray]]

_IN_A_ROW = 3  # calls with the same shapes after which OpenVINO compiles for them
_KEPT = 4  # graphs compiled in this way that are kept
# Difference, relative to the largest value, that is allowed after all stages, each of which
# magnifies the rounding of those before.
AFTER_ALL = 0.05
_Shapes = tuple[tuple[int, ...], ...]
_Compiled = tuple[Any, list[Any]]  # a compiled model and its free requests


def installed_engines() -> list[EngineName]:
    """The engines that are installed, if the package onnx, which writes their graphs, is too."""
    return [name for name in get_args(EngineName) if find_spec("onnx") and find_spec(name)]


def open_graph(engine: EngineName, content: bytes, threads: int, bf16: bool = False) -> Graph:
    """Opens the content of an ONNX file, to be run on the CPU.

    bf16: OpenVINO may compute in bf16. Raises ImportError where the engine is not installed, and
    the engine's own errors for a graph that it cannot read.
    """
    if engine == "onnxruntime":
        return open_onnxruntime(content, threads)
    return _OpenVino(content, threads, bf16)


def open_both(content: bytes, threads: int) -> Graph:
    """Opens a graph in ONNX Runtime for any shapes, and in OpenVINO for shapes that keep coming."""
    return _OpenVino(content, threads, False, open_onnxruntime(content, threads))


def open_onnxruntime(content: bytes, threads: int) -> Graph:
    """Opens a graph in ONNX Runtime, which takes milliseconds."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning threads take time from other programs, and from ours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = [port.name for port in session.get_inputs()]

    def run(inputs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        own = {name: inputs[name] for name in taken}
        return dict(zip(names, session.run(names, own), strict=True))

    return run


@cache
def _core() -> Any:
    core: Any = import_module("openvino").Core()
    return core


def wait_for_compiler() -> None:
    """Waits until OpenVINO has compiled for the shapes that came several times; for benchmarks."""
    _OpenVino._compiler.submit(lambda: None).result()


class _OpenVino:
    """A graph for any shapes, and one compiled for each set of shapes that keeps coming.

    The compiled one is a quarter faster but takes up to seconds to create, so it is created in the
    background. OpenVINO keeps it in the cache folder, by content.

    meanwhile: runs any shapes in place of OpenVINO; what is compiled must then give the same.
    """

    _compiler = ThreadPoolExecutor(1, "openvino-compile")

    def __init__(
        self, content: bytes, threads: int, bf16: bool, meanwhile: Graph | None = None
    ) -> None:
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._content, self._meanwhile = content, meanwhile
        self._any = None if meanwhile else self._compiled(self._model)
        self._fixed: OrderedDict[_Shapes, Future[_Compiled]] = OrderedDict()
        self._latest: _Shapes = ()
        self._times = 0
        self._lock = Lock()

    @cached_property
    def _model(self) -> Any:
        return _core().read_model(self._content)

    @cached_property
    def _names(self) -> tuple[list[str], list[str]]:
        ports = self._model.inputs, self._model.outputs
        inputs, outputs = ([port.any_name for port in part] for part in ports)
        return inputs, outputs

    def __call__(self, inputs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        """Runs it."""
        compiled = self._for(inputs)
        if compiled is None:
            assert self._meanwhile is not None
            return self._meanwhile(inputs)
        return self._run(compiled, inputs)

    def _run(self, compiled: _Compiled, inputs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        (program, free), (taken, given) = compiled, self._names
        try:
            request = free.pop()  # one per thread at a time
        except IndexError:
            request = program.create_infer_request()
        found = request.infer({name: inputs[name] for name in taken}, share_inputs=True)
        free.append(request)
        return dict(zip(given, found.values(), strict=True))

    def _for(self, inputs: Mapping[str, ndarray]) -> _Compiled | None:
        shapes = tuple(value.shape for value in inputs.values())
        with self._lock:
            self._times = self._times + 1 if shapes == self._latest else 1
            self._latest = shapes
            if self._times == _IN_A_ROW and shapes not in self._fixed:
                self._fixed[shapes] = self._compiler.submit(self._compile_for, dict(inputs))
                while len(self._fixed) > _KEPT:
                    self._fixed.popitem(last=False)
            made = self._fixed.get(shapes)
        if made is not None and made.done() and made.exception() is None:
            return made.result()
        return self._any

    def _compile_for(self, inputs: Mapping[str, ndarray]) -> _Compiled:
        model = self._model.clone()
        model.reshape({name: list(inputs[name].shape) for name in self._names[0]})
        compiled = self._compiled(model)
        if self._meanwhile is not None:
            found, wanted = self._run(compiled, inputs), self._meanwhile(inputs)
            for name, value in wanted.items():
                if not abs(found[name] - value).max() <= AFTER_ALL * abs(value).max():
                    raise ValueError(f"its {name} differ from ONNX Runtime's")
        return compiled

    def _compiled(self, model: Any) -> _Compiled:
        try:
            kept = {"CACHE_DIR": str(cache_folder() / "openvino")}
            return _core().compile_model(model, "CPU", {**self._settings, **kept}), []
        except (RuntimeError, LabError):  # the cache is missing, damaged or cannot be written
            return _core().compile_model(model, "CPU", self._settings), []
