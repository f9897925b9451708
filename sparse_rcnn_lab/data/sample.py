"""The protocol that all data sets follow; what they give is :class:`Sample`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.detect.ground_truth import check_ground_truth, check_place


class DetectionData(Protocol):
    """A data set: a sequence of :class:`Sample` that knows its classes and its COCO form.

    Whatever has these methods can be trained on; :class:`Shapes` and :class:`CocoFolder` do.

    >>> from sparse_rcnn_lab.data.shapes.dataset import Shapes
    >>> data: DetectionData = Shapes(length=2)
    >>> data.category_ids()[0], data.ground_truth()["categories"][0]["name"]
    (1, 'circle')
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names; a label is an index into this."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """COCO dictionary (``images``, ``annotations``, ``categories``), crowd boxes included.

        indices: of these samples alone, without work for the others; default of all.
        Category ids are those of the source; ``category_ids()[label]`` maps a label to them.
        """
        ...

    def category_ids(self) -> tuple[int, ...]:
        """COCO category id of each label."""
        ...

    def fingerprint(self) -> str:
        """Short hash of everything that decides the samples: files, or generator settings."""
        ...


def sample_number(index: Any) -> int:
    """An index as an int. Raises LabError for a slice or a name."""
    try:
        return operator.index(index)
    except TypeError:
        raise LabError(
            f"Samples are taken one by one, by their number, found {index!r}. For several: "
            "[data[i] for i in range(3)]."
        ) from None


def part_of(truth: dict[str, Any], indices: Sequence[int] | None) -> dict[str, Any]:
    """A COCO dictionary of these of its ``images``, by place; None: of all."""
    if indices is None:
        return truth
    images = [truth["images"][index] for index in indices]
    kept = {image["id"] for image in images}
    rows = [row for row in truth["annotations"] if row["image_id"] in kept]
    return {**truth, "images": images, "annotations": rows}


def check_classes(data: DetectionData) -> None:
    """Raises LabError unless each class has a name and a category id of its own."""
    if not hasattr(data, "category_ids"):
        raise LabError(f"This is no data set: {data!r:.80}. open_data gives one by name or folder.")
    names, ids = data.class_names, data.category_ids()
    if len(set(names)) < len(names) or len(set(ids)) < len(ids) or len(names) != len(ids):
        raise LabError(
            f"{file_of(data)} must have a name and a category id of its own for each class, found "
            f"{list(names)} and {list(ids)}."
        )


def checked_sample(data: DetectionData, index: int) -> Sample:
    """``data[index]``; raises LabError, naming it, where its boxes cannot be those of its image."""
    sample = data[index]
    try:
        boxes, _ = check_ground_truth(sample.boxes, sample.labels, len(data.class_names))
        check_place(boxes, tuple(sample.image.shape[-2:]))
    except LabError as error:
        raise LabError(f'"{sample.name}": {error}') from None
    return sample


def notes_of(data: DetectionData | None) -> list[str]:
    """What a data set says about itself (``notes``), a sentence each; not all have something."""
    return list(getattr(data, "notes", ()))


def file_of(data: DetectionData) -> str:
    """What a message calls a data set: its json's name, where it comes from one."""
    return str(getattr(getattr(data, "data", data), "file", "The data set"))
