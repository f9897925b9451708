"""A detector whose answers are written down beforehand, and the images it answers for."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from small_model import small_config, small_model
from torch import Tensor

from sparse_rcnn_lab import Ablation, Detector, Shapes
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import NORMAL, StageOutput
from sparse_rcnn_lab.data.sample import Sample, part_of

NAMES = ("ant", "bee", "cow")
SIDE = 64  # of every image, in pixels; the model sees them as they are
A, B, AWAY = [4.0, 4, 24, 24], [34.0, 34, 60, 60], [40.0, 4, 60, 20]  # boxes
QUIET: dict[str, Any] = {"progress": False, "cache": False}  # for an analysis


def column(table: Any, name: str) -> list[Any]:
    """A column of an analysis' table as Python's own values, None where one is missing."""
    return [row[name] for row in table.records()]


def only(table: Any, **wanted: Any) -> Any:
    """The rows that have these values."""
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


# What a proposal says of an image at each stage: box, class, score; nothing where None.
Saying = tuple[list[float], int, float]
Script = dict[tuple[int, int], list[Saying | None]]  # (image, proposal) -> one a stage


class GreyImages:
    """Image i has the one grey value i, so that the scripted model knows which it is given."""

    class_names = NAMES

    def __init__(self, objects: list[list[tuple[list[float], int]]]) -> None:
        self.objects = objects
        self.read: list[int] = []  # which images were asked for

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        boxes = torch.tensor([box for box, _ in self.objects[index]]).reshape(-1, 4)
        labels = torch.tensor([label for _, label in self.objects[index]], dtype=torch.long)
        image = torch.full((3, SIDE, SIDE), index, dtype=torch.uint8)
        return Sample(image, boxes, labels, 100 + index, f"image {index}")

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        notes = [
            (100 + i, label, box)
            for i, objects in enumerate(self.objects)
            for box, label in objects
        ]
        whole = {
            "images": [{"id": 100 + i, "height": SIDE, "width": SIDE} for i in range(len(self))],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": 10 + label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
                for number, (image, label, (x1, y1, x2, y2)) in enumerate(notes, 1)
            ],
            "categories": [{"id": 10 + i, "name": name} for i, name in enumerate(NAMES)],
        }
        return part_of(whole, indices)

    def category_ids(self) -> tuple[int, ...]:
        return 10, 11, 12

    def fingerprint(self) -> str:
        return f"scripted {self.objects}"


class HalfSize(GreyImages):
    """The same scenes at half the size: the model sees them twice as large as they are."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, image=sample.image[:, ::2, ::2], boxes=sample.boxes / 2)


class _Scripted(SparseRCNN):
    """Answers from the script; a proposal is known by the first number of its feature."""

    script: Script

    def pyramid(self, images: Tensor) -> Pyramid:
        mean, std = self.config.input.mean[0], self.config.input.std[0]
        numbers = (images[:, 0, 0, 0] * std + mean).round()
        return Pyramid(numbers[:, None], ((1, 1),) * 4, len(images))

    def run_stages(
        self,
        pyramid: Pyramid,
        boxes: Tensor,
        features: Tensor,
        start: int = 0,
        stop: int | None = None,
        record: Collection[str] = (),
        ablation: Ablation = NORMAL,
        mask: Tensor | None = None,
    ) -> list[StageOutput]:
        outputs = []
        for stage in range(start, len(self.stages) if stop is None else stop):
            moved = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(*boxes.shape).clone()
            logits = torch.full((*boxes.shape[:2], len(NAMES)), -20.0)
            for b, image in enumerate(pyramid.table[:, 0].int().tolist()):
                for n, proposal in enumerate(features[b, :, 0].int().tolist()):
                    said = self.script.get((image, proposal))
                    saying = said[stage] if said else None
                    if saying:
                        box, label, score = saying
                        moved[b, n] = torch.tensor(box)
                        logits[b, n, label] = torch.logit(torch.tensor(score))
            levels = torch.zeros(boxes.shape[:2], dtype=torch.long)
            outputs.append(StageOutput(moved, logits, features, levels))
        return outputs


def scripted(script: Script, proposals: int, stages: int) -> Detector:
    """A detector that follows the script; what it does not name scores next to nothing."""
    torch.manual_seed(0)
    model = _Scripted(small_config(num_proposals=proposals, num_stages=stages))
    model.script = script
    with torch.no_grad():
        model.proposals.features[:, 0] = torch.arange(proposals)
        model.proposals.boxes.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]))
    return Detector(model, NAMES, "scripted")


def ant_images() -> GreyImages:
    """Three images with an ant each: at A, at A, at B."""
    return GreyImages([[(A, 0)], [(A, 0)], [(B, 0)]])


def ant_detector() -> Detector:
    """Of four proposals 0 is idle, 1 and 3 both find what is at A, 2 what is at B.

    At the first of two stages all of them are away from it, with a wrong class.
    """
    script = {
        (image, proposal): [(AWAY, 1, score), (box, 0, score)]
        for image, proposal, box, score in (
            (0, 1, A, 0.9), (1, 1, A, 0.9), (0, 3, A, 0.8), (1, 3, A, 0.8), (2, 2, B, 0.9),
        )
    }  # fmt: skip
    return scripted(script, proposals=4, stages=2)


def tiny(seed: int = 0) -> Detector:
    """A real, untrained detector of the shapes' classes."""
    return Detector(small_model(seed, num_classes=6), Shapes(1).class_names, "tiny")
