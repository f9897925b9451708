"""Matplotlib figures of a trace and of the tables of analyses, for pages, slides and papers.

Each is one call on a trace or a table and returns a figure of its own (not one of pyplot's), whose
text says what it shows. Save it with ``.savefig("name.png")`` (or ``.pdf``, ``.svg``), or make it
the last line of a notebook cell. Proposals are named by id. :mod:`sparse_rcnn_lab.views.draw` is a
fast alternative.

Arguments that many of them share:

- ``proposals``: ids to show or name; default: those that end with a score of ``threshold`` (0..1),
  at most 12.
- ``chosen``: a proposal (id) to draw in the accent colour.
- ``stage``: 1..S; default: the last.
- ``width``: the figure's width, 2 to 100 inches at 160 dpi; some figures need more than 2.
- ``theme``: "light" or "dark".  ``title``: replaces the usual title.

This room may import ``core``, ``analysis`` and the rest of ``views``, but never a model: a figure
can be drawn from a file that somebody sent.
"""

from sparse_rcnn_lab.views.figures.box_figures import box_trails, learned_boxes, stage_grid
from sparse_rcnn_lab.views.figures.curves import feature_pca, score_curves
from sparse_rcnn_lab.views.figures.matrices import cost_matrix, similarity
from sparse_rcnn_lab.views.figures.panels import detection_panels, match_frames, trace_panels
from sparse_rcnn_lab.views.figures.proposal_pages import proposal_overview, proposal_page
from sparse_rcnn_lab.views.figures.stage_errors import gallery, outcome_stages
from sparse_rcnn_lab.views.figures.stage_figures import attention_map, filter_effect, roi_grid
from sparse_rcnn_lab.views.figures.trade_offs import (
    ablation_bars,
    ap_curves,
    readout_matrices,
    trade_off,
)

__all__ = [
    "ablation_bars",
    "ap_curves",
    "attention_map",
    "box_trails",
    "cost_matrix",
    "detection_panels",
    "feature_pca",
    "filter_effect",
    "gallery",
    "learned_boxes",
    "match_frames",
    "outcome_stages",
    "proposal_overview",
    "proposal_page",
    "readout_matrices",
    "roi_grid",
    "score_curves",
    "similarity",
    "stage_grid",
    "trace_panels",
    "trade_off",
]
