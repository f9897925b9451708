"""All steps from pixels to detections as one ONNX graph, joined from the parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparse_rcnn_lab.core.stage import Stage
from sparse_rcnn_lab.runtime.export.graph import TENSORS, DetectionGraph
from sparse_rcnn_lab.runtime.graph_writer import GraphWriter
from sparse_rcnn_lab.runtime.onnx_graphs import (
    proposal_values,
    pyramid_values,
    stage_values,
)


def write_detection(graph: DetectionGraph, with_sizes: bool, metadata: Mapping[str, str]) -> Any:
    """What :meth:`DetectionGraph.forward` computes, as a ModelProto with its metadata."""
    g = GraphWriter()
    model, sizes = graph.model, "sizes"
    x = g.op("Div", g.op("Sub", "images", graph.mean), graph.std)
    batch, _, height, width = g.op("Split", g.op("Shape", "images"), outputs=4, axis=0)
    if with_sizes:
        x = g.op("Where", _inside(g, height, width), x, 0.0)
    else:
        both = g.op("Cast", g.op("Concat", height, width, axis=0), to=g.types.FLOAT)
        sizes = g.op("Expand", both, g.op("Concat", batch, [2], axis=0))
    missing = [g.op("Mod", g.op("Neg", side), graph.multiple) for side in (height, width)]
    x = g.op("Pad", x, g.op("Concat", [0] * 6, *missing, axis=0), 0.0)

    table, levels = pyramid_values(g, model, x)
    boxes, features, whwh = proposal_values(g, model, sizes, graph.num_proposals)
    found = {"refined_boxes": boxes, "refined_features": features}
    all_boxes, all_logits = [boxes], []
    for stage in list(model.stages)[: graph.stage]:
        assert isinstance(stage, Stage)
        found = stage_values(g, stage, table, levels, found)
        all_boxes.append(found["refined_boxes"])
        all_logits.append(found["logits"])
    outputs = _selected(g, all_boxes[-1], all_logits[-1], whwh, graph)
    if graph.all_stages:
        for name, parts in (("stage_boxes", all_boxes), ("stage_logits", all_logits)):
            outputs[name] = g.op("Concat", *(g.op("Unsqueeze", p, [1]) for p in parts), axis=1)
    inputs = ["images", "sizes"] if with_sizes else ["images"]
    numbers: dict[str | int, int] = {
        "N": graph.num_proposals, "stages": graph.stage, "stages + 1": graph.stage + 1,
    }  # fmt: skip
    tensors = {
        name: (tuple(numbers.get(axis, axis) for axis in shape), text)
        for name, (shape, text) in TENSORS.items()
    }
    proto = g.model(model, "detection", inputs, outputs, tensors)
    proto.doc_string, proto.producer_version = metadata["description"], metadata["version"]
    g.onnx.helper.set_model_props(proto, dict(metadata))
    return proto


def _inside(g: GraphWriter, height: str, width: str) -> str:
    """Which pixels belong to an image of ``sizes``: ``[B, 1, H, W]``."""
    parts = []
    for axis, side in enumerate((height, width)):
        at = g.op("Cast", g.op("Range", 0, g.op("Squeeze", side), 1), to=g.types.FLOAT)
        at = g.op("Unsqueeze", at, [0, 1, 3 - axis])
        end = g.op("Unsqueeze", g.op("Slice", "sizes", [axis], [axis + 1], [1]), [2, 3])
        parts.append(g.op("Less", at, end))
    inside: str = g.op("And", *parts)
    return inside


def _selected(
    g: GraphWriter, boxes: str, logits: str, whwh: str, graph: DetectionGraph
) -> dict[str, str]:
    count, classes = graph.num_proposals, graph.model.config.num_classes
    scores = g.op("Reshape", g.op("Sigmoid", logits), [0, -1])
    scores = g.op("Where", g.op("IsNaN", scores), -1.0, scores)
    scores, pairs = g.op("TopK", scores, [count], outputs=2)
    proposals = g.op("Div", pairs, classes)
    boxes = g.op("Min", g.op("Max", boxes, 0.0), whwh)
    boxes = g.op("GatherND", boxes, g.op("Unsqueeze", proposals, [2]), batch_dims=1)
    start, end = g.op("Split", boxes, outputs=2, axis=2)
    # A graph cannot drop a detection as Detections does; a score of 0 fails every threshold.
    has_area = g.op("Cast", g.op("Greater", end, start), to=g.types.FLOAT)
    has_area = g.op("ReduceMin", has_area, axes=[2], keepdims=0)
    return {
        "boxes": boxes,
        "scores": g.op("Mul", scores, has_area),
        "labels": g.op("Mod", pairs, classes),
        "proposals": proposals,
    }
