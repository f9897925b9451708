"""Many ways to run the stages, one pass over the data: the pyramid of each image is made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sparse_rcnn_lab.analysis.experiments.kept import Job, Part
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.torch_runtime import Runtime
from sparse_rcnn_lab.training.evaluate import (
    CocoResult,
    coco_stats,
    detection_rows,
    label_category_ids,
)

# (runtime, pyramid, boxes [B, N, 4] and features [B, N, D] of all proposals) -> an output a name
StageRun = Callable[[Runtime, Pyramid, Tensor, Tensor], Mapping[str, StageOutput]]


@dataclass(frozen=True, eq=False)
class Found:
    """What each named output detected.

    rows: name -> ``[K, 7]`` rows of image id, x, y, w, h (original pixels), score, category id.
    truth: the COCO ground truth of the images that were seen.
    """

    rows: Mapping[str, np.ndarray]
    truth: dict[str, Any]

    def stats(self, progress: bool = True) -> dict[str, CocoResult]:
        """COCO's numbers of every output, all sizes together."""
        bar = tqdm(
            self.rows.items(), desc="AP", unit="table row", leave=False, disable=not progress
        )
        with bar:
            return {name: coco_stats(self.truth, rows, by_size=False) for name, rows in bar}


def detect_with(job: Job, ways: list[StageRun]) -> Callable[[range], Part]:
    """The work on some images of a job: every way, every output of it, as detections."""
    detector, data = job.detector, job.data
    categories = label_category_ids(detector.class_names, data)

    @torch.inference_mode()
    def do(images: range) -> Part:
        samples = [data[i] for i in images]
        ids = [sample.image_id for sample in samples]
        batch = detector.prepare([sample.image for sample in samples])
        boxes, features = detector.model.proposals(batch.sizes)
        pyramid = detector.runtime.pyramid(batch.images)
        part: Part = {"ids": np.array(ids)}
        for way in ways:
            for name, output in way(detector.runtime, pyramid, boxes, features).items():
                (part[f"rows {name}"],) = detection_rows([output], batch, ids, categories)
        return part

    return do


def found_by(job: Job, parts: list[Part]) -> Found:
    """All parts of :func:`detect_with` together."""
    names = [key for key in parts[0] if key.startswith("rows ")]
    rows = {name[5:]: np.concatenate([part[name] for part in parts]) for name in names}
    return Found(rows, job.data.ground_truth(range(job.count)))


def check_numbers(detector: Detector, n: Any) -> tuple[int, ...]:
    """Numbers of proposals, ascending; by default about eight, evenly spaced on a log scale.

    Raises LabError for more proposals than the model has.
    """
    most = detector.num_proposals
    if n is None:
        n = {round(most ** (i / 7)) for i in range(8)}
    chosen = sorted({int(value) for value in n})
    if not chosen or not 1 <= chosen[0] <= chosen[-1] <= most:
        raise LabError(f"The numbers of proposals must be 1..{most}, found {chosen}.")
    return tuple(chosen)


def label_map(detector: Detector, data: DetectionData) -> Tensor:
    """``[C]`` the detector's label of each of the data set's, by name; the order may differ."""
    label_category_ids(detector.class_names, data)  # says so when they are not the same
    places = [detector.class_names.index(name) for name in data.class_names]
    return torch.tensor(places, dtype=torch.long)
