"""The explorer: every proposal through the stages, in a notebook or as one page; changes run again.

Public names: :func:`explore` and what it gives, :class:`Explorer`. ``js/`` is its other half.

May import ``core``, ``detect``, ``data``, ``intervene``, ``models`` and the rest of ``views``.
"""
