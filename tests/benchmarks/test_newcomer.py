"""The newcomer's benchmark: drawn tables and their true boxes, and what the hand accepts."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.hand import clickable, shown
from benchmarks.household import NAMES, SIZE, Video, scene, scenes, write_coco


def test_boxes_are_around_what_is_seen():
    """Catches a truth that lags behind the camera, or is in the pixels of the whole table."""
    table = scene(5, ["mug"])
    for seconds in (0.0, 2.0):
        with_it, ((name, box),) = table.frame(seconds)
        bare = np.where(table.masks[0][1][..., None], 255, 0).astype(np.uint8)
        white, _ = type(table)(
            np.broadcast_to(bare, table.pixels.shape).copy(), table.masks, table.shake
        ).frame(seconds)
        rows, columns = (np.asarray(white).mean(2) > 128).nonzero()
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert name == "mug" and with_it.size == SIZE
        assert box == pytest.approx(seen, abs=4)  # the picture is blurred by the hand's motion


def test_tables_with_and_without(tmp_path):
    """Catches objects on the empty tables, and tables that are the same or never the same."""
    tables = scenes(3, 4, 2)
    assert sorted(len(one.masks) == 0 for one in tables) == [False] * 4 + [True] * 2
    assert {name for one in tables for name, _ in one.masks} <= set(NAMES)
    assert (scenes(3, 4, 2)[1].pixels == tables[1].pixels).all()
    assert (tables[0].pixels != tables[1].pixels).any()
    truths = write_coco(tmp_path, tables)
    content = json.loads((tmp_path / "val.json").read_text())
    assert len(content["annotations"]) == sum(map(len, truths))
    assert len(list((tmp_path / "images").iterdir())) == len(content["images"]) == 6


def test_a_frame_of_the_video_is_recognised(tmp_path):
    """Catches the truth of another moment, by which a hand would draw beside the object."""
    tables = scenes(8, 2)
    video = Video(tmp_path / "camera.mjpeg", tables, 1.0, rate=3)
    assert (tmp_path / "camera.mjpeg").read_bytes().count(b"\xff\xd8\xff") == 60
    image, truth = tables[1].frame(2 / 3)
    smaller = image.resize((320, 240)).resize(SIZE)  # what a browser makes of it differs a little
    assert video.truth(Image.fromarray(np.asarray(smaller))) == truth


def test_what_the_hand_accepts():
    """Catches a click that accepts another proposal, or one that is too far from the object."""
    truth = [("mug", (0.0, 0.0, 100.0, 100.0)), ("keys", (200.0, 0.0, 260.0, 60.0))]
    assert shown((0, 0, 100, 90), truth) == 0 and shown((0, 0, 100, 60), truth) is None
    places = ([0, 0, 100, 98], [30, 30, 70, 70], [200, 0, 240, 60])
    offers = [
        {"box": box, "name": name} for box, name in zip(places, ("mug", "", "keys"), strict=True)
    ]
    (x, y), name = clickable(0, truth, offers, [])
    assert name == "mug"
    assert not (30 <= x <= 70 and 30 <= y <= 70)  # the smaller one there would get the click
    assert clickable(1, truth, offers, []) is None
    assert clickable(0, truth, offers, [{"box": [0, 0, 90, 90]}]) is None  # a drawn box is chosen
