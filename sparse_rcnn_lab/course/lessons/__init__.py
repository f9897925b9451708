"""What the lessons (``notebooks/``) use beside the package's own parts.

So that no cell holds more than a call. Public names: those in ``__all__``. May import any room but
``app`` and ``cli``.

- ``lesson_setup``: fast mode, example images, a folder to work in, models, the text of a module
- ``lesson_charts``: small charts, figures under sliders
- ``stage_walk``, ``matching_lesson``, ``live_training``: what lessons 3, 4 and 5 look at
- ``notebook_files``, ``lesson_pages``: notebooks from scripts, run, and as pages to read
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
