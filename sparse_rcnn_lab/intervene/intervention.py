"""``Intervention``: what a person changes in a run. One type serves from the browser's message to
the stages that run again.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_type_hints

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.stage import NORMAL, Ablation
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.models.config_edit import fits

MAX_STAGES = 60  # in one run; attention of 300 proposals takes 3 MB per stage

Ids = int | Sequence[int] | Tensor
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Change:
    """One entry of an :class:`Intervention`; ``str(change)`` describes it in words.

    proposals: ids.  stage: the state that is changed: 0 is the learned proposals, s the output of
    stage s.  box: the new box, xyxy, pixels of the original image.  feature: the new feature, D
    numbers or "zero".  drop: later stages run without these proposals.
    """

    proposals: tuple[int, ...]
    stage: int = 0
    box: Box | None = None
    feature: tuple[float, ...] | Literal["zero"] | None = None
    drop: bool = False

    def __str__(self) -> str:
        when = "before stage 1" if self.stage == 0 else f"after stage {self.stage}"
        if self.drop:
            some = ", ".join(map(str, self.proposals[:8]))
            more = f" and {len(self.proposals) - 8} more" if len(self.proposals) > 8 else ""
            return f"proposal{'s' * (len(self.proposals) > 1)} {some}{more} dropped, {when}"
        said = []
        if self.box is not None:
            said.append("box set to " + ", ".join(f"{v:.0f}" for v in self.box) + " px")
        if self.feature is not None:
            zero = self.feature == "zero" or not any(self.feature)
            said.append("feature zeroed" if zero else "feature exchanged")
        return f"proposal {self.proposals[0]}, {when}: {', '.join(said)}"


@dataclass(frozen=True)
class Intervention:
    """Everything that a run does differently from the recorded one; by default nothing.

    changes: boxes and features replaced, proposals dropped, in order; :meth:`edit` and :meth:`drop`
    add to them.  ablation: what is switched off, frozen or swapped, proposals by id.
    start: the ablation acts on the stages after this state, 0..S-1.  repeat: how many more times
    the last stage runs.

    >>> import sparse_rcnn_lab as srl
    >>> tried = srl.Intervention().edit(3, box=(10, 20, 90, 80), stage=2).drop([4, 5])
    >>> print(*tried.changes, sep="\\n")
    proposal 3, after stage 2: box set to 10, 20, 90, 80 px
    proposals 4, 5 dropped, before stage 1
    >>> srl.Intervention(ablation=srl.Ablation(self_attention=False), start=2).changes_nothing()
    False
    """

    changes: tuple[Change, ...] = ()
    ablation: Ablation = NORMAL
    start: int = 0
    repeat: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.ablation, Ablation):
            raise LabError(f"ablation must be an Ablation, found {self.ablation!r:.80}.")
        if self.repeat < 0:
            raise LabError(f"repeat must be 0 or more, found {self.repeat}.")

    def edit(
        self,
        proposal: int,
        box: Tensor | Sequence[float] | None = None,
        feature: Tensor | Sequence[float] | Literal["zero"] | None = None,
        stage: int = 0,
    ) -> Intervention:
        """Also replaces a proposal's box, feature or both at state ``stage``.

        box: xyxy, pixels of the original image.  feature: ``[D]`` numbers, or "zero".
        Raises LabError when neither is given, or the box is not four finite numbers with an area;
        whether the rest fits an image and its model is up to :meth:`check`.
        """
        if box is None and feature is None:
            raise LabError("Nothing to change: give a box, a feature, or both.")
        if len(ids := as_ids(proposal)) != 1:
            raise LabError(f"An edit is for one proposal, found {proposal!r}.")
        new_box = None if box is None else _box(box)
        stage = check_stage(stage, MAX_STAGES, 0)
        return self._with(Change(ids, stage, new_box, _feature(feature)))

    def drop(self, proposals: Ids, stage: int = 0) -> Intervention:
        """Also drops these proposals (ids) from state ``stage`` on. Raises LabError for none."""
        if not (gone := as_ids(proposals)):
            raise LabError("Nothing to drop: give at least one proposal.")
        return self._with(Change(gone, check_stage(stage, MAX_STAGES, 0), drop=True))

    def changes_nothing(self) -> bool:
        """Whether the run would be the recorded one; ``start`` alone does nothing."""
        return self == Intervention(start=self.start)

    def check(self, base: Trace) -> None:
        """Raises LabError unless it can be run on the image and model of the trace ``base``.

        Ids must exist and not be dropped before, one proposal must remain, a box must overlap the
        image and reach no further than its own size beyond, a feature must have D finite numbers.
        """
        there = base.proposal_ids.tolist()
        left = list(there)
        for change in self.changes:
            check_ids(change.proposals, left, there)
            if change.drop:
                left = [proposal for proposal in left if proposal not in change.proposals]
            if not left:
                raise LabError("At least one proposal must be left; this would drop them all.")
            if change.box is not None:
                _check_overlap(change.box, base.size)
            if isinstance(change.feature, tuple):
                _check_feature(torch.tensor(change.feature), base.features.shape[-1])
        check_ids([i for pair in self.ablation.swap_filters for i in pair], left, there)

    def to_message(self) -> dict[str, Any]:
        """The intervention as JSON for the explorer's page; :meth:`from_message` reads it back."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Intervention:
        """The intervention that the page sent. Raises LabError where it cannot be read."""
        try:
            switched = {k: _frozen(v) for k, v in dict(message.get("ablation", {})).items()}
            kinds = get_type_hints(Ablation)
            for name, value in switched.items():
                if not fits(value, kinds[name]):
                    raise ValueError(f"{name}: {value!r}")
            start, repeat = int(message.get("start", 0)), int(message.get("repeat", 0))
            made = cls((), Ablation(**switched), start, repeat)
            for item in message.get("changes", ()):
                if item.get("drop"):
                    made = made.drop(item["proposals"], item["stage"])
                else:
                    ids, stage = item["proposals"], item["stage"]
                    made = made.edit(ids, item["box"], item["feature"], stage)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise LabError(f"The explorer sent a change that cannot be read ({error}).") from error
        return made

    def _with(self, change: Change) -> Intervention:
        return replace(self, changes=(*self.changes, change))


