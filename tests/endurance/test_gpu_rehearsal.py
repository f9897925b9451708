"""Every part of ``benchmarks.gpu`` from the first line to the last, on the CPU."""

import pytest
from coco_folders import coco_folder

from benchmarks import gpu
from benchmarks.gpu_parts import PARTS, Setting

pytestmark = pytest.mark.slow


def test_rehearsal(tmp_path):
    """Catches a part that stops with an error on the day when a card is at hand."""
    names, data = list(PARTS), coco_folder(tmp_path / "data", [(60, 40)] * 6)
    results = gpu.measure(tmp_path, names, Setting("cpu", tiny=True, data=data), 1800)
    states = {name: part["state"] for name, part in results["parts"].items()}
    assert states == dict.fromkeys(names, "done"), (tmp_path / "log.txt").read_text()
    rows = [row for part in results["parts"].values() for row in part["rows"]]
    missing = ("transformers", "triton", "C++ compiler")
    errors = [row for row in rows if row["unit"] == "error"]
    assert [row for row in errors if not any(m in row["value"] for m in missing)] == []
