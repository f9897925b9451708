"""The playground: a detector and the explorer in one html file that needs nothing but a browser.

Public: :func:`~sparse_rcnn_lab.views.playground.playground_page.playground`. ``js/`` is its other
half, ``vendor/`` the runtime that it contains (onnxruntime-web).

This room may import ``core``, ``data``, ``detect``, ``models``, ``runtime`` and the rest of
``views``.
"""
