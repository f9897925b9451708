"""Other detectors, and this one's own ways, on the same image in the same run.

All have random weights: it is the time that is compared. Proposal boxes are spread at random over
the image and stay there, in our model and in mmdetection's, so that both pool the same regions.
"""

from __future__ import annotations

import copy
import statistics
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from benchmarks.clock import Clock
from benchmarks.poolings import Settings, model_of
from benchmarks.roi_align import FeatureMaps, roi_align_pool
from sparse_rcnn_lab.cli.cmd_benchmark import default_size, threads
from sparse_rcnn_lab.cli.common import plural
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.stage import Stage
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.runtime.choose import InferencePrecision, RuntimeName, make_runtime
from sparse_rcnn_lab.runtime.engine_runtime import EngineRuntime
from sparse_rcnn_lab.runtime.engines import (
    EngineName,
    installed_engines,
    open_graph,
    wait_for_compiler,
)
from sparse_rcnn_lab.runtime.export import export
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime
from sparse_rcnn_lab.training.run_folder import versions

Run = Callable[[], object]
# The runtimes of this package, as (runtime, precision).
RUNTIMES: dict[str, tuple[RuntimeName, InferencePrecision]] = {
    "auto": ("auto", "float32"),
    "eager": ("eager", "float32"),
    "folded": ("folded", "float32"),
    "compiled": ("compiled", "float32"),
    "onnxruntime": ("onnxruntime", "float32"),
    "openvino": ("openvino", "float32"),
    "bf16": ("folded", "bf16"),
    "openvino-bf16": ("openvino", "bf16"),
    "onnxruntime-int8": ("onnxruntime", "int8"),
    "openvino-int8": ("openvino", "int8"),
}
# The exported file, all in one graph, float32.
ONE_GRAPH: dict[str, EngineName] = {
    "onnxruntime-file": "onnxruntime",
    "openvino-file": "openvino",
}
PEERS = (*RUNTIMES, *ONE_GRAPH, "roialign", "torchvision", "mmdetection")
OURS = "auto"
_PACKAGES = {
    "torchvision": ("torchvision",),
    "mmdetection": ("mmdet", "mmengine", "mmcv-lite"),
    **{name: (name,) for name in get_args(EngineName)},
}
_FILES = Path("build/benchmarks")  # exported files, which take minutes to make


class Missing(LabError):
    """A peer that is not installed here."""


def compare(settings: Settings, against: Sequence[str]) -> dict[str, Any]:
    """Inference of each, in turn; plain values that json can hold, times in milliseconds.

    against: names out of :data:`PEERS`, beside "auto". What is not installed is listed under
    "missing" with the reason. ``ratio`` is our time divided by the other's; ``off`` how far a score
    of a runtime is from the eager one's.
    """
    unknown = sorted(set(against) - set(PEERS))
    if unknown:
        raise LabError(f"Cannot compare with {unknown[0]!r}. Choose from {', '.join(PEERS)}.")
    with threads(settings.threads):
        return _compare(settings, against)


