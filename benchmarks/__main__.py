"""``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, get_args

from sparse_rcnn_lab.cli import cmd_benchmark
from sparse_rcnn_lab.cli.common import count, plural, whole_number
from sparse_rcnn_lab.core.config import Precision
from sparse_rcnn_lab.core.errors import LabError

HELP = """measure where the time goes, and compare two poolings

Each part of inference and of a training step, once with this package's pooling (one gather over
the whole pyramid), once with torchvision's RoIAlign level by level: same model, same weights, in
turn. Times are medians in milliseconds; the ratio says how many times as long torchvision takes.
With one thread on a CPU they are process time, which other programs hardly affect.

With --data: how many images a second can be loaded for training instead.

With --train: a preset is trained as `train` does, on drawn images (or on --data), in float32 and
in --precision: images a second, memory of the GPU, both loss curves; with --data also whether
loading keeps up. Each starts from the same weights and sees the same batches.

examples:
  python -m benchmarks --model nano
  python -m benchmarks --model r50_3x_100 --size 800x1216 --only inference --json times.json
  python -m benchmarks --model r50_3x_100 --size 800x1216 --against torchvision,mmdetection
  python -m benchmarks --model nano --growth
  python -m benchmarks --model r50_3x_300 --data coco/ --workers 16
  python -m benchmarks --train --model r50_1x_100 --size 800x1216 --device cuda \\
      --precision bf16 --steps 200 --json bf16.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    cmd_benchmark.add_arguments(parser)  # one vocabulary for both commands
    parser.set_defaults(batch=None)
    parser.add_argument("--only", choices=("inference", "training"), help="leave out the other")
    parser.add_argument("--data", metavar="FOLDER", help="measure loading this data set")
    parser.add_argument(
        "--workers", type=count, default=0, metavar="N", help="and with so many processes"
    )
    parser.add_argument("--train", action="store_true", help="train, and measure that")
    parser.add_argument(
        "--steps", type=whole_number, default=20, metavar="N", help="of --train (%(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="of --train, beside float32",
    )
    parser.add_argument("--compile", action="store_true", help="--train through torch.compile")
    parser.add_argument(
        "--backbone-weights", metavar="download|FILE", help="of --train (default: from scratch)"
    )
    parser.add_argument(
        "--against",
        metavar="NAME,...",
        type=lambda text: tuple(text.split(",")),
        help='compare inference by runtime="auto" with others: eager, folded, compiled, bf16, '
        "onnxruntime, openvino, openvino-bf16, onnxruntime-int8, openvino-int8, roialign, "
        "torchvision, mmdetection; onnxruntime-file and openvino-file are the exported file",
    )
    parser.add_argument(
        "--growth", action="store_true", help="how time grows with proposals, pixels, batch, stages"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures the times, prints them and writes them where asked to."""
    from benchmarks.poolings import Settings, run_benchmark
    from sparse_rcnn_lab.detect.device import pick_device

    if arguments.train:
        return _training(arguments)
    if arguments.data is not None:
        return _loading(arguments)
    settings = Settings(
        model=arguments.model,
        size=arguments.size,
        proposals=arguments.proposals,
        batch=arguments.batch,
        threads=arguments.threads,
        repeat=arguments.repeat,
        device=pick_device(arguments.device),
        only=arguments.only,
    )
    if arguments.against is not None:
        from benchmarks import peers

        result = peers.compare(settings, arguments.against)
        print(peers.as_text(result))
    elif arguments.growth:
        from benchmarks import growth

        result = growth.growth(settings)
        print(growth.as_text(result))
    else:
        result = run_benchmark(settings)
        print(as_text(result))
    return _write(arguments, result)


def _training(arguments: argparse.Namespace) -> int:
    from benchmarks import training
    from sparse_rcnn_lab.detect.device import pick_device

    settings = training.TrainSettings(
        recipe=arguments.model,
        size=arguments.size,
        data=arguments.data,
        batch=arguments.batch,
        steps=arguments.steps,
        precision=arguments.precision,
        compiled=arguments.compile,
        backbone_weights=arguments.backbone_weights,
        device=pick_device(arguments.device),
        threads=arguments.threads,
        workers=arguments.workers,
    )
    result = training.training_speed(settings)
    print(training.as_text(result))
    return _write(arguments, result)


def _loading(arguments: argparse.Namespace) -> int:
    from benchmarks import loading
    from sparse_rcnn_lab.data.coco.folder import open_data
    from sparse_rcnn_lab.models import recipes

    recipe = recipes.recipe(arguments.model)
    result = loading.loading_speed(open_data(arguments.data), recipe, arguments.workers)
    print(loading.as_text(result))
    return _write(arguments, result)


def _write(arguments: argparse.Namespace, result: dict[str, Any]) -> int:
    from sparse_rcnn_lab.detect.files import write_text

    if arguments.json is not None:
        write_text(arguments.json, json.dumps(result, indent=2) + "\n")
        print(f"\nwritten: {arguments.json}")
    return 0


def as_text(result: dict[str, Any]) -> str:
    """The tables of one :func:`benchmarks.run_benchmark`."""
    settings, versions = result["settings"], result["versions"]
    height, width = settings["size"]
    weights = "trained" if result["trained"] else "untrained weights, random proposal boxes"
    lines = [
        f"{settings['model']}: {height}x{width} pixels (height x width), "
        f"{result['proposals']} proposals, {weights}",
        f"{', '.join(result['machine'].values())}; {plural(settings['threads'], 'thread')}, "
        f"{result['clock']} time, median of {settings['repeat']}",
        f"python {versions['python']}, torch {versions['torch']}, "
        f"torchvision {versions['torchvision']}, sparse_rcnn_lab {versions['sparse_rcnn_lab']}",
    ]
    for part in ("inference", "training step"):
        if part in result:
            lines += ["", *_table(part, result[part])]
    if "largest_difference" in result:
        lines += [
            "",
            f"largest difference of the pooled numbers: {result['largest_difference']:.1e}",
        ]
    return "\n".join(lines)


def _table(title: str, part: dict[str, Any]) -> list[str]:
    columns = part["milliseconds"]
    head = f"{title}, batch {part['batch']}, ms"
    lines = [f"{head:<36}" + "".join(f"{name:>14}" for name in columns) + "  ratio"]
    for name in next(iter(columns.values())):
        ratio = part["ratio"].get(name)
        lines.append(
            f"{name:<36}"
            + "".join(f"{column[name]:>14.2f}" for column in columns.values())
            + ("      –" if ratio is None else f"{ratio:>7.2f}")
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Parses, measures, prints; 2 where the arguments cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
