"""The model in two parts as ONNX graphs: ``pyramid``, and a ``stage`` for each stage.

They are written operator by operator, as every small operator costs an engine time, and torch's
exporter, which takes twenty seconds for one stage, makes three times as many of pooling's index
arithmetic. Letters are those of :mod:`sparse_rcnn_lab.core.stage`; T = 4 P is the number of pixels
that a RoI reads along one axis.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import FINEST_SCALE, SAMPLES, STRIDES
from sparse_rcnn_lab.core.stage import Stage
from sparse_rcnn_lab.runtime.folding import folded
from sparse_rcnn_lab.runtime.graph_writer import TENSORS, GraphWriter


def write_pyramid(model: SparseRCNN, fold: bool = True) -> Any:
    """``images`` -> ``table`` and ``levels``, as a ModelProto.

    fold: False leaves batch norm to the engine and keeps the checkpoint's weights. Raises LabError
    where the backbone has an operation or layer that cannot be exported.
    """
    g = GraphWriter()
    table, levels = pyramid_values(g, model, "images", fold)
    return g.model(model, "pyramid", ["images"], {"table": table, "levels": levels})


def pyramid_values(
    g: GraphWriter, model: SparseRCNN, images: str, fold: bool = True
) -> tuple[str, str]:
    """Adds the nodes of :func:`write_pyramid`; returns table and levels."""
    rows = []
    backbone = folded(model.backbone).cpu() if fold else model.backbone
    for level in _backbone(g, backbone, images):
        pixels = g.op("Transpose", level, perm=[0, 2, 3, 1])
        rows.append(g.op("Reshape", pixels, [-1, model.config.dim]))
    table = g.op("Concat", *rows, axis=0)

    b, _, height, width = g.op("Split", g.op("Shape", images), outputs=4, axis=0)
    strides = np.array(STRIDES)[:, None]
    size = g.op("Div", g.op("Concat", width, height, axis=0), strides)  # [4, 2]
    area = g.op("ReduceProd", size, axes=[1], keepdims=0)
    finer = g.op("Mul", g.op("CumSum", area, 0, exclusive=1), b)  # rows of the levels before
    image = g.op("Unsqueeze", g.op("Range", 0, g.op("Squeeze", b), 1), [1])
    first = g.op("Unsqueeze", g.op("Add", g.op("Mul", image, area), finer), [2])  # [B, 4, 1]
    shapes = g.op("Concat", size, strides, axis=1)  # [4, 3]
    shapes = g.op("Expand", shapes, g.op("Concat", b, [len(STRIDES), 3], axis=0))
    return table, g.op("Cast", g.op("Concat", shapes, first, axis=2), to=g.types.INT32)


def write_proposals(model: SparseRCNN) -> Any:
    """``sizes`` -> the learned ``boxes`` and ``features`` that enter the first stage."""
    g = GraphWriter()
    boxes, features, _ = proposal_values(g, model, "sizes", len(model.proposals))
    return g.model(model, "proposals", ["sizes"], {"boxes": boxes, "features": features})


def proposal_values(
    g: GraphWriter, model: SparseRCNN, sizes: str, count: int
) -> tuple[str, str, str]:
    """The first ``count`` boxes and features, and (w, h, w, h) ``[B, 1, 4]`` of each image."""
    boxes = box_ops.cxcywh_to_xyxy(model.proposals.boxes.detach())[:count]
    height, width = g.op("Split", g.op("Unsqueeze", sizes, [1]), outputs=2, axis=2)
    whwh = g.op("Concat", width, height, width, height, axis=2)
    none = g.op("Mul", height, 0.0)  # [B, 1, 1], to have B
    features = g.op("Add", model.proposals.features.detach()[:count], none)
    return g.op("Mul", boxes, whwh), features, whwh


def write_stage(model: SparseRCNN, index: int, pooled: bool = False, switches: bool = False) -> Any:
    """Stage ``index`` (0-based) as a ModelProto.

    ``table``, ``levels``, ``boxes``, ``features`` -> ``refined_boxes``, ``logits``,
    ``refined_features``, ``attention``. Where attention sees overlap also takes ``confidence``.

    pooled: the graph takes ``roi`` in place of ``table`` and also returns the ``rows`` and
    ``weights`` that the next stage pools, for callers that add rows faster than an engine.
    switches: it also takes ``attend``, ``heads_on`` and ``exchange``, which an
    :class:`~sparse_rcnn_lab.core.stage.Ablation` changes inside a stage, and ``asked``, the
    requested proposals; it also returns ``roi`` and ``filtered``.
    """
    stage = model.stages[index]
    assert isinstance(stage, Stage)
    g = GraphWriter()
    roi = "roi" if pooled else _pooled(g, stage, "table", "levels", "boxes")[0]
    sees_overlap = index > 0 and stage.overlap > 0
    confidence = "confidence" if sees_overlap else None
    found = _refined(g, stage, roi, "boxes", "features", confidence, switches)
    if pooled:
        rows, weights, _ = _bags(g, "levels", found["refined_boxes"], stage.roi_size)
        found |= {"rows": rows, "weights": weights}
    if switches and not pooled:
        found["roi"] = roi
    inputs = ["roi" if pooled else "table", "levels", "boxes", "features"]
    inputs += ["confidence"] * sees_overlap
    if not switches:
        return g.model(model, f"stage_{index + 1}", inputs, found)
    inputs += ["attend", "heads_on", "exchange", "asked"]
    tensors = {
        name: (tuple("asked" if axis == "proposals" else axis for axis in shape), text)
        for name, (shape, text) in TENSORS.items()
    }
    tensors |= {name: TENSORS[name] for name in ("features", "attention")}
    return g.model(model, f"stage_{index + 1}", inputs, found, tensors)


def write_start(model: SparseRCNN) -> Any:
    """``levels``, ``boxes``, ``features`` -> what the first stage computes without seeing an image:
    the ``rows`` and ``weights`` that it pools and their levels (``read``), and the ``attended``
    features and their dynamic ``filters``.
    """
    g = GraphWriter()
    stage = _first(model)
    rows, weights, level = _bags(g, "levels", "boxes", stage.roi_size)
    attended, _ = _attended(g, stage, "features", "boxes")
    outputs = {
        "rows": rows,
        "weights": weights,
        "read": g.op("Squeeze", level, [2]),
        "attended": attended,
        "filters": _linear(g, stage.interaction.generate, attended),
    }
    return g.model(model, "start", ["levels", "boxes", "features"], outputs)


def write_whole(model: SparseRCNN) -> Any:
    """Pyramid and all stages: ``images``, ``boxes``, and the outputs of :func:`write_start` but
    ``read`` -> ``refined_boxes``, ``logits``, ``refined_features`` of the last stage, and, where it
    is not the first, the levels that it ``read``.
    """
    g = GraphWriter()
    table, levels = pyramid_values(g, model, "images")
    roi = _weighted(g, table, "rows", "weights")
    found = _seen(g, _first(model), "attended", "filters", roi, "boxes")
    for stage in model.stages[1:]:
        assert isinstance(stage, Stage)
        found = stage_values(g, stage, table, levels, found)
    outputs = {name: found[name] for name in ("refined_boxes", "logits", "refined_features")}
    if "read" in found:
        outputs["read"] = g.op("Squeeze", found["read"], [2])
    inputs = ["images", "boxes", "rows", "weights", "attended", "filters"]
    return g.model(model, "detector", inputs, outputs)


def _first(model: SparseRCNN) -> Stage:
    stage = model.stages[0]
    assert isinstance(stage, Stage)
    return stage


def stage_values(
    g: GraphWriter, stage: Stage, table: str, levels: str, before: dict[str, str]
) -> dict[str, str]:
    """Adds the nodes of a whole stage: its outputs by name, from those of the stage ``before``."""
    boxes, features = before["refined_boxes"], before["refined_features"]
    confidence = None
    if stage.overlap and "logits" in before:
        confidence = g.op("ReduceMax", before["logits"], axes=[2], keepdims=0)
    roi, read = _pooled(g, stage, table, levels, boxes)
    return {**_refined(g, stage, roi, boxes, features, confidence), "read": read}


def _pooled(g: GraphWriter, stage: Stage, table: str, levels: str, boxes: str) -> tuple[str, str]:
    rows, weights, level = _bags(g, levels, boxes, stage.roi_size)
    return _weighted(g, table, rows, weights), level


def _weighted(g: GraphWriter, table: str, rows: str, weights: str) -> str:
    pixels = g.op("Gather", table, rows, axis=0)  # [B, N, P * P, 16, D]
    found: str = g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", weights, [3]), pixels), [3])
    return found


def write_bags(model: SparseRCNN) -> Any:
    """``levels`` and ``boxes`` -> the ``rows`` and ``weights`` that the first stage pools."""
    g = GraphWriter()
    rows, weights, _ = _bags(g, "levels", "boxes", model.config.roi_size)
    return g.model(model, "bags", ["levels", "boxes"], {"rows": rows, "weights": weights})


# --- the pyramid

_TRACING = Lock()


class _OwnThread(fx.Tracer):
    """While fx traces, it patches every module of the process; this keeps other threads, which
    serve other visitors, unaffected."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        own = get_ident() == self.thread
        return super().call_module(m, forward, args, kwargs) if own else forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        own = get_ident() == self.thread
        return super().getattr(attr, attr_val, parameter_proxy_cache) if own else attr_val