def _compare(settings: Settings, against: Sequence[str]) -> dict[str, Any]:
    recipe, model, _ = model_of(settings)
    height, width = settings.size or default_size(recipe.model.input)
    for stage in model.stages:
        assert isinstance(stage, Stage)
        nn.init.zeros_(stage.regress.weight)
    model = model.eval().to(settings.device)
    count = settings.proposals or len(model.proposals)
    images = torch.randn(settings.batch or 1, 3, height, width, device=settings.device)
    arms: dict[str, Callable[[Clock], Any]] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys([OURS, *against]):
        try:
            arms[name] = _peer(name, model, images, count)
        except Missing as reason:
            missing[name] = str(reason)
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    off: dict[str, float] = {}
    with torch.no_grad():
        exact = _arm(TorchRuntime(model, "eager"), images, count)(Clock(settings.device))
        for name, arm in arms.items():
            # OpenVINO compiles for the image's size once that has come a few times.
            for _ in range(4 if "openvino" in name else 1):
                found = arm(Clock(settings.device))
            if name in RUNTIMES:
                off[name] = float((found - exact).abs().max())
        wait_for_compiler()
    for turn in range(settings.repeat + 1):
        for name in list(arms)[:: 1 if turn % 2 else -1]:
            clock = Clock(settings.device)
            with torch.inference_mode(False), torch.no_grad():
                arms[name](clock)
            if turn:  # the first one warms up
                seen[name].append(clock.parts)
    totals = {
        name: statistics.median(sum(parts.values()) for parts in runs)
        for name, runs in seen.items()
    }
    installed = [p for name in arms for p in _PACKAGES.get(name, ())]
    return {
        "settings": {**asdict(settings), "size": [height, width]},
        "proposals": count,
        "clock": Clock(settings.device).kind,
        "machine": machine(settings.device),
        "versions": {**versions(), **{name: metadata.version(name) for name in installed}},
        "milliseconds": {name: round(total, 2) for name, total in totals.items()},
        "fastest": {
            name: round(min(sum(parts.values()) for parts in runs), 2)
            for name, runs in seen.items()
        },
        "parts": {
            name: {p: round(statistics.median(run[p] for run in runs), 2) for p in runs[0]}
            for name, runs in seen.items()
        },
        "off": off,
        "ratio": {name: round(totals[OURS] / total, 3) for name, total in totals.items()},
        "missing": missing,
    }


def as_text(result: dict[str, Any]) -> str:
    """A table, one line each."""
    settings = result["settings"]
    height, width = settings["size"]
    lines = [
        f"{settings['model']}, {result['proposals']} proposals, {height}x{width} pixels, batch "
        f"{settings['batch'] or 1}, {plural(settings['threads'], 'thread')}; "
        f"{result['machine']['cpu']}; "
        f"{result['clock']} time, median of {settings['repeat']}",
        "",
        f"{'inference':<18}{'ms':>10}{'auto / it':>11}{'score off':>11}  parts",
    ]
    for name, total in result["milliseconds"].items():
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in result["parts"][name].items())
        off = f"{result['off'][name]:.0e}" if name in result["off"] else "–"
        lines.append(f"{name:<18}{total:>10.1f}{result['ratio'][name]:>11.2f}{off:>11}  {parts}")
    lines += [f"{name}: not measured. {reason}" for name, reason in result["missing"].items()]
    return "\n".join(lines)


def _peer(name: str, model: SparseRCNN, images: Tensor, count: int) -> Callable[[Clock], Any]:
    if name in RUNTIMES:
        runtime, precision = RUNTIMES[name]
        return _arm(make_runtime(model, runtime, precision, [images]), images, count)
    if name in ONE_GRAPH:
        return _one_graph(ONE_GRAPH[name], model, images, count)
    if name == "roialign":
        return _roialign(model, images, count)
    build = _torchvision if name == "torchvision" else _mmdetection
    run = build(model, images, count)

    def measured(clock: Clock) -> None:
        with clock.part("all"):
            run()

    return measured


def _arm(runtime: Runtime, images: Tensor, count: int) -> Callable[[Clock], Tensor]:
    proposals = runtime.model.proposals
    sizes = images.new_tensor(images.shape[2:]).expand(len(images), 2)

    def run(clock: Clock) -> Tensor:
        if isinstance(runtime, EngineRuntime) and runtime.in_one_graph(len(images) * count):
            with clock.part("all"):
                output = runtime.last_stage(images, sizes, count)
                top_pairs(output.logits.float())
            return output.logits.float().sigmoid()
        with clock.part("backbone + FPN"):
            pyramid = runtime.pyramid(images)
        with clock.part("stages"):
            outputs = runtime.run_stages(pyramid, *proposals(sizes, count))
            top_pairs(outputs[-1].logits.float())
        return outputs[-1].logits.float().sigmoid()

    return run


