"""What a person changed in the explorer, as one whole: it says all there is to run again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparse_rcnn_lab.core.errors import LabError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Edited:
    """A proposal (id) changed at a state.

    box: another one, xyxy, original pixels.  zero: its feature becomes zeros.
    """

    proposal: int
    stage: int
    box: Box | None = None
    zero: bool = False


@dataclass(frozen=True)
class Dropped:
    """A proposal (id) that is missing from a state on."""

    proposal: int
    stage: int


@dataclass(frozen=True)
class Experiment:
    """Departures from the recorded run; the default is none.

    start: state after which what is switched off, frozen or swapped applies, 0..S-1.  swaps: pairs
    of proposals (ids) that exchange their dynamic filters.  extra: how often the last stage is
    repeated.
    """

    edits: tuple[Edited, ...] = ()
    drops: tuple[Dropped, ...] = ()
    start: int = 0
    self_attention: bool = True
    freeze_boxes: bool = False
    freeze_features: bool = False
    swaps: tuple[tuple[int, int], ...] = ()
    extra: int = 0

    def changes_nothing(self) -> bool:
        """Whether the run would be the recorded one; ``start`` alone does nothing."""
        return self == Experiment(start=self.start)

    def to_message(self) -> dict[str, Any]:
        """As JSON; :meth:`from_message` reads it back."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Experiment:
        """Reads what the page sent. Raises LabError where it is not an experiment."""
        try:
            return cls(
                edits=tuple(_edited(item) for item in message.get("edits", ())),
                drops=tuple(
                    Dropped(int(item["proposal"]), int(item["stage"]))
                    for item in message.get("drops", ())
                ),
                start=int(message.get("start", 0)),
                self_attention=bool(message.get("self_attention", True)),
                freeze_boxes=bool(message.get("freeze_boxes", False)),
                freeze_features=bool(message.get("freeze_features", False)),
                swaps=tuple((int(a), int(b)) for a, b in message.get("swaps", ())),
                extra=int(message.get("extra", 0)),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise LabError(f"The explorer sent a change that cannot be read ({error}).") from error


def _edited(item: Mapping[str, Any]) -> Edited:
    box = item.get("box")
    values = None
    if box is not None:
        x1, y1, x2, y2 = (float(value) for value in box)
        values = (x1, y1, x2, y2)
        if not all(math.isfinite(value) for value in values):
            raise ValueError("a box of numbers is needed")
    return Edited(int(item["proposal"]), int(item["stage"]), values, bool(item.get("zero", False)))