def _backbone(g: GraphWriter, module: nn.Module, images: str) -> list[str]:
    """The outputs of a module of convolutions, ReLUs, additions and poolings."""
    values: dict[fx.Node, Any] = {}
    found: list[str] = []
    with _TRACING:
        traced = fx.GraphModule(module, _OwnThread().trace(module))
    for node in traced.graph.nodes:
        args = fx.node.map_arg(node.args, values.__getitem__)
        if node.op == "placeholder":
            values[node] = images
        elif node.op == "output":
            found = args[0]
        elif node.op == "call_module":
            values[node] = _layer(g, traced.get_submodule(node.target), args[0])
        elif node.target in _FUNCTIONS and node.kwargs.get("mode", "nearest") == "nearest":
            values[node] = _FUNCTIONS[node.target](g, *args)
        else:
            raise LabError(f"The backbone has an operation that is not exported: {node.target}.")
    return found


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: lambda g, a, b: g.op("Add", a, b),
    operator.iadd: lambda g, a, b: g.op("Add", a, b),
    "relu": lambda g, x: g.op("Relu", x),
    "contiguous": lambda g, x: x,
    # For the pyramid: sides are multiples of 32, so the finer level is exactly twice as large.
    F.interpolate: lambda g, x: g.op(
        "Resize", x, "", [1.0, 1.0, 2.0, 2.0],
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    getattr: lambda g, x, name: None,  # that level's size
    operator.getitem: lambda g, x, index: None,
}  # fmt: skip


