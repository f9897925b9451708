"""Matplotlib figures of a trace: for pages, slides and papers.

Each is one call on a trace and gives a figure of its own (not one of pyplot's), whose text says
what is seen: ``.savefig("name.png")`` (or ``.pdf``, ``.svg``), or the last line of a notebook
cell. Proposals are named by id. :mod:`sparse_rcnn_lab.views.draw` is the fast one.
"""

from sparse_rcnn_lab.views.figures.attention import attention_map, attention_matrix
from sparse_rcnn_lab.views.figures.curves import iou_curves, score_curves
from sparse_rcnn_lab.views.figures.features import feature_pca, similarity
from sparse_rcnn_lab.views.figures.roi import filter_effect, roi_grid
from sparse_rcnn_lab.views.figures.stage_grid import stage_grid
from sparse_rcnn_lab.views.figures.trails import box_trails

__all__ = [
    "attention_map",
    "attention_matrix",
    "box_trails",
    "feature_pca",
    "filter_effect",
    "iou_curves",
    "roi_grid",
    "score_curves",
    "similarity",
    "stage_grid",
]
