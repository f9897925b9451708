"""A smaller copy of a data set, in parts of a few megabytes: to carry to a machine with a GPU.

``python -m benchmarks.smaller --data FOLDER --out PARTS --side 320 --megabytes 25`` writes
``PARTS/1``, ``PARTS/2``, ...; there, copied into one folder, they are a data set in COCO's format
again (``cp -r PARTS/*/. data``). Boxes and areas are those of the smaller images. ``--crowds``
makes objects of the crowds to train on (PASCAL VOC's "difficult" objects, for which a model is told
otherwise that nothing is there), and ``--val 100`` leaves only so many images to evaluate on.
"""

from __future__ import annotations

import argparse
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from sparse_rcnn_lab.cli.common import plural
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder


def shrink(
    data: Path,
    out: Path,
    side: int,
    megabytes: float,
    quality: int = 60,
    crowds: bool = False,
    val: int | None = None,
) -> int:
    """Writes the parts and returns their number.

    side: of the smaller images at most, pixels.  megabytes: of each part at most.  crowds: those
    to train on become objects.  val: so many images to evaluate on, None: all.
    Raises LabError where ``out`` is not empty, or the data cannot be read.
    """
    if out.exists() and any(out.iterdir()):
        raise LabError(f'"{out}" is not empty. Name a new folder.')
    splits = {name: CocoFolder(data, name) for name in ("train", "val")}
    part, used = 1, 0
    for name, split in splits.items():
        content = json.loads(split.json_path.read_text(encoding="utf-8"))
        scales: dict[int, tuple[float, float]] = {}
        if name == "val":
            content["images"] = content["images"][:val]
        for entry in tqdm(content["images"], desc=name):
            source = split.image_folder / entry["file_name"]
            entry["file_name"] = f"{name}_{entry['id']}.webp"
            encoded, scales[entry["id"]] = _smaller(source, entry, side, quality)
            if used + len(encoded) > megabytes * 1e6:
                part, used = part + 1, 0
            used += len(encoded)
            target = out / str(part) / "images" / entry["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(encoded)
        boxes = [box for box in content["annotations"] if box["image_id"] in scales]
        content["annotations"] = boxes
        for box in boxes:
            if crowds and name == "train":
                box["iscrowd"] = 0
            across, down = scales[box["image_id"]]
            x, y, width, height = box["bbox"]
            corner_and_size = x * across, y * down, width * across, height * down
            box["bbox"] = [round(value, 2) for value in corner_and_size]
            box["area"] = box["area"] * across * down
            box.pop("segmentation", None)
        text = json.dumps(content, separators=(",", ":"))
        used += len(text)
        target = out / str(part) / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return part


def _smaller(
    source: Path, entry: dict[str, Any], side: int, quality: int
) -> tuple[bytes, tuple[float, float]]:
    """The image as WebP, with its new size put into ``entry``, and the two scales."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
        width, height = image.size
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        buffer = BytesIO()
        image.save(buffer, "WEBP", quality=quality)
        entry["width"], entry["height"] = image.size
    return buffer.getvalue(), (entry["width"] / width, entry["height"] / height)


def main(arguments: list[str] | None = None) -> int:
    """Parses and writes; 2 where the arguments cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smaller", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--side", type=int, default=320, help="pixels (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=25.0, help="a part (%(default)s)")
    parser.add_argument("--quality", type=int, default=60, help="of WebP (%(default)s)")
    parser.add_argument("--crowds", action="store_true", help="crowds to train on are objects")
    parser.add_argument("--val", type=int, metavar="N", help="images to evaluate on (all)")
    chosen = parser.parse_args(arguments)
    try:
        parts = shrink(
            chosen.data, chosen.out, chosen.side, chosen.megabytes, chosen.quality,
            chosen.crowds, chosen.val,
        )  # fmt: skip
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {plural(parts, 'part')} in {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
