"""Files that mean harm: none does any, and each is refused in words that name it.

Elsewhere: pickles that run code (test_checkpoint.py), images that expand to gigabytes
(test_images.py), names with HTML in the explorer (test_explorer_browser.py), what the app's
addresses give away (test_app_api.py), code of students (test_classroom.py).
"""

import contextlib
import copy
import io
import json
import os
import struct
import subprocess
import sys
import zipfile

import classroom_class as made
import pytest
import torch
from app_models import checkpoint, served
from browser import PATIENCE, Watched
from coco_folders import coco_folder
from PIL import Image
from safetensors.torch import save_file

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import LabError, load_trace
from sparse_rcnn_lab.analysis import Table
from sparse_rcnn_lab.course.classroom.collect import collect
from sparse_rcnn_lab.detect.trace_file import VERSION
from sparse_rcnn_lab.models.checkpoint import FORMAT, read_checkpoint

DEEP = "[" * 10_000 + "]" * 10_000


def test_json_nested_ten_thousand_deep(tmp_path):
    """Catches a parser that runs out of stack, wherever a json may come from somebody else."""
    path = coco_folder(tmp_path) / "train.json"
    path.write_text(DEEP)
    with pytest.raises(LabError, match=r"train\.json is nested too deeply"):
        srl.open_data(tmp_path, "train")
    path = tmp_path / "trace.safetensors"
    about = {"format": "sparse_rcnn_lab.trace", "version": VERSION, "trace": DEEP}
    save_file({"boxes": torch.zeros(1)}, path, about)
    with pytest.raises(LabError, match=r"trace\.safetensors"):
        load_trace(path)
    path = tmp_path / "model.safetensors"
    save_file({"boxes": torch.zeros(1)}, path, {"format": FORMAT, "model": DEEP})
    with pytest.raises(LabError, match=r"model\.safetensors.*damaged"):
        read_checkpoint(path)
    path = tmp_path / "table.json"
    path.write_text(DEEP)
    with pytest.raises(LabError, match=r"table\.json"):
        Table.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zeros", "nested", "numbers"])
def test_a_json_of_a_gigabyte(tmp_path, kind):
    """Catches a file that fills the memory before anybody says that it is not COCO json."""
    pytest.importorskip("resource")
    coco_folder(tmp_path)
    with open(tmp_path / "train.json", "wb") as file:
        if kind == "zeros":
            file.truncate(10**9)
        else:
            start, piece, end = (b"", b"[", b"") if kind == "nested" else (b"[", b"0,", b"0]")
            file.write(start)
            for _ in range(100):
                file.write(piece * (10**7 // len(piece)))
            file.write(end)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (14 * 10**9,) * 2)\n"
        "import sparse_rcnn_lab as srl\n"
        "try: srl.open_data(sys.argv[1], 'train')\n"
        "except srl.LabError as error: print('refused:', error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("refused:") and "train.json" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "images/../../secret.png", "..\\secret.png", "C:\\secret.png"],
)
def test_file_names_that_leave_the_folder(tmp_path, name):
    """Catches a data set that reads, or says something of, files that are not its own."""
    folder = tmp_path / "data"
    entry = {"id": 1, "file_name": name, "width": 20, "height": 10}
    coco_folder(folder, [(20, 10)], images=[entry])
    Image.new("RGB", (20, 10)).save(tmp_path / "secret.png")
    with pytest.raises(LabError, match=r"train\.json"):
        srl.open_data(folder, "train")[0]


def test_safetensors_with_false_headers(tmp_path):
    """Catches a header that makes the reader ask for exabytes, or read beside the file."""
    path = tmp_path / "false.safetensors"

    def entry(shape, start, end):
        return {"w": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}

    heads = [
        entry([2**40, 2**20], 0, 2**62),
        entry([4], 0, 10**6),
        entry([4], 8, 24),
        entry([-4], 0, 16),
        {**entry([4], 0, 16), "v": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}},
        {"__metadata__": {"format": FORMAT, "model": "{}"}, **entry([2**31, 2**31], 0, 16)},
    ]
    files = [
        struct.pack("<Q", len(h)) + h + bytes(16) for h in (json.dumps(x).encode() for x in heads)
    ]
    files += [struct.pack("<Q", 2**63 - 1) + b"{}", struct.pack("<Q", 2**40) + b"{" * 100]
    for content in files:
        path.write_bytes(content)
        for read in (read_checkpoint, load_trace):
            with pytest.raises(LabError, match=r"false\.safetensors"):
                read(path)


