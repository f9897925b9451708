"""Drawn shapes: the same pixels everywhere, boxes that fit, settings that do what they say."""

import math
import pickle
import zlib
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from sparse_rcnn_lab import LabError, Shapes
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.data.shapes import drawing
from sparse_rcnn_lab.data.shapes.dataset import CLASS_NAMES, PRESETS, Difficulty, shapes_image
from sparse_rcnn_lab.data.shapes.drawing import coverage

# Nothing but shapes on a plain ground: what a test needs to find them in the pixels.
PLAIN = Difficulty(
    min_objects=1,
    max_objects=1,
    outside=0.0,
    contrast=0.5,
    photo=0.0,
    texture=0.0,
    clutter=0.0,
    noise=0.0,
)


def checksum(data: Shapes, count: int) -> int:
    """CRC of the first images and boxes."""
    crc = 0
    for index in range(count):
        sample = data[index]
        crc = zlib.crc32(sample.image.numpy().tobytes(), crc)
        crc = zlib.crc32(sample.boxes.numpy().tobytes(), crc)
        crc = zlib.crc32(sample.labels.numpy().tobytes(), crc)
    return crc


@pytest.mark.parametrize(
    ("difficulty", "size", "expected"),
    [("easy", 128, 1939147225), ("normal", 128, 1352009124), ("hard", (96, 160), 3812222995)],
)
def test_pixels_are_pinned(difficulty, size, expected):
    """Catches any change of a pixel or box that does not raise VERSION (and other machines)."""
    assert checksum(Shapes(30, 3, size, difficulty), 30) == expected


def test_last_bit_of_the_maths_library_does_not_show(monkeypatch):
    """Catches geometry that reaches the pixels without being snapped to the grid."""
    data = Shapes(20, 11, 96)
    for index in range(20):
        for shape in data._layout(index).shapes:
            for points in [*shape.figure.body, *shape.figure.line, shape.figure.path]:
                assert np.array_equal(points * 256, np.round(points * 256))
    before = checksum(data, 20)
    for name in ("sin", "cos", "hypot"):
        exact = getattr(np, name)
        monkeypatch.setattr(np, name, lambda *a, f=exact: np.nextafter(f(*a), np.inf))
    for name in ("sin", "cos"):
        exact = getattr(math, name)
        monkeypatch.setattr(math, name, lambda a, f=exact: math.nextafter(f(a), math.inf))
    monkeypatch.setattr(drawing, "HEART", drawing._heart())
    monkeypatch.setattr(drawing, "CIRCLE", drawing._circle())
    assert checksum(data, 20) == before


def test_an_index_is_always_the_same_image():
    """Catches a generator whose state moves on from image to image, and an index that wraps."""
    data = Shapes(10, 5)
    first = data[7]
    for index in (2, 9):
        assert not torch.equal(data[index].image, first.image)
    for again in (data[7], data[-3], Shapes(2000, 5)[7], pickle.loads(pickle.dumps(data))[7]):
        assert torch.equal(again.image, first.image)
        assert torch.equal(again.boxes, first.boxes)
        assert torch.equal(again.labels, first.labels)
    assert not torch.equal(Shapes(10, 6)[7].image, first.image)
    assert torch.equal(shapes_image(5).image, data[0].image)
    assert [sample.image_id for sample in Shapes(3)] == [0, 1, 2]
    for index in (10, -11):
        with pytest.raises(IndexError):
            data[index]


def test_samples_have_the_promised_form():
    """Catches swapped height and width, wrong dtypes, boxes that leave the image, a [0] where
    [0, 4] is promised."""
    for sample in Shapes(40, 1, (64, 160), "hard"):
        assert sample.image.shape == (3, 64, 160) and sample.image.dtype == torch.uint8
        assert sample.boxes.dtype == torch.float32 and sample.boxes.shape == (len(sample.labels), 4)
        assert sample.labels.dtype == torch.int64 and int(sample.labels.max()) < len(CLASS_NAMES)
        assert torch.equal(box_ops.clip(sample.boxes, 64, 160), sample.boxes)
        assert float((sample.boxes[:, 2:] - sample.boxes[:, :2]).min()) > 2
    empty = Shapes(3, 0, 64, replace(PLAIN, min_objects=0, max_objects=0))
    assert empty[0].boxes.shape == (0, 4) and empty[0].labels.shape == (0,)
    assert empty.ground_truth()["annotations"] == []


