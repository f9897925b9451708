"""Matplotlib figures, of a trace and of analyses' tables: for pages, slides and papers.

Each is one call on a trace or a table and gives a figure of its own (not one of pyplot's), whose
text says what is seen: ``.savefig("name.png")`` (or ``.pdf``, ``.svg``), or the last line of a
notebook cell. Proposals are named by id. :mod:`sparse_rcnn_lab.views.draw` is the fast one.
"""

from sparse_rcnn_lab.views.figures.attention import attention_map, attention_matrix
from sparse_rcnn_lab.views.figures.cost import cost_matrix
from sparse_rcnn_lab.views.figures.curves import iou_curves, score_curves
from sparse_rcnn_lab.views.figures.features import feature_pca, similarity
from sparse_rcnn_lab.views.figures.over_training import (
    initialisation_curves,
    instability_curves,
    match_frames,
)
from sparse_rcnn_lab.views.figures.panels import detection_panels, trace_panels
from sparse_rcnn_lab.views.figures.proposal_pages import proposal_overview, proposal_page
from sparse_rcnn_lab.views.figures.proposals import learned_boxes
from sparse_rcnn_lab.views.figures.roi import filter_effect, roi_grid
from sparse_rcnn_lab.views.figures.stage_errors import gallery, outcome_stages
from sparse_rcnn_lab.views.figures.stage_grid import stage_grid
from sparse_rcnn_lab.views.figures.trade_offs import (
    ablation_bars,
    ap_curves,
    readout_matrices,
    trade_off,
)
from sparse_rcnn_lab.views.figures.trails import box_trails

__all__ = [
    "ablation_bars",
    "ap_curves",
    "attention_map",
    "attention_matrix",
    "box_trails",
    "cost_matrix",
    "detection_panels",
    "feature_pca",
    "filter_effect",
    "gallery",
    "initialisation_curves",
    "instability_curves",
    "iou_curves",
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
