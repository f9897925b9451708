"""What the detector did, to look at: images, figures, films, pages; all of them views of a trace.

Public names: those of :mod:`~sparse_rcnn_lab.views.figures` (matplotlib) and
:mod:`~sparse_rcnn_lab.views.plotly_figures`; ``draw_detections`` in
:mod:`~sparse_rcnn_lab.views.draw` (fast); ``save_film`` in :mod:`~sparse_rcnn_lab.views.film`;
:mod:`~sparse_rcnn_lab.views.explorer`.  The one visual language of all is
:mod:`~sparse_rcnn_lab.views.style`.

May import ``core``, ``detect``, ``data``, ``analysis`` and ``intervene``; the explorer ``models``.
"""
