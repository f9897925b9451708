"""Damaged files, wrong fields and odd numbers: each is read, or refused with a LabError.

``make test`` tries 50 of each; ``SPARSE_RCNN_LAB_FUZZ=20000 pytest tests/endurance/test_fuzz.py``
searches for long.
"""

import contextlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from app_models import checkpoint
from fuzzing import changed_bytes, changed_fields, joined, many, parts_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_model import small_batch, small_model

from sparse_rcnn_lab import Detector, LabError, load_trace, save_trace
from sparse_rcnn_lab.app.user_inputs import Limits, read_frame
from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.data.coco.annotations import read_coco_json
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.models.checkpoint import read_checkpoint

COCO = {
    "images": [
        {"id": 4, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 9, "file_name": "b.png", "height": 30, "width": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 2, "bbox": [1, 2, 10, 12], "area": 120,
         "iscrowd": 0, "segmentation": [[1, 2, 11, 2, 11, 14]]},
        {"id": 2, "image_id": 9, "category_id": 7, "bbox": [0, 0, 30, 30], "iscrowd": 1},
    ],
    "categories": [{"id": 2, "name": "ace"}, {"id": 7, "name": "king"}],
}  # fmt: skip

number = st.floats(-1e4, 1e4, width=32)
side = st.floats(2**-6, 1e4, width=32)
box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], number, number, side, side)
several = st.lists(box, min_size=1, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def detector():
    return Detector(small_model(), ["a", "b", "c"])


@pytest.fixture(scope="module")
def trace_file(folder, detector):
    images, _ = small_batch(1)
    path = save_trace(detector.trace(images[0].sigmoid()), folder / "whole.npz")
    return path, path.read_bytes()


@pytest.fixture(scope="module")
def weights(folder):
    content = Path(checkpoint(folder)).read_bytes()
    return content, *parts_of(content)


def refused_or(read, path, content):
    """Reads it; None when it was refused in words."""
    path.write_bytes(content)
    try:
        return read(path)
    except LabError as error:
        assert path.name in str(error) or len(str(error)) > 20
        return None


@many
@given(st.data())
def test_traces(folder, trace_file, data):
    """Catches a damaged trace that is read as another one's shapes, or ends in a traceback."""
    path, content = trace_file
    damaged = data.draw(changed_bytes(content))
    found = refused_or(load_trace, folder / f"damaged{path.suffix}", damaged)
    if found is not None:
        assert found.boxes.shape[:2] == found.features.shape[:2]
        found.detections()


@many
@given(st.data())
def test_checkpoints(folder, weights, data):
    """Catches a damaged checkpoint that is read, or ends in a traceback."""
    content, header, tensors = weights
    if data.draw(st.booleans()):
        damaged = data.draw(changed_bytes(content))
    else:
        damaged = joined(data.draw(changed_fields(header)), tensors)
    found = refused_or(read_checkpoint, folder / "damaged.safetensors", damaged)
    if found is not None:
        assert len(found.class_names) == found.config.num_classes


@many
@given(st.data())
def test_what_a_checkpoint_says_of_its_model(folder, weights, data):
    """Catches a header that builds a model of absurd size, or none, with a traceback."""
    _, header, tensors = weights
    told = json.loads(header["__metadata__"]["model"])
    told["info"] = {}
    changed = data.draw(changed_fields(told))
    metadata = {**header["__metadata__"], "model": json.dumps(changed)}
    content = joined({**header, "__metadata__": metadata}, tensors)
    found = refused_or(read_checkpoint, folder / "told.safetensors", content)
    if found is not None:
        with contextlib.suppress(LabError):
            found.build()


@many
@given(st.data())
def test_coco_json(folder, data):
    """Catches a json that ends in a traceback, or gives boxes that no training can use."""
    text = json.dumps(data.draw(changed_fields(COCO))).encode("utf-8", "surrogatepass")
    if data.draw(st.integers(0, 3)) == 0:
        text = data.draw(changed_bytes(text))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = refused_or(read_coco_json, folder / "damaged.json", text)
    if found is not None:
        assert np.isfinite(found.boxes_xywh).all() and (found.boxes_xywh[:, 2:] > 0).all()
        assert found.starts[-1] == len(found.labels)
        assert (found.labels < len(found.class_names)).all()
        assert not any(".." in name or name.startswith("/") for name in found.file_names)


@many
@given(st.data())
def test_images(folder, detector, data):
    """Catches an image that Pillow half reads, or that ends in a traceback."""
    plain = io.BytesIO()
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    Image.new("RGB", (20, 14), (200, 30, 90)).save(plain, kind)
    damaged = data.draw(changed_bytes(plain.getvalue()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused_or(lambda path: detector.prepare([path]), folder / f"p.{kind.lower()}", damaged)


_words = st.sampled_from(
    ["train", "evaluate", "predict", "trace", "pack", "benchmark", "export", "models", "analyse",
     "classroom", "--data", "--out", "--model", "--threshold", "--steps", "--set", "train.lr=x",
     "model.dim=-1", "augment=", "=", "--proposals", "-1", "0", "1e999", "nan", "nothing", "",
     "--resume", "--seed", "--device", "tpu", "--precision", "bf8", "--", "-h", "--version", "\0"]
)  # fmt: skip


@many
@given(st.lists(_words | st.text(max_size=6), max_size=6))
def test_the_command_line(folder, words):
    """Catches arguments that end in a traceback, or that start something in spite of an error."""
    words = [word for word in words if word not in ("train", "benchmark", "classroom", "analyse")]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as left:
            code = left.code
    assert code in (0, 1, 2, None), words
    assert "Traceback" not in err.getvalue()


SIZED = {"size": (48, 48)}
PUBLISHED = {"short_sides": (32, 64), "long_side": 96}
SETTINGS = (
    SIZED,
    {**SIZED, "hflip": 1.0, "hue": 0.5},
    {**SIZED, "scale": (0.3, 2.0), "min_side": 0.0, "min_visible": 0.0},
    PUBLISHED,
    {**PUBLISHED, "crop": 1.0, "crop_short_sides": (24, 40), "crop_size": (8, 40)},
)


@many
@given(
    several,
    st.integers(0, 2**31),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(SETTINGS),
)
def test_augmented_boxes_stay_inside(a, seed, height, width, settings):
    """Catches a transform that moves a box out of its image, or loses its label."""
    corners = torch.tensor(a).abs() % torch.tensor([width, height, width, height])
    corners = corners.view(-1, 2, 2)
    inside = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    sample = Sample(image, inside, torch.arange(len(inside)), 0, "drawn")
    moved = Augment(AugmentConfig(**settings), True)(sample, seed)
    h, w = moved.image.shape[-2:]
    assert len(moved.boxes) == len(moved.labels) <= len(a)
    assert (moved.boxes >= 0).all() and (moved.boxes[:, 2:] >= moved.boxes[:, :2]).all()
    assert (moved.boxes[:, 2] <= w).all() and (moved.boxes[:, 3] <= h).all()


@many
@given(st.data())
def test_what_an_app_is_sent(data):
    """Catches a frame of a webcam that ends in a traceback."""
    plain = io.BytesIO()
    Image.new("RGB", (20, 14), (200, 30, 90)).save(plain, "JPEG")
    frame = data.draw(changed_bytes(plain.getvalue()) | st.binary(max_size=40))
    with contextlib.suppress(LabError):
        assert read_frame(frame, Limits()).shape[0] == 3
