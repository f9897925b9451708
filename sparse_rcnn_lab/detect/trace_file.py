"""Saves a trace as one file, and loads it again."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.files import write_tensors

FORMAT, VERSION = "sparse_rcnn_lab.trace", "1"


def save_trace(trace: Trace, path: str | Path, *, image: bool = True) -> Path:
    """Writes a trace, without loss, to one safetensors file, by convention named ``.trace``.

    image: False leaves the image out, for a photograph that may not be passed on.
    Returns the path. Raises LabError where the file cannot be written.

    >>> import tempfile, torch, sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(torch.zeros(3, 96, 128))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     srl.load_trace(srl.save_trace(trace, f"{folder}/one.trace"))
    <Trace: nano-shapes, 20 proposals, 6 stages, 6 classes, 128x96 px>
    """
    if not isinstance(trace, Trace):
        raise LabError(f"save_trace needs one Trace, found {trace!r:.80}.")
    tensors, plain = {}, {}
    for f in fields(trace):
        value = getattr(trace, f.name)
        if f.name == "image" and not image:
            continue
        if isinstance(value, Tensor):
            tensors[f.name] = value.detach().cpu().clone().contiguous()
        elif value is not None:
            plain[f.name] = value
    metadata = {"format": FORMAT, "version": VERSION, "trace": json.dumps(plain)}
    path = Path(path)
    write_tensors(path, tensors, metadata)
    return path


def load_trace(path: str | Path) -> Trace:
    """Reads a trace that :func:`save_trace` wrote; its example shows both.

    Raises LabError when the file is not a whole trace.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise LabError(f'"{path}" holds tensors, but not a trace. Write one with save_trace.')
        if metadata.get("version") != VERSION:
            raise LabError(
                f'"{path}" is a trace of format {metadata.get("version")}, but this package reads '
                f"{VERSION}. Update sparse_rcnn_lab, or record the trace again."
            )
        plain = json.loads(metadata["trace"])
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return Trace(**tensors, **plain)
    except FileNotFoundError:
        raise LabError(f'There is no file "{path}".') from None
    except LabError as error:
        if str(path) in str(error):
            raise
        raise LabError(f'"{path}" is not a whole trace file: {error}') from None
    except (
        SafetensorError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise LabError(
            f'"{path}" is not a whole trace file ({error}). Record it again with trace().'
        ) from error
