"""Other ways to the model's numbers: folded, in fewer bits, on an engine; and files for others.

A runtime wraps a :class:`sparse_rcnn_lab.core.model.SparseRCNN`, which knows nothing of it, and
offers its two calls: ``pyramid(images)`` and ``run_stages(...)``.

======================  ===========================================================
``choose``              which runtime a name stands for, and the rule of "auto"
``torch_runtime``       ``Runtime``, what all offer; ``TorchRuntime``: eager, folded, compiled;
                        how many threads a model computes on
``engine_runtime``      pyramid and stages in an engine, all else in torch
``engines``             ONNX Runtime and OpenVINO behind one call
``onnx_graphs``         pyramid and stages as ONNX graphs, written by ``graph_writer``
``int8``                a pyramid's graph in 8 bits
``cache_folder``        where files are kept that can be made again
``folding``             batch norm folded into convolutions, for inference and training
``for_training``        what makes training faster without changing what is learned
``gather``              pooling's weighted sums with a faster backward pass
``export``              ONNX and torch.export
======================  ===========================================================

May import: core. ``export`` may import detect, too.
"""
