"""A finding on a data set, in one form for every message, table and list of changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_NOUNS = {
    "annotation": ("box", "boxes"),
    "image": ("image", "images"),
    "category": ("category", "categories"),
}


@dataclass(frozen=True, eq=False)
class Finding:
    """What looks wrong, how often, where first, and what was done; ``str()`` gives a sentence.

    file: the name of the json.  kind: what is counted: "annotation", "image" or "category".
    what: the text after the number ("reaching out of their image").  first: file name and id of
    the first one.  done: what was done, or what a person has to do.  images: ids of the images
    concerned, as in ``ground_truth()``.  rows: indices of the records in the json, for a list of
    changes.

    >>> str(Finding("train.json", "annotation", 2, "of no area", '"a.png", annotation id 7',
    ...             "dropped"))
    'train.json: 2 boxes of no area (first: "a.png", annotation id 7): dropped.'
    """

    file: str
    kind: str
    count: int
    what: str
    first: str
    done: str
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)

    @property
    def noun(self) -> str:
        """``box``, ``image`` or ``category``."""
        return _NOUNS[self.kind][0]

    @property
    def subject(self) -> str:
        """``2 boxes of no area``."""
        return f"{self.count:,} {_NOUNS[self.kind][self.count != 1]} {self.what}"

    def __str__(self) -> str:
        many = "first: " if self.count > 1 and self.kind != "category" else ""
        first = f" ({many}{self.first})" if self.first else ""
        return f"{self.file}: {self.subject}{first}: {self.done}{'.' * (self.done[-1] != '?')}"


def first_few(names: Sequence[str], count: int = 3, joint: str = ", ") -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return joint.join(names[:count]) + more
