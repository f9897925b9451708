"""Models by name: those shipped with the package, the published ones, run folders and files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.models import releases as weights
from sparse_rcnn_lab.models.checkpoint import MODEL_FILE, read_checkpoint
from sparse_rcnn_lab.models.config_edit import with_changes
from sparse_rcnn_lab.runtime.choose import InferencePrecision, RuntimeName

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def shipped_models() -> list[str]:
    """The names of the models that ship with the package.

    >>> shipped_models()
    ['nano-shapes', 'small-cards', 'small-cells', 'small-everyday']
    """
    return sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))


def load(
    name: str | Path,
    device: str | torch.device | None = "cpu",
    *,
    runtime: RuntimeName = "folded",
    precision: InferencePrecision = "float32",
    overlap_attention: float | None = None,
) -> Detector:
    """Loads a detector by name or path.

    name: a shipped model (:func:`shipped_models`), one of the five published COCO models
        (:data:`sparse_rcnn_lab.models.releases.RELEASES`: "r50_3x_300", ...), downloaded at
        first use, a run folder, or a checkpoint file: our safetensors, or a ``.pth`` of
        mmdetection or the authors. A model's name has priority over a folder of that name, which
        is given as ``"./name"``.
    device: "cpu", "cuda", ...; None or "auto" is the GPU where there is one.
    runtime: "auto" is the fastest one installed, on a CPU ONNX Runtime or OpenVINO; "folded" and
        "eager" are torch; :meth:`Detector.with_runtime` describes them all.
    precision: "bf16" is faster and keeps 8 significant bits, "auto" is bf16 where the hardware
        supports it, "int8" needs an engine.
    overlap_attention: replaces the model's own value
        (:class:`~sparse_rcnn_lab.core.config.ModelConfig`); no weights depend on it.
    Raises LabError, saying what was found and what is possible, when there is no such model or
    device, or the weights cannot be downloaded.

    >>> load("nano-shapes")
    Detector('nano-shapes', nano, 20 proposals, 6 classes, folded float32)
    """
    device = pick_device(device)
    path = locate(name)
    checkpoint = read_checkpoint(path)
    if overlap_attention is not None:
        config = with_changes(checkpoint.config, overlap_attention=overlap_attention)
        checkpoint = replace(checkpoint, config=config)
    info = {**weights.about(path), **checkpoint.info}
    detector = Detector(checkpoint.build(), checkpoint.class_names, checkpoint.name, info)
    detector.to(device)
    plain = (runtime, precision) == ("folded", "float32")
    return detector if plain else detector.with_runtime(runtime, precision)


def locate(name: str | Path) -> Path:
    """The checkpoint file that :func:`load` would read. Raises LabError when there is none.

    Downloads a published model that is not in the cache yet.
    """
    if str(name) in shipped_models():
        return CHECKPOINTS / f"{name}.safetensors"
    if str(name) in weights.RELEASES:
        return weights.fetch(str(name))
    if not isinstance(name, str | os.PathLike):
        raise LabError(f"A model is given by its name or path, found {name!r:.80}.")
    path = Path(name)
    if path.is_dir():
        if (path / MODEL_FILE).exists():
            return path / MODEL_FILE
        states = run_states(path)
        if states:
            return states[-1][1] / MODEL_FILE
        raise LabError(
            f'"{path}" is a folder without "{MODEL_FILE}". Expected a run folder that training '
            "wrote, after its first checkpoint."
        )
    if path.is_file():
        return path
    raise LabError(
        f'There is no model "{name}". Shipped models: {", ".join(shipped_models()) or "none"}; '
        f"published ones: {', '.join(weights.RELEASES)}; or give a run folder or a checkpoint file."
    )


def run_states(run: Path) -> list[tuple[int, Path]]:
    """The complete states in a run folder as (steps done, folder), oldest first."""
    found = []
    for folder in (run / "checkpoints").glob("step_*"):
        number = folder.name.removeprefix("step_")
        if number.isdigit():
            found.append((int(number), folder))
    return sorted(found)
