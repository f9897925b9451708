"""Which images of a data set are trained on, and which share a batch; no image is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData, Sample, check_classes, notes_of


@runtime_checkable
class Indexed(DetectionData, Protocol):
    """A data set that knows its images without opening them, as CocoFolder does."""

    @property
    def image_sizes(self) -> np.ndarray:
        """``[len, 2]`` height and width in pixels."""
        ...

    @property
    def object_counts(self) -> np.ndarray:
        """``[len]``: the number of objects in each image, crowd boxes aside."""
        ...


class Subset:
    """Some images of a data set, as a data set.

    rows: ``[K]`` their indices, ascending.  note: what was left out, in one line.
    """

    def __init__(self, data: Indexed, rows: np.ndarray, note: str, mark: str) -> None:
        self.data, self.rows, self.note, self._mark = data, rows, note, mark

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the whole data set, and what was left out."""
        return (*notes_of(self.data), f"{self.note}.")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the whole data set, even those that no remaining image shows."""
        return self.data.class_names

    @property
    def image_sizes(self) -> np.ndarray:
        """``[len, 2]`` height and width in pixels."""
        return self.data.image_sizes[self.rows]

    @property
    def object_counts(self) -> np.ndarray:
        """``[len]``: the number of objects in each image."""
        return self.data.object_counts[self.rows]

    def category_ids(self) -> tuple[int, ...]:
        """The COCO category id of each label."""
        return self.data.category_ids()

    @property
    def source_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The json's ids of images and of categories, where the data set renumbers them."""
        return getattr(self.data, "source_ids", ((), ()))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.data[int(self.rows[index])]

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        """The COCO dictionary of these images, or of some of them."""
        rows = self.rows if indices is None else self.rows[list(indices)]
        return self.data.ground_truth(rows.tolist())

    def fingerprint(self) -> str:
        """The fingerprint of the whole data set, with the rule for these images."""
        return f"{self.data.fingerprint()}-{self._mark}"


def usable_images(data: DetectionData, config: AugmentConfig) -> DetectionData:
    """The images that ``config`` trains on, by its ``drop_empty`` and ``min_image_side``.

    Returns ``data`` itself where none is left out, or where it does not know its images without
    opening them. Raises LabError when no image remains, or no object.

    >>> from sparse_rcnn_lab.data.shapes.dataset import Shapes
    >>> data = Shapes(length=4)
    >>> usable_images(data, AugmentConfig(drop_empty=True)) is data  # drawn shapes: not Indexed
    True
    """
    check_classes(data)
    if not len(data):
        raise LabError("The data set has no images; there is nothing to train on.")
    if not isinstance(data, Indexed):
        return data
    empty = data.object_counts == 0 if config.drop_empty else np.zeros(len(data), dtype=bool)
    small = data.image_sizes.min(axis=1) < config.min_image_side
    rows = np.flatnonzero(~(empty | small))
    if not data.object_counts.any():
        why = " ".join(notes_of(data)) or "No image has a box."
        raise LabError(
            f"There is nothing to learn from: no object in {len(data):,} images. {why} Label some, "
            "or give other data."
        )
    if len(rows) == len(data):
        return data
    reasons = [f"{empty.sum():,} without objects"] if empty.any() else []
    if (small & ~empty).any():
        reasons.append(f"{(small & ~empty).sum():,} under {config.min_image_side} pixels")
    note = f"{len(data) - len(rows):,} of {len(data):,} images left out: {', '.join(reasons)}"
    if not len(rows):
        raise LabError(
            f"No image is left to train on ({note}). Label some, or train with "
            "augment.drop_empty=False and augment.min_image_side=0."
        )
    return Subset(data, rows, note, f"objects{config.drop_empty:d}-side{config.min_image_side}")


def aspect_groups(data: DetectionData, config: AugmentConfig) -> np.ndarray | None:
    """``[len]``: 1 for images at least as wide as high, else 0; None where batches may mix them."""
    if not config.group_by_aspect or not isinstance(data, Indexed):
        return None
    sizes = data.image_sizes
    return (sizes[:, 1] >= sizes[:, 0]).astype(np.int64)


def in_batches_of_one_group(
    order: np.ndarray, groups: np.ndarray, batch_size: int, begun: int = 0
) -> np.ndarray:
    """``order`` ``[K]`` of images, rearranged so that each full batch has a single group.

    groups: ``[len]``, the group of every image.  begun: how many images before ``order`` are in the
    first batch already; it is filled up first. Images left over from the full batches of their
    group come last, so at most three batches are mixed: the first and the last two.
    """
    head = min(-begun % batch_size, len(order))
    rest = order[head:]
    places = [np.flatnonzero(groups[rest] == group) for group in np.unique(groups[rest])]
    cuts = [len(place) // batch_size * batch_size for place in places]
    full = [place[:cut].reshape(-1, batch_size) for place, cut in zip(places, cuts, strict=True)]
    batches = np.concatenate([np.zeros((0, batch_size), np.int64), *full])
    batches = batches[np.argsort(batches[:, -1])]  # by when the last image would have come
    left = np.concatenate(
        [np.zeros(0, np.int64), *(place[cut:] for place, cut in zip(places, cuts, strict=True))]
    )
    return np.concatenate([order[:head], rest[batches.ravel()], rest[left]])
