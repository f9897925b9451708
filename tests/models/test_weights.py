"""The published models by name: the right file, whole, converted exactly and kept, or an error."""

import hashlib
import io
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer, file_server
from parity import rule
from small_model import no_initialisation
from test_checkpoint import Trap, largest_file

from sparse_rcnn_lab import RECIPES, LabError, Recipe, load
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.models import layouts as published
from sparse_rcnn_lab.models import releases as weights
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.config_edit import from_dict

NAME = "r50_1x_100"
SERVER = "https://download.openmmlab.com/mmdetection/v2.0/sparse_rcnn"
# As mmdetection's configs/sparse_rcnn/metafile.yml has them.
PUBLISHED = {
    "r50_1x_100": "sparse_rcnn_r50_fpn_1x_coco/"
    "sparse_rcnn_r50_fpn_1x_coco_20201222_214453-dc79b137.pth",
    "r50_3x_100": "sparse_rcnn_r50_fpn_mstrain_480-800_3x_coco/"
    "sparse_rcnn_r50_fpn_mstrain_480-800_3x_coco_20201218_154234-7bc5c054.pth",
    "r50_3x_300": "sparse_rcnn_r50_fpn_300_proposals_crop_mstrain_480-800_3x_coco/"
    "sparse_rcnn_r50_fpn_300_proposals_crop_mstrain_480-800_3x_coco_20201223_024605-9fe92701.pth",
    "r101_3x_100": "sparse_rcnn_r101_fpn_mstrain_480-800_3x_coco/"
    "sparse_rcnn_r101_fpn_mstrain_480-800_3x_coco_20201223_121552-6c46c9d6.pth",
    "r101_3x_300": "sparse_rcnn_r101_fpn_300_proposals_crop_mstrain_480-800_3x_coco/"
    "sparse_rcnn_r101_fpn_300_proposals_crop_mstrain_480-800_3x_coco_20201223_023452-c23c3564.pth",
}
# What stands beside the weights in a file of that release.
META = {
    "config": "model = dict(\n    type='SparseRCNN',\n    pretrained='torchvision://resnet50')\n",
    "seed": None,
    "epoch": 12,
    "hook_msgs": {},
    "CLASSES": published.COCO_CLASSES,
}


def shapes(name: str) -> dict[str, list[int]]:
    """mmdetection's keys and shapes of one of the five models."""
    backbone, _, count = name.split("_")
    # The key list of R-101 with 300 proposals is that with 100, the proposals apart.
    file = f"{backbone}_{count}" if backbone == "r50" else "r101_100"
    found = {entry["key"]: entry["shape"] for entry in rule.read_json(f"keys_mmdet_{file}")}
    for key in ("rpn_head.init_proposal_bboxes.weight", "rpn_head.init_proposal_features.weight"):
        found[key] = [int(count), *found[key][1:]]
    return found


def packed(content: Any) -> bytes:
    """As mmdetection's publishing tool writes a file: not zipped."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def hollow(name: str = NAME, **changes: Any) -> bytes:
    """A released file where each tensor is one number, another in each, so that it is small."""
    state = {
        key: torch.tensor(0 if key.endswith("tracked") else i / 1000).expand(shape)
        for i, (key, shape) in enumerate(shapes(name).items())
    }
    return packed({"meta": META, "state_dict": {**state, **changes}})


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with no_initialisation():
        yield


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[FileServer]:
    """A mirror of the released files, and an empty cache."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "PAUSE", 0.0)
    with file_server() as served:
        monkeypatch.setenv(weights.MIRROR_VARIABLE, served.url + "/")
        yield served


@pytest.fixture
def publish(server, monkeypatch) -> Any:
    """publish(content, name): the released file is this one now, its digest included."""

    def make(content: bytes, name: str = NAME) -> weights.Release:
        digest = hashlib.sha256(content).hexdigest()[:8]
        release = replace(weights.RELEASES[name], version=f"20201222_214453-{digest}")
        monkeypatch.setitem(weights.RELEASES, name, release)
        server.files[release.file] = content
        return release

    return make


def kept(cache: Path) -> list[str]:
    """What lies in the cache, the empty lock files apart."""
    files = (path for path in cache.rglob("*") if path.suffix != ".lock" and path != cache)
    return sorted(path.relative_to(cache).as_posix() for path in files if path.name != "weights")


