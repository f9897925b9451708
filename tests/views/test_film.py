"""The film of one image shows the boxes on their way, and ends with the detections."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from test_explorer_payload import made_trace

from sparse_rcnn_lab import LabError, Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.film import film_frames, save_film


def one_box() -> Trace:
    """A grey image of 80x160 px; its one proposal goes from the left to the right in two stages."""
    boxes = torch.tensor([[[4.0, 20, 44, 60]], [[60, 20, 100, 60]], [[112, 20, 152, 60]]])
    return replace(
        made_trace(1, 1, stages=2, size=(80, 160)),
        boxes=boxes,
        logits=torch.full((2, 1, 1), 6.0),
        image=torch.full((3, 80, 160), 128, dtype=torch.uint8),
    )


def centre_of_change(frame: Image.Image) -> float:
    """x of what was drawn on the grey image, 0..1 of the width."""
    pixels = np.asarray(frame.convert("RGB"), np.float32)[: frame.width // 2]
    changed = np.abs(pixels - 128).max(-1) > 15
    return float(np.nonzero(changed)[1].mean() / frame.width)


def test_boxes_move_from_stage_to_stage_without_a_jump():
    """Catches a film that skips a state, moves backwards, or draws boxes in another frame."""
    frames, seconds = zip(*film_frames(one_box(), stage_seconds=0.8, width=320), strict=True)
    centres = [centre_of_change(frame) for frame in frames[:-1]]
    assert centres[0] == pytest.approx(24 / 160, abs=0.01)
    assert centres[-1] == pytest.approx(132 / 160, abs=0.01)
    assert all(0 <= b - a < 0.1 for a, b in pairwise(centres))
    assert sum(seconds) == pytest.approx(3 * 0.4 + 2 * 7 * 0.05 + 3.0)
    assert {frame.size for frame in frames} == {(320, 180)}


def test_the_last_frame_names_the_detection_in_its_colour():
    """Catches an end without the detections: the class colour, which no stage has, must be seen."""
    frames = [np.asarray(frame) for frame, _ in film_frames(one_box(), width=320)]
    wanted = np.array(style.rgb(style.class_color(0)))

    def seen(frame: np.ndarray) -> int:
        return int((np.abs(frame[:160].astype(int) - wanted).max(-1) < 12).sum())

    assert seen(frames[-1]) > 200 and seen(frames[-2]) == 0


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".png"])
def test_film_is_written_with_all_its_frames(tmp_path, suffix):
    """Catches a single image where a film was asked for, and one that plays only once."""
    path = save_film(one_box(), tmp_path / f"film{suffix}", stage_seconds=0.4, width=160)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 3 + 2 * 3 + 1
        assert film.info.get("loop", 0) == 0 and film.size == (160, 98)


def test_what_cannot_be_filmed_is_said(tmp_path):
    """Catches a traceback of Pillow for an unknown suffix, and of torch for a missing image."""
    with pytest.raises(LabError, match=r"film\.mp4"):
        save_film(one_box(), tmp_path / "film.mp4")
    with pytest.raises(LabError, match="without its image"):
        save_film(replace(one_box(), image=None), tmp_path / "film.gif")
    with pytest.raises(LabError, match="stage_seconds"):
        save_film(one_box(), tmp_path / "film.gif", stage_seconds=0)
