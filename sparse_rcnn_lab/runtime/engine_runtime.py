"""The runtimes that use an engine: pyramid and stages as ONNX graphs, the rest in torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import Proposals, SparseRCNN
from sparse_rcnn_lab.core.pooling import SAMPLES, STRIDES, Pyramid, assign_levels, gather
from sparse_rcnn_lab.core.stage import NORMAL, Stage, StageOutput
from sparse_rcnn_lab.runtime import onnx_graphs
from sparse_rcnn_lab.runtime.engines import AFTER_ALL, EngineName, Graph, open_both, open_graph
from sparse_rcnn_lab.runtime.int8 import in_int8
from sparse_rcnn_lab.runtime.torch_runtime import TorchRuntime, thread_count, threads_for

_Sizes = tuple[tuple[float, float], ...]
_Shapes = tuple[tuple[int, int], ...]
_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# Up to this many numbers that a stage pools from one graph of everything is faster in both engines,
# as calls and small operations then cost more than torch saves at pooling.
_FEW = 1 << 20
# Largest difference from the model, relative to the largest value, with which a graph is accepted.
_TOLERANCE = {"float32": 1e-3, "bf16": 0.1, "int8": 0.3}


class EngineRuntime(TorchRuntime):
    """Pyramid and stages in an engine; torch, folded, computes what an engine cannot.

    Pooling's weighted sums are computed in torch, whose ``embedding_bag`` is several times as fast
    as any operator of the engines: a stage's graph returns the rows that the next stage adds. Few
    and narrow proposals, of which only the last output is needed, run in one graph of everything.

    name: "onnxruntime" or "openvino".  precision: "float32"; "bf16" (openvino) or "int8", both only
    for the pyramid, most of the work: boxes and logits stay float32.  calibration: normalised
    images ``[1, 3, H, W]`` on which int8 measures its ranges.  both: the one graph runs in OpenVINO
    once images of the same size keep coming, and until then in the engine of this name.

    The graphs are created at first use, compared with the model on a small image, and created again
    when weights have changed. Where that fails, or the engine fails later, one warning says so and
    torch takes over. Torch also computes recorded RoI features and filters, ablations, masks and
    gradients, and everything on other devices.
    """

    def __init__(
        self,
        model: SparseRCNN,
        name: EngineName,
        precision: str = "float32",
        calibration: Sequence[Tensor] = (),
        both: bool = False,
    ) -> None:
        super().__init__(model)
        able = ("float32", "int8") if name == "onnxruntime" else ("float32", "bf16", "int8")
        if precision not in able:
            raise LabError(f"{_TITLES[name]} computes in {', '.join(able)}, found {precision!r}.")
        self.engine, self.wanted, self.calibration = name, precision, tuple(calibration)
        self.both = both
        self._failed = False

    def _settings(self) -> tuple[Any, ...]:
        return self.engine, self.wanted, self.calibration, self.both

    def about(self) -> dict[str, str]:
        """See :class:`Runtime`."""
        if self._failed or self.model.device.type != "cpu":
            return super().about()
        name = f"{self.engine}+openvino" if self.both else self.engine
        return {"runtime": name, "precision": self.wanted}

    def pyramid(self, images: Tensor) -> Pyramid:
        """As :meth:`SparseRCNN.pyramid`."""
        if self._engine_applies():
            try:
                graph = self._up_to_date("pyramid", self.model.backbone, self._pyramid_graph)
                return _pyramid(graph, images)
            except Exception as error:  # whatever an engine, or its absence, raises
                self._give_up(error)
        return super().pyramid(images)

    def run_stages(
        self,
        pyramid: Pyramid,
        boxes: Tensor,
        features: Tensor,
        start: int = 0,
        stop: int | None = None,
        record: Collection[str] = (),
        **kwargs: Any,
    ) -> list[StageOutput]:
        """As :meth:`SparseRCNN.run_stages`."""
        count = len(self.model.stages)
        record = {record} if isinstance(record, str) else set(record)
        if (
            self._engine_applies()
            and record <= {"attention"}
            and kwargs.get("ablation", NORMAL) == NORMAL
            and kwargs.get("mask") is None
            and 0 <= start < count
            and start < (count if stop is None else stop)
            and (
                not start
                or kwargs.get("confidence") is not None
                or not self.model.config.overlap_attention
            )
            and boxes.numel() > 0
            and pyramid.table.dtype == boxes.dtype == features.dtype == torch.float32
        ):
            try:
                bags, stages = self._up_to_date("graphs", self.model.stages, self._stage_graphs)
                chosen = [stages[min(i, count - 1)] for i in range(start, stop or count)]
                with threads_for(self.model.config.backbone):
                    given = pyramid, boxes, features, kwargs.get("confidence")
                    return _stages(bags, chosen, *given, "attention" in record)
            except Exception as error:
                self._give_up(error)
        return super().run_stages(pyramid, boxes, features, start, stop, record, **kwargs)

    def last_stage(
        self, images: Tensor, sizes: Tensor, num_proposals: int | None = None
    ) -> StageOutput:
        """See :class:`Runtime`."""
        learned = self.model.proposals
        count = len(learned) if num_proposals is None else num_proposals
        if (
            isinstance(count, int)
            and 0 < count <= len(learned)
            and images.dtype == sizes.dtype == learned.features.dtype == torch.float32
            and self.in_one_graph(images.shape[0] * count)
        ):
            try:
                with threads_for(self.model.config.backbone):
                    start, whole = self._up_to_date("whole", self.model, self._whole_graphs)
                    return _last_stage(start, whole, images, sizes, count)
            except Exception as error:
                self._give_up(error)
        return super().last_stage(images, sizes, num_proposals)

    def in_one_graph(self, proposals: int) -> bool:
        """Whether :meth:`last_stage` runs in one graph for this many proposals, over all images."""
        config = self.model.config
        pixels = (2 * SAMPLES * config.roi_size) ** 2
        few = 0 < proposals * pixels * config.dim <= _FEW
        return few and self.wanted == "float32" and self._engine_applies()

    def _engine_applies(self) -> bool:
        return not self._failed and self.model.device.type == "cpu" and self._applies()

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"{_TITLES[self.engine]} does not run this model ({reason[:200]}), so torch runs it.",
            stacklevel=3,
        )

    def _open(self, graph: Any, bf16: bool = False, both: bool = False) -> Graph:
        content = graph if isinstance(graph, bytes) else graph.SerializeToString()
        threads = thread_count(self.model.config.backbone)
        return (
            open_both(content, threads) if both else open_graph(self.engine, content, threads, bf16)
        )

    def _pyramid_graph(self) -> Graph:
        written = onnx_graphs.write_pyramid(self.model)
        if self.wanted == "int8":
            written = in_int8(written, self.calibration)
        graph = self._open(written, self.wanted == "bf16")
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        found, wanted = _pyramid(graph, images), self.model.pyramid(images)
        _compare("pyramid", found.table, wanted.table, _TOLERANCE[self.wanted])
        return graph

    def _stage_graphs(self) -> tuple[Graph, list[Graph]]:
        model, config = self.model, self.model.config
        self._check_stages()
        bags = self._open(onnx_graphs.write_bags(model))
        indices = range(len(model.stages))
        graphs = [self._open(onnx_graphs.write_stage(model, i, pooled=True)) for i in indices]
        shapes = tuple((64 // stride, 96 // stride) for stride in STRIDES)
        rows = sum(height * width for height, width in shapes)
        generator = torch.Generator().manual_seed(0)
        pyramid = Pyramid(torch.randn(rows, config.dim, generator=generator), shapes, 1)
        boxes, features = model.proposals(
            torch.tensor([[64.0, 96.0]]), min(8, len(model.proposals))
        )
        confidence = None
        for output, graph in zip(model.run_stages(pyramid, boxes, features), graphs, strict=True):
            (found,) = _stages(bags, [graph], pyramid, boxes, features, confidence, False)
            for name in ("boxes", "logits", "features"):
                wanted = getattr(output, name)
                _compare(name, getattr(found, name), wanted, _TOLERANCE["float32"])
            boxes, features = output.boxes, output.features
            confidence = output.logits.amax(-1)
        return bags, graphs

    def _whole_graphs(self) -> tuple[Callable[..., dict[str, np.ndarray]], Graph]:
        self._check_stages()
        model = self.model
        begin = self._open(onnx_graphs.write_start(model))

        @lru_cache(4)  # proposals enter the first stage alike in every image of the same size
        def start(sizes: _Sizes, shapes: _Shapes, count: int) -> dict[str, np.ndarray]:
            boxes, features = model.proposals(torch.tensor(sizes), count)
            given = {"boxes": boxes.numpy(), "features": features.contiguous().numpy()}
            return {**given, **begin({**given, "levels": _levels(shapes, len(sizes))})}

        graphs = start, self._open(onnx_graphs.write_whole(model), both=self.both)
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        sizes, count = torch.tensor([[64.0, 96.0]]), min(8, len(model.proposals))
        found = _last_stage(*graphs, images, sizes, count)
        wanted = model.run_stages(model.pyramid(images), *model.proposals(sizes, count))[-1]
        for name in ("boxes", "logits", "features"):
            _compare(name, getattr(found, name), getattr(wanted, name), AFTER_ALL)
        return graphs

    def _check_stages(self) -> None:
        if any(type(stage) is not Stage for stage in self.model.stages):
            raise LabError("its stages are not those of the package")
        if type(self.model.proposals) is not Proposals:
            raise LabError("its proposals are not those of the package")


def _compare(name: str, found: Tensor, wanted: Tensor, tolerance: float) -> None:
    largest = (found - wanted).abs().max() / wanted.abs().max()
    if not largest <= tolerance:  # NaN is refused too
        raise LabError(f"its {name} would be wrong by {float(largest):.1e} of the largest value")


def _pyramid(graph: Graph, images: Tensor) -> Pyramid:
    table = graph({"images": images.contiguous().numpy()})["table"]
    return Pyramid(torch.from_numpy(table), _shapes(images), images.shape[0])


def _shapes(images: Tensor) -> _Shapes:
    """(height, width) of each level."""
    height, width = images.shape[-2:]
    return tuple((height // stride, width // stride) for stride in STRIDES)


def _last_stage(
    start: Callable[[_Sizes, _Shapes, int], dict[str, np.ndarray]],
    whole: Graph,
    images: Tensor,
    sizes: Tensor,
    count: int,
) -> StageOutput:
    begun = start(
        tuple((height, width) for height, width in sizes.tolist()), _shapes(images), count
    )
    read = {**begun, **whole({**begun, "images": images.contiguous().numpy()})}
    return StageOutput(
        boxes=torch.from_numpy(read["refined_boxes"]),
        logits=torch.from_numpy(read["logits"]),
        features=torch.from_numpy(read["refined_features"]),
        levels=torch.from_numpy(read["read"]),
    )


def _levels(shapes: Sequence[tuple[int, int]], batch: int) -> np.ndarray:
    """``[B, 4, 4]`` int32: width, height, stride and first row of each image's levels."""
    levels = np.empty((batch, len(STRIDES), 4), np.int32)
    first = 0
    for index, (height, width) in enumerate(shapes):
        levels[:, index, :3] = width, height, STRIDES[index]
        levels[:, index, 3] = first + np.arange(batch) * height * width
        first += batch * height * width
    return levels