@pytest.fixture(scope="module")
def course(built, tmp_path_factory):
    return made.copy_of(built, tmp_path_factory.mktemp("course") / "course")


def refused(course, place):
    result = collect(course, place)
    assert not result.taken
    return dict(result.refused)


def test_submissions_that_mean_harm(course, tmp_path):
    """Catches a bomb, a nest or a link in one submission that stops the others or leaks a file."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anna/boxes.ipynb", bytes(300 * 10**6))
        archive.writestr("ben/boxes.ipynb", f'{{"cells": {DEEP}}}')
        archive.writestr(
            f"{'ä' * 200}/boxes.ipynb", course.notebook("release", "boxes").read_bytes()
        )
        archive.writestr(f"a{' ' * 5000}b/boxes.ipynb", "{}")
    said = refused(course, path)
    assert sum("too long" in why or "longer name" in why for why in said.values()) == 2
    assert "300 MB" in said["anna/boxes.ipynb"] and "readable" in said["ben/boxes.ipynb"]
    folder = tmp_path / "handed in" / "carl"
    folder.mkdir(parents=True)
    try:
        os.symlink(course.notebook("source", "boxes"), folder / "boxes.ipynb")
    except OSError:
        pytest.skip("this system makes no links")
    assert "link" in refused(course, folder.parent)["carl/boxes.ipynb"]


def test_a_line_that_a_search_does_not_come_to_the_end_of(course, tmp_path):
    """Catches a class that is not collected for hours because of one student's cell."""
    notebook = made.read(course.notebook("release", "boxes"))
    cell = next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("solution"))
    cell["source"] = "#" + " import" * 20_000 + " gradebook"
    made.hand_in(tmp_path, "anna", "boxes", notebook)
    ((_, _, notes),) = collect(course, tmp_path).taken
    assert "looks around: have a look" in notes


DAMAGE = {
    "no text": lambda cell: cell.update(source=None),
    "a number for a line": lambda cell: cell.update(source=["1", 2]),
    "a list for a name": lambda cell: cell["metadata"]["nbgrader"].update(grade_id=["iou"]),
    "a number for an output": lambda cell: cell.update(outputs=[1]),
    "half a character": lambda cell: cell.update(source="\ud800"),
}


def test_one_bad_submission_does_not_stop_the_others(course, tmp_path):
    """Catches a notebook, link or zip of one student that ends the collecting of all."""
    folder = tmp_path / "handed in"
    good = made.read(course.notebook("release", "boxes"))
    made.hand_in(folder, "zoe", "boxes", good)
    for who, damage in DAMAGE.items():
        notebook = copy.deepcopy(good)
        damage(next(c for c in notebook["cells"] if c["metadata"].get("nbgrader")))
        made.hand_in(folder, who, "boxes", notebook)
    (folder / "bob").mkdir()
    with contextlib.suppress(OSError):  # some systems make no links
        os.symlink(folder / "nowhere", folder / "bob" / "boxes.ipynb")
    result = collect(course, folder)
    assert [student for student, _, _ in result.taken] == ["zoe"]
    refused = dict(result.refused)
    assert all("not a readable notebook" in refused[f"{who}/boxes.ipynb"] for who in DAMAGE)
    assert "link" in refused.get("bob/boxes.ipynb", "link")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_does_not_stop_the_others(course, tmp_path, method):
    """Catches bits that changed on the way in one file of a zip."""
    content = course.notebook("release", "boxes").read_bytes()
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("anna/boxes.ipynb", content)
        start = archive.fp.tell() - archive.getinfo("anna/boxes.ipynb").compress_size
        archive.writestr("zoe/boxes.ipynb", content)
    data = bytearray(path.read_bytes())
    data[start + 10 : start + 200] = b"\xff" * 190
    path.write_bytes(data)
    result = collect(course, path)
    assert [student for student, _, _ in result.taken] == ["zoe"]
    assert "cannot be read" in dict(result.refused)["anna/boxes.ipynb"]


