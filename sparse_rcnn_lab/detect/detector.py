"""``Detector``: what people use, since it takes images; the model in it takes tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeGuard, overload

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.detections import Detections, select_detections
from sparse_rcnn_lab.core.errors import LabError, check_stage, check_threshold
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import STRIDES
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, StageOutput
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.detect.ground_truth import with_ground_truth
from sparse_rcnn_lab.detect.images import Batch, ImageSource, make_batch, reduced
from sparse_rcnn_lab.runtime.choose import InferencePrecision, RuntimeName, make_runtime
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime, threads_for

# Calibration images for int8: shipped ones of every model's kind.
_EXAMPLES = Path(__file__).parents[1] / "data" / "examples"


class Detector:
    """A trained Sparse R-CNN with its class names.

    An image is a path, a PIL image, a numpy array (RGB, uint8, ``[H, W, 3]``) or a tensor
    (``[3, H, W]``, uint8 or float in 0..1); a list of images is one batch and gives a list.

    runtime: how the model is computed, see :meth:`with_runtime`; the default is "folded".
    Raises LabError where the class names do not fit the model.

    >>> import sparse_rcnn_lab as srl
    >>> detector = srl.load("nano-shapes")
    >>> image = srl.Shapes(1)[0].image
    >>> detector(image, threshold=0.5)
    <Detections: 3 in 128x128 px>
    >>> detector.trace(image).detections(stage=1, threshold=0.5)  # none yet after one stage
    <Detections: 0 in 128x128 px>
    """

    def __init__(
        self,
        model: SparseRCNN,
        class_names: Sequence[str],
        name: str = "",
        info: dict[str, Any] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if isinstance(class_names, str) or not all(isinstance(one, str) for one in class_names):
            raise LabError(f"class_names must be a list of names, found {class_names!r:.80}.")
        if len(class_names) != model.config.num_classes:
            raise LabError(
                f"The model has {model.config.num_classes} classes, but {len(class_names)} names "
                "were given."
            )
        self.model = model.eval()
        self.runtime = TorchRuntime(model) if runtime is None else runtime
        self.class_names = tuple(class_names)
        self.name = name
        self.info = info or {}

    @property
    def config(self) -> ModelConfig:
        """The model's :class:`sparse_rcnn_lab.core.config.ModelConfig`."""
        return self.model.config

    @property
    def num_proposals(self) -> int:
        """The number of proposals of the model; a call's ``num_proposals`` may ask for fewer."""
        return len(self.model.proposals)

    @property
    def num_stages(self) -> int:
        """The number of stages of the model."""
        return len(self.model.stages)

    def to(self, device: str | torch.device) -> Detector:
        """Moves the model; images follow it. Raises LabError for a device that does not exist."""
        self.model.to(pick_device(device))
        return self

    def with_runtime(
        self,
        runtime: RuntimeName = "folded",
        precision: InferencePrecision = "float32",
        calibration: Sequence[ImageSource] | None = None,
    ) -> Detector:
        """A detector with the same weights, computed in another way; this one stays as it is.

        runtime: "folded", the default, with batch norm folded into the convolutions; "eager", the
        model as it is written; "compiled", through ``torch.compile`` (on a GPU with CUDA graphs):
        the first image of each of up to three sizes then takes a minute or more; "onnxruntime" or
        "openvino", an engine, which must be installed; "auto", on a CPU the first installed of
        these two that has the precision (both for few proposals), else "folded".
        precision: "float32"; "bf16", which keeps 8 significant bits; "auto", bf16 where the
        hardware supports it; "int8", the pyramid of an engine in 8 bits. calibration: for int8,
        images like those to come, whose value ranges are measured; default: the shipped examples.
        ``docs/performance.md`` has the speed of each.

        Torch does what an engine cannot (RoI features, filters, ablations, a GPU). Where an engine
        is missing or does not give the model's numbers, one warning says so and torch takes over.
        Raises LabError for an unknown runtime, and for a precision that the runtime does not have.

        >>> import sparse_rcnn_lab as srl
        >>> srl.load("nano-shapes").with_runtime("eager")
        Detector('nano-shapes', nano, 20 proposals, 6 classes, eager float32)
        """
        ready = []
        if precision == "int8":
            images = sorted(_EXAMPLES.glob("*_*.*")) if calibration is None else calibration
            ready = [self.prepare([image]).images for image in images]
        made = make_runtime(self.model, runtime, precision, ready)
        return Detector(self.model, self.class_names, self.name, self.info, made)

    def __repr__(self) -> str:
        return (
            f"Detector({self.name!r}, {self.config.backbone}, {self.num_proposals} proposals, "
            f"{len(self.class_names)} classes, {' '.join(self.runtime.about().values())})"
        )

    @overload
    def __call__(
        self,
        images: list[Any],
        *,
        threshold: float = ...,
        num_proposals: int | None = ...,
        stage: int | None = ...,
        resize: bool = ...,
    ) -> list[Detections]: ...
    @overload
    def __call__(
        self,
        images: ImageSource,
        *,
        threshold: float = ...,
        num_proposals: int | None = ...,
        stage: int | None = ...,
        resize: bool = ...,
    ) -> Detections: ...
    @torch.no_grad()
    def __call__(
        self,
        images: ImageSource | list[Any],
        *,
        threshold: float = 0.0,
        num_proposals: int | None = None,
        stage: int | None = None,
        resize: bool = True,
    ) -> Detections | list[Detections]:
        """Detects the objects in an image, or in each of a list of images.

        threshold: the lowest score that is kept, 0..1. num_proposals: use only this many, the
        first ones. stage: stop after this stage (1..S) and use its output. resize: False keeps
        an image's own size in place of the one that the model was trained at.

        Returns the Detections of an image, boxes in its own pixels; for a list, a list of them.
        Raises LabError when an image cannot be read or a number is out of range.
        """
        batch = self.prepare(_as_list(images), resize)
        check_threshold(threshold)
        if stage is not None:
            stage = check_stage(stage, self.num_stages)
        if stage in (None, self.num_stages):
            output = self.runtime.last_stage(batch.images, batch.sizes, num_proposals)
        else:
            output = self.run(batch, stop=stage, num_proposals=num_proposals)[-1]
        found = [self.decode(output, batch, i, threshold) for i in range(len(batch.originals))]
        return found if _is_list(images) else found[0]

    @overload
    def trace(
        self,
        images: list[Any],
        *,
        record: Collection[str] = ...,
        num_proposals: int | None = ...,
        stage: int | None = ...,
        resize: bool = ...,
        ablation: Ablation = ...,
    ) -> list[Trace]: ...
    @overload
    def trace(
        self,
        images: ImageSource | Sample,
        *,
        record: Collection[str] = ...,
        num_proposals: int | None = ...,
        stage: int | None = ...,
        resize: bool = ...,
        ablation: Ablation = ...,
    ) -> Trace: ...
    @torch.no_grad()
    def trace(
        self,
        images: ImageSource | Sample | list[Any],
        *,
        record: Collection[str] = ("attention",),
        num_proposals: int | None = None,
        stage: int | None = None,
        resize: bool = True,
        ablation: Ablation = NORMAL,
    ) -> Trace | list[Trace]:
        """Detects and keeps every proposal at every stage.

        record: the large tensors to keep, out of "attention", "roi_features", "dynamic_filters",
        "filtered_features". Recording changes no number. num_proposals, resize: as in a call.
        stage: stop after this stage (1..S); the trace then ends with it.
        ablation: what is switched off or exchanged, see :class:`sparse_rcnn_lab.Ablation`.

        Returns the Trace of an image; for a list, a list of them. Raises LabError when an image
        cannot be read, or a name or number is not one of the model's.

        A :class:`sparse_rcnn_lab.core.inputs.Sample` of a data set brings its ground truth along,
        so that the trace has ``matches``; to any other image
        :func:`sparse_rcnn_lab.with_ground_truth` adds it.
        """
        given = _as_list(images)
        batch = self.prepare(
            [item.image if isinstance(item, Sample) else item for item in given], resize
        )
        boxes, features = self.model.proposals(batch.sizes, num_proposals)
        outputs = self.run(batch, stage, num_proposals, ablation, record)
        traces = [self.to_trace(outputs, boxes, features, batch, i) for i in range(len(given))]
        traces = [
            with_ground_truth(trace, item.boxes, item.labels) if isinstance(item, Sample) else trace
            for trace, item in zip(traces, given, strict=True)
        ]
        return traces if _is_list(images) else traces[0]

    def prepare(self, images: Sequence[ImageSource], resize: bool = True) -> Batch:
        """Reads, resizes, normalises and pads images into one batch on the model's device."""
        with threads_for(self.config.backbone):
            return make_batch(images, self.config.input, self.model.device, resize)

    def run(
        self,
        batch: Batch,
        stop: int | None = None,
        num_proposals: int | None = None,
        ablation: Ablation = NORMAL,
        record: Collection[str] = (),
    ) -> list[StageOutput]:
        """The output of each stage for a prepared batch, up to stage ``stop`` (1..S)."""
        if stop is not None:
            stop = check_stage(stop, self.num_stages)
        boxes, features = self.model.proposals(batch.sizes, num_proposals)
        pyramid = self.runtime.pyramid(batch.images)
        return self.runtime.run_stages(
            pyramid, boxes, features, stop=stop, record=record, ablation=ablation
        )

    def decode(
        self, output: StageOutput, batch: Batch, index: int, threshold: float = 0.0
    ) -> Detections:
        """The detections of image ``index`` from one stage's output, in original pixels."""
        boxes = box_ops.rescale(output.boxes[index], 1 / batch.scale(index))
        return select_detections(
            output.logits[index].float().cpu(),
            boxes.float().cpu(),
            batch.originals[index],
            self.class_names,
            threshold,
        )

    def to_trace(
        self,
        outputs: Sequence[StageOutput],
        boxes: Tensor,
        features: Tensor,
        batch: Batch,
        index: int = 0,
        proposal_ids: Tensor | None = None,
    ) -> Trace:
        """The trace of image ``index`` of a batch.

        outputs: one per stage.  boxes ``[B, N, 4]`` xyxy input pixels and features
        ``[B, N, D]``: what entered the first stage.  proposal_ids: ``[N]``, default 0..N-1.
        """
        scale = batch.scale(index)
        side = self.config.roi_size

        def stack(name: str, first: Tensor | None = None) -> Tensor:
            parts = [getattr(output, name)[index] for output in outputs]
            joined = torch.stack(parts if first is None else [first[index], *parts])
            return joined.float().cpu() if joined.is_floating_point() else joined.cpu()

        def optional(name: str) -> Tensor | None:
            return None if getattr(outputs[0], name) is None else stack(name)

        def grid(name: str) -> Tensor | None:
            cells = optional(name)
            return None if cells is None else cells.unflatten(2, (side, side))

        finest = STRIDES[0].bit_length() - 1  # stride 4 is level 2
        return Trace(
            boxes=box_ops.rescale(stack("boxes", boxes), 1 / scale.cpu()),
            logits=stack("logits"),
            features=stack("features", features),
            fpn_level=stack("levels") + finest,
            proposal_ids=torch.arange(boxes.shape[1]) if proposal_ids is None else proposal_ids,
            size=batch.originals[index],
            scale=(float(scale[0]), float(scale[1])),
            class_names=self.class_names,
            model_name=self.name,
            attention=optional("attention"),
            roi_features=grid("roi_features"),
            dynamic_filters=optional("dynamic_filters"),
            filtered_features=grid("filtered_features"),
            image=reduced(batch.sources[index].cpu()),
        )


def check_detector(detector: Any) -> None:
    """Raises LabError for anything that is not a detector, such as the name of a model."""
    if not hasattr(detector, "num_stages"):
        raise LabError(f"This is not a detector: {detector!r:.80}. Load one with srl.load.")


def _is_list(images: Any) -> TypeGuard[list[Any]]:
    return isinstance(images, list | tuple)


def _as_list(images: Any) -> list[Any]:
    return list(images) if _is_list(images) else [images]
