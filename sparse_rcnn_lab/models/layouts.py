"""The two published checkpoint layouts, recognised by their keys and renamed to ours.

No tensor needs a transpose or reshape; only names differ. mmdetection 2.x and 3.x share one
layout; the authors' (PeizeSun/SparseR-CNN on detectron2) is the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from sparse_rcnn_lab.core.config import BackboneName, ModelConfig
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

_STAGE_MMDETECTION = {
    "attention.attn.in_proj_": "attention.qkv.",
    "attention.attn.out_proj.": "attention.out.",
    "attention_norm.": "norm_attention.",
    "instance_interactive_conv.dynamic_layer.": "interaction.generate.",
    "instance_interactive_conv.norm_in.": "interaction.norm_in.",
    "instance_interactive_conv.norm_out.": "interaction.norm_out.",
    "instance_interactive_conv.fc_layer.": "interaction.project.",
    "instance_interactive_conv.fc_norm.": "interaction.norm.",
    "instance_interactive_conv_norm.": "norm_interaction.",
    "ffn.layers.0.0.": "ffn_in.",
    "ffn.layers.1.": "ffn_out.",
    "ffn_norm.": "norm_ffn.",
    "cls_fcs.": "cls_tower.",
    "reg_fcs.": "reg_tower.",
    "fc_cls.": "classify.",
    "fc_reg.": "regress.",
}
_STAGE_AUTHORS = {
    "self_attn.in_proj_": "attention.qkv.",
    "self_attn.out_proj.": "attention.out.",
    "norm1.": "norm_attention.",
    "inst_interact.dynamic_layer.": "interaction.generate.",
    "inst_interact.norm1.": "interaction.norm_in.",
    "inst_interact.norm2.": "interaction.norm_out.",
    "inst_interact.out_layer.": "interaction.project.",
    "inst_interact.norm3.": "interaction.norm.",
    "norm2.": "norm_interaction.",
    "linear1.": "ffn_in.",
    "linear2.": "ffn_out.",
    "norm3.": "norm_ffn.",
    "cls_module.": "cls_tower.",
    "reg_module.": "reg_tower.",
    "class_logits.": "classify.",
    "bboxes_delta.": "regress.",
}


def _replace_prefix(leaf: str, table: Mapping[str, str]) -> str | None:
    for theirs, ours in table.items():
        if leaf.startswith(theirs):
            return ours + leaf.removeprefix(theirs)
    return None


def _rename_mmdetection(key: str) -> str | None:
    if match := re.fullmatch(r"roi_head\.bbox_head\.(\d+)\.(.+)", key):
        leaf = _replace_prefix(match[2], _STAGE_MMDETECTION)
        return leaf and f"stages.{match[1]}.{leaf}"
    if match := re.fullmatch(r"neck\.(lateral|fpn)_convs\.(\d)\.conv\.(.+)", key):
        blocks = "inner_blocks" if match[1] == "lateral" else "layer_blocks"
        return f"backbone.fpn.{blocks}.{match[2]}.0.{match[3]}"
    if match := re.fullmatch(r"backbone\.((?:conv1|bn1)\..+)", key):
        return f"backbone.body.stem.{match[1]}"
    if match := re.fullmatch(r"backbone\.(layer\d\..+)", key):
        return f"backbone.body.{match[1]}"
    return {
        "rpn_head.init_proposal_bboxes.weight": "proposals.boxes",
        "rpn_head.init_proposal_features.weight": "proposals.features",
    }.get(key)


def _rename_authors(key: str) -> str | None:
    if match := re.fullmatch(r"head\.head_series\.(\d+)\.(.+)", key):
        leaf = _replace_prefix(match[2], _STAGE_AUTHORS)
        return leaf and f"stages.{match[1]}.{leaf}"
    if match := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)\.(.+)", key):
        blocks = "inner_blocks" if match[1] == "lateral" else "layer_blocks"
        return f"backbone.fpn.{blocks}.{int(match[2]) - 2}.0.{match[3]}"
    if match := re.fullmatch(r"backbone\.bottom_up\.stem\.conv1\.(norm\.)?(.+)", key):
        return f"backbone.body.stem.{'bn1' if match[1] else 'conv1'}.{match[2]}"
    if match := re.fullmatch(r"backbone\.bottom_up\.res(\d)\.(\d+)\.(\w+)\.(norm\.)?(.+)", key):
        name = match[3]
        if name == "shortcut":
            name = "downsample.1" if match[4] else "downsample.0"
        elif match[4]:
            name = name.replace("conv", "bn")
        return f"backbone.body.layer{int(match[1]) - 1}.{match[2]}.{name}.{match[5]}"
    return {
        "init_proposal_boxes.weight": "proposals.boxes",
        "init_proposal_features.weight": "proposals.features",
    }.get(key)


def recognise(keys: set[str]) -> Layout | None:
    """Which published layout these state-dict keys belong to, or None."""
    if "rpn_head.init_proposal_bboxes.weight" in keys:
        return "mmdetection"
    if "init_proposal_boxes.weight" in keys:
        return "authors"
    return None


def rename(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """A published state dict under our names. Raises LabError for a key it does not know.

    The authors' files hold detectron2's normalisation buffers (``pixel_mean``), which are part of
    :class:`sparse_rcnn_lab.core.config.InputConfig` here; they are left out.
    """
    rename_one = _rename_mmdetection if layout == "mmdetection" else _rename_authors
    renamed, unknown = {}, []
    for key, value in state.items():
        if key in ("pixel_mean", "pixel_std", "criterion.empty_weight"):
            continue
        ours = rename_one(key)
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


# What :func:`infer_config` reads off the shapes; the rest of a configuration is its defaults.
TOLD_BY_SHAPES = (
    "num_classes",
    "backbone",
    "num_proposals",
    "num_stages",
    "dim",
    "ffn_dim",
    "dynamic_dim",
    "num_cls_layers",
    "num_reg_layers",
)


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
        return _config_from_shapes(state, backbone)  # type: ignore[arg-type]
    except KeyError as error:
        raise LabError(f"The checkpoint has no tensor for {error}; it is not complete.") from error


def _config_from_shapes(state: Mapping[str, Tensor], backbone: BackboneName) -> ModelConfig:
    num, dim = state["proposals.features"].shape
    stages = {key.split(".")[1] for key in state if key.startswith("stages.")}
    return ModelConfig(
        num_classes=state["stages.0.classify.weight"].shape[0],
        backbone=backbone,
        num_proposals=num,
        num_stages=len(stages),
        dim=dim,
        ffn_dim=state["stages.0.ffn_in.weight"].shape[0],
        dynamic_dim=state["stages.0.interaction.norm_in.weight"].shape[0],
        num_cls_layers=_tower_layers(state, "cls"),
        num_reg_layers=_tower_layers(state, "reg"),
    )


def _tower_layers(state: Mapping[str, Tensor], tower: str) -> int:
    """Linear layers before a head's last: those with a matrix; their layer norms have vectors."""
    weights = re.compile(rf"stages\.0\.{tower}_tower\.\d+\.weight")
    return sum(bool(weights.fullmatch(key)) and v.ndim == 2 for key, v in state.items())
