"""The endpoint of the webcams, without a browser; test_app_page.py has the camera itself."""

import asyncio
import json
import re
from dataclasses import astuple

import pytest
from app_models import checkpoint, state
from PIL import Image

pytest.importorskip("gradio")
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from sparse_rcnn_lab.app import live_tab
from sparse_rcnn_lab.app.downloads import as_jpeg
from sparse_rcnn_lab.app.live_tab import PATH, Webcams
from sparse_rcnn_lab.app.viewer import Viewer


def sent(webcams, body=None, **query):
    """Posts a frame to the endpoint of the webcams."""
    client = TestClient(Starlette(routes=[Route(PATH, webcams.answer, methods=["POST"])]))
    kind = query.pop("kind", "image/jpeg")
    body = as_jpeg(Image.new("RGB", (64, 48))) if body is None else body
    return client.post(PATH, params=query, content=body, headers={"content-type": kind})


def as_sent(viewer, **changes):
    return json.dumps(astuple(state(viewer, **changes)))


def test_a_frame_of_a_webcam(tiny):
    """Catches boxes in another frame's pixels, numbers that are lost, an answer kept by a cache."""
    answer = sent(Webcams(tiny, 1), who="a", state=as_sent(tiny, num_proposals=3))
    assert answer.status_code == 200
    boxes = answer.json()["boxes"]
    assert len(boxes) == 3
    for x1, y1, x2, y2, color, label, opacity, width in boxes:
        assert 0 <= x1 <= x2 <= 64 and 0 <= y1 <= y2 <= 48
        assert color.startswith("#") and label and 0 < opacity <= 1 and width > 0
    assert answer.headers["lab-found"] == "3" and answer.headers["cache-control"] == "no-store"
    assert float(answer.headers["lab-busy"]) >= float(answer.headers["lab-milliseconds"]) - 1
    # Stage 0 has no scores, and so no number of detections.
    assert sent(Webcams(tiny, 1), who="a", state=as_sent(tiny, stage=0)).headers["lab-found"] == "-"


NO_STATE = (
    *("", "{}", "[]", "[1, 2]", "not json", "[" * 20_000),
    '[null, 5, 5, 0, "detections", []]',
    '["tiny", "many", 5, 0, "detections", []]',
    '["tiny", NaN, 5, 0, "detections", []]',
    '["tiny", 5, 5, 0, "detections", [[]]]',
)


@pytest.mark.parametrize("text", NO_STATE)
def test_a_state_that_is_none(tiny, text):
    """Catches a traceback for what a script of somebody's own sends as state."""
    answer = sent(Webcams(tiny, 1), who="a", state=text)
    assert answer.status_code == 400
    assert re.search("webcam.js sends|must be|no model", answer.json()["problem"])


def test_frames_that_are_refused(tiny):
    """Catches a broken frame that ends in a traceback, or a form of another site that is taken."""
    webcams, good = Webcams(tiny, 1), as_sent(tiny)
    assert "camera sent" in sent(webcams, b"none", who="a", state=good).json()["problem"]
    assert sent(webcams, who="a", state=good, kind="text/plain").status_code == 415
    # The place is taken; the one who has it goes on.
    answer = sent(webcams, who="b", state=good)
    assert answer.status_code == 503 and "taken" in answer.json()["problem"]
    assert sent(webcams, who="a", state=good).status_code == 200


def test_a_place_is_kept_while_its_frame_is_worked_on(tiny, monkeypatch):
    """Catches a webcam that loses its place to the next one because a large model takes seconds."""
    monkeypatch.setattr(live_tab, "_GONE", 0.0)
    webcams = Webcams(tiny, 1)
    webcam = webcams.admitted("a")

    async def at_work():
        async with webcam.turn:
            return webcams.admitted("b"), webcams.admitted("a")

    assert asyncio.run(at_work()) == (None, webcam)
    assert webcams.admitted("b") is not None  # and free once it is gone


def test_a_model_that_is_not_there_yet(tmp_path):
    """Catches a frame that starts a download, or waits for one."""
    viewer = Viewer([checkpoint(tmp_path), checkpoint(tmp_path, "later")])
    text = as_sent(viewer).replace("tiny.", "later.")
    answer = sent(Webcams(viewer, 1), who="a", state=text)
    assert answer.status_code == 503 and "is being loaded" in answer.json()["problem"]
