"""Other ways to compute the model: folded, in fewer bits, on an engine; and exported files.

A runtime wraps a :class:`sparse_rcnn_lab.core.model.SparseRCNN`, which knows nothing of it, and
offers its two calls: ``pyramid(images)`` and ``run_stages(...)``.

======================  ===========================================================
``choose``              which runtime a name stands for, and the rule of "auto"
``torch_runtime``       ``Runtime``, the common protocol; ``TorchRuntime``: eager, folded, compiled;
                        the number of threads that a model computes on
``engine_runtime``      pyramid and stages in an engine, everything else in torch
``engines``             ONNX Runtime and OpenVINO behind one call
``onnx_graphs``         pyramid and stages as ONNX graphs, written by ``graph_writer``
``int8``                a pyramid's graph in 8 bits
``cache_folder``        where files are kept that can be created again
``folding``             batch norm folded into convolutions, for inference and training
``for_training``        makes training faster without changing what is learned
``gather``              pooling's weighted sums with a faster backward pass
``export``              ONNX and torch.export
======================  ===========================================================

This room may import ``core``; ``export`` may also import ``detect``.
"""
