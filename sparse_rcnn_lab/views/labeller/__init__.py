"""The labeller: draw and name boxes, accept proposals; ``srl.label`` and the app's tab Teach.

One ECMAScript module (``js/``, with parts of the explorer's) serves both; ``label`` is the
notebook's side.
"""
