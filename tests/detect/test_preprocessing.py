"""The model's input equals the reference pipeline's: OpenCV's bytes, then normalised and padded.

The expected pixels were made by OpenCV; tests/data/preprocessing/SOURCE.md says how.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import CLASSES, small_model
from torch import Tensor

from sparse_rcnn_lab import CocoFolder, Detector
from sparse_rcnn_lab.core.config import AugmentConfig, InputConfig, TrainConfig
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.images import (
    normalise,
    normalise_and_pad,
    pad_images,
    read_image,
    resize_as_opencv,
    resize_image,
    resize_to,
)
from sparse_rcnn_lab.training.loader import train_loader

HERE = Path(__file__).parents[1]
OPENCV = dict(np.load(HERE / "data" / "preprocessing" / "opencv.npz"))
RESIZED = [name for name in OPENCV if "x" in name]
PHOTO = HERE.parent / "sparse_rcnn_lab" / "data" / "examples" / "cells_1.jpg"

# What the published models were trained with (SparseR-CNN configs of mmdetection 3.3.0).
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def channels_first(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def by_hand(pixels: np.ndarray) -> np.ndarray:
    """``[h, w, 3]`` RGB -> ``[3, H, W]`` float64, normalised, zeros up to multiples of 32."""
    h, w = pixels.shape[:2]
    padded = np.zeros((3, -(-h // 32) * 32, -(-w // 32) * 32))
    padded[:, :h, :w] = ((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    return padded


@pytest.mark.parametrize("name", RESIZED)
def test_resized_photographs_are_opencvs_byte_for_byte(name):
    """Catches antialiasing, corner-aligned sampling, another rounding of values or of sizes."""
    photograph, _, sides = name.rpartition("_")
    short, long = map(int, sides.split("x"))
    image = channels_first(OPENCV[f"{photograph}_source"])
    assert torch.equal(resize_image(image, short, long), channels_first(OPENCV[name]))


@pytest.mark.parametrize("sizes", [(1, 1, 5, 7), (1, 9, 4, 4), (5, 1, 3, 3), (2, 2, 9, 1)])
def test_a_single_row_or_column_is_resized(sizes):
    """Catches an index past the border, where there is no neighbour to mix with."""
    h, w, high, wide = sizes
    image = torch.arange(3 * h * w, dtype=torch.uint8).view(3, h, w) * 7
    result = resize_as_opencv(image, (high, wide))
    assert result.shape == (3, high, wide)
    assert image.min() <= result.min() and result.max() <= image.max()
    constant = torch.full((3, h, w), 201, dtype=torch.uint8)
    assert (resize_as_opencv(constant, (high, wide)) == 201).all()


def test_part_of_a_resized_image_is_that_part():
    """Catches a crop that is resized by itself, with its own borders and another grid."""
    image = channels_first(OPENCV["cards_1_source"])
    whole = resize_to(image, (100, 171))
    for top, left, height, width in [(0, 0, 100, 171), (13, 40, 50, 60), (99, 170, 1, 1)]:
        part = resize_as_opencv(image, (100, 171), (top, left, height, width))
        assert torch.equal(part, whole[:, top : top + height, left : left + width])


def test_the_detectors_input_from_file_to_tensor():
    """Catches BGR, statistics of 0..1, padding before normalising, and any other resize."""
    model = small_model(input=InputConfig(short_side=80, long_side=1333))
    batch = Detector(model, [str(i) for i in range(CLASSES)]).prepare([PHOTO])
    expected = by_hand(OPENCV["file_cells_1_80"])
    assert batch.images.shape == (1, 3, 96, 128) and batch.sizes.tolist() == [[80, 107]]
    np.testing.assert_allclose(batch.images[0].numpy(), expected, atol=1e-6)
    # A swap of red and blue would be seen: it is far from what was expected.
    swapped = by_hand(OPENCV["file_cells_1_80"][:, :, ::-1])
    assert np.abs(swapped - expected).mean() > 0.1


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # said where there is no GPU
@pytest.mark.parametrize("pin_memory", [False, True])
def test_the_training_input_from_file_to_tensor(tmp_path, pin_memory):
    """Catches a training that sees other pixels than the detector, on the CPU or for a GPU."""
    document = {
        "images": [{"id": 1, "file_name": PHOTO.name, "width": 640, "height": 480}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [64, 48, 320, 240]}],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(document))
    data = CocoFolder(tmp_path / "train.json", images=PHOTO.parent)
    augment = Augment(AugmentConfig(hflip=0.0, short_sides=(80,)))
    loader = train_loader(
        data, augment, TrainConfig(batch_size=1), InputConfig(), 0, 1, 0, pin_memory
    )
    made = next(iter(loader))
    batch = made.to(torch.device("cpu"))
    assert made.images.dtype == (torch.uint8 if pin_memory else torch.float32)
    expected = by_hand(OPENCV["file_cells_1_80"])
    np.testing.assert_allclose(batch.images[0].numpy(), expected, atol=1e-6)
    assert batch.targets.sizes.tolist() == [[80, 107]]
    scale = 107 / 640, 80 / 480
    box = torch.tensor([64 * scale[0], 48 * scale[1], 384 * scale[0], 288 * scale[1]])
    torch.testing.assert_close(batch.targets.boxes[0, 0], box)


def test_normalising_on_the_other_side_gives_the_same_bits():
    """Catches a GPU's batch that is padded, or rounded, in another way than a CPU's."""
    images = [read_image(OPENCV["cards_1_source"]), read_image(OPENCV["cards_2_source"])]
    together, sizes = normalise_and_pad(images, MEAN, STD)
    raw, raw_sizes = pad_images(images)
    assert raw.dtype == torch.uint8 and torch.equal(raw_sizes, sizes)
    assert raw[0, :, 63:].sum() == 0 and raw[1, :, :, 105:].sum() == 0
    assert torch.equal(normalise(raw, raw_sizes, MEAN, STD), together)
    assert together[0, :, 63:].abs().sum() == 0 and together[1, :, :, 105:].abs().sum() == 0
