"""The playground: a detector and the explorer in one html file that runs in a browser alone.

Public: :func:`~sparse_rcnn_lab.views.playground.playground_page.playground`. ``js/`` is its other
half, ``vendor/`` the runtime it carries (onnxruntime-web).

May import ``core``, ``data``, ``detect``, ``models``, ``runtime`` and the rest of ``views``.
"""
