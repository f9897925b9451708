"""A mended copy of a data set: new json files, the images beside them, and a list of changes."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.coco.records import from_text
from sparse_rcnn_lab.detect.files import no_formula, write_text, write_whole

_HEAD = ("file", "record", "id", "field", "before", "after", "why")


def write_mended(sets: Sequence[CocoFolder], out: Path, *, progress: bool = True) -> Path:
    """Writes ``train.json`` and ``val.json``, their images in folders ``train`` and ``val``, and
    ``changes.csv`` into ``out``, a new or empty folder. Returns the path of ``changes.csv``.

    The json then contains all that was changed when the data was read: boxes, classes, sizes, file
    names. Fields that are not read, such as polygons, are kept. Raises LabError where there are
    files in ``out`` already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LabError(f'"{out}" already exists. Give a new folder for the mended copy.')
    splits = [data.split for data in sets]
    if len(set(splits)) < len(sets):
        splits = [data.json_path.stem for data in sets]
    changes = []
    for data, split in zip(sets, splits, strict=True):
        document = json.loads(data.json_path.read_bytes())
        changes += list(_mend(document, data))
        bar = tqdm(range(len(data)), desc=f"copy {split}", leave=False, disable=not progress)
        for index in bar:
            target = out / split / data.tables.file_name(index)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data.image_path(index), target)
        write_text(out / f"{split}.json", json.dumps(document) + "\n")
    listed = out / "changes.csv"
    with (
        write_whole(listed) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows([_HEAD, *(map(no_formula, row) for row in changes)])
    return listed


def _mend(document: dict[str, Any], data: CocoFolder) -> Iterator[tuple[Any, ...]]:
    """Puts the cleaned tables into the json that they were read from; yields every change."""
    tables, file = data.tables, data.file
    why = defaultdict(list)
    for finding in tables.findings:
        for row in finding.rows.tolist():
            why[finding.kind, row].append(finding.subject.split(" ", 1)[1])

    def changed(
        kind: str, rows: list[dict[str, Any]], new: dict[int, dict[str, Any]]
    ) -> Iterator[tuple[Any, ...]]:
        for place, row in enumerate(rows):
            reasons = "; ".join(why[kind, place])
            if place not in new:
                yield (file, kind, row.get("id"), "", json.dumps(row), "removed", reasons)
                continue
            for field, value in new[place].items():
                before = row.get(field)
                if before != value and (before is not None or field in ("id", "width", "height")):
                    yield (file, kind, row.get("id"), field, before, value, reasons)
                row[field] = value
        rows[:] = [row for place, row in enumerate(rows) if place in new]

    ids = [tables.source_id(index) for index in range(len(data))]
    places = {from_text(row["id"]): place for place, row in enumerate(document["images"])}
    images = {
        places[number]: {"id": number, "file_name": name, "width": width, "height": height}
        for number, name, width, height in zip(
            ids, tables.file_names, tables.widths.tolist(), tables.heights.tolist(), strict=True
        )
    }
    class_ids = [
        tables.source_ids[1][i - 1] if tables.source_ids[1] else i for i in tables.category_ids
    ]
    places = {from_text(row["id"]): place for place, row in enumerate(document["categories"])}
    categories = {
        places[number]: {"id": number, "name": name}
        for number, name in zip(class_ids, tables.class_names, strict=True)
    }
    owner = np.repeat(np.arange(len(data)), np.diff(tables.starts))
    turned = {
        row for (kind, row), said in why.items() if kind == "annotation" and "rotation" in str(said)
    }
    annotations = {
        row: {
            "id": number,
            "image_id": ids[image],
            "category_id": class_ids[label],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for row, number, image, label, box, area, crowd in zip(
            *(tables.rows.tolist(), tables.annotation_ids.tolist(), owner.tolist()),
            *(tables.labels.tolist(), tables.boxes_xywh.tolist(), tables.areas.tolist()),
            tables.crowd.tolist(),
            strict=True,
        )
    }
    for row in turned & annotations.keys():
        given = document["annotations"][row]["attributes"]
        annotations[row]["attributes"] = {**given, "rotation": 0.0}
    yield from changed("image", document["images"], images)
    yield from changed("category", document["categories"], categories)
    yield from changed("annotation", document["annotations"], annotations)
    info = document.get("info")
    document["info"] = {**(info if isinstance(info, dict) else {}), "box_format": "xywh"}
