"""One image, edited and run again, and what that changed.

Public names: :class:`Session` (keeps an image's pyramid and runs the stages again),
:class:`Intervention` (what a person changes: boxes, features, dropped proposals, an ablation),
:func:`trace_diff` and :class:`TraceDiff` (before and after).

May import ``core``, ``detect`` and ``models``.
"""
