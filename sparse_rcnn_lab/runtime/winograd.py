"""Winograd's 3x3 convolution, F(4x4, 3x3): 36 multiplications where the direct one needs 144.

After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). An
output tile of 4x4 pixels reads a tile of 6x6; in transformed space the convolution is 36 matrix
products, one a position. On a CPU in float32, where products are what costs time, it is 1.5 to 1.9
times as fast as oneDNN's direct convolution from 256 channels on; rounding is about ten times
larger (5e-5 where values are about 6), still far below what moves a box by 0.01 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 4
MIN_CHANNELS = 256
# Tiles worked on at once for each thread: few enough that what they make stays in the cache.
_CHUNK = 96

# The transforms of input, weights and output along one axis (the paper's B^T, G and A^T).
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Winograd:
    """A 3x3 convolution with stride 1, padding 1 and a bias, float32 on a CPU.

    weight: ``[K, C, 3, 3]``.  bias: ``[K]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        g = torch.tensor(_WEIGHT, dtype=torch.float64)
        spread = torch.einsum("ai,kcij,bj->abck", g, weight.double(), g)
        self.weight = spread.flatten(0, 1).float().contiguous()  # [36, C, K]
        self.bias = bias
        inward, outward = torch.tensor(_INPUT).float(), torch.tensor(_OUTPUT).float()
        self.inward = torch.kron(inward, inward)  # [36, 36]: both axes in one product
        self.outward = torch.kron(outward, outward)  # [16, 36]

    def __call__(self, x: Tensor, relu: bool = False, out: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` channels last -> ``[B, K, H, W]`` channels last.

        out: where to write, ``[B, H, W, K]``; it need not be contiguous.
        """
        batch, _, height, width = x.shape
        _, channels, filters = self.weight.shape
        if out is None:
            out = x.new_empty(batch, height, width, filters)
        down, across = -(-height // TILE), -(-width // TILE)
        rows = min(down, max(1, round(_CHUNK * torch.get_num_threads() / across)))
        patch = x.new_empty(TILE * rows + 2, TILE * across + 2, channels)
        tiles = x.new_empty(36, rows * across * channels)
        spread = torch.empty_like(tiles)
        product = x.new_empty(36, rows * across, filters)
        result = x.new_empty(16, rows * across * filters)
        done = x.new_empty(TILE * rows, TILE * across, filters)
        pixels = x.permute(0, 2, 3, 1)
        for image in range(batch):
            for first in range(0, down, rows):
                top = TILE * first - 1
                _cut(pixels[image], top, patch)
                cut = patch.unfold(0, 6, TILE).unfold(1, 6, TILE).permute(3, 4, 0, 1, 2)
                tiles.view(cut.shape).copy_(cut)
                torch.mm(self.inward, tiles, out=spread)
                torch.bmm(spread.view(36, -1, channels), self.weight, out=product)
                torch.mm(self.outward, product.view(36, -1), out=result)
                inside = result.view(TILE, TILE, rows, across, filters).permute(2, 0, 3, 1, 4)
                torch.add(inside, self.bias, out=done.view(inside.shape))
                if relu:
                    done.relu_()
                bottom = min(height, TILE * (first + rows))
                out[image, top + 1 : bottom] = done[: bottom - top - 1, :width]
        return out.permute(0, 3, 1, 2)


def _cut(pixels: Tensor, top: int, patch: Tensor) -> None:
    """Copies rows from ``top`` on, starting a pixel left of the image; zero outside of it."""
    height, width, _ = pixels.shape
    start, stop = max(top, 0), min(top + len(patch), height)
    patch[:, 0] = 0
    patch[:, width + 1 :] = 0
    patch[: start - top] = 0
    patch[stop - top :] = 0
    patch[start - top : stop - top, 1 : width + 1] = pixels[start:stop]
