"""``sparse-rcnn-lab benchmark``: how fast is the model on this machine?"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.cli.common import add_device, check_place, plural, whole_number
from sparse_rcnn_lab.core.errors import LabError

if TYPE_CHECKING:
    from sparse_rcnn_lab.core.config import InputConfig, ModelConfig
    from sparse_rcnn_lab.core.model import SparseRCNN

HELP = """measure how fast a model is on this machine

Times inference in each runtime, separately for the pyramid, which depends on the image alone, and
the stages; for a preset also one training step. The numbers are medians in milliseconds, measured
in turns, so that a busy machine slows all of them alike. With one thread on a CPU they are process
time, which other programs hardly affect.

The repository compares with other detectors: python -m benchmarks --help

examples:
  sparse-rcnn-lab benchmark
  sparse-rcnn-lab benchmark --model r50_3x_100 --size 800x1216 --repeat 3 --json times.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add(
        "--model",
        default="nano",
        metavar="NAME",
        help="a preset (untrained, which takes the same time), a shipped model, a run folder or "
        "a file (default: %(default)s)",
    )
    size = "input size in pixels, multiples of 32 (default: the model's own)"
    add("--size", type=_size, metavar="HxW", help=size)
    for name, default, text in (
        ("proposals", None, "number of proposals (default: the model's own)"),
        ("batch", 1, "images in one inference batch (default: %(default)s)"),
        ("threads", 1, "CPU threads that torch uses (default: %(default)s)"),
        ("repeat", 5, "measurements behind each median (default: %(default)s)"),
    ):
        add(f"--{name}", type=whole_number, default=default, metavar="N", help=text)
    add_device(parser)
    add("--json", type=Path, metavar="FILE", help="also write all numbers to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measures the times, prints them and writes them where asked to."""
    from sparse_rcnn_lab.detect.files import write_text

    if arguments.json is not None:
        check_place(arguments.json.parent)
    with threads(arguments.threads):
        result = measure(arguments)
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(result, indent=2) + "\n")
    print(as_text(result))
    if arguments.json is not None:
        print(f"\nwritten: {arguments.json}")
    return 0


@contextmanager
def threads(number: int) -> Iterator[None]:
    """A context in which torch uses this many threads on the CPU."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The measurements as plain values that json can hold; times are median milliseconds."""
    import torch

    from sparse_rcnn_lab.analysis.experiments.running_cost import clock_kind
    from sparse_rcnn_lab.detect.device import machine, pick_device
    from sparse_rcnn_lab.models.load import load
    from sparse_rcnn_lab.models.recipes import RECIPES
    from sparse_rcnn_lab.runtime.choose import make_runtime
    from sparse_rcnn_lab.runtime.engines import installed_engines
    from sparse_rcnn_lab.training.run_folder import versions

    device = torch.device(pick_device(arguments.device))
    preset = RECIPES.get(arguments.model)
    if preset is None:
        model = load(arguments.model, device).model
    else:
        model = untrained(preset.model, device)
    height, width = arguments.size or default_size(model.config.input)
    if height % 32 or width % 32:
        raise LabError(f"--size must be multiples of 32, found {height}x{width}.")
    images = torch.randn(arguments.batch, 3, height, width, device=device)
    sizes = images.new_tensor([height, width]).expand(len(images), 2)
    with torch.no_grad():
        start = model.proposals(sizes, arguments.proposals)
        parts: dict[str, Callable[[], object]] = {}
        engines = [f"{e} float32" for e in installed_engines() if device.type == "cpu"]
        for name in ("eager float32", "folded float32", "folded bf16", *engines):
            runtime = make_runtime(model, *name.split())  # type: ignore[arg-type]
            pyramid = runtime.pyramid(images)
            parts[f"{name}: pyramid"] = partial(runtime.pyramid, images)
            parts[f"{name}: stages"] = partial(runtime.run_stages, pyramid, *start)
        milliseconds = _timed(parts, arguments.repeat, device)
    if preset is not None:
        step = {f"training step, batch {preset.train.batch_size}": _training_step(preset, device)}
        milliseconds |= _timed(step, arguments.repeat, device)
    return {
        "model": arguments.model,
        "size": [height, width],
        "batch": len(images),
        "proposals": start[0].shape[1],
        "threads": arguments.threads,
        "clock": clock_kind(device),
        "repeat": arguments.repeat,
        "machine": machine(str(device)),
        "versions": versions(),
        "milliseconds": milliseconds,
    }


def default_size(want: InputConfig) -> tuple[int, int]:
    """The input size (height, width) of a 2:3 landscape image, rounded up to multiples of 32."""
    long = min(want.long_side, want.short_side * 3 // 2)
    return -(-want.short_side // 32) * 32, -(-long // 32) * 32


def untrained(config: ModelConfig, device: Any) -> SparseRCNN:
    """A model with the same random weights in each call; its boxes vary like a trained model's."""
    from dataclasses import replace

    import torch

    from sparse_rcnn_lab.core.model import SparseRCNN

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SparseRCNN(replace(config, proposal_init="random")).eval().to(device)


def _training_step(recipe: Any, device: Any) -> Callable[[], object]:
    """One update on drawn images, as in ``train``, without the loading of images."""
    from sparse_rcnn_lab.data.shapes.dataset import Shapes
    from sparse_rcnn_lab.data.transforms import Augment
    from sparse_rcnn_lab.models.config_edit import with_changes
    from sparse_rcnn_lab.training.fit import begin
    from sparse_rcnn_lab.training.loader import train_loader
    from sparse_rcnn_lab.training.step import train_step

    data = Shapes(64)
    recipe = with_changes(recipe, model__num_classes=len(data.class_names))
    augment = Augment(recipe.augment, recipe.model.input.antialias)
    (batch,) = train_loader(data, augment, recipe.train, recipe.model.input, 0, 1, workers=0)
    training = begin(recipe, device)
    training.connect()
    return lambda: train_step(training, batch.to(device), batch.targets.counts, 0, recipe.train.lr)


def _timed(parts: dict[str, Callable[[], object]], repeat: int, device: Any) -> dict[str, float]:
    import torch

    from sparse_rcnn_lab.analysis.experiments.running_cost import clock_kind

    clock = time.process_time if clock_kind(device) == "process" else time.perf_counter
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(repeat + 1):
        for name, part in parts.items():
            begun = clock()
            part()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                seen[name].append(1000 * (clock() - begun))
    return {name: round(statistics.median(times), 2) for name, times in seen.items()}


def as_text(result: dict[str, Any]) -> str:
    """The measurements as a table."""
    height, width = result["size"]
    lines = [
        f"{result['model']}: {height}x{width} pixels (height x width), batch {result['batch']}, "
        f"{result['proposals']} proposals",
        f"{', '.join(result['machine'].values())}; {plural(result['threads'], 'thread')}, "
        f"{result['clock']} time, median of {result['repeat']}; torch "
        f"{result['versions']['torch']}",
        "",
    ]
    lines += [f"{name:<32}{ms:>10.1f} ms" for name, ms in result["milliseconds"].items()]
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.lower().partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"HEIGHTxWIDTH is needed, as in 800x1216; found {text!r}")
    return whole_number(height), whole_number(width)
