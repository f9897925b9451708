"""Models by name: what ships with the package, run folders, and checkpoint files."""

from __future__ import annotations

from pathlib import Path

import torch

from sparse_rcnn_lab.checkpoint import read_checkpoint
from sparse_rcnn_lab.detector import Detector
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.training.run_folder import MODEL_FILE, RunFolder

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))


def load(name: str | Path, device: str | torch.device = "cpu") -> Detector:
    """A detector by name or path.

    name: a shipped model (:func:`shipped_models`), a run folder, or a checkpoint file: our
        safetensors, or a ``.pth`` of mmdetection or the authors.
    Raises LabError, saying what was found and what is possible, when there is no such model.
    """
    checkpoint = read_checkpoint(locate(name))
    detector = Detector(
        checkpoint.build(), checkpoint.class_names, checkpoint.name, dict(checkpoint.info)
    )
    return detector.to(device)


def locate(name: str | Path) -> Path:
    """The checkpoint file that :func:`load` would read. Raises LabError when there is none."""
    if str(name) in shipped_models():
        return CHECKPOINTS / f"{name}.safetensors"
    path = Path(name)
    if path.is_dir():
        if (path / MODEL_FILE).exists():
            return path / MODEL_FILE
        states = RunFolder(path).states()
        if states:
            return states[-1][1] / MODEL_FILE
        raise LabError(
            f'"{path}" is a folder without "{MODEL_FILE}". Expected a run folder that training '
            "wrote, after its first checkpoint."
        )
    if path.is_file():
        return path
    raise LabError(
        f'There is no model "{name}". Shipped models: {", ".join(shipped_models()) or "none"}; or '
        "give a run folder or a checkpoint file."
    )