def _one_graph(
    engine: EngineName, model: SparseRCNN, images: Tensor, count: int
) -> Callable[[Clock], None]:
    """The file that ``sparse-rcnn-lab export`` writes, which normalises and selects, too."""
    if engine not in installed_engines():
        raise Missing(f"{engine} is not installed.")
    config = model.config
    file = _FILES / f"{config.backbone}-{config.dim}-{config.num_classes}-{count}.onnx"
    if not file.exists():
        names = [str(label) for label in range(config.num_classes)]
        export(Detector(model, names, "benchmark"), file, num_proposals=count, check=False)
    graph = open_graph(engine, file.read_bytes(), torch.get_num_threads())
    pixels = {"images": (images * 50 + 128).numpy()}

    def run(clock: Clock) -> None:
        with clock.part("all"):
            graph(pixels)

    return run


def _roialign(model: SparseRCNN, images: Tensor, count: int) -> Callable[[Clock], None]:
    twin = copy.deepcopy(model)  # pooling is exchanged in the stages themselves
    twin.use_pooling(roi_align_pool)
    sizes = images.new_tensor(images.shape[2:]).expand(len(images), 2)

    def run(clock: Clock) -> None:
        with clock.part("backbone + FPN"):
            maps = twin.backbone(images)
        with clock.part("stages"):
            outputs = twin.run_stages(FeatureMaps.of(maps), *twin.proposals(sizes, count))
            top_pairs(outputs[-1].logits)

    return run


def _torchvision(model: SparseRCNN, images: Tensor, count: int) -> Run:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    if model.config.backbone != "resnet50":
        raise Missing("torchvision's Faster R-CNN is compared with models on a ResNet-50.")
    want = model.config.input
    peer = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=want.short_side, max_size=want.long_side
    )
    peer.eval().to(images.device)
    singles = list(images.sigmoid())
    return lambda: peer(singles)


def _mmdetection(model: SparseRCNN, images: Tensor, count: int) -> Run:
    if model.config.backbone != "resnet50":
        raise Missing("mmdetection's Sparse R-CNN is compared with models on a ResNet-50.")
    try:
        metadata.version("mmdet"), metadata.version("mmengine")
    except metadata.PackageNotFoundError as error:
        raise Missing(
            "It is not installed: pip install mmdet==3.3.0 mmengine==0.10.7 mmcv-lite==2.1.0, in "
            "an environment of its own."
        ) from error
    _stand_in_for_mmcv_operations()
    import torchvision

    operations: Any = import_module("mmcv.ops")
    utils: Any = import_module("mmdet.utils")
    structures: Any = import_module("mmdet.structures")
    engine: Any = import_module("mmengine")

    def roi_align(layer: Any, x: Tensor, rois: Tensor) -> Tensor:
        return torchvision.ops.roi_align(
            x, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        )

    operations.RoIAlign.forward = roi_align
    utils.register_all_modules(init_default_scope=True)
    folder = metadata.distribution("mmdet").locate_file("mmdet/.mim/configs/sparse_rcnn")
    config = engine.Config.fromfile(f"{folder}/sparse-rcnn_r50_fpn_1x_coco.py")
    config.model.backbone.init_cfg = None
    config.model.rpn_head.num_proposals = count
    config.model.test_cfg.rcnn.max_per_img = count
    peer = engine.MODELS.build(config.model).eval().to(images.device)
    with torch.no_grad():
        peer.rpn_head.init_proposal_bboxes.weight.copy_(model.proposals.boxes[:count])
        for head in peer.roi_head.bbox_head:
            head.fc_reg.weight.zero_()
            head.fc_reg.bias.zero_()
    size = tuple(images.shape[2:])
    known = {"img_shape": size, "ori_shape": size, "batch_input_shape": size}

    def run() -> object:
        samples = [
            structures.DetDataSample(metainfo={**known, "scale_factor": (1.0, 1.0)})
            for _ in range(len(images))
        ]
        return peer(images, samples, mode="predict")

    return run


def _stand_in_for_mmcv_operations() -> None:
    """mmcv-lite comes without compiled operations; of these only RoIAlign is used, and replaced."""
    name = "mmcv._ext"
    if name not in sys.modules:
        sys.modules[name] = _NoOperations(name)


class _NoOperations(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent


def _absent(*_: Any, **__: Any) -> None:
    raise LabError("This operation of mmcv is not in mmcv-lite.")
