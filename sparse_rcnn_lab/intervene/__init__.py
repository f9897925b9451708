"""One image is run again with edits, and the run is compared with the one before.

Public names: :class:`Session` (keeps an image's pyramid and runs the stages again),
:class:`Intervention` (what a person changes: boxes, features, dropped proposals, an ablation),
:func:`trace_diff` and :class:`TraceDiff` (the comparison).

This room may import ``core``, ``detect`` and ``models``.
"""
