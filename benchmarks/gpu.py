"""What only a GPU can tell, in one unattended run: ``python -m benchmarks.gpu --out results``.

Each part (``benchmarks.gpu_parts``) runs in a process of its own with a time limit, and every
number is on disk as soon as it is known: a part that hangs, crashes or is cut off costs itself
alone. ``results/results.json`` and ``results/summary.md`` are written anew after each part, and
``results/log.txt`` has what the parts print.

``--device cpu --tiny`` rehearses the same lines with small sizes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import PARTS, Report, Setting
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.device import machine, pick_device
from sparse_rcnn_lab.training.run_folder import versions

ROOT = Path(__file__).resolve().parents[1]
RESERVE = 5.0  # seconds kept for the last files


def measure(out: Path, names: list[str], setting: Setting, seconds: float) -> dict[str, Any]:
    """Runs the parts in order within ``seconds``, and returns what is in ``results.json``."""
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds - RESERVE
    device = pick_device(setting.device)
    results: dict[str, Any] = {
        "machine": {**machine(device), "system": platform.platform()},
        "versions": {**versions(), "cuda": torch.version.cuda},
        "tiny": setting.tiny,
        "parts": {},
    }
    for name in names:
        left = end - time.monotonic()
        limit = left if setting.tiny else min(PARTS[name].seconds, left)  # a rehearsal may be slow
        results["parts"][name] = _run_part(out, name, setting, limit)
        text = json.dumps(results, indent=1)
        (out / "results.json").write_text(text + "\n", encoding="utf-8")
        (out / "summary.md").write_text(as_text(results), encoding="utf-8")
    return results


def _run_part(out: Path, name: str, setting: Setting, limit: float) -> dict[str, Any]:
    rows = out / f"{name}.jsonl"
    rows.unlink(missing_ok=True)
    if limit < 1:
        return {"state": "left out: no time left", "seconds": 0.0, "rows": []}
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--part", name]
    command += ["--device", setting.device, *(["--tiny"] if setting.tiny else [])]
    if setting.data is not None:
        command += ["--data", str(setting.data)]
    start = time.monotonic()
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"\n== {name}\n")
        log.flush()
        try:
            process = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=limit, check=False
            )
            code = process.returncode
            state = "done" if code == 0 else f"failed with exit status {code}: see log.txt"
        except subprocess.TimeoutExpired:
            state = f"cut off after {limit:.0f} s"
    found = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    seconds = round(time.monotonic() - start, 1)
    print(f"{name}: {state}, {seconds} s, {len(found)} numbers", flush=True)
    return {"state": state, "seconds": seconds, "rows": [json.loads(row) for row in found]}


def as_text(results: dict[str, Any]) -> str:
    """A page in Markdown: a table for each part."""
    about = ", ".join(f"{key} {value}" for key, value in results["versions"].items())
    lines = [f"{', '.join(map(str, results['machine'].values()))}", "", about]
    if results["tiny"]:
        lines += ["", "A rehearsal with small sizes: these times mean nothing."]
    for name, part in results["parts"].items():
        lines += ["", f"## {name} ({part['state']}, {part['seconds']} s)", ""]
        if part["rows"]:
            lines += ["| what | value | unit | goal | met |", "| --- | --- | --- | --- | --- |"]
        for row in part["rows"]:
            met = {True: "yes", False: "**no**", None: ""}[row["met"]]
            cells = (row["what"], _number(row["value"]), row["unit"], row["goal"] or "", met)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Parses and runs; 0 when each part came to its end, 1 otherwise, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all (%(default)s)")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        metavar="PART,...",
        help="of " + ", ".join(f"{name} ({part.seconds:.0f} s)" for name, part in PARTS.items()),
    )
    parser.add_argument("--data", type=Path, help="a COCO folder, for the part everyday")
    parser.add_argument("--tiny", action="store_true", help="small sizes: to rehearse")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    setting = Setting(chosen.device, chosen.tiny, chosen.data)
    names = chosen.only or [n for n in PARTS if n != "everyday" or chosen.data is not None]
    try:
        pick_device(chosen.device)
        if unknown := sorted(set(names) - set(PARTS)):
            raise LabError(f"There is no part {unknown[0]!r}. Choose of {', '.join(PARTS)}.")
        if "everyday" in names and chosen.data is None:
            raise LabError("The part everyday needs --data, a folder in COCO's format.")
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if chosen.part:
        PARTS[chosen.part].run(setting, Report(chosen.out / f"{chosen.part}.jsonl"))
        return 0
    results = measure(chosen.out, names, setting, chosen.seconds)
    print(f"written: {chosen.out / 'summary.md'}")
    return int(any(part["state"] != "done" for part in results["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
