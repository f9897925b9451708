"""The unattended run on a GPU, rehearsed on the CPU with small sizes."""

import json

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import PARTS, Report, Setting

TINY = Setting(device="cpu", tiny=True)


def test_a_part_writes_each_number_at_once(tmp_path):
    """Catches an error that costs the numbers before it, or ends the part, and a goal turned
    round."""
    report = Report(tmp_path / "rows.jsonl")
    with report.attempt("broken"):
        report.add("rate", 5.0, "images/s", 4.0, ">=")
        raise RuntimeError("no triton here\nand more")
    report.add("time", 5.0, "ms", 4.0)
    rows = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert [(row["what"], row["met"]) for row in rows] == [
        ("rate", True), ("broken", None), ("time", False)
    ]  # fmt: skip
    assert rows[1]["value"] == "RuntimeError: no triton here"


def test_both_poolings_are_measured(tmp_path):
    """Catches a part that no longer fits the package: it would be found out on the card only."""
    PARTS["pooling"].run(TINY, Report(tmp_path / "rows.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["unit"] for row in rows] == ["ms"] * 4 + ["x"] * 2
    assert all(row["value"] > 0 for row in rows)


def test_a_part_cut_off_costs_itself_alone(tmp_path, monkeypatch):
    """Catches a limit that ends the whole run, or results written only at the end."""
    monkeypatch.setattr(gpu, "RESERVE", 0.0)
    results = gpu.measure(tmp_path, ["pooling", "peers"], TINY, 1.5)
    states = [part["state"] for part in results["parts"].values()]
    assert states == ["cut off after 1 s", "left out: no time left"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert "## pooling (cut off" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "speed"], "no part 'speed'"),
        (["--only", "everyday"], "needs --data"),
        (["--device", "gpu"], "no device 'gpu'"),
    ],
)
def test_wrong_arguments(arguments, words, tmp_path, capsys):
    """Catches a session on a rented card that ends in a traceback minutes later."""
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert gpu.main(["--out", str(tmp_path), *device, *arguments]) == 2
    assert words in capsys.readouterr().err
