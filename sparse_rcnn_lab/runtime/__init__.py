"""Inference made fast: the same numbers, to rounding, in quicker ways.

``paths.py`` decides; ``folded_backbone.py`` folds batch norm away, writes the pooling's table
without a copy, and lets a convolution add and rectify; ``winograd.py`` spares multiplications.
"""
