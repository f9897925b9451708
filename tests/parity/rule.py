"""The rule that re-creates the reference weights, pictures and objects from names and shapes.

No weights are stored: each tensor is a function of its mmdetection key and shape, from the raw
bits of numpy's PCG64, which are the same on every machine. ``data/keys_*.json`` has the crc32 of
every tensor, so a slip here is caught before any output is compared.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"
NUM_CLASSES = 80
CASES = {"A": (7, 3), "B": (5, 0), "C": (0, 0), "D": (120, 2)}  # objects in each picture


@dataclass(frozen=True)
class Picture:
    """Which picture, its (height, width), and those of the original it stands for."""

    index: int
    size: tuple[int, int]
    original: tuple[int, int]


PICTURES = (Picture(0, (421, 597), (842, 1194)), Picture(1, (288, 352), (432, 528)))


def read_json(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def read_arrays(name: str) -> Any:
    return np.load(DATA / f"{name}.npz")


def _uniform(name: str, count: int) -> np.ndarray:
    """``count`` float64 in [0, 1) from the generator seeded by the name."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(count)
    return (bits >> np.uint64(11)) * 2.0**-53


def _gain(name: str) -> float:
    """Standard deviation of a convolution's or linear layer's weight, times sqrt(fan in)."""
    if name.startswith("backbone."):
        return 1.0 if ".downsample." in name else math.sqrt(2.0)
    for end, gain in (("fc_cls", 2.0), ("fc_reg", 0.4), ("dynamic_layer", 0.125)):
        if name.endswith(f"{end}.weight"):
            return gain
    return 1.0


def tensor(name: str, shape: list[int]) -> np.ndarray:
    """The value of mmdetection's ``name``: float32, or int64 for the batch counter."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    unit = _uniform(name, math.prod(shape))
    spread = (2.0 * unit - 1.0) * math.sqrt(3.0)  # mean 0, variance 1
    vector = len(shape) == 1
    if name.endswith("running_var"):
        value = 0.5 + unit
    elif name.endswith("running_mean"):
        value = 0.1 * spread
    elif name == "rpn_head.init_proposal_bboxes.weight":
        value = 0.1 + 0.8 * unit
    elif name == "rpn_head.init_proposal_features.weight":
        value = spread
    elif vector and name.endswith(".weight"):  # scale of a batch or layer norm
        last_of_block = name.startswith("backbone.") and ".bn3." in name
        value = (0.8 + 0.4 * unit) * (0.25 if last_of_block else 1.0)
    elif name.endswith("fc_cls.bias"):
        value = -3.0 + 0.5 * spread
    elif vector:
        value = 0.05 * spread
    else:
        value = _gain(name) / math.sqrt(math.prod(shape[1:])) * spread
    return value.reshape(shape).astype(np.float32)


def weights(model: str) -> dict[str, np.ndarray]:
    """mmdetection's state dict of ``model`` ("r50_100", ...), each tensor checked by its crc32."""
    state = {}
    for entry in read_json(f"keys_mmdet_{model}"):
        value = tensor(entry["key"], entry["shape"])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        assert zlib.crc32(little) == entry["crc32"], entry["key"]
        state[entry["key"]] = value
    return state


def as_authors(state: dict[str, np.ndarray], model: str) -> dict[str, np.ndarray]:
    """The same weights under the names of the authors' files."""
    names = read_json("keymap_official_to_mmdet")
    return {
        entry["key"]: state[names[entry["key"]]] for entry in read_json(f"keys_official_{model}")
    }


def _random(state: int) -> Iterator[int]:
    """The upper bits of a linear congruential generator."""
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield state >> 8


def _triangle(values: np.ndarray) -> np.ndarray:
    """A wave 0, 1, .. 255, 255, .. 1, 0 of period 512."""
    phase = np.mod(values, 512)
    return np.minimum(phase, 511 - phase)


def image(picture: Picture) -> np.ndarray:
    """``[H, W, 3]`` uint8 RGB: waves, curves, tiles, and six plain rectangles."""
    k, (height, width) = picture.index, picture.size
    y, x = np.mgrid[:height, :width].astype(np.int64)
    tile_x, tile_y = x // 16, y // 16
    channels = []
    for c in range(3):
        waves = (
            (3 + k) * x + (2 * c + 1) * y + 67 * c + 31 * k,
            7 * x - (5 + k) * y + 101 * (c + k),
            (x**2 + y**2 * (c + 1)) // (64 + 16 * k),
            (97 * tile_x + 61 * tile_y + 13 * tile_x * tile_y) * (c + 2 + k),
        )
        channels.append(sum(_triangle(wave) for wave in waves) // 4)
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    draw = _random(12345 + 777 * k)
    for _ in range(6):
        top, left = next(draw) % (height * 3 // 4), next(draw) % (width * 3 // 4)
        h, w = 8 + next(draw) % (height // 3), 8 + next(draw) % (width // 3)
        pixels[top : top + h, left : left + w] = [next(draw) % 256 for _ in range(3)]
    return pixels


def objects(case: str, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``[M, 4]`` float32 xyxy and labels ``[M]`` int64 of a picture in a training case."""
    height, width = picture.size
    draw = _random(99991 + 7919 * (10 * "ABCD".index(case) + picture.index))
    boxes, labels = [], []
    for _ in range(CASES[case][picture.index]):
        w, h = 12 + next(draw) % (width * 2 // 3), 12 + next(draw) % (height * 2 // 3)
        x, y = next(draw) % (width - w + 1), next(draw) % (height - h + 1)
        boxes.append([x + 0.25, y + 0.5, x + w - 0.25, y + h - 0.5])
        labels.append(next(draw) % NUM_CLASSES)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)
