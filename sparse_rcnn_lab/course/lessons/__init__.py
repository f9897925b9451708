"""What the notebooks use beside the package's own parts: so that no cell holds more than a call."""

from sparse_rcnn_lab.course.lessons.charts import bars, lines, stage_lines, surface
from sparse_rcnn_lab.course.lessons.controls import dial
from sparse_rcnn_lab.course.lessons.duplicates import count_duplicates, suppressed
from sparse_rcnn_lab.course.lessons.live import LiveTraining
from sparse_rcnn_lab.course.lessons.matching import costs, losses, matching_game, push
from sparse_rcnn_lab.course.lessons.published import load_published, table_of_models
from sparse_rcnn_lab.course.lessons.setting import copy_of_boards, example, is_fast, pick, workspace
from sparse_rcnn_lab.course.lessons.start import with_start
from sparse_rcnn_lab.course.lessons.tuning import input_of, samples, shipped
from sparse_rcnn_lab.course.lessons.walk import StageWalk

__all__ = [
    "LiveTraining",
    "StageWalk",
    "bars",
    "copy_of_boards",
    "costs",
    "count_duplicates",
    "dial",
    "example",
    "input_of",
    "is_fast",
    "lines",
    "load_published",
    "losses",
    "matching_game",
    "pick",
    "push",
    "samples",
    "shipped",
    "stage_lines",
    "suppressed",
    "surface",
    "table_of_models",
    "with_start",
    "workspace",
]