def test_addresses_and_what_they_are(monkeypatch):
    """Catches a slip in a name, digest or size, and two models exchanged: wrong for all."""
    monkeypatch.delenv(weights.MIRROR_VARIABLE, raising=False)
    urls = {name: release.url() for name, release in weights.RELEASES.items()}
    assert urls == {name: f"{SERVER}/{file}" for name, file in PUBLISHED.items()}
    assert {n for n, recipe in RECIPES.items() if recipe.published_ap} == set(urls)
    for name, url in urls.items():
        model, training = RECIPES[name].model, RECIPES[name].train
        assert f"_{model.backbone.replace('resnet', 'r')}_" in url
        assert ("300_proposals" in url) == (model.num_proposals == 300)
        assert f"_{training.epochs // 12}x_coco_" in url
        assert url.endswith(f"-{weights.RELEASES[name].digest}.pth")
        size = sum(prod(s) * (8 if k.endswith("tracked") else 4) for k, s in shapes(name).items())
        assert abs(size / 1e6 - weights.RELEASES[name].megabytes) < 1


def test_by_name_once_and_then_from_the_cache(server, publish, tmp_path, capsys):
    """Catches a tensor in the wrong place, a lost recipe, a second download, leftovers."""
    release = publish(hollow())
    detector = load(NAME)
    said = capsys.readouterr()
    assert not said.out and f"{NAME}: downloading {server.url}/{release.file} once" in said.err
    assert (detector.name, detector.class_names) == (NAME, published.COCO_CLASSES)
    assert detector.config == RECIPES[NAME].model
    assert from_dict(Recipe, detector.info["recipe"]) == RECIPES[NAME]
    assert detector.info["sha256"].startswith(release.digest)
    ours = detector.model.state_dict()
    for i, key in enumerate(shapes(NAME)):
        value = ours.pop(next(iter(published.rename({key: torch.empty(0)}, "mmdetection"))))
        wanted = 0.0 if key.endswith("tracked") else i / 1000
        assert (value == torch.tensor(wanted, dtype=value.dtype)).all(), key
    assert not ours
    assert kept(tmp_path / "cache") == [f"weights/{NAME}-{release.digest}.safetensors"]

    server.files.clear()
    assert read_checkpoint(weights.fetch(NAME)).name == NAME
    assert len(server.requests) == 1
    assert capsys.readouterr() == ("", "")


def test_what_is_refused(server, publish, tmp_path):
    """Catches a file of another model, a damaged one, or code from the network in the cache."""
    trap = tmp_path / "sprung"
    cases = {
        r"running code.*system.*publish_model": packed({"meta": Trap(trap), "state_dict": {}}),
        r"does not hold the model r50_1x_100: .*num_proposals 300, not 100": hollow("r50_3x_300"),
        r"backbone resnet101, not resnet50": hollow("r101_3x_100"),
        r"not a whole checkpoint": b"<html>Please log in</html>",
        r"do not belong to it, first .roi_head\.mask": hollow(**{"roi_head.mask": torch.ones(1)}),
        r"not Sparse R-CNN in a known layout": packed({"state_dict": {"a": torch.ones(1)}}),
    }
    for words, content in cases.items():
        publish(content)
        with pytest.raises(LabError, match=words):
            weights.fetch(NAME, progress=False)
        assert kept(tmp_path / "cache") == []
    assert not trap.exists()
    release = publish(hollow())
    server.files[release.file] += b"x"
    with pytest.raises(LabError, match=rf"{release.file} is not the released .*{release.digest}"):
        weights.fetch(NAME, progress=False)
    assert kept(tmp_path / "cache") == []


