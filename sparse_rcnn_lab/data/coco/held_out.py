"""Which images are held out: whole moments, so that no neighbouring frame is trained on.

Two frames of a webcam, half a second apart, are almost the same image: a model that trained on one
has seen the other. So images are first grouped into moments (taken within seconds of each other, or
similar), and a moment is held out whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparse_rcnn_lab.core.errors import LabError

SHARE = 0.25  # share of the images that is held out
GAP = 2.0  # seconds between two moments, at least
ALIKE = 0.985  # correlation of two thumbnails from which on they show the same moment
_THUMBNAIL = 24
_LEAST = 2  # boxes of each class that stay in training


@dataclass(frozen=True)
class Split:
    """Ids of the images of each part. note: a remark about the split, or ""."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    note: str = ""


def split_images(document: dict[str, Any], folder: Path) -> Split:
    """Splits the labelled images of a project's COCO document.

    Images marked ``held_out`` are the held-out ones where there are any. Otherwise whole moments
    are held out until they hold a quarter of the images, first those that show classes still
    missing there and that training needs least. Raises LabError where fewer than two images are
    labelled, or no box is drawn.
    """
    rows = [row for row in document["images"] if row["labelled"]]
    classes: dict[int, Counter[int]] = {row["id"]: Counter() for row in rows}
    for a in document["annotations"]:
        if a["image_id"] in classes:
            classes[a["image_id"]][a["category_id"]] += 1
    if not any(classes.values()):
        raise LabError(
            "There is nothing to learn from: no box in the labelled images "
            f"({len(rows)} of {len(document['images'])} are labelled). Draw boxes around what is "
            "to be found."
        )
    if len(rows) < 2:
        raise LabError(
            "One image is labelled. At least two are needed, one to learn from and one to see how "
            "good it is; about twenty give a useful detector."
        )
    given = [row["id"] for row in rows if row.get("held_out")]
    if given and len(given) < len(rows):
        return Split(tuple(row["id"] for row in rows if row["id"] not in set(given)), tuple(given))

    wanted = max(1, round(SHARE * len(rows)))
    moments = _moments(rows, folder)
    note = ""
    if max(map(len, moments)) > len(rows) - wanted:  # of one long moment only the end can be used
        note = (
            "Nearly all images show one moment, so the held-out ones look like those it learned "
            "from: expect less on a new day. Take some elsewhere, in other light."
        )
        rows = [row for moment in moments for row in moment]
        moments = [rows[start : start + wanted] for start in range(0, len(rows), wanted)]
    held = _choose(moments, classes, wanted)
    train = [row for number, moment in enumerate(moments) if number not in held for row in moment]
    val = [row for number in sorted(held) for row in moments[number]]
    return Split(_ids(train), _ids(val), note)


def _ids(rows: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(sorted(row["id"] for row in rows))


def _choose(
    moments: list[list[dict[str, Any]]], classes: dict[int, Counter[int]], wanted: int
) -> set[int]:
    """Indices of the moments that are held out: at least one, and not all."""
    inside: list[Counter[int]] = [
        sum((classes[row["id"]] for row in m), Counter()) for m in moments
    ]
    left = sum(inside, Counter())
    shown: Counter[int] = Counter()
    held: set[int] = set()
    size = 0
    while size < wanted and len(held) < len(moments) - 1:
        best, best_worth = None, -np.inf
        for number, moment in enumerate(moments):
            if number in held or (held and size + len(moment) > 2 * wanted):
                continue
            mine = inside[number]
            starved = sum(left[c] - mine[c] < _LEAST for c in mine)
            fresh = sum(1 / (1 + shown[c]) for c in mine)
            far = abs(number / len(moments) - (len(held) + 0.5) / max(1, wanted))  # spread in time
            worth = fresh - 10 * starved - 0.5 * len(moment) / wanted - 0.1 * far
            if worth > best_worth:
                best, best_worth = number, worth
        if best is None:
            break
        held.add(best)
        size += len(moments[best])
        shown += inside[best]
        left -= inside[best]
    return held


def _moments(rows: list[dict[str, Any]], folder: Path) -> list[list[dict[str, Any]]]:
    """The images in the order in which they were taken, grouped into moments."""
    from scipy.sparse.csgraph import connected_components  # its import takes half a second

    rows = sorted(rows, key=lambda row: (row["taken"], row["id"]))
    looks = np.stack([_look(folder / row["file_name"]) for row in rows])
    joined = looks @ looks.T > ALIKE
    # Files copied together have the same time, which says nothing.
    if rows[-1]["taken"] - rows[0]["taken"] > GAP * len(rows) / 4:
        near = np.diff([row["taken"] for row in rows]) < GAP
        joined |= np.diag(near, 1)
    count, group = connected_components(joined, directed=False)
    return [[rows[i] for i in np.flatnonzero(group == k)] for k in range(count)]


def _look(path: Path) -> np.ndarray:
    """A grey thumbnail as a vector of mean 0 and length 1."""
    with Image.open(path) as image:
        image.draft("L", (64, 64))  # decodes a JPEG at an eighth of the cost
        small = image.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64).ravel()
    values -= values.mean()
    return values / max(1e-9, float(np.linalg.norm(values)))