def test_boxes_fit_the_pixels():
    """Catches boxes shifted by half a pixel, without the stroke's width, or of another object."""
    every = []
    for sample in Shapes(120, 2, 128, PLAIN):
        image = sample.image.numpy().astype(int)
        ground = image[:, 0, 0]
        if any((image[:, y, x] != ground).any() for y, x in ((0, -1), (-1, 0), (-1, -1))):
            continue  # a gradient: no plain ground to tell the shape from
        apart = np.abs(image - ground[:, None, None]).max(0)
        ys, xs = np.nonzero(apart > 40)
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        # How far the box reaches beyond what shows, on each side: a thin tip, or less than
        # nothing, for a pixel that is hit in part is lit as a whole, and some are blurred.
        beyond = (found - sample.boxes[0].numpy()) * (1, 1, -1, -1)
        assert beyond.min() > -2 and beyond.max() < 3, (sample.name, beyond)
        every.append(beyond)
    assert len(every) >= 30
    assert np.abs(np.median(every, axis=0)).max() < 0.35


def test_coverage_agrees_with_counting_points():
    """Catches mistakes of the rasteriser: wrong winding, pixels shifted, clipping at the window."""
    star = np.array([[20.0, 1], [31, 36], [2, 14], [38, 14.5], [9, 36]])
    star += np.array([0.3, -6.1])
    rings = [star, np.array([[25.0, 20], [45, 20.5], [45.5, 28], [26, 29]])]
    window = (4, 0, 36, 30)
    fine = 16
    x = (np.arange(32 * fine) + 0.5) / fine + window[0]
    y = (np.arange(30 * fine) + 0.5) / fine + window[1]
    winding = np.zeros((len(y), len(x)), dtype=int)
    for ring in rings:
        for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, 0), strict=True):
            crossed = (np.minimum(ya, yb) <= y) & (y < np.maximum(ya, yb))
            at = xa + (y - ya) * (xb - xa) / (yb - ya)
            winding += np.sign(yb - ya).astype(int) * (crossed[:, None] & (x >= at[:, None]))
    expected = (winding != 0).reshape(30, fine, 32, fine).mean((1, 3))
    got = coverage(rings, window)
    assert got.shape == (30, 32) and got.dtype == np.float32
    assert np.abs(got - expected).max() < 0.2
    assert np.abs(got - expected).mean() < 0.01


def test_ground_truth_agrees_with_the_samples():
    """Catches boxes as xyxy instead of xywh, labels off by one, an annotation id of 0, a caller's
    change to the dictionary (pycocotools adds fields) that stays behind, a class hardly drawn."""
    data = Shapes(25, 4, (96, 128), "hard")
    data.ground_truth()["annotations"][0]["category_id"] = 99
    truth = data.ground_truth()
    assert {a["category_id"] for a in truth["annotations"]} == set(data.category_ids())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    assert tuple(names[k] for k in data.category_ids()) == data.class_names == CLASS_NAMES
    assert [image["id"] for image in truth["images"]] == list(range(25))
    assert {(image["height"], image["width"]) for image in truth["images"]} == {(96, 128)}
    ids = [annotation["id"] for annotation in truth["annotations"]]
    assert min(ids) == 1 and len(set(ids)) == len(ids)
    for sample in data:
        mine = [a for a in truth["annotations"] if a["image_id"] == sample.image_id]
        boxes = box_ops.xywh_to_xyxy(torch.tensor([a["bbox"] for a in mine]).view(-1, 4))
        assert torch.allclose(boxes, sample.boxes, atol=1e-4)
        labels = [data.category_ids().index(a["category_id"]) for a in mine]
        assert labels == sample.labels.tolist()
        for annotation in mine:
            assert annotation["area"] == pytest.approx(math.prod(annotation["bbox"][2:]))


def test_ground_truth_of_some_lays_out_no_others(monkeypatch):
    """Catches an evaluation of ten images that lays out all hundred thousand first."""
    whole, some = Shapes(6).ground_truth(), Shapes(100_000).ground_truth(range(4))
    assert some["images"] == whole["images"][:4]
    assert some["annotations"] == [a for a in whole["annotations"] if a["image_id"] < 4]
    monkeypatch.setattr(Shapes, "_layout", lambda self, index: pytest.fail("laid out"))
    assert Shapes(100_000).ground_truth([])["annotations"] == []