def as_ids(proposals: Ids) -> tuple[int, ...]:
    """Ids as a tuple, each once. Raises LabError for anything but whole numbers, such as a mask."""
    try:
        given = torch.as_tensor(proposals).flatten()
        if given.dtype != torch.bool:
            return tuple(dict.fromkeys(map(operator.index, given.tolist())))
    except (TypeError, ValueError, RuntimeError):
        pass
    raise LabError(f"Proposals are named by whole numbers, found {proposals!r}.")


def check_ids(proposals: Sequence[int], left: Sequence[int], there: Sequence[int]) -> None:
    """Raises LabError unless all are ``left`` of the proposals that were ``there`` at first."""
    for proposal in proposals:
        if proposal not in left:
            dropped = proposal in there
            why = "was dropped" if dropped else f"does not exist; there are {len(left)}"
            raise LabError(f"Proposal {proposal} {why}. Choose one of session.proposals.")


def _box(box: Tensor | Sequence[float]) -> Box:
    try:
        values = torch.as_tensor(box, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if values.shape != (4,) or not values.isfinite().all():
        raise LabError(
            f"A box is four finite numbers (left, top, right, bottom, in pixels), found {box!r}."
        )
    x1, y1, x2, y2 = values.tolist()
    if x2 <= x1 or y2 <= y1:
        raise LabError(
            f"The box {x1:g}, {y1:g}, {x2:g}, {y2:g} has no area; right must be larger than left "
            "and bottom larger than top."
        )
    return x1, y1, x2, y2


def _check_overlap(box: Box, size: tuple[int, int]) -> None:
    height, width = size
    x1, y1, x2, y2 = box
    too_far = x1 < -width or y1 < -height or x2 > 2 * width or y2 > 2 * height
    whole = torch.tensor([0.0, 0.0, width, height])
    if too_far or box_ops.intersection(torch.tensor(box), whole) <= 0:
        raise LabError(
            f"The box {x1:g}, {y1:g}, {x2:g}, {y2:g} lies outside the image of {width}x{height} "
            "px. It must overlap the image and reach no further than its own size beyond."
        )


def _feature(
    feature: Tensor | Sequence[float] | str | None,
) -> tuple[float, ...] | Literal["zero"] | None:
    # Checked for text first, since an array compares item by item.
    if feature is None or (isinstance(feature, str) and feature == "zero"):
        return feature  # type: ignore[return-value]
    try:
        return tuple(torch.as_tensor(feature, dtype=torch.float32).detach().flatten().tolist())
    except (TypeError, ValueError, RuntimeError):
        raise LabError(f'A feature is D numbers or "zero", found {feature!r}.') from None


def _check_feature(values: Tensor, dim: int) -> None:
    if values.shape != (dim,) or not values.isfinite().all():
        odd = "" if values.isfinite().all() else ", some of them NaN or infinity"
        raise LabError(
            f"A feature of this model is {dim} finite numbers, found {len(values)}{odd}."
        )


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
