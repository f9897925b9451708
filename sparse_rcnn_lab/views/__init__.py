"""Views of what the detector did: images, figures, films and pages, all drawn from a trace.

Public names: those of :mod:`~sparse_rcnn_lab.views.figures` (matplotlib) and
:mod:`~sparse_rcnn_lab.views.plotly_figures`; ``draw_detections`` in
:mod:`~sparse_rcnn_lab.views.draw` (fast); ``save_film`` in :mod:`~sparse_rcnn_lab.views.film`;
:mod:`~sparse_rcnn_lab.views.explorer`.  Colours and lines of all of them are in
:mod:`~sparse_rcnn_lab.views.style`.

This room may import ``core``, ``detect``, ``data``, ``analysis`` and ``intervene``; the explorer
also ``models``.
"""
