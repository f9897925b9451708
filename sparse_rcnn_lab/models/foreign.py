"""Reads named tensors from other people's weight files, without executing anything in them."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sparse_rcnn_lab.core.config import InputConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.file_type import describe_file

# The message of torch's restricted unpickler when a file asks for something other than tensors.
_UNSAFE = re.compile(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)")
# What trainings keep beside their tensors: a log, times, arguments. Each is replaced by a stand-in.
_IGNORED_OBJECTS = (
    "argparse.Namespace",
    "datetime.datetime",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.ndarray",
    "numpy.dtype",
    *(
        f"numpy.{core}.multiarray.{f}"
        for core in ("core", "_core")
        for f in ("_reconstruct", "scalar")
    ),
    *(f"pathlib{m}.{kind}Path" for m in ("", "._local") for kind in ("Posix", "Windows")),
)
_WRAPPERS = ("state_dict", "model", "model_state_dict")
# Prefixes that DataParallel, torch.compile and a trainer's own module put before the names.
_PREFIXES = re.compile(r"^(?:(?:module|_orig_mod|model)\.)+|(?<=\.)(?:module|_orig_mod)\.")
# Stored beside the weights: the copy that an averaging hook keeps, and the image normalisation.
_BESIDE = re.compile(r"ema_|data_preprocessor\.")


class _Ignored:
    """Stands for an object that no model needs: its code does not run, its data is dropped."""

    def __new__(cls, *arguments: Any) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_weights(path: Path) -> tuple[dict[str, Any], Any]:
    """The named tensors of a torch or safetensors file, and its ``meta`` entry.

    Wrappers and prefixes are removed; averaged copies and normalisation beside the weights are
    left out, with a warning. Other entries are kept: the caller knows whether they are needed.

    Raises LabError when there is no such file, when it is something else, cut short or without
    named tensors, or could only be read by executing code.
    """
    if not path.is_file():
        raise LabError(f'There is no checkpoint file "{path}".')
    content = _load(path)
    meta = content.get("meta", {}) if isinstance(content, dict) else {}
    while isinstance(content, dict):
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if inner is None or isinstance(inner, torch.Tensor):
            break
        content = inner
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise LabError(
            f'"{path}" does not hold named tensors: it contains a {type(content).__name__}, not a '
            "state dict."
        )
    state: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for key, value in content.items():
        name = _PREFIXES.sub("", key)
        kept = beside if _BESIDE.match(name) else state
        if name in kept:
            raise LabError(
                f'"{path}" has two tensors for "{name}", one of them as "{key}". Save the state '
                "dict of one model alone."
            )
        kept[name] = value
    if beside:
        _tell(path, beside)
    return state, meta


def _tell(path: Path, beside: dict[str, Any]) -> None:
    """Warns about what was left out, and about a normalisation other than ours."""
    kinds = Counter(_BESIDE.match(key)[0] for key in beside)  # type: ignore[index]
    said = ", ".join(f"{count} {kind}*" for kind, count in kinds.items())
    text = f'"{path.name}": left out what the model does not need ({said}).'
    for part in ("mean", "std"):
        value, ours = beside.get(f"data_preprocessor.{part}"), getattr(InputConfig(), part)
        found = value.flatten().tolist() if isinstance(value, torch.Tensor) else list(ours)
        if len(found) != 3 or any(abs(a - b) > 0.01 for a, b in zip(found, ours, strict=True)):
            text += (
                f" It was trained on images with another normalisation ({part} {found}; here "
                f"{list(ours)}), so its results may be worse here."
            )
    warnings.warn(text, stacklevel=4)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise not_whole(path, "safetensors file") from error
    try:
        with torch.serialization.safe_globals([(_Ignored, name) for name in _IGNORED_OBJECTS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        if found := _UNSAFE.search(str(error)):
            raise LabError(
                f'"{path}" is not a plain file of tensors: reading it would mean running code from '
                f"it ({found[1]}), which is refused. Save its state dict alone; for a training "
                "checkpoint of mmdetection its tools/model_converters/publish_model.py does that."
            ) from error
        raise not_whole(path, "checkpoint") from error


def not_whole(path: Path, kind: str) -> LabError:
    """The error for a file that is not a ``kind`` ("checkpoint"), by what it is instead."""
    found = describe_file(path)
    advice = "Was the copy or download cut short? Fetch it again."
    if found in ("ZIP archive", "an unknown format", "a Python pickle of torch"):
        found = "damaged content"
    elif found.startswith("a Git LFS pointer"):
        advice = "`git lfs pull` fetches the file."
    elif found.startswith("HTML"):
        advice = "Open its address in a browser, and take the link of the file itself."
    elif found == "a Python pickle":
        advice = (
            "Pickles of arrays, as detectron2's model zoo has them (.pkl), are not read; take the "
            ".pth, or save the arrays as tensors with torch.save."
        )
    return LabError(f'"{path}" is not a whole {kind} (found: {found}). {advice}')
