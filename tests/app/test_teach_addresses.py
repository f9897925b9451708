"""The addresses behind the tab Teach and its queue, without a browser and without a training."""

import io
import json
import struct
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import pytest
from PIL import Image

pytest.importorskip("gradio")
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sparse_rcnn_lab.app import teach_run, teach_tab, teach_visitors
from sparse_rcnn_lab.app.downloads import as_jpeg
from sparse_rcnn_lab.app.user_inputs import Limits
from sparse_rcnn_lab.data.coco.project import Project
from sparse_rcnn_lab.training.teach.progress import ALIVE, STATE, STOP
from sparse_rcnn_lab.views.draw import encoded

FRAME = as_jpeg(Image.new("RGB", (64, 48), "teal"))


class Browser:
    """What the page does, as one visitor; again: opened later under the same link."""

    def __init__(self, teaching, token=None):
        self.client = TestClient(Starlette(routes=teaching.routes()))
        self.token = token or self.client.post("/lab/teach/new", json={}).json()["token"]

    def get(self, what):
        return self.client.get(f"/lab/teach/{self.token}/{what}")

    def post(self, what, message=None, **options):
        options = {"json": message or {}} if "content" not in options else options
        return self.client.post(f"/lab/teach/{self.token}/{what}", **options)

    def frame(self):
        return self.post("frame", content=FRAME).json()["id"]

    def upload(self, content, **query):
        return self.client.post(f"/lab/teach/{self.token}/upload", params=query, content=content)


@pytest.fixture
def viewer(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "limits", Limits(upload_mb=2))
    return tiny


@pytest.fixture
def teaching(viewer, tmp_path, monkeypatch):
    """Its trainings are processes that wait until somebody stops them."""
    script = (
        "import sys, time, pathlib; run = pathlib.Path(sys.argv[1])\n"
        f"while not (run / '{STOP}').exists(): time.sleep(0.02)\n"
        f"(run / '{STATE}').write_text('{{\"phase\": \"done\"}}')\n"
    )

    def start(one):
        one.run.mkdir(parents=True, exist_ok=True)
        (one.run / STATE).write_text('{"phase": "training", "steps": 9}')
        return subprocess.Popen([sys.executable, "-c", script, str(one.run)])

    monkeypatch.setattr(teach_run, "_start", start)
    made = teach_tab.Teaching(viewer, tmp_path / "root")
    yield made
    made.trainings.end()


def until(question, patience=20.0):
    end = time.monotonic() + patience
    while not question():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.03)


def test_a_visitor_comes_back_to_everything(teaching, viewer, tmp_path):
    """Catches a frame or a box that only the app's memory had."""
    page = Browser(teaching)
    first, second = page.frame(), page.frame()
    box = {"name": "mug", "box": [4, 4, 30, 30]}
    assert page.post("label", {"id": first, "boxes": [box]}).json() == {"classes": ["mug"]}
    page.post("label", {"id": second, "boxes": []})
    later = Browser(teach_tab.Teaching(viewer, tmp_path / "root"), page.token)
    state = later.get("state").json()
    assert [frame["labelled"] for frame in state["frames"]] == [True, True]
    assert state["frames"][0]["boxes"] == [{"name": "mug", "box": [4.0, 4.0, 30.0, 30.0]}]
    image = later.client.get(f"/lab/teach/{state['frames'][0]['url']}")
    assert Image.open(io.BytesIO(image.content)).size == (64, 48)
    later.post("classes", {"names": ["cup"], "renamed": {"mug": "cup"}})
    later.post("remove", {"id": second})
    state = later.get("state").json()
    assert state["classes"] == ["cup"] and len(state["frames"]) == 1


def test_frames_that_come_at_once_after_a_restart(teaching, viewer, tmp_path, monkeypatch):
    """Catches a folder that is opened twice: the later one writes over what the first was told."""
    token = Browser(teaching).token
    again = teach_tab.Teaching(viewer, tmp_path / "root")
    both = threading.Barrier(2)

    def slow(folder):
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # for the other one, where nothing keeps it out
        return Project(folder)

    monkeypatch.setattr(teach_visitors, "Project", slow)
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(again.visitors.get, [token, token])
    assert one is two


def test_visitors_do_not_see_each_other(teaching, monkeypatch):
    """Catches a path that leads out of a visitor's folder, or into that of another."""
    page = Browser(teaching)
    page.frame()
    for token in ("..", "x" * 32, "%2e%2e", page.token[:-1] + "!"):
        assert Browser(teaching, token).get("state").status_code in (400, 404)
    for name in ("../labels.json", "..%2Flabels.json", "labels.json", "%2Fetc%2Fpasswd"):
        assert page.get(f"image/{name}").status_code == 404
    # For Windows a path without a drive is not absolute, and leads out all the same.
    monkeypatch.setattr(teach_tab, "Path", PureWindowsPath)
    for name in ("../a.jpg", "/etc/a.jpg", "C:/a.jpg", "", "a\0.jpg", "\\etc\\a.jpg"):
        answer = page.upload(b"x", name=name)
        assert answer.status_code == 400 and "not a name" in answer.json()["problem"]
    folders = [path for path in teaching.root.iterdir()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in folders)


