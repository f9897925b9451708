"""The two published checkpoint layouts, recognised by their keys and renamed to ours.

No tensor needs a transpose or reshape; only names differ. One layout is that of mmdetection 2.x and
3.x, the other that of the authors (PeizeSun/SparseR-CNN on detectron2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError

Layout = Literal["mmdetection", "authors"]

# COCO's 80 categories in label order.
# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on

_DYNAMIC = "instance_interactive_conv."
# Names within a stage: ours, mmdetection's, the authors'.
_STAGE = (
    ("attention.qkv.", "attention.attn.in_proj_", "self_attn.in_proj_"),
    ("attention.out.", "attention.attn.out_proj.", "self_attn.out_proj."),
    ("norm_attention.", "attention_norm.", "norm1."),
    ("interaction.generate.", _DYNAMIC + "dynamic_layer.", "inst_interact.dynamic_layer."),
    ("interaction.norm_in.", _DYNAMIC + "norm_in.", "inst_interact.norm1."),
    ("interaction.norm_out.", _DYNAMIC + "norm_out.", "inst_interact.norm2."),
    ("interaction.project.", _DYNAMIC + "fc_layer.", "inst_interact.out_layer."),
    ("interaction.norm.", _DYNAMIC + "fc_norm.", "inst_interact.norm3."),
    ("norm_interaction.", "instance_interactive_conv_norm.", "norm2."),
    ("ffn_in.", "ffn.layers.0.0.", "linear1."),
    ("ffn_out.", "ffn.layers.1.", "linear2."),
    ("norm_ffn.", "ffn_norm.", "norm3."),
    ("cls_tower.", "cls_fcs.", "cls_module."),
    ("reg_tower.", "reg_fcs.", "reg_module."),
    ("classify.", "fc_cls.", "class_logits."),
    ("regress.", "fc_reg.", "bboxes_delta."),
)
_MMDETECTION = {
    **{rf"roi_head\.bbox_head\.(\d+)\.{re.escape(m)}": rf"stages.\1.{o}" for o, m, _ in _STAGE},
    r"neck\.lateral_convs\.(\d)\.conv\.": r"backbone.fpn.inner_blocks.\1.0.",
    r"neck\.fpn_convs\.(\d)\.conv\.": r"backbone.fpn.layer_blocks.\1.0.",
    r"backbone\.(conv1|bn1)\.": r"backbone.body.stem.\1.",
    r"backbone\.(layer\d)\.": r"backbone.body.\1.",
    r"rpn_head\.init_proposal_bboxes\.weight$": "proposals.boxes",
    r"rpn_head\.init_proposal_features\.weight$": "proposals.features",
}
_AUTHORS = {
    **{rf"head\.head_series\.(\d+)\.{re.escape(a)}": rf"stages.\1.{o}" for o, _, a in _STAGE},
    r"backbone\.bottom_up\.stem\.conv1\.norm\.": "backbone.body.stem.bn1.",
    r"backbone\.bottom_up\.stem\.conv1\.": "backbone.body.stem.conv1.",
    r"init_proposal_boxes\.weight$": "proposals.boxes",
    r"init_proposal_features\.weight$": "proposals.features",
}
for _level in range(2, 6):  # p2 to p5 and res2 to res5, which we count from 0 and from 1
    _res = rf"backbone\.bottom_up\.res{_level}\.(\d+)\."
    _layer = rf"backbone.body.layer{_level - 1}.\1."
    _AUTHORS |= {
        rf"backbone\.fpn_lateral{_level}\.": f"backbone.fpn.inner_blocks.{_level - 2}.0.",
        rf"backbone\.fpn_output{_level}\.": f"backbone.fpn.layer_blocks.{_level - 2}.0.",
        rf"{_res}shortcut\.norm\.": rf"{_layer}downsample.1.",
        rf"{_res}shortcut\.": rf"{_layer}downsample.0.",
        rf"{_res}conv(\d)\.norm\.": rf"{_layer}bn\2.",
        rf"{_res}conv(\d)\.": rf"{_layer}conv\2.",
    }
# A pattern for the beginning of a name, and our beginning; the first match applies.
_NAMES: dict[Layout, dict[str, str]] = {"mmdetection": _MMDETECTION, "authors": _AUTHORS}


def _our_name(key: str, layout: Layout) -> str | None:
    for theirs, ours in _NAMES[layout].items():
        if match := re.match(theirs, key):
            return match.expand(ours) + key[match.end() :]
    return None


def recognise(keys: set[str]) -> Layout | None:
    """The published layout that these state-dict keys belong to, or None."""
    if "rpn_head.init_proposal_bboxes.weight" in keys:
        return "mmdetection"
    if "init_proposal_boxes.weight" in keys:
        return "authors"
    return None


def rename(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """A published state dict under our names. Raises LabError for an unknown key.

    The authors' files hold detectron2's normalisation buffers (``pixel_mean``). They are left out,
    as they are part of :class:`sparse_rcnn_lab.core.config.InputConfig` here.
    """
    renamed, unknown = {}, []
    for key, value in state.items():
        if key in ("pixel_mean", "pixel_std", "criterion.empty_weight"):
            continue
        ours = _our_name(key, layout)
        if ours is None:
            unknown.append(key)
        else:
            renamed[ours] = value
    if unknown:
        raise LabError(
            f"The checkpoint looks like the {layout} layout of Sparse R-CNN, but "
            f"{len(unknown)} of its {len(state)} tensors do not belong to it, first "
            f'"{unknown[0]}". Is it a different architecture?'
        )
    return renamed


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """The model configuration that a renamed published state dict fits, from its shapes."""
    blocks = {key.split(".")[3] for key in state if key.startswith("backbone.body.layer3.")}
    backbone = {6: "resnet50", 23: "resnet101"}.get(len(blocks))
    if backbone is None:
        raise LabError(
            f"The checkpoint's backbone has {len(blocks)} blocks in its third stage; known are "
            "ResNet-50 (6) and ResNet-101 (23)."
        )
    try:
        num, dim = state["proposals.features"].shape
        stages = {key.split(".")[1] for key in state if key.startswith("stages.")}
        return ModelConfig(
            num_classes=state["stages.0.classify.weight"].shape[0],
            backbone=backbone,  # type: ignore[arg-type]
            num_proposals=num,
            num_stages=len(stages),
            dim=dim,
            ffn_dim=state["stages.0.ffn_in.weight"].shape[0],
            dynamic_dim=state["stages.0.interaction.norm_in.weight"].shape[0],
            num_cls_layers=_tower_layers(state, "cls"),
            num_reg_layers=_tower_layers(state, "reg"),
        )
    except KeyError as error:
        raise LabError(f"The checkpoint has no tensor for {error}; it is not complete.") from error


def _tower_layers(state: Mapping[str, Tensor], tower: str) -> int:
    """How many linear layers, those with a matrix, come before a head's last one."""
    weights = re.compile(rf"stages\.0\.{tower}_tower\.\d+\.weight")
    return sum(bool(weights.fullmatch(key)) and v.ndim == 2 for key, v in state.items())
