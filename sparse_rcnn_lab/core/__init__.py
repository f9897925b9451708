"""The paper: Sparse R-CNN (arXiv 2011.12450), to be read from top to bottom in one sitting.

Read ``boxes``, ``config``, ``backbone``, ``pooling``, ``stage`` and ``model`` first, then
``inputs``, ``matching``, ``losses`` and ``train``. ``trace`` and ``detections`` hold what the model
computed and found; ``errors`` says what is wrong with an argument.

This room imports torch, torchvision, numpy and scipy, and nothing else of the package except the
data that ``train.main`` trains on. Faster ways to run the model are in ``runtime``.
"""
