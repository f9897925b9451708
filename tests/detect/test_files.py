"""Files are whole or absent, whatever interrupts the writing."""

import os
import re
from pathlib import Path

import pytest
import torch
from test_checkpoint import largest_file

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.detect import files
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.detect.files import write_text, write_whole


@pytest.mark.parametrize(
    ("interruption", "raised", "words"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (RuntimeError(), RuntimeError, "^$"),
        (OSError(28, "No space left on device"), LabError, r"model\.bin.*No space left"),
    ],
)
def test_interrupted_or_disk_full(interruption, raised, words, tmp_path):
    """Catches half a file in place of the old one, litter, and a bare OSError."""
    path = tmp_path / "model.bin"
    path.write_text("old")
    with pytest.raises(raised, match=words), write_whole(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        raise interruption
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_written(tmp_path):
    """Catches a missing folder, another encoding, or a file that only its owner can read."""
    path = tmp_path / "a" / "b" / "notes.txt"
    write_text(path, "first")
    write_text(path, "Größe ×2")
    assert path.read_bytes().decode("utf-8") == "Größe ×2"
    assert [p.name for p in path.parent.iterdir()] == ["notes.txt"]
    if os.name == "posix":
        usual = tmp_path / "usual"
        usual.touch()
        assert path.stat().st_mode == usual.stat().st_mode


def test_a_file_that_somebody_reads_on_windows(tmp_path, monkeypatch):
    """Catches a training that ends because a page, or a virus scanner, had its file open."""
    path, replace, refused = tmp_path / "state.json", os.replace, []

    def while_it_is_read(source, target):
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.setattr(files, "_PAUSE", 0)
    monkeypatch.setattr(files.os, "replace", while_it_is_read)
    write_text(path, "whole")
    assert path.read_text() == "whole" and len(refused) == 3


def test_impossible_places(tmp_path, monkeypatch):
    """Catches a traceback for a folder's name, for none, and where a file stands for a folder."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "file" / "inside.txt", tmp_path / "folder", Path()):
        with pytest.raises(LabError, match=re.escape(f'"{path}"')):
            write_text(path, "text")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_trace_and_a_full_disk(tmp_path):
    """Catches an error of safetensors' own, which knows neither file nor advice."""
    trace = srl.load("nano-shapes").trace(torch.zeros(3, 64, 64))
    with largest_file(10_000), pytest.raises(LabError, match=r"a\.trace.*File too large"):
        srl.save_trace(trace, tmp_path / "a.trace")
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="rights are as on Unix")
def test_rights_of_the_process_are_left_alone(tmp_path, monkeypatch):
    """Catches a umask set to 0 for a moment, in which others make public files."""
    before = os.umask(0o077)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", lambda mask: pytest.fail("the umask was touched"))
        write_text(tmp_path / "a.txt", "text")
    os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600


def test_temporary_names_are_new(tmp_path, monkeypatch):
    """Catches a file of another writer that is opened, and lost, for having the same name."""
    names = iter(["taken", "taken", "free"])
    monkeypatch.setattr("sparse_rcnn_lab.detect.files.secrets.token_hex", lambda count: next(names))
    with write_whole(tmp_path / "a") as first, write_whole(tmp_path / "a") as second:
        assert (first.name, second.name) == (".a.taken", ".a.free")


@pytest.mark.parametrize("name", ["xla", "hpu"])
def test_a_device_that_is_not_here(name):
    """Catches a page of torch's about backends in place of one sentence; mps is another such
    device, where it is not a Mac."""
    with pytest.raises(LabError, match=f"no device '{name}' here") as caught:
        pick_device(name)
    assert len(str(caught.value)) < 150
