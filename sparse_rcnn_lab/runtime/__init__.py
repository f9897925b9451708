"""Other ways to the model's numbers: folded, in fewer bits, compiled; and files for other runtimes.

A runtime wraps a :class:`sparse_rcnn_lab.core.model.SparseRCNN`, which knows nothing of it, and
offers its two calls: ``pyramid(images)`` and ``run_stages(...)``.

======================  ===========================================================
``torch_runtime``       ``Runtime``, what all offer; ``TorchRuntime``: eager, folded, compiled
``folding``             batch norm folded into convolutions, for inference and training
``for_training``        what makes training faster without changing what is learned
``gather``              pooling's weighted sums with a faster backward pass
``threads``             how many threads a model computes on
``export``              ONNX and torch.export
======================  ===========================================================

May import: core. ``export`` may import detect, too.
"""
