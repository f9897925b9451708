"""Complete states: all that a resumed run needs to go on exactly where another one stopped.

``model.safetensors``    the weights
``optimizer.pt``         the optimizer's moments
``average.safetensors``  the weights' moving average, where there is one
``scaler.json``          the gradient scale of fp16, where it is used

What is random depends on the seed and the step alone, so a state holds no random numbers and may be
resumed on any number of processes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.models.checkpoint import read_checkpoint, save_checkpoint
from sparse_rcnn_lab.training.ema import WeightAverage
from sparse_rcnn_lab.training.run_folder import MODEL_FILE, RunFolder, read_json
from sparse_rcnn_lab.training.update import Training

OPTIMIZER_FILE = "optimizer.pt"
AVERAGE_FILE = "average.safetensors"
SCALER_FILE = "scaler.json"


def save_state(folder: RunFolder, training: Training, names: tuple[str, ...], step: int) -> None:
    """Writes the state after ``step`` steps, whole or not at all. Raises LabError."""
    temporary = folder.begin_state(step)
    model, average, scaler = training.model, training.average, training.mixed.scaler
    save_checkpoint(temporary / MODEL_FILE, model, names, folder.path.name)
    with write_whole(temporary / OPTIMIZER_FILE) as file:
        torch.save(training.optimizer.state_dict(), file)
    if average is not None:
        info = {"updates": average.updates}
        path = temporary / AVERAGE_FILE
        save_checkpoint(path, model, names, folder.path.name, info, state=average.state)
    if scaler.is_enabled():
        write_text(temporary / SCALER_FILE, json.dumps(scaler.state_dict()))
    folder.finish_state(temporary, step)


def load_state(state: Path, training: Training, device: torch.device) -> None:
    """Puts a state into model, optimizer, average and scaler. Raises LabError when it is damaged.

    What the state lacks, because the setting is new, starts afresh.
    """
    try:
        checkpoint = read_checkpoint(state / MODEL_FILE)
        moments = torch.load(state / OPTIMIZER_FILE, map_location=device, weights_only=True)
        averaged = None
        if (state / AVERAGE_FILE).exists():
            averaged = read_checkpoint(state / AVERAGE_FILE)
        scale = read_json(state / SCALER_FILE) if (state / SCALER_FILE).exists() else None
    except Exception as error:  # a damaged pickle can raise anything
        raise LabError(
            f'The checkpoint "{state}" is damaged ({str(error).splitlines()[0]}). Delete that '
            "folder and resume again: the run goes on from the checkpoint before it."
        ) from error
    training.model.load_state_dict(dict(checkpoint.state))
    training.optimizer.load_state_dict(moments)
    if training.recipe.train.ema:
        training.average = WeightAverage(training.model, training.recipe.train.ema)
        if averaged is not None:
            training.average.load(averaged.state, int(averaged.info["updates"]))
    if scale is not None and training.mixed.scaler.is_enabled():
        training.mixed.scaler.load_state_dict(scale)
