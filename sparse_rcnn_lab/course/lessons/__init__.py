"""What the lessons (``notebooks/``) use besides the rest of the package.

With it no cell needs more than a call. Public names: those in ``__all__``. This room may import
every other one except ``app`` and ``cli``.

- ``lesson_setup``: fast mode, example images, a working folder, models, the source of a module
- ``lesson_charts``: small charts, figures with sliders
- ``stage_walk``, ``matching_lesson``, ``live_training``: the subjects of lessons 3, 4 and 5
- ``notebook_files``, ``lesson_pages``: make notebooks from scripts, run them, make pages of them
"""

from sparse_rcnn_lab.course.lessons.lesson_charts import bars, lines, sliders, stage_lines, surface
from sparse_rcnn_lab.course.lessons.lesson_setup import (
    copy_of_boards,
    example,
    is_fast,
    load_published,
    pick,
    samples,
    show_source,
    table_of_models,
    with_start,
    workspace,
)  # fmt: skip
from sparse_rcnn_lab.course.lessons.live_training import LiveTraining
from sparse_rcnn_lab.course.lessons.matching_lesson import (
    costs,
    count_duplicates,
    losses,
    matching_game,
    push,
    suppressed,
)  # fmt: skip
from sparse_rcnn_lab.course.lessons.stage_walk import StageWalk

__all__ = [
    "LiveTraining",
    "StageWalk",
    "bars",
    "copy_of_boards",
    "costs",
    "count_duplicates",
    "example",
    "is_fast",
    "lines",
    "load_published",
    "losses",
    "matching_game",
    "pick",
    "push",
    "samples",
    "show_source",
    "sliders",
    "stage_lines",
    "suppressed",
    "surface",
    "table_of_models",
    "with_start",
    "workspace",
]
