"""The server behind the tab Explore, without a browser; test_app_page.py has the page itself."""

import threading

import pytest
from app_models import state
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

pytest.importorskip("gradio")

from sparse_rcnn_lab import Intervention
from sparse_rcnn_lab.app import explore_tab
from sparse_rcnn_lab.app.explore_tab import PATH, Explorations
from sparse_rcnn_lab.app.user_inputs import EXAMPLES, read_input


@pytest.fixture
def explorations(tiny):
    return Explorations(tiny)


@pytest.fixture
def image():
    return read_input(EXAMPLES / "shapes_1.png")


def client(explorations):
    route = Route(f"{PATH}/{{token}}", explorations.answer, methods=["GET", "POST"])
    return TestClient(Starlette(routes=[route]))


def test_an_image_is_opened_once_and_let_go(explorations, image, monkeypatch):
    """Catches a pyramid for every visitor, or for every image there ever was."""
    monkeypatch.setattr(explore_tab, "_KEPT", 2)
    at = state(explorations.viewer)
    token = explorations.open(image, at)
    assert explorations.open(image, at) == token
    asked = client(explorations)
    assert asked.get(f"{PATH}/{token}").json()["payload"]["ids"]["shape"] == [8]
    for name in ("shapes_2.png", "shapes_3.png"):
        explorations.open(read_input(EXAMPLES / name), at)
    gone = asked.post(f"{PATH}/{token}", json={})
    assert gone.status_code == 410 and "Open it again" in gone.json()["problem"]


def test_what_the_page_opens_with_stays(explorations, image, monkeypatch):
    """Catches a front page that is empty once eight other images were explored."""
    monkeypatch.setattr(explore_tab, "_KEPT", 2)
    at = state(explorations.viewer)
    token = explorations.open(image, at, stays=True)
    for name in ("shapes_2.png", "shapes_3.png"):
        last = explorations.open(read_input(EXAMPLES / name), at)
    asked = client(explorations)
    assert [asked.get(f"{PATH}/{one}").status_code for one in (token, last)] == [200, 200]
    assert len(explorations._kept) == 2


def test_an_image_opened_twice_at_once(explorations, image, monkeypatch):
    """Catches a token that is gone when the page asks for it: the other one took its place."""
    at, make, tokens = state(explorations.viewer), explore_tab.explorer_of, []
    monkeypatch.setattr(explorations.viewer, "_turns", threading.Semaphore(2))

    def overtaken(*told):
        monkeypatch.setattr(explore_tab, "explorer_of", make)
        tokens.append(explorations.open(image, at))
        return make(*told)

    monkeypatch.setattr(explore_tab, "explorer_of", overtaken)
    tokens.append(explorations.open(image, at))
    asked = client(explorations)
    assert [asked.get(f"{PATH}/{token}").status_code for token in tokens] == [200, 200]


def test_changes_of_many_visitors(explorations, image):
    """Catches a change that the next visitor sees, one refused without words, a broken request
    that ends in a traceback."""
    at = f"{PATH}/{explorations.open(image, state(explorations.viewer))}"
    asked = client(explorations)
    drop = Intervention().drop([5, 6, 7]).to_message()
    assert asked.post(at, json={"intervention": drop}).json()["edited"]["ids"]["shape"] == [5]
    assert asked.post(at, json={"intervention": {}}).json() == {"edited": None}
    unknown = Intervention().drop(99).to_message()
    refused = asked.post(at, json={"intervention": unknown})
    assert refused.status_code == 200 and "Proposal 99 does not exist" in refused.json()["problem"]
    for body in (b"", b"\xff", b"[1]", b"nonsense"):
        assert asked.post(at, content=body).status_code == 400
    odd = asked.post(at, json={"intervention": {"changes": [{"proposals": "x"}]}})
    assert "cannot be read" in odd.json()["problem"]
