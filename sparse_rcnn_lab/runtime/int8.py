"""A pyramid's graph in 8 bits: weights and maps are rounded within ranges measured on images."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.runtime.cache_folder import cache_folder

_VERSION = "2"  # to be raised when the rounding changes
_quiet_lock = Lock()  # the switch for logging is global in the process


def in_int8(graph: Any, images: Sequence[Tensor]) -> bytes:
    """A pyramid's graph with its convolutions in int8, made once and kept in the cache folder.

    images: normalised, each ``[1, 3, H, W]``; the ranges of the maps are measured on them.
    Convolutions next to the pixels and those with one channel per filter stay float32, as there
    rounding costs most AP and saves little. Raises LabError without images, and where onnxruntime,
    which measures the ranges for other engines too, is missing.
    """
    if not images:
        raise LabError("int8 needs images to measure its ranges on, found none")
    try:
        tools: Any = import_module("onnxruntime.quantization")
    except ImportError as error:
        raise LabError("int8 needs onnxruntime, which is not installed") from error
    content: bytes = graph.SerializeToString()
    digest = hashlib.sha256(content)
    for image in images:
        digest.update(image.contiguous().numpy().tobytes())
    digest.update(_VERSION.encode())
    name = f"int8/{digest.hexdigest()[:32]}.onnx"
    with contextlib.suppress(OSError, LabError):
        return _without_checksum((cache_folder() / name).read_bytes())
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, made = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(content)
        tools.quantize_static(
            str(source),
            str(made),
            _Images(images),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_kept_in_float32(graph),
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
        small = made.read_bytes()
    with contextlib.suppress(OSError, LabError):  # without a cache it is made again next time
        kept = cache_folder() / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(hashlib.sha256(small).digest() + small)
        temporary.replace(kept)
    return small


def _without_checksum(file: bytes) -> bytes:
    """The content of a cached file. Raises OSError for a damaged one."""
    digest, content = file[:32], file[32:]
    if hashlib.sha256(content).digest() != digest:
        raise OSError("damaged")
    return content


def _kept_in_float32(graph: Any) -> list[str]:
    """The first third of the convolutions, and depthwise ones (as in MobileNetV2)."""
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    one_each = [
        node.name for node in convolutions for a in node.attribute if a.name == "group" and a.i > 1
    ]
    return one_each + [node.name for node in convolutions[: len(convolutions) // 3]]


class _Images:
    """A CalibrationDataReader for onnxruntime."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """The next inputs, or None after the last."""
        image = next(self._left, None)
        return None if image is None else {"images": image.contiguous().numpy()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides onnxruntime's messages, which are for its developers; one thread at a time."""
    with _quiet_lock:
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
