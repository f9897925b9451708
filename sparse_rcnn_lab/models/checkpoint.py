"""Reading and writing models: one safetensors file holds weights, config and class names.

Published ``.pth`` files of mmdetection and of the authors are recognised by their keys and read
too, without executing anything in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparse_rcnn_lab.core.config import ModelConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.detect.files import write_tensors
from sparse_rcnn_lab.models import layouts as published
from sparse_rcnn_lab.models.config_edit import from_dict, to_dict
from sparse_rcnn_lab.models.foreign import not_whole, read_weights

FORMAT = "sparse_rcnn_lab.model"
MODEL_FILE = "model.safetensors"  # the file of a run folder with the model to use


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    state: the state dict, float32.  info: what else is known of it (recipe, AP, sources).
    """

    config: ModelConfig
    state: Mapping[str, Tensor]
    class_names: tuple[str, ...]
    name: str
    info: Mapping[str, Any] = field(default_factory=dict)

    @torch.inference_mode(False)  # tensors made in inference mode could never be trained
    def build(self) -> SparseRCNN:
        """The model with these weights, in eval mode on the CPU.

        Raises LabError, naming the first tensor that is missing, surplus or of another shape.
        """
        self._check_sizes()
        model = SparseRCNN(self.config).float()
        own = model.state_dict()
        missing = [key for key in own if key not in self.state]
        # Files written by old torch versions lack this counter, which eval mode does not use.
        missing = [key for key in missing if not key.endswith("num_batches_tracked")]
        extra = [key for key in self.state if key not in own]
        if missing or extra:
            what = f'"{missing[0]}" is missing' if missing else f'"{extra[0]}" is left over'
            raise LabError(
                f"{self.name}: the weights do not fit the model ({what}; {len(missing)} missing, "
                f"{len(extra)} left over in all). Is the file complete, and of this architecture?"
            )
        for key, value in own.items():
            if key in self.state:
                self._check_shape(key, tuple(value.shape))
        model.load_state_dict(dict(self.state), strict=False)
        return model.eval()

    def _check_sizes(self) -> None:
        """Checks sizes before anything is built: a damaged header might ask for too much memory."""
        c = self.config
        first, last = "stages.0.", f"stages.{c.num_stages - 1}."
        sizes: dict[str, tuple[int, ...]] = {
            "proposals.features": (c.num_proposals, c.dim),
            f"{last}ffn_in.weight": (c.ffn_dim, c.dim),
            f"{last}classify.weight": (c.num_classes, c.dim),
            f"{first}interaction.generate.weight": (2 * c.dim * c.dynamic_dim, c.dim),
            f"{first}interaction.project.weight": (c.dim, c.roi_size**2 * c.dim),
        }
        for tower, layers in (("cls_tower", c.num_cls_layers), ("reg_tower", c.num_reg_layers)):
            if layers:  # each of three modules, the second of which is a norm with weights
                sizes[f"{first}{tower}.{3 * layers - 2}.weight"] = (c.dim,)
        for key, shape in sizes.items():
            self._check_shape(key, shape)

    def _check_shape(self, key: str, shape: tuple[int, ...]) -> None:
        if key not in self.state:
            raise LabError(
                f'{self.name}: the weights do not fit the model ("{key}" is missing). Is the file '
                "complete, and of this architecture?"
            )
        found = tuple(self.state[key].shape)
        if found != shape:
            raise LabError(
                f"{self.name}: {key} has shape {list(found)}, the model needs {list(shape)}. The "
                f"file belongs to another configuration ({self.config.num_classes} classes, "
                f"{self.config.num_proposals} proposals were expected)."
            )


def save_checkpoint(
    path: str | Path,
    model: SparseRCNN,
    class_names: tuple[str, ...],
    name: str,
    info: Mapping[str, Any] | None = None,
    half: bool = False,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes a model whole or not at all.

    half: store bfloat16, which has the range of float32 at half the size, for shipping.
    state: weights to write in place of the model's own, for example their average.

    Raises LabError when the class names do not fit the model or the file cannot be written.

    >>> import tempfile
    >>> from sparse_rcnn_lab.models.load import load
    >>> detector = load("nano-shapes")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.safetensors")
    ...     _ = save_checkpoint(file, detector.model, detector.class_names, "mine")
    ...     read_checkpoint(file).name
    'mine'
    """
    if len(class_names) != model.config.num_classes:
        raise LabError(
            f"The model has {model.config.num_classes} classes, but {len(class_names)} names were "
            "given."
        )
    tensors = {}
    for key, value in (model.state_dict() if state is None else state).items():
        value = value.detach().cpu().contiguous()
        tensors[key] = value.bfloat16() if half and value.is_floating_point() else value.clone()
    header = {
        "config": to_dict(model.config),
        "class_names": list(class_names),
        "name": name,
        "info": dict(info or {}),
    }
    path = Path(path)
    write_tensors(path, tensors, {"format": FORMAT, "model": json.dumps(header)})
    return path


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads our safetensors files and the two published layouts (``.pth`` or safetensors).

    In a published file, wrappers around the weights are removed, and what is stored beside them
    (averaged copies, for example) is left out with a warning.

    Raises LabError when the file is missing, cut short, not a checkpoint, or could only be read by
    executing code.

    >>> from sparse_rcnn_lab.models.load import locate
    >>> read_checkpoint(locate("nano-shapes")).class_names[:3]
    ('circle', 'square', 'triangle')
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f'There is no checkpoint file "{path}".')
    if path.suffix == ".safetensors":
        return _read_own(path)
    return _read_published(path)


def _read_own(path: Path) -> Checkpoint:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise not_whole(path, "safetensors file") from error
    if metadata.get("format") != FORMAT:
        return _read_published(path)
    try:
        header = json.loads(metadata["model"])
        config = from_dict(ModelConfig, header["config"])
        names = tuple(header["class_names"])
        name, info = header["name"], header["info"]
    except LabError as error:
        raise LabError(f'"{path}": {error}') from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise LabError(f'"{path}": the header is damaged ({error!r}).') from error
    if len(names) != config.num_classes:
        raise LabError(
            f'"{path}" names {len(names)} classes, but its model has {config.num_classes}.'
        )
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return Checkpoint(config, state, names, name, info)


def _read_published(path: Path) -> Checkpoint:
    content, meta = read_weights(path)
    layout = published.recognise(set(content))
    if layout is None:
        raise LabError(
            f'"{path}" is not Sparse R-CNN in a known layout (first key {next(iter(content), "")!r}'
            "). Known are this package's safetensors, mmdetection's and the authors' checkpoints."
        )
    try:
        for key, value in content.items():
            if not isinstance(value, Tensor):
                raise LabError(f"{key} is not a tensor.")
        state = published.rename(content, layout)
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        config = published.infer_config(state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(f'"{path}": {error}') from error
    names = _class_names(meta, config.num_classes)
    return Checkpoint(config, state, names, path.stem, {"source": f"{layout} layout, {path.name}"})


def _class_names(meta: Any, num_classes: int) -> tuple[str, ...]:
    """The class names in a published file (mmdetection 2.x and 3.x), or COCO's, or numbers."""
    found = None
    if isinstance(meta, dict):
        new_style = meta.get("dataset_meta")
        found = meta.get("CLASSES") or (isinstance(new_style, dict) and new_style.get("classes"))
    if isinstance(found, str):  # a comma forgotten: ("dog")
        found = [found]
    if not isinstance(found, list | tuple) or len(found) != num_classes:
        coco = published.COCO_CLASSES
        found = coco if num_classes == len(coco) else [f"class {i}" for i in range(num_classes)]
    return tuple(str(name) for name in found)