def test_no_network(server, tmp_path, monkeypatch):
    """Catches a traceback of urllib or an error page taken for weights, without a way out; and a
    bare OSError where the cache cannot be."""
    with pytest.raises(LabError, match=rf"{server.url}/sparse_\S+ \(HTTP 404.*give its path"):
        weights.fetch(NAME, progress=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for place in (nobody, "nonsense://somewhere", "file:///not/there"):
        monkeypatch.setenv(weights.MIRROR_VARIABLE, place)
        with pytest.raises(LabError, match=rf"{place}/\S+\.pth'? (could not be reached|is not an)"):
            weights.fetch(NAME, progress=False)
    assert kept(tmp_path / "cache") == []
    (tmp_path / "file").touch()
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(LabError, match=r"cannot keep the weights.*SPARSE_RCNN_LAB_CACHE"):
        weights.fetch(NAME, progress=False)


def test_cut_again_and_again(server, publish, tmp_path):
    """Catches half a file that passes for a whole one, and trying for ever."""
    publish(hollow())
    server.cuts = [1000, 1000, 1000]
    with pytest.raises(LabError, match=r"was cut at 0\.0 of 0\.\d MB, 3 times"):
        weights.fetch(NAME, progress=False)
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert kept(tmp_path / "cache") == []


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_once(ranges, server, tmp_path):
    """Catches a download that starts over each time, or that sticks two copies together."""
    content = os.urandom(3_000_000)
    server.files["file.pth"], server.cuts, server.ranges = content, [2_000_000], ranges
    digest = weights.download(f"{server.url}/file.pth", tmp_path / "file.pth", progress=False)
    assert (tmp_path / "file.pth").read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()
    assert len(server.requests) == 2


@pytest.mark.parametrize("room", [50_000, 5_000_000])
def test_full_disk(room, publish, tmp_path):
    """Catches half a file in the cache, during the download or during the conversion."""
    content = hollow()
    assert 50_000 < len(content) < 5_000_000
    publish(content)
    with largest_file(room), pytest.raises(LabError, match=r"(?s)cache.*File too large.*"):
        weights.fetch(NAME, progress=False)
    assert kept(tmp_path / "cache") == []


@pytest.fixture
def quick(monkeypatch) -> None:
    """The conversion writes a small file: what is tested is who writes it, and when."""
    from safetensors.torch import save_file

    def convert(checkpoint: Any, release: Any, digest: str, target: Path) -> None:
        save_file({"a": torch.ones(3)}, target)

    monkeypatch.setattr(weights, "_convert", convert)


@pytest.mark.skipif(os.name == "nt", reason="without locks each downloads for itself")
def test_three_at_once(server, publish, quick, tmp_path):
    """Catches eight ranks that download eight times, or remove each other's files."""
    release = publish(hollow())
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(weights.fetch(NAME, progress=False)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [release.cached] * 3
    assert len(server.requests) == 1
    assert kept(tmp_path / "cache") == [f"weights/{release.cached.name}"]


def test_stopped_and_killed(publish, quick, tmp_path, monkeypatch):
    """Catches hundreds of megabytes that stay behind after Ctrl-C, or for ever after a kill."""
    release = publish(hollow())

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(weights, "_blocks", stop)
        with pytest.raises(KeyboardInterrupt):
            weights.fetch(NAME, progress=False)
    folder = tmp_path / "cache" / "weights"
    assert kept(tmp_path / "cache") == []
    (folder / f".{release.cached.name}.abc").mkdir()
    (folder / f".{release.cached.name}.abc" / "part.pth").touch()
    (folder / f".{release.cached.name}.def").touch()
    (folder / ".another.safetensors.abc").touch()
    weights.fetch(NAME, progress=False)
    if os.name != "nt":
        wanted = ["weights/.another.safetensors.abc", f"weights/{release.cached.name}"]
        assert kept(tmp_path / "cache") == wanted


def test_damaged_cache_is_mended(server, publish, quick, capsys):
    """Catches a name that never works again after a disk fault."""
    release = publish(hollow())
    whole = weights.fetch(NAME, progress=False).read_bytes()
    release.cached.write_bytes(whole[:-4])
    assert weights.fetch(NAME, progress=False).read_bytes() == whole
    assert "damaged and will be downloaded again" in capsys.readouterr().err


def test_folder_as_mirror(server, publish, quick, tmp_path, monkeypatch):
    """Catches a class's shared folder that only works when it is written as an address."""
    release = publish(hollow())
    (tmp_path / "shared folder").mkdir()
    (tmp_path / "shared folder" / release.file).write_bytes(server.files[release.file])
    monkeypatch.setenv(weights.MIRROR_VARIABLE, str(tmp_path / "shared folder"))
    weights.fetch(NAME, progress=False)
    assert not server.requests and release.cached.is_file()


def test_where_the_cache_is(tmp_path, monkeypatch):
    """Catches a variable that is not obeyed: home folders of clusters are small."""
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_folder() == tmp_path / "own"
    monkeypatch.delenv(weights.CACHE_VARIABLE)
    assert weights.cache_folder() == tmp_path / "xdg" / "sparse_rcnn_lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert weights.cache_folder() == tmp_path / "home" / ".cache" / "sparse_rcnn_lab"


def test_a_file_that_somebody_has(tmp_path):
    """Catches a released file that, by its path, no longer knows its recipe."""
    path = tmp_path / weights.RELEASES["r50_3x_300"].file
    path.write_bytes(hollow("r50_3x_300"))
    detector = load(path)
    assert detector.num_proposals == 300 and detector.info["published"] == "r50_3x_300"
    assert from_dict(Recipe, detector.info["recipe"]) == RECIPES["r50_3x_300"]
    assert weights.about(tmp_path / "mine.pth") == {}


def test_models_lists_them(server, publish, quick, capsys):
    """Catches a list that leaves one out, or that downloads to find out."""
    assert cli.main(["models"]) == 0
    listed = capsys.readouterr().out.split("published COCO models")[1].split("presets")[0]
    assert [line.split()[0] for line in listed.splitlines()[1:6]] == list(weights.RELEASES)
    assert listed.count("not downloaded yet") == 5 and not server.requests
    publish(hollow())
    weights.fetch(NAME, progress=False)
    capsys.readouterr()
    assert cli.main(["models"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "in the cache" in line)
    assert row.split()[0] == NAME and "published AP 37.9" in row and "425 MB" in row