def _layer(g: GraphWriter, layer: nn.Module, x: str) -> str:
    found: str
    if isinstance(layer, nn.Identity):
        return x
    if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple):
        weights = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        found = g.op(
            "Conv", x, *weights, group=layer.groups, pads=[*layer.padding, *layer.padding],
            strides=layer.stride, dilations=layer.dilation, kernel_shape=layer.kernel_size,
        )  # fmt: skip
    elif isinstance(layer, nn.BatchNorm2d):
        parts = layer.weight, layer.bias, layer.running_mean, layer.running_var
        found = g.op("BatchNormalization", x, *parts, epsilon=layer.eps)
    elif isinstance(layer, nn.ReLU6):
        found = g.op("Clip", x, 0.0, 6.0)
    elif isinstance(layer, nn.ReLU):
        found = g.op("Relu", x)
    elif isinstance(layer, nn.MaxPool2d):
        sides = [[side] * 2 for side in (layer.kernel_size, layer.stride, layer.padding)]
        kernel, stride, pad = sides
        found = g.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=[*pad, *pad])
    else:
        raise LabError(f"The backbone has a layer that is not exported: {type(layer).__name__}.")
    return found


# --- a stage


def _refined(
    g: GraphWriter,
    stage: Stage,
    roi: str,
    boxes: str,
    features: str,
    confidence: str | None,
    switches: bool = False,
) -> dict[str, str]:
    """As :meth:`Stage.forward` after its pooling."""
    x, attention = _attended(g, stage, features, boxes, confidence, switches)
    if switches:
        x = g.op("Gather", x, "asked", axis=1)
    # Filters are linear in the features, so these may be exchanged instead.
    owner = g.op("MatMul", "exchange", x) if switches else x
    found = _seen(g, stage, x, _linear(g, stage.interaction.generate, owner), roi, boxes)
    if not switches:
        del found["filtered"]
    return {**found, "attention": attention}


