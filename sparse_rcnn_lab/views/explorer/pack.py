"""Small forms of large things: arrays as base64 bytes, pictures as data URIs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.views.embed import data_uri, encoded

LONGEST = 960  # pixels; boxes stay in original pixels whatever the picture shrinks to
SMALL_ENOUGH = 256  # pixels; drawings of this size keep every pixel
PICTURE_BYTES = 75_000  # quality gives way before the page grows beyond what people mail


def array(values: np.ndarray) -> dict[str, Any]:
    """``{"type", "shape", "data"}``: little-endian bytes in base64; data.js reads it back."""
    values = np.ascontiguousarray(values)
    small = values.astype(values.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(small.tobytes()).decode("ascii")
    return {"type": values.dtype.name, "shape": list(values.shape), "data": data}


def share(values: Tensor, dtype: type[np.unsignedinteger] = np.uint8) -> dict[str, Any]:
    """Numbers 0..1 as whole numbers 0..max of ``dtype``; what is not a number becomes 0."""
    top = np.iinfo(dtype).max
    known = np.nan_to_num(values.double().numpy(), nan=0.0)
    return array((known.clip(0, 1) * top).round().astype(dtype))


def signed_share(values: Tensor) -> dict[str, Any]:
    """Numbers -1..1 as int8 -127..127; what is not a number becomes 0."""
    known = np.nan_to_num(values.double().numpy(), nan=0.0)
    return array((known.clip(-1, 1) * 127).round().astype(np.int8))


def picture(image: Tensor) -> str:
    """``[3, H, W]`` uint8 RGB -> a data URI: PNG where small, else JPEG of at most 960 px."""
    shown = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    if max(shown.size) <= SMALL_ENOUGH:
        return data_uri(encoded(shown, "PNG", optimize=True), "png")
    longest = min(LONGEST, max(shown.size))
    while True:
        small = _shrunk(shown, longest)
        for quality in (85, 75, 65, 50):
            data = encoded(small, "JPEG", quality=quality, optimize=True)
            if len(data) <= PICTURE_BYTES:
                return data_uri(data)
        longest = round(longest * 0.8)  # a picture of noise


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    if max(image.size) <= longest:
        return image
    width, height = (max(1, round(side * longest / max(image.size))) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