def test_a_zip_whose_list_is_damaged(course, tmp_path):
    """Catches a list in a zip that ends in a traceback, or a bad entry that stops the others."""
    content = course.notebook("release", "boxes").read_bytes()
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("änna/boxes.ipynb", content)
        archive.writestr("zoe/boxes.ipynb", content)
    whole = path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    damages = (
        ("magic number", whole.index(b"PK\x01\x02", start + 4), b"no"),
        ("version", start + 6, b"\xff"),
        ("decode", start + 46, b"\xff"),
    )
    for words, place, damage in damages:
        path.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
        with pytest.raises(LabError, match=rf"all\.zip\" is damaged.*{words}.*Download it again"):
            collect(course, path)
    # Where änna's file starts: before the beginning of the zip, then in another one's.
    for offset in (b"\xf0\xff\xff\xff", b"\x40\x00\x00\x00"):
        path.write_bytes(whole[: start + 42] + offset + whole[start + 46 :])
        result = collect(course, path)
        assert [student for student, _, _ in result.taken] == ["zoe"]
        assert "cannot be read" in dict(result.refused)["änna/boxes.ipynb"]


NAMES = ('</script><script>alert("x")</script>', "<img src=x onerror=alert(1)>")


def test_names_in_a_page_that_is_kept(tmp_path):
    """Catches a class or file name that becomes a part of the page."""
    detector = srl.load(checkpoint(tmp_path, "<b onclick=alert(2)>bold", NAMES))
    image = tmp_path / "<svg onload=alert(3)>.png"
    Image.new("RGB", (64, 48), (120, 20, 80)).save(image)
    path = tmp_path / "page.html"
    srl.explore(str(image), detector).to_html(path)
    text = path.read_text("utf-8")
    for mark in ("<img src=x", "<svg onload", "<b onclick", '<script>alert("x")'):
        assert mark not in text


@pytest.mark.slow  # a server and a browser; the page above and test_viewer.py look at the text
@pytest.mark.browser
def test_names_in_the_app(browser, tmp_path):
    """Catches a class name of somebody's model that runs in a visitor's browser."""
    pytest.importorskip("gradio")
    models = [checkpoint(tmp_path, "named", NAMES)]
    with served(models) as url:
        watched = Watched(browser)
        page = watched.page
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        page.goto(url, timeout=PATIENCE)
        page.wait_for_selector("#lab-explorer :text('detections at stage')")
        page.click("#lab-tab-photo-button")
        page.wait_for_selector("#lab-result img")
        page.focus("#lab-threshold input[type=range]")
        page.keyboard.press("Home")
        page.wait_for_selector("#lab-list tbody tr")
        assert NAMES[0] in page.inner_text("#lab-list") or NAMES[1] in page.inner_text("#lab-list")
        page.click("#lab-classes input")  # the list of names drops down
        page.wait_for_timeout(300)
        assert page.query_selector("img[src=x]") is None
        page.click("#lab-tab-explore-button")
        page.wait_for_timeout(500)
        assert asked == []
        watched.clean()


def test_an_image_that_is_a_page(tmp_path):
    """Catches an HTML file, or a script, that is taken for an image because of its name."""
    path = tmp_path / "photo.png"
    path.write_text("<html><script>alert(1)</script></html>")
    with pytest.raises(LabError, match=r"photo\.png"):
        srl.load(checkpoint(tmp_path))(path)
    file = io.BytesIO()
    Image.new("RGB", (5, 5)).save(file, "PNG")
    path.write_bytes(file.getvalue() + b"<script>alert(1)</script>" * 1000)
    assert len(srl.load(checkpoint(tmp_path))(path, threshold=1.0)) == 0  # what follows is not read
