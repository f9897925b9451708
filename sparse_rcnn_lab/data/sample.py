"""The protocol that all data sets follow; their items are :class:`Sample`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.detect.ground_truth import check_ground_truth, check_place


class DetectionData(Protocol):
    """A data set: a sequence of :class:`Sample` that knows its classes and its COCO form.

    Anything with these methods can be trained on, such as :class:`Shapes` and :class:`CocoFolder`.

    >>> from sparse_rcnn_lab.data.shapes.dataset import Shapes
    >>> data: DetectionData = Shapes(length=2)
    >>> data.category_ids()[0], data.ground_truth()["categories"][0]["name"]
    (1, 'circle')
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; a label is an index into this."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """The COCO dictionary (``images``, ``annotations``, ``categories``), with crowd boxes.

        indices: only these samples, without work for the others; default: all.
        Category ids are those of the source; ``category_ids()[label]`` maps a label to its id.
        """
        ...

    def category_ids(self) -> tuple[int, ...]:
        """The COCO category id of each label."""
        ...

    def fingerprint(self) -> str:
        """A short hash of everything that determines the samples: files, or generator settings."""
        ...


def sample_number(index: Any) -> int:
    """An index as an int. Raises LabError for a slice or a name."""
    try:
        return operator.index(index)
    except TypeError:
        raise LabError(
            f"A sample is taken by its number, found {index!r}. For several write "
            "[data[i] for i in range(3)]."
        ) from None


def part_of(truth: dict[str, Any], indices: Sequence[int] | None) -> dict[str, Any]:
    """The part of a COCO dictionary for these of its ``images``, by index; None: all of it."""
    if indices is None:
        return truth
    images = [truth["images"][index] for index in indices]
    kept = {image["id"] for image in images}
    rows = [row for row in truth["annotations"] if row["image_id"] in kept]
    return {**truth, "images": images, "annotations": rows}


def check_classes(data: DetectionData) -> None:
    """Raises LabError unless each class has a name and a category id of its own."""
    if not hasattr(data, "category_ids"):
        raise LabError(f"This is not a data set: {data!r:.80}. Open one with open_data.")
    names, ids = data.class_names, data.category_ids()
    if len(set(names)) < len(names) or len(set(ids)) < len(ids) or len(names) != len(ids):
        raise LabError(
            f"{file_of(data)} must have a name and a category id of its own for each class, found "
            f"{list(names)} and {list(ids)}."
        )


def checked_sample(data: DetectionData, index: int) -> Sample:
    """``data[index]``. Raises LabError, naming it, where its boxes do not fit its image."""
    sample = data[index]
    try:
        boxes, _ = check_ground_truth(sample.boxes, sample.labels, len(data.class_names))
        check_place(boxes, tuple(sample.image.shape[-2:]))
    except LabError as error:
        raise LabError(f'"{sample.name}": {error}') from None
    return sample


def notes_of(data: DetectionData | None) -> list[str]:
    """The ``notes`` of a data set, a sentence each; none where it has no notes."""
    return list(getattr(data, "notes", ()))


def file_of(data: DetectionData) -> str:
    """What messages call a data set: the name of its json, where it has one."""
    return str(getattr(getattr(data, "data", data), "file", "The data set"))
