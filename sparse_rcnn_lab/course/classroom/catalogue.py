"""The four assignments: name, title, what they take."""

from __future__ import annotations

from dataclasses import dataclass

from sparse_rcnn_lab.core.errors import LabError


@dataclass(frozen=True)
class Assignment:
    """One assignment. name: its folder and notebook.  minutes: for a student, (from, to)."""

    name: str
    source: str
    title: str
    minutes: tuple[int, int]


ASSIGNMENTS = (
    Assignment("boxes", "1_boxes.py", "Boxes", (60, 90)),
    Assignment("matching", "2_matching.py", "Matching and the set loss", (75, 120)),
    Assignment("stage", "3_stage.py", "A stage from its parts", (90, 120)),
    Assignment("experiment", "4_experiment.py", "An experiment of your own", (75, 120)),
)


def chosen(names: list[str] | None) -> tuple[Assignment, ...]:
    """The assignments called so, in the order of the course; None or empty: all of them.

    Raises LabError for a name that there is not.
    """
    known = [assignment.name for assignment in ASSIGNMENTS]
    for name in names or ():
        if name not in known:
            raise LabError(f'There is no assignment "{name}". Choose from {", ".join(known)}.')
    return tuple(a for a in ASSIGNMENTS if not names or a.name in names)
