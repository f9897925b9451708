"""The values of the controls, as one object for every tab, the endpoints and the webcam."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.detector import Detector

DETECTIONS, PROPOSALS = SHOWN = ("detections", "all proposals")


@dataclass(frozen=True)
class ViewState:
    """What to compute and to show.

    model: a name.  num_proposals: how many are used.  stage: 0 (the learned proposals) to the
    model's last.  threshold: lowest score of a detection, 0..1.  show: one of ``SHOWN``.
    classes: names of the classes shown; none means all.

    Controls, endpoints and ``webcam.js`` send the values in the order of these fields.

    >>> state = ViewState.parse("nano-shapes", 20, 6.0, "0.3")
    >>> state.stage, state.threshold, state.show
    (6, 0.3, 'detections')
    """

    model: str
    num_proposals: int
    stage: int
    threshold: float
    show: str = DETECTIONS
    classes: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        model: Any,
        num_proposals: Any,
        stage: Any,
        threshold: Any,
        show: Any = DETECTIONS,
        classes: Any = (),
    ) -> ViewState:
        """The state from the values that were sent; an empty number box counts as its minimum.

        Raises LabError, which names the field, for an invalid value.
        """
        if not isinstance(model, str):
            raise LabError(f"model must be a name, found {model!r}.")
        names = [] if classes is None else classes
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise LabError(f"classes must be a list of class names, found {classes!r}.")
        if show not in SHOWN:
            raise LabError(f"show must be one of {', '.join(SHOWN)}, found {show!r}.")
        score = parse_number("threshold", threshold)
        if not 0 <= score <= 1:
            raise LabError(f"threshold must be from 0 to 1, found {score}.")
        state = cls(model, 1, 0, score, show, tuple(names))
        return state.using(model, num_proposals, stage)

    def using(self, model: str, num_proposals: Any, stage: Any) -> ViewState:
        """The same view with another model, number of proposals and stage, as they were sent.

        Raises LabError for values that are not numbers.
        """
        return replace(
            self,
            model=model,
            num_proposals=round(parse_number("num_proposals", num_proposals)) or 1,
            stage=round(parse_number("stage", stage)),
        )

    def clamped(self, detector: Detector) -> ViewState:
        """The same view with proposals and stage limited to what the model has."""
        return replace(
            self,
            num_proposals=min(max(self.num_proposals, 1), detector.num_proposals),
            stage=min(max(self.stage, 0), detector.num_stages),
            classes=tuple(name for name in self.classes if name in detector.class_names),
        )


def parse_number(name: str, value: Any) -> float:
    """The value of a number box, 0 where it is empty. Raises LabError unless it is a number."""
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise LabError(f"{name} must be a number, found {value!r}.")
    return number