def _attended(
    g: GraphWriter,
    stage: Stage,
    features: str,
    boxes: str,
    confidence: str | None = None,
    switches: bool = False,
) -> tuple[str, str]:
    """The features ``[B, N, D]`` after self-attention, and who attended to whom."""
    mixed, attention = _attention(g, stage, features, boxes, confidence, switches)
    return _norm(g, stage.norm_attention, g.op("Add", features, mixed)), attention


def _seen(
    g: GraphWriter, stage: Stage, x: str, filters: str, roi: str, boxes: str
) -> dict[str, str]:
    """What a stage does once its proposals ``x`` see the image, with their dynamic filters."""
    seen, filtered = _interaction(g, stage, filters, roi)
    x = _norm(g, stage.norm_interaction, g.op("Add", x, seen))
    inner = g.op("Relu", _linear(g, stage.ffn_in, x))
    x = _norm(g, stage.norm_ffn, g.op("Add", x, _linear(g, stage.ffn_out, inner)))
    deltas = _linear(g, stage.regress, _tower(g, stage.reg_tower, x))
    return {
        "refined_boxes": _decoded(g, boxes, deltas),
        "logits": _linear(g, stage.classify, _tower(g, stage.cls_tower, x)),
        "refined_features": x,
        "filtered": filtered,
    }


def _linear(g: GraphWriter, layer: nn.Linear, x: str) -> str:
    found: str = g.op("MatMul", x, layer.weight.t())
    return found if layer.bias is None else g.op("Add", found, layer.bias)


def _norm(g: GraphWriter, norm: nn.LayerNorm, x: str) -> str:
    weights = norm.weight, norm.bias
    found: str = g.op("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)
    return found


def _tower(g: GraphWriter, tower: nn.Sequential, x: str) -> str:
    for layer in tower:
        if isinstance(layer, nn.Linear):
            x = _linear(g, layer, x)
        elif isinstance(layer, nn.LayerNorm):
            x = _norm(g, layer, x)
        else:
            x = g.op("Relu", x)
    return x


def _attention(
    g: GraphWriter, stage: Stage, x: str, boxes: str, confidence: str | None, switches: bool
) -> tuple[str, str]:
    attention, dim = stage.attention, stage.attention.out.in_features
    heads, width = attention.num_heads, dim // attention.num_heads
    # The queries' weights include the scale of the scores.
    scale = torch.ones(3 * dim).index_fill(0, torch.arange(dim), width**-0.5)
    weight, bias = (p.detach().cpu() for p in (attention.qkv.weight, attention.qkv.bias))
    # With switches the weights stay those of the checkpoint, for compact.py, and an engine scales.
    scaled = g.op("Mul", weight.t(), scale) if switches else (weight * scale[:, None]).t()
    qkv = g.op("Add", g.op("MatMul", x, scaled), bias * scale)
    qkv = g.op("Reshape", qkv, [0, 0, 3, heads, width])
    qkv = g.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
    q, k, v = g.op("Split", qkv, outputs=3, axis=0)  # each [1, B, heads, N, D / heads]
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 2, 4, 3]))
    if confidence is not None:
        scores = g.op("Add", scores, _overlap(g, stage, boxes, confidence))
    shares = g.op("Softmax", scores, axis=-1)
    mixed = g.op("MatMul", shares, v)
    if switches:
        mixed = g.op("Mul", mixed, g.op("Reshape", "heads_on", [heads, 1, 1]))
    mixed = g.op("Transpose", mixed, perm=[1, 3, 0, 2, 4])
    mixed = _linear(g, attention.out, g.op("Reshape", mixed, [0, 0, dim]))
    if switches:
        mixed = g.op("Mul", mixed, "attend")
    return mixed, g.op("Squeeze", shares, [0])