def test_count_size_and_overlap_are_kept():
    """Catches settings that are ignored, or measured against the longer side of the image."""
    settings = replace(PRESETS["normal"], min_objects=2, max_objects=3, min_size=0.2, max_size=0.3)
    settings = replace(settings, overlap=0.0, outside=0.0)
    counts = set()
    for sample in Shapes(40, 8, (100, 140), settings):
        counts.add(len(sample.labels))
        longer = (sample.boxes[:, 2:] - sample.boxes[:, :2]).amax(1)
        assert float(longer.min()) > 18 and float(longer.max()) < 32
        shared = box_ops.iou(sample.boxes, sample.boxes)
        assert float(shared.fill_diagonal_(0).max()) == 0
    assert counts == {2, 3}


def test_no_shape_is_hidden_more_than_allowed():
    """Catches labels for shapes that lie under others, and boxes that ignore what hides them."""
    settings = replace(PRESETS["hard"], min_objects=12, max_objects=12, overlap=1.0, visible=0.5)
    data = Shapes(15, 1, 96, settings)
    hidden = shrunk = 0
    for index in range(15):
        layout = data._layout(index)
        for shape, box in zip(layout.shapes, layout.boxes().tolist(), strict=True):
            assert shape.free.sum() >= 0.5 * shape.cover.sum() - 1e-3
            hidden += bool((shape.free < shape.cover).any())
            shrunk += any(abs(a - b) > 1 for a, b in zip(box, shape.box, strict=True))
            x0, y0, _, _ = shape.window
            ys, xs = np.nonzero(shape.free > 0.5)
            assert box[0] - 0.01 <= xs.min() + x0 + 1 and box[2] >= xs.max() + x0 - 0.01
            assert box[1] - 0.01 <= ys.min() + y0 + 1 and box[3] >= ys.max() + y0 - 0.01
    assert hidden > 20 and shrunk > 3


def test_the_whole_range_of_every_dial_draws():
    """Catches a division by zero or an empty range at the ends of a setting."""
    ends = {"tilt": (0.0, 180.0), "outside": (0.0, 0.5), "noise": (0.0, 128.0)}
    for name in asdict(Difficulty()):
        if "objects" in name or "size" in name:
            continue
        for value in ends.get(name, (0.0, 1.0)):
            setting: Any = {name: value}
            for sample in Shapes(4, 0, 32, replace(Difficulty(), **setting)):
                assert len(sample.labels) >= 1
    tight = replace(Difficulty(), min_size=0.95, max_size=0.95, min_objects=3)
    assert all(len(sample.labels) >= 1 for sample in Shapes(4, 0, 32, tight))


def test_fingerprint_tells_every_setting_apart():
    """Catches a setting left out: a resumed run would mix two data sets without a word."""
    base: dict[str, Any] = {"length": 10, "seed": 0, "size": 64, "difficulty": Difficulty()}
    others: list[dict[str, Any]] = [
        {"length": 11},
        {"seed": 1},
        {"size": (64, 65)},
        {"size": (65, 64)},
    ]
    for name, value in asdict(Difficulty()).items():
        changed: Any = {name: value / 2 if isinstance(value, float) else 3}
        others.append({"difficulty": replace(Difficulty(), **changed)})
    prints = {Shapes(**{**base, **other}).fingerprint() for other in [{}, *others]}
    assert len(prints) == len(others) + 1
    assert Shapes(**base).fingerprint() == Shapes(10, 0, (64, 64), "normal").fingerprint()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 0}, "length"),
        ({"length": 2.5}, "length"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"size": 8}, "size"),
        ({"size": (64, 64, 3)}, "size"),
        ({"size": "128"}, "size"),
        ({"difficulty": "medium"}, "easy, normal, hard"),
        ({"difficulty": 3}, "easy, normal, hard"),
    ],
)
def test_bad_arguments_are_explained(arguments, words):
    """Catches bad arguments that pass, or fail later with a traceback from numpy."""
    with pytest.raises(LabError, match=words):
        Shapes(**arguments)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_objects": 3, "max_objects": 2},
        {"min_size": 0.5, "max_size": 0.4},
        {"max_objects": 2.5},
        {"overlap": 1.5},
        {"noise": -1},
        {"contrast": math.nan},
        {"photo": True},
        {"texture": "much"},
        {"max_size": 1.2},
    ],
)
def test_bad_dials_are_named(settings):
    """Catches a difficulty that cannot be drawn, or an error that does not name the setting."""
    with pytest.raises(LabError, match=next(iter(settings))):
        Difficulty(**settings)