def _stages(
    bags: Graph,
    graphs: Sequence[Graph],
    pyramid: Pyramid,
    boxes: Tensor,
    features: Tensor,
    confidence: Tensor | None,
    attention: bool,
) -> list[StageOutput]:
    levels = _levels(pyramid.shapes, pyramid.batch)
    given = {"levels": levels, "boxes": boxes.contiguous().numpy()}
    read = bags(given)
    given["features"] = features.contiguous().numpy()
    if confidence is not None:
        given["confidence"] = confidence.contiguous().numpy()
    entered, outputs = [boxes], []
    for graph in graphs:
        rows, weights = (torch.from_numpy(read[name]) for name in ("rows", "weights"))
        *shape, bag = rows.shape
        roi = gather(pyramid.table, rows.view(-1, bag), weights.view(-1, bag))
        read = graph({"roi": roi.view(*shape, -1).numpy(), **given})
        given = {
            "levels": levels,
            "boxes": read["refined_boxes"],
            "features": read["refined_features"],
            "confidence": read["logits"].max(-1),
        }
        found = {name: torch.from_numpy(value) for name, value in read.items()}
        outputs.append(found)
        entered.append(found["refined_boxes"])
    levels_read = assign_levels(torch.stack(entered[:-1]))
    return [
        StageOutput(
            boxes=found["refined_boxes"],
            logits=found["logits"],
            features=found["refined_features"],
            levels=level,
            attention=found["attention"] if attention else None,
        )
        for found, level in zip(outputs, levels_read, strict=True)
    ]
