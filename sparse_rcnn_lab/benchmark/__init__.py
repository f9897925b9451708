"""Where the time goes: each part of inference and of a training step, with two poolings.

``training_speed`` instead trains as training does: images a second, memory, loss curve.

Both poolings run in the same model, with the same weights, in turn, so that a busy machine slows
both alike. With one thread on a CPU the process's own time counts, which other programs hardly
change; with more threads, or on a GPU, it is the time on the wall.
"""

from sparse_rcnn_lab.benchmark.runner import Settings, run_benchmark
from sparse_rcnn_lab.benchmark.training import TrainSettings, training_speed

__all__ = ["Settings", "TrainSettings", "run_benchmark", "training_speed"]
