"""What a file says about itself, so that it can be used without this package."""

from __future__ import annotations

import json

import torch

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph
from sparse_rcnn_lab.runtime.graph_writer import Tensors

# Every input and output by name: its shape (names are free sizes, or the model's) and what it is.
TENSORS: Tensors = {
    "images": (
        ("batch", 3, "height", "width"),
        "float32: RGB in 0..255, any size; normalised and padded in here",
    ),
    "sizes": (
        ("batch", 2),
        "float32: height and width in pixels of the image in the top left corner of each slot; "
        "what lies outside is taken for padding",
    ),
    "boxes": (
        ("batch", "N", 4),
        "float32: x1, y1, x2, y2 in pixels of the input, clipped to the image",
    ),
    "scores": (("batch", "N"), "float32: 0..1, best first; 0 for a box without area"),
    "labels": (("batch", "N"), "int64: index into class_names"),
    "proposals": (("batch", "N"), "int64: which of the learned proposals it comes from"),
    "stage_boxes": (
        ("batch", "stages + 1", "N", 4),
        "float32: x1, y1, x2, y2 in pixels of the input, not clipped; the learned proposals, then "
        "what each stage made of them",
    ),
    "stage_logits": (("batch", "stages", "N", "classes"), "float32: before the sigmoid"),
}


def describe(detector: Detector, graph: DetectionGraph, with_sizes: bool) -> dict[str, str]:
    """Names and values, all text; ``class_names`` is a json list.

    Every input and output has an entry of its own name that says its shape and meaning.
    """
    want = detector.config.input
    names = ["images", *(["sizes"] if with_sizes else []), *graph.output_names()]
    told = [(name, *TENSORS[name]) for name in names]
    return {
        "description": f"Sparse R-CNN {detector.name!r}: {detector.config.backbone}, "
        f"{graph.num_proposals} proposals, {graph.stage} stages, "
        f"{len(detector.class_names)} classes. Resize images to a short side of "
        f"{want.short_side} pixels, no side above {want.long_side}, aspect kept. No NMS needed.",
        "model": detector.name,
        "class_names": json.dumps(list(detector.class_names), ensure_ascii=False),
        "short_side": str(want.short_side),
        "long_side": str(want.long_side),
        "antialias": json.dumps(want.antialias),
        "num_proposals": str(graph.num_proposals),
        "stage": str(graph.stage),
        "source": str(detector.info.get("source", "")),
        "version": __version__,
        "torch": str(torch.__version__),
        "paper": "arXiv 2011.12450",
        **{name: f"[{', '.join(map(str, shape))}] {text}" for name, shape, text in told},
    }