def _overlap(g: GraphWriter, stage: Stage, boxes: str, confidence: str) -> str:
    """As :meth:`Stage.overlap_bias`."""
    start, end = g.op("Split", boxes, outputs=2, axis=2)
    (lower, upper), (left, right) = (
        [g.op("Unsqueeze", corner, [axis]) for corner in (start, end)] for axis in (1, 2)
    )
    sides = g.op("Sub", g.op("Min", upper, right), g.op("Max", lower, left))
    shared = g.op("Squeeze", _area(g, g.op("Max", sides, 0.0)), [3])  # [B, N, N]
    area = _area(g, g.op("Sub", end, start))
    both = g.op("Add", area, g.op("Transpose", area, perm=[0, 2, 1]))
    iou = g.op("Div", shared, g.op("Max", g.op("Sub", both, shared), 1e-6))
    higher = g.op("Greater", g.op("Unsqueeze", confidence, [1]), g.op("Unsqueeze", confidence, [2]))
    iou = g.op("Mul", iou, g.op("Cast", higher, to=g.types.FLOAT))
    heads = stage.attention.num_heads
    slopes = stage.overlap * np.arange(1, heads + 1).reshape(heads, 1, 1) / heads
    added: str = g.op("Mul", g.op("Unsqueeze", iou, [1]), slopes)
    return added


def _area(g: GraphWriter, sides: str) -> str:
    """``[..., 2]`` -> ``[..., 1]``."""
    found: str = g.op("ReduceProd", sides, axes=[-1], keepdims=1)
    return found


def _interaction(g: GraphWriter, stage: Stage, filters: str, roi: str) -> tuple[str, str]:
    """``filters`` ``[B, N, 2 D Di]``, ``roi`` ``[B, N, P * P, D]`` -> what each proposal saw
    ``[B, N, D]``, and the filtered RoI.
    """
    part = stage.interaction
    first, second = g.op("Split", filters, outputs=2, axis=2)
    first = g.op("Reshape", first, [0, 0, part.dim, part.inner])
    second = g.op("Reshape", second, [0, 0, part.inner, part.dim])
    y = g.op("Relu", _norm(g, part.norm_in, g.op("MatMul", roi, first)))
    filtered = g.op("Relu", _norm(g, part.norm_out, g.op("MatMul", y, second)))
    y = g.op("Reshape", filtered, [0, 0, part.project.in_features])
    return g.op("Relu", _norm(g, part.norm, _linear(g, part.project, y))), filtered


def _decoded(g: GraphWriter, boxes: str, deltas: str) -> str:
    """As :func:`sparse_rcnn_lab.core.boxes.decode_deltas`."""
    start, end = g.op("Split", boxes, outputs=2, axis=2)
    size = g.op("Sub", end, start)
    deltas = g.op("Mul", deltas, list(box_ops.DELTA_SCALE))
    move, grow = g.op("Split", deltas, outputs=2, axis=2)
    grow = g.op("Exp", g.op("Clip", grow, -box_ops.MAX_LOG_SCALE, box_ops.MAX_LOG_SCALE))
    middle = g.op("Mul", g.op("Add", start, end), 0.5)
    centre = g.op("Add", middle, g.op("Mul", size, move))
    half = g.op("Mul", g.op("Mul", size, grow), 0.5)
    found: str = g.op("Concat", g.op("Sub", centre, half), g.op("Add", centre, half), axis=2)
    return found


