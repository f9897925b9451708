"""The paper: Sparse R-CNN (arXiv 2011.12450), to be read from top to bottom in one sitting.

In order: ``boxes``, ``config``, ``backbone``, ``pooling``, ``stage``, ``model``; ``inputs``,
``matching``, ``losses``, ``train``; and what a run is looked at through: ``trace``, ``detections``.
``errors`` say what is wrong with an argument.

Imports torch, torchvision, numpy, scipy, and nothing else of the package (but what ``train.main``
trains on). Ways to run the model faster are in ``runtime``.
"""
