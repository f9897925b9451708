"""Runs many variants of the stages in one pass over the data, with one pyramid per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.images import Batch
from sparse_rcnn_lab.runtime.torch_runtime import Runtime
from sparse_rcnn_lab.training.coco_metrics import CocoResult, coco_stats
from sparse_rcnn_lab.training.evaluate import detection_rows, label_category_ids


@dataclass(frozen=True, eq=False)
class StageInputs:
    """Some images before their first stage.

    boxes ``[B, N, 4]`` and features ``[B, N, D]`` of the proposals.  truth: for each image its
    boxes ``[M, 4]`` in original pixels and labels ``[M]`` in the detector's numbering.
    categories: ``[C]`` category id of each label.
    """

    runtime: Runtime
    batch: Batch
    pyramid: Pyramid
    boxes: Tensor
    features: Tensor
    ids: list[int]
    truth: list[tuple[Tensor, Tensor]]
    categories: np.ndarray

    @classmethod
    @torch.inference_mode()
    def of(cls, detector: Detector, data: DetectionData, images: Iterable[int]) -> StageInputs:
        """Prepares these images. Raises LabError for other classes; their order may differ."""
        categories = label_category_ids(detector.class_names, data)
        labels = torch.tensor([detector.class_names.index(name) for name in data.class_names])
        samples = [data[i] for i in images]
        batch = detector.prepare([sample.image for sample in samples])
        boxes, features = detector.model.proposals(batch.sizes)
        return cls(
            detector.runtime,
            batch,
            detector.runtime.pyramid(batch.images),
            boxes,
            features,
            [sample.image_id for sample in samples],
            [(sample.boxes, labels[sample.labels]) for sample in samples],
            categories,
        )

    def of_proposals(self, rows: Sequence[int] | slice) -> StageInputs:
        """The same images with only these proposals."""
        return replace(self, boxes=self.boxes[:, rows], features=self.features[:, rows])

    @torch.inference_mode()
    def run(self, **options: Any) -> list[StageOutput]:
        """The stages' outputs; options are those of :meth:`SparseRCNN.run_stages`."""
        return self.runtime.run_stages(self.pyramid, self.boxes, self.features, **options)

    def rows(self, outputs: Mapping[str, StageOutput]) -> Part:
        """``rows NAME``: the detections of each output, see :class:`Found`."""
        return {
            f"rows {name}": detection_rows([output], self.batch, self.ids, self.categories)[0]
            for name, output in outputs.items()
        }


Variant = Callable[[StageInputs], Mapping[str, StageOutput]]


@dataclass(frozen=True, eq=False)
class Found:
    """The detections of each named output.

    rows: name -> ``[K, 7]`` rows of image id, x, y, w, h (original pixels), score, category id.
    """

    run: CachedRun
    rows: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, run: CachedRun, parts: list[Part]) -> Found:
        """The detections of all parts of a run."""
        names = [key for key in parts[0] if key.startswith("rows ")]
        rows = {name[5:]: np.concatenate([part[name] for part in parts]) for name in names}
        return cls(run, rows)

    @cached_property
    def truth(self) -> dict[str, Any]:
        """The COCO ground truth of the images that were used."""
        return self.run.data.ground_truth(range(self.run.count))

    @cached_property
    def stats(self) -> dict[str, CocoResult]:
        """The COCO metrics of every output, for all sizes together."""
        bar = self.run.bar(self.rows.items(), "AP", "table row")
        return {name: coco_stats(self.truth, rows, by_size=False) for name, rows in bar}

    def ap(self, name: str) -> dict[str, float]:
        """``AP`` and ``AP50`` of one output, 0..1."""
        return {"AP": self.stats[name].AP, "AP50": self.stats[name].AP50}


def tabulate(
    run: CachedRun,
    variants: Iterable[Variant],
    title: str,
    meaning: Mapping[str, str],
    rows: Callable[[Found], Iterable[Mapping[str, Any]]],
) -> Table:
    """Runs every variant over the images of a run and makes a table of the results."""
    variants = list(variants)

    @torch.inference_mode()
    def do(images: range) -> Part:
        inputs = StageInputs.of(run.detector, run.data, images)
        outputs = {name: o for variant in variants for name, o in variant(inputs).items()}
        return inputs.rows(outputs)

    def finish(parts: list[Part]) -> Table:
        of_run = f"{run.detector.name}: {title}, {run.count} images"
        return Table.of(of_run, rows(Found.of(run, parts)), meaning, run.about())

    return run.table(do, finish)
