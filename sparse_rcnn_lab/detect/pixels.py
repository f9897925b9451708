"""Arrays, tensors and unusual pixel formats to 8-bit RGB, where their meaning is beyond doubt."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError


def over_white(image: Image.Image) -> Image.Image:
    """An RGBA image as it looks on white paper, RGB."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def grey_to_8_bits(grey: np.ndarray, name: str) -> np.ndarray:
    """``[H, W]`` of 16 bits, or float in 0..1, to uint8: the high byte, as Pillow reads colour.

    Raises :class:`LabError` for a range whose brightness is anybody's guess.
    """
    low, high = grey.min(), grey.max()
    if grey.dtype.kind in "iu" and low >= 0 and high <= 65535:
        return (grey.astype(np.uint16) >> 8).astype(np.uint8)
    if grey.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(grey * 255).astype(np.uint8)
    raise LabError(
        f'"{name}" holds {grey.dtype} values from {low} to {high}, whose brightness is unknown. '
        "Scale them to 8 bits (0..255) first."
    )


def array_to_rgb(array: np.ndarray, name: str) -> Tensor:
    """``[H, W]``, ``[H, W, 1]``, RGB ``[H, W, 3]`` or RGBA to ``[3, H, W]`` uint8, a copy."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " This looks like [3, H, W]: use array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint = " For a batch give a list of images."
        raise LabError(f"An image array is [H, W, 3] in RGB; found {name}.{hint}")
    if array.size == 0:
        raise LabError(f"An image needs at least one pixel; found {name}.")
    array = _array_to_uint8(array, name)
    if array.shape[2] == 4:
        array = np.array(over_white(Image.fromarray(np.ascontiguousarray(array))))
    elif array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def _array_to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(array * 255).astype(np.uint8)
    raise LabError(
        f"An image holds uint8 (0..255) or float (0..1); found {name} of {array.dtype} from "
        f"{low} to {high}. Convert it with .astype(np.uint8) if its values are 0..255."
    )


def tensor_to_rgb(tensor: Tensor, name: str) -> Tensor:
    """``[3, H, W]`` or ``[1, H, W]``, uint8 or float in 0..1, to ``[3, H, W]`` uint8 on the CPU."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        hint = ""
        if tensor.ndim == 3 and tensor.shape[2] in (1, 3):
            hint = " This looks like [H, W, 3]: use tensor.permute(2, 0, 1)."
        elif tensor.ndim == 4:
            hint = " For a batch give a list of images."
        raise LabError(f"An image tensor is [3, H, W] in RGB; found {name}.{hint}")
    if tensor.numel() == 0:
        raise LabError(f"An image needs at least one pixel; found {name}.")
    tensor = tensor.detach().cpu().as_subclass(Tensor)
    if tensor.dtype.is_floating_point:
        low, high = tensor.min().item(), tensor.max().item()
        if not (low >= 0 and high <= 1):
            raise LabError(
                f"A float image holds values in 0..1; found {name} from {low:.4g} to {high:.4g}. "
                "Give it before any normalisation, or as uint8."
            )
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise LabError(
            f"An image tensor is uint8 (0..255) or float (0..1); found {name} of {tensor.dtype}. "
            "Use .to(torch.uint8) if its values are 0..255."
        )
    return (tensor if tensor.shape[0] == 3 else tensor.expand(3, -1, -1)).contiguous()