def _bags(g: GraphWriter, levels: str, boxes: str, side: int) -> list[str]:
    """The rows that each bin adds and their weights, both ``[B, N, P * P, 16]``, and their level
    ``[B, N, 1]``.

    The steps are those of :func:`sparse_rcnn_lab.core.pooling.pool`.
    """
    boxes = g.op("Where", g.op("IsNaN", boxes), 0.0, boxes)
    corners = g.op("Reshape", g.op("Clip", boxes, -1e6, 1e6), [0, 0, 2, 2])  # (start, end), (x, y)
    # The level is how many of the scales 2, 4, 8 a box reaches; squared, which saves a root.
    scales = [(FINEST_SCALE * (2**k - 1e-6)) ** 2 for k in range(1, len(STRIDES))]
    start, end = g.op("Split", corners, outputs=2, axis=2)
    area = g.op("ReduceProd", g.op("Sub", end, start), axes=[3], keepdims=0)  # [B, N, 1]
    reached = g.op("Cast", g.op("GreaterOrEqual", area, scales), to=g.types.INT64)
    level = g.op("ReduceSum", reached, [2], keepdims=1)
    own = g.op("Unsqueeze", g.op("GatherND", levels, level, batch_dims=1), [2])  # [B, N, 1, 4]
    _, first = g.op("Split", own, [3, 1], outputs=2, axis=3)
    limit, stride, _ = g.op(
        "Split", g.op("Cast", own, to=g.types.FLOAT), [2, 1, 1], outputs=3, axis=3
    )

    samples = side * SAMPLES
    along = (np.arange(samples, dtype=np.float32) + 0.5) / samples
    at = g.op("MatMul", np.stack([1 - along, along], 1), g.op("Div", corners, stride))
    at = g.op("Sub", at, 0.5)  # [B, N, 2 P, (x, y)]
    # A sample more than a pixel outside is zero; a closer one is clamped to the border (RoIAlign).
    inside = g.op("And", g.op("GreaterOrEqual", at, -1.0), g.op("LessOrEqual", at, limit))
    inside = g.op("Cast", inside, to=g.types.FLOAT)
    last = g.op("Sub", limit, 1.0)
    at = g.op("Min", g.op("Max", at, 0.0), last)
    low = g.op("Floor", at)
    high = g.op("Min", g.op("Add", low, 1.0), last)
    upper = g.op("Mul", g.op("Sub", at, low), inside)
    pixel = g.op("Concat", low, high, axis=2)  # [B, N, T, (x, y)]
    weight = g.op("Concat", g.op("Sub", inside, upper), upper, axis=2)

    # Every pixel along x is combined with every one along y by products with zeros and ones, which
    # copy numbers exactly and are faster than broadcasts over four numbers.
    by_x, by_y = (g.op("Cast", part, to=g.types.FLOAT) for part in _spread(side))
    x, y = g.op("Split", g.op("Transpose", pixel, perm=[0, 1, 3, 2]), outputs=2, axis=2)
    line = g.op("Mul", y, g.op("Slice", limit, [0], [1], [3]))
    rows = g.op("Add", g.op("MatMul", x, by_x), g.op("MatMul", line, by_y))
    rows = g.op("Add", g.op("Cast", rows, to=g.types.INT32), first)  # [B, N, 1, P * P * 16]
    x, y = g.op("Split", g.op("Transpose", weight, perm=[0, 1, 3, 2]), outputs=2, axis=2)
    y = g.op("Mul", y, 1 / SAMPLES**2)
    weights = g.op("Mul", g.op("MatMul", x, by_x), g.op("MatMul", y, by_y))
    shape = [0, 0, side**2, (2 * SAMPLES) ** 2]
    return [*(g.op("Reshape", part, shape) for part in (rows, weights)), level]


def _spread(side: int) -> tuple[Any, Any]:
    """Which pixel along x, and which along y, an entry ``[P, P, 4, 4]`` of the bags reads.

    They are zeros and ones ``[T, P * P * 16]``; the T pixels are the lower ones of all samples,
    then the upper ones. An engine converts the uint8 to float32 when it reads the graph.
    """
    samples = side * SAMPLES
    lower = np.arange(samples).reshape(side, SAMPLES)
    of_bin = np.concatenate([lower, lower + samples], axis=1)  # [P, 4]
    shape = (side, side, 2 * SAMPLES, 2 * SAMPLES)
    x = np.broadcast_to(of_bin[None, :, None, :], shape).ravel()
    y = np.broadcast_to(of_bin[:, None, :, None], shape).ravel()
    one = np.eye(2 * samples, dtype=np.uint8)
    return one[:, x], one[:, y]