@pytest.mark.parametrize(
    ("what", "body", "said"),
    [
        ("frame", b"no image", "not an image"),
        ("label", b'{"id": 99, "boxes": []}', "no image 99"),
        ("label", b'{"id": 1, "boxes": [3]}', "list of"),
        ("label", b"[[[", "json object"),
        ("classes", b'{"names": ["a", "A"]}', "twice"),
        ("import", b"{}", "Nothing has been given"),
        ("use", b"{}", "Nothing is taught yet"),
    ],
)
def test_broken_messages(teaching, what, body, said):
    """Catches a traceback, or an answer without a word, to what a script may send."""
    page = Browser(teaching)
    page.frame()
    headers = {"content-type": "application/json"}
    answer = page.post(what, content=body, headers=headers)
    assert answer.status_code == 400 and said in answer.json()["problem"]


def test_limits(teaching, monkeypatch):
    """Catches an upload that fills the memory, and a full disk without a word."""
    page = Browser(teaching)
    answer = page.upload(b"x" * 3_000_000, name="a.jpg")
    assert answer.status_code == 413 and "2 MB" in answer.json()["problem"]
    image = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    image[18:26] = struct.pack("<ii", 30_000, 30_000)  # says its header; Pillow takes it for a bomb
    page.upload(bytes(image), name="a.bmp")
    answer = page.post("import")
    assert answer.status_code == 400 and "far too many pixels" in answer.json()["problem"]
    page.frame()
    monkeypatch.setattr(teach_visitors, "_ROOM", 1e18)
    answer = page.post("frame", content=FRAME)
    assert answer.status_code == 400 and "nearly full" in answer.json()["problem"]
    assert len(page.get("state").json()["frames"]) == 1


def test_a_zip_of_labelled_images(teaching):
    """Catches a zip of a folder that is taken for photographs, or leaves its files behind."""
    page, packed = Browser(teaching), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(3):
            archive.writestr(f"boards/images/{number}.jpg", FRAME)
            archive.writestr(f"boards/labels/{number}.txt", "0 0.5 0.5 0.5 0.5")
        archive.writestr("boards/data.yaml", "names: [mug]")
    page.upload(packed.getvalue(), name="B.ZIP")
    state = page.post("import").json()
    assert state["kind"] == "YOLO" and state["classes"] == ["mug"] and len(state["frames"]) == 3
    assert state["frames"][0]["boxes"][0]["box"] == [16.0, 12.0, 48.0, 36.0]
    page.upload(b"# About these", name="notes.md")
    problem = page.post("import").json()["problem"]
    assert problem.startswith('No image in "your files" (found: notes.md).')
    assert not (teaching.root / page.token / teach_tab.GIVEN).exists()
    archive = zipfile.ZipFile(io.BytesIO(page.get("download/data").content))
    assert json.loads(archive.read("train.json"))["categories"][0]["name"] == "mug"


def test_an_upload_that_was_cancelled(teaching):
    """Catches files of a page that was closed half-way among those that are given later."""
    page = Browser(teaching)
    page.upload(FRAME, name="old.jpg", first=1)
    page.upload(FRAME, name="new.jpg", first=1)
    page.upload(FRAME, name="2.jpg")
    assert len(page.post("import").json()["frames"]) == 2


def test_data_fetched_twice_at_once(teaching):
    """Catches a second press of the button that takes the files away from under the first."""
    page = Browser(teaching)
    for _ in range(9):
        page.post("label", {"id": page.frame(), "boxes": []})
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(page.get, "download/data") for _ in range(4)]
    for answer in answers:
        archive = zipfile.ZipFile(io.BytesIO(answer.result().content))
        assert archive.testzip() is None and len(archive.namelist()) == 10


def test_one_training_at_a_time(teaching):
    """Catches two trainings that starve each other, a place in the queue that is wrong."""
    first, second, third = (Browser(teaching) for _ in range(3))
    assert first.post("train").json()["place"] == 0
    assert second.post("train").json()["place"] == 1
    assert third.post("train").json()["place"] == 2
    answer = first.post("train")
    assert answer.status_code == 400 and "already running or waiting" in answer.json()["problem"]
    second.post("stop")  # it had not begun: nothing is left of it
    assert second.get("run").json() is None and third.get("run").json()["place"] == 1
    first.post("stop")
    until(lambda: first.get("run").json()["phase"] == "done")
    until(lambda: third.get("run").json()["place"] == 0)
    assert first.get("run").json()["place"] is None


