"""Benchmarks that are not installed: ``python -m benchmarks --help``, from the repository's top.

The parts of inference and of a training step with two poolings (``poolings``), other detectors on
the same image (``peers``), how time grows (``growth``), loading (``loading``), training in two
precisions (``training``), torchvision's Faster R-CNN trained on the same budget
(``python -m benchmarks.faster_rcnn``), and somebody's first session with the tab Teach
(``python -m benchmarks.newcomer``). May import anything; nobody imports it.

Both poolings run in the same model, with the same weights, in turn, so that a busy machine slows
both alike. With one thread on a CPU the process's own time counts, which other programs hardly
change; with more threads, or on a GPU, it is the time on the wall.
"""
