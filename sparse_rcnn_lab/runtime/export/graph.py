"""All steps from pixels to detections as one module on tensors, ready to be traced."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import STRIDES
from sparse_rcnn_lab.runtime.graph_writer import Tensors

_AXES = (0, 2, 3)  # batch, height, width
# Any sides work if p5 has more than one row, since torch.export treats a size of one specially.
_TRACED = (2, 3, 96, 160)


# Every input and output by name: its shape (names are free sizes or the model's) and its meaning.
TENSORS: Tensors = {
    "images": (
        ("batch", 3, "height", "width"),
        "float32: RGB in 0..255, any size; the graph normalises and pads it",
    ),
    "sizes": (
        ("batch", 2),
        "float32: height and width in pixels of the image in the top left corner of each slot; "
        "everything outside is padding",
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


class DetectionGraph(nn.Module):
    """Normalises, pads, detects and selects.

    model: in eval mode. num_proposals: use only this many, the first ones. stage: stop after this
    one (1..S). all_stages: also return the output of every stage.
    """

    def __init__(
        self, model: SparseRCNN, num_proposals: int, stage: int, all_stages: bool = False
    ) -> None:
        super().__init__()
        want = model.config.input
        self.model = model
        self.num_proposals = num_proposals
        self.stage = stage
        self.all_stages = all_stages
        self.multiple = want.multiple
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(want.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(want.std).view(3, 1, 1))

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> dict[str, Tensor]:
        """``[B, 3, H, W]`` float32 RGB, 0..255, any H and W -> named outputs.

        sizes: ``[B, 2]`` float32 (height, width) of the image in the top left corner of each
        slot; everything outside is padding. Without it every image fills its slot.

        The outputs are boxes ``[B, N, 4]`` xyxy input pixels, clipped to the image; scores
        ``[B, N]``, best first, 0 where clipping left no area; labels and proposals ``[B, N]``
        int64. With ``all_stages`` also, in the layout of a Trace, stage_boxes ``[B, S+1, N, 4]``,
        not clipped, the first of which are the learned proposals, and stage_logits
        ``[B, S, N, C]``.
        """
        batch, _, height, width = images.shape
        x = (images - self.mean) / self.std
        if sizes is None:
            sizes = torch.tensor([height, width], dtype=torch.float32).expand(batch, 2)
        else:
            rows = torch.arange(height)[:, None] < sizes[:, 0, None, None]
            columns = torch.arange(width) < sizes[:, 1, None, None]
            x = torch.where((rows & columns)[:, None], x, 0.0)
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))

        first, features = self.model.proposals(sizes, self.num_proposals)
        stages = self.model.run_stages(self.model.pyramid(x), first, features, stop=self.stage)
        scores, proposals, labels = top_pairs(stages[-1].logits)
        boxes = box_ops.clip_to_sizes(stages[-1].boxes, sizes)
        boxes = boxes.gather(1, proposals[..., None].expand(-1, -1, 4))
        # A graph cannot drop a detection as Detections does; a score of 0 fails every threshold.
        has_area = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        found = {
            "boxes": boxes,
            "scores": torch.where(has_area, scores, 0.0),
            "labels": labels,
            "proposals": proposals,
        }
        if self.all_stages:
            found["stage_boxes"] = torch.stack([first, *(s.boxes for s in stages)], dim=1)
            found["stage_logits"] = torch.stack([s.logits for s in stages], dim=1)
        return found

    def output_names(self) -> list[str]:
        """The names of the outputs, in order."""
        names = ["boxes", "scores", "labels", "proposals"]
        return [*names, "stage_boxes", "stage_logits"] if self.all_stages else names


def trace_graph(graph: DetectionGraph, with_sizes: bool) -> ExportedProgram:
    """The graph as a program with dynamic batch, height and width.

    with_sizes: the program takes ``sizes`` as a second input. Sides of the images must be larger
    than the coarsest stride (for torch.export a feature map of one row is another program).
    """
    least = {0: 1, 2: STRIDES[-1] + 1, 3: STRIDES[-1] + 1}
    shapes: dict[str, dict[int, object]] = {
        "images": {axis: Dim.DYNAMIC(min=least[axis]) for axis in _AXES}
    }
    inputs = [torch.zeros(_TRACED)]
    if with_sizes:
        inputs.append(torch.tensor([_TRACED[2:]] * _TRACED[0], dtype=torch.float32))
        shapes["sizes"] = {0: Dim.DYNAMIC(min=1)}
    with torch.no_grad():
        program = torch.export.export(graph, tuple(inputs), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which would be in the file
    return program
