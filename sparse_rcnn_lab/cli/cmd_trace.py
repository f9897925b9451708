"""``sparse-rcnn-lab trace``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_lab.cli.common import add_model, add_proposals, megabytes, open_model
from sparse_rcnn_lab.core.errors import LabError

HELP = """record every proposal through every stage of one image

The file is opened in Python with sparse_rcnn_lab.load_trace(FILE).
Attention takes little space; RoI features, filters and filtered features take megabytes.

example:
  sparse-rcnn-lab trace photo.jpg --record attention,roi_features,filtered_features
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    add_model(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write (default: IMAGE's name + .trace)"
    )
    parser.add_argument(
        "--record",
        default="attention",
        metavar="NAMES",
        help="large tensors to keep, separated by commas: attention, roi_features, "
        'dynamic_filters, filtered_features; or "none" or "all" (default: %(default)s)',
    )
    add_proposals(parser)


def run(arguments: argparse.Namespace) -> int:
    """Records the trace, writes the file and prints what is in it."""
    from sparse_rcnn_lab.core.trace import RECORDABLE
    from sparse_rcnn_lab.detect.trace_file import save_trace

    names = [name.strip() for name in arguments.record.split(",") if name.strip()]
    names = {"none": [], "all": list(RECORDABLE)}.get(arguments.record, names)
    unknown = [name for name in names if name not in RECORDABLE]
    if unknown:
        raise LabError(
            f"--record {unknown[0]!r} is unknown. Choose from {', '.join(RECORDABLE)}, none, all."
        )
    out = arguments.out or Path(Path(arguments.image).stem + ".trace")
    if out.exists() and Path(arguments.image).exists() and out.samefile(arguments.image):
        raise LabError(f'--out "{out}" is the image itself. Choose another file.')
    detector = open_model(arguments)
    trace = detector.trace(arguments.image, record=names, num_proposals=arguments.proposals)
    save_trace(trace, out)
    print(
        f"{arguments.image}: {trace.num_proposals} proposals, {trace.num_stages} stages, "
        f"{len(trace.detections(threshold=0.3))} detections with a score of 0.3 or more"
    )
    print(f"recorded: {', '.join(['boxes', 'logits', 'features', 'fpn_level', *names])}")
    print(f"written: {out} ({megabytes(out)})")
    return 0
