"""Matplotlib figures, of a trace and of analyses' tables: for pages, slides and papers.

Each is one call on a trace or a table and gives a figure of its own (not one of pyplot's), whose
text says what is seen: ``.savefig("name.png")`` (or ``.pdf``, ``.svg``), or the last line of a
notebook cell. Proposals are named by id. :mod:`sparse_rcnn_lab.views.draw` is the fast one.

Arguments that many of them share:

- ``proposals``: ids to show or name; default those that end with a score of ``threshold`` (0..1),
  at most 12.
- ``chosen``: a proposal (id) to draw in the accent colour.
- ``stage``: 1..S, default the last.
- ``width``: of the figure, 2 to 100 inches, at 160 dpi.  ``theme``: a "light" or "dark" page.
- ``title``: in place of the usual one.

May import ``core``, ``analysis`` and the rest of ``views``, never a model: a figure can be drawn
from a file that somebody sent.
"""

from sparse_rcnn_lab.views.figures.box_figures import box_trails, learned_boxes, stage_grid
from sparse_rcnn_lab.views.figures.careers import career_overview, career_page
from sparse_rcnn_lab.views.figures.curves import feature_pca, iou_curves, score_curves
from sparse_rcnn_lab.views.figures.dials import dial_curves
from sparse_rcnn_lab.views.figures.lens import lens_matrices
from sparse_rcnn_lab.views.figures.matrices import attention_matrix, cost_matrix, similarity
from sparse_rcnn_lab.views.figures.panels import detection_panels, trace_panels
from sparse_rcnn_lab.views.figures.stage_figures import attention_map, filter_effect, roi_grid
from sparse_rcnn_lab.views.figures.trade import switch_bars, trade_off
from sparse_rcnn_lab.views.figures.training import flip_curves, match_film, start_curves
from sparse_rcnn_lab.views.figures.verdicts import gallery, verdict_stages

__all__ = [
    "attention_map",
    "attention_matrix",
    "box_trails",
    "career_overview",
    "career_page",
    "cost_matrix",
    "detection_panels",
    "dial_curves",
    "feature_pca",
    "filter_effect",
    "flip_curves",
    "gallery",
    "iou_curves",
    "learned_boxes",
    "lens_matrices",
    "match_film",
    "roi_grid",
    "score_curves",
    "similarity",
    "stage_grid",
    "start_curves",
    "switch_bars",
    "trace_panels",
    "trade_off",
    "verdict_stages",
]
