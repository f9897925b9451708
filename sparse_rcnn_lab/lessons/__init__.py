"""What the notebooks use beside the package's own parts: so that no cell holds more than a call."""

from sparse_rcnn_lab.lessons.charts import bars, lines, stage_lines
from sparse_rcnn_lab.lessons.controls import dial
from sparse_rcnn_lab.lessons.duplicates import count_duplicates, suppressed
from sparse_rcnn_lab.lessons.live import LiveTraining
from sparse_rcnn_lab.lessons.matching import costs, losses, matching_game, push
from sparse_rcnn_lab.lessons.setting import example, is_fast, pick, workspace
from sparse_rcnn_lab.lessons.start import with_start
from sparse_rcnn_lab.lessons.walk import StageWalk

__all__ = [
    "LiveTraining",
    "StageWalk",
    "bars",
    "costs",
    "count_duplicates",
    "dial",
    "example",
    "is_fast",
    "lines",
    "losses",
    "matching_game",
    "pick",
    "push",
    "stage_lines",
    "suppressed",
    "with_start",
    "workspace",
]
