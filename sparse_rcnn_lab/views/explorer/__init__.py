"""The explorer: every proposal through the stages, in a notebook or as one page; edits run again.

Public names: :func:`explore` and its result, :class:`Explorer`. ``js/`` is its other half.

This room may import ``core``, ``detect``, ``data``, ``intervene``, ``models`` and the rest of
``views``.
"""