def test_a_training_that_cannot_be_started(teaching, monkeypatch):
    """Catches a queue that stands still for ever once the disk was full."""
    first, second, third = (Browser(teaching) for _ in range(3))
    start = teach_run._start

    def full(one):
        if one.visitor == second.token:
            raise OSError(28, "No space left on device")
        return start(one)

    monkeypatch.setattr(teach_run, "_start", full)
    for page in (first, second, third):
        page.post("train")
    first.post("stop")
    until(lambda: teaching.trainings.place(third.token) == 0)
    assert second.get("run").json()["phase"] == "failed"


def test_a_killed_training_goes_on(teaching, monkeypatch):
    """Catches a training that is over because its process, or the app, was killed."""
    page = Browser(teaching)
    page.post("train")
    run = teaching.root / page.token / "runs" / "001"
    (run / ALIVE).touch()
    teaching.trainings._running[page.token][1].kill()
    until(lambda: teaching.trainings.place(page.token) is None)
    assert page.get("run").json()["place"] == 0  # at the next look it is at work again
    assert page.get("run").json()["name"] == "001"
    for _ in range(teach_tab._AGAIN):
        running = teaching.trainings._running.get(page.token)
        if running:
            running[1].kill()
        until(lambda: teaching.trainings.place(page.token) is None)
        answer = page.get("run").json()
    assert answer["phase"] == "failed" and "ended by itself" in answer["problem"]


def test_stopped_while_it_waits_to_go_on(teaching):
    """Catches "Stop and keep what is learned" that removes what a killed training had learned."""
    page, other = Browser(teaching), Browser(teaching)
    page.post("train")
    other.post("train")
    model = teaching.root / page.token / "runs" / "001" / "model.safetensors"
    model.write_bytes(b"learned")
    teaching.trainings._running[page.token][1].kill()
    until(lambda: teaching.trainings.place(other.token) == 0)
    assert page.get("run").json()["place"] == 1
    page.post("stop")
    assert model.read_bytes() == b"learned"
    answer = page.get("run").json()
    assert (answer["phase"], answer["place"]) == ("failed", None) and "waited" in answer["problem"]


def test_what_nobody_touches_goes(teaching, viewer, tmp_path, monkeypatch):
    """Catches visitors' images that are kept for ever, and a training that is swept away."""
    old, at_work = Browser(teaching), Browser(teaching)
    old.frame()
    at_work.post("train")
    run = teaching.root / at_work.token / "runs" / "001"
    (run / ALIVE).touch()
    monkeypatch.setattr(teach_visitors, "DAYS", -1)
    again = teach_tab.Teaching(viewer, tmp_path / "root")
    answer = Browser(again, old.token).get("state")
    assert answer.status_code == 400 and "nothing under this link" in answer.json()["problem"]
    assert again.trainings.place(at_work.token) == 0  # it outlived its app, and is counted
    (run / STATE).write_text('{"phase": "done"}')
    (run / ALIVE).unlink()
    until(lambda: again.trainings.place(at_work.token) is None)  # the next one may begin


def test_a_taught_model_is_its_visitors(teaching, viewer):
    """Catches a taught model among those that everybody is offered, or shown on what ships."""
    page = Browser(teaching)
    page.post("label", {"id": page.frame(), "boxes": [{"name": "mug", "box": [4, 4, 30, 30]}]})
    run = teaching.root / page.token / "runs" / "001"
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(Path(viewer.models.first).read_bytes())
    (run / STATE).write_text('{"phase": "done", "judgement": {"threshold": 0.4}}')
    (run / "val.json").write_bytes((run.parents[1] / "labels.json").read_bytes())
    (run / "images").symlink_to(run.parents[1] / "images")
    answer = page.post("use").json()
    assert answer["threshold"] == 0.4 and viewer.models[answer["model"]].num_proposals == 8
    assert answer["model"] not in [name for _, name in viewer.models.choices()]
    assert [path.parents[1] for path in viewer.models.examples(answer["model"])] == [run]
    assert len(viewer.models.examples(viewer.models.first)) > 1
    frame = page.frame()
    assert isinstance(page.post("propose", {"id": frame}).json(), list)
    # While the next training runs, its model changes: it is not used before it is done, but then
    # at once, though its process has not ended yet.
    page.post("train")
    half = run.with_name("002")
    (half / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert page.post("use").json() == answer
    (half / STATE).write_text('{"phase": "done"}')
    for name in ("val.json", "images"):
        (half / name).symlink_to(run / name)
    assert Path(page.post("use").json()["model"]).parent == half
    for _ in range(40):
        viewer.models.add(f"other {_}")
    assert len(viewer.models.private) == 16
