"""Matplotlib figures, of a trace and of analyses' tables: for pages, slides and papers.

Each is one call on a trace or a table and gives a figure of its own (not one of pyplot's), whose
text says what is seen: ``.savefig("name.png")`` (or ``.pdf``, ``.svg``), or the last line of a
notebook cell. Proposals are named by id. :mod:`sparse_rcnn_lab.views.draw` is the fast one.
"""

from sparse_rcnn_lab.views.figures.ap_curves import dial_curves
from sparse_rcnn_lab.views.figures.attention import attention_map, attention_matrix
from sparse_rcnn_lab.views.figures.cost import cost_matrix
from sparse_rcnn_lab.views.figures.curves import iou_curves, score_curves
from sparse_rcnn_lab.views.figures.features import feature_pca, similarity
from sparse_rcnn_lab.views.figures.over_training import flip_curves, match_film, start_curves
from sparse_rcnn_lab.views.figures.panels import detection_panels, trace_panels
from sparse_rcnn_lab.views.figures.proposal_pages import career_overview, career_page
from sparse_rcnn_lab.views.figures.proposals import learned_boxes
from sparse_rcnn_lab.views.figures.readout_matrices import lens_matrices
from sparse_rcnn_lab.views.figures.roi import filter_effect, roi_grid
from sparse_rcnn_lab.views.figures.stage_errors import gallery, verdict_stages
from sparse_rcnn_lab.views.figures.stage_grid import stage_grid
from sparse_rcnn_lab.views.figures.trade_offs import switch_bars, trade_off
from sparse_rcnn_lab.views.figures.trails import box_trails

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
