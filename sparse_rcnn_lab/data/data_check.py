"""What a data set holds and what looks wrong in it: a table, and a few lines for a training run."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder, open_splits
from sparse_rcnn_lab.data.finding import Finding
from sparse_rcnn_lab.data.sample import DetectionData, Sample, notes_of
from sparse_rcnn_lab.detect.images import image_header

_ALIKE = 0.9  # IoU from which on two boxes may be one object
_NEIGHBOURS = 3  # how many boxes to its right each box is compared with
_THIN = 2.0  # pixels
_SIZES = {"small": 32.0**2, "medium": 96.0**2}  # COCO's: areas below these
_CLASSES = 40  # rows of a printed table
_LOOKED_AT = 100  # images of a finding that may appear on the sheet
_LINES = 8  # findings among the first lines of a training run
_PUBLISHED_PROPOSALS = 100


@dataclass(frozen=True, eq=False)
class OddImage:
    """An image to look at. sample: None where it cannot be read.  why: what looks wrong in it."""

    sample: Sample | None
    class_names: tuple[str, ...]
    name: str
    why: str

    @classmethod
    def of(cls, data: CocoFolder, image_id: int, found: Sequence[Finding]) -> OddImage:
        """The image with this id, with what was found in it or else how many objects it shows."""
        index = int(np.flatnonzero(data.tables.image_ids == image_id)[0])
        sample = None
        with contextlib.suppress(LabError):
            sample = data[index]
        why = "; ".join(f"{f.noun} {f.what}" for f in found)
        name = f"{data.file.removesuffix('.json')}: {data.tables.file_name(index)}"
        objects = int(data.object_counts[index])
        return cls(sample, data.class_names, name, why or f"{objects} object{'s' * (objects != 1)}")


@dataclass(frozen=True, eq=False)
class DataCheck:
    """The result of :func:`check`; ``print`` it, or show it in a notebook.

    data: the data sets that were checked, such as train and val.  findings: what looks wrong.

    >>> DataCheck((), ()).odd.columns.tolist()
    ['file', 'count', 'what', 'first', 'done']
    """

    data: tuple[CocoFolder, ...]
    findings: tuple[Finding, ...]

    @property
    def odd(self) -> pd.DataFrame:
        """One row per finding: file, count, what, first, done."""
        rows = [
            (f.file, f.count, f.subject.split(" ", 1)[1], f.first, f.done) for f in self.findings
        ]
        return pd.DataFrame(rows, columns=["file", "count", "what", "first", "done"])

    @property
    def classes(self) -> pd.DataFrame:
        """One row per class of a file: boxes without crowds, crowds, images that show it, boxes by
        COCO's sizes (area below 32², below 96², above), median side in pixels."""
        return pd.concat([_classes(data) for data in self.data], ignore_index=True)

    def __str__(self) -> str:
        parts = [_in_short(data) for data in self.data]
        for data in self.data:
            table = _classes(data).drop(columns="file").sort_values("boxes", ascending=False)
            more = f"\nand {len(table) - _CLASSES} more classes" if len(table) > _CLASSES else ""
            text = table.head(_CLASSES).to_string(
                index=False, float_format="{:.0f}".format, na_rep="–"
            )
            parts.append(f"\n{data.file}\n{text}{more}")
        parts.append("\n" + (_table(self.odd) if self.findings else "Nothing odd was found."))
        return "\n".join(parts)

    def oddest(self, count: int = 12) -> list[OddImage]:
        """Images to look at: first those with the rarest findings and the most of them, then those
        with the most objects."""
        reasons: dict[tuple[int, int], list[Finding]] = {}
        sets = {data.file: number for number, data in enumerate(self.data)}
        for finding in sorted(self.findings, key=lambda f: len(f.images)):
            number = sets[finding.file]
            there = np.isin(finding.images, self.data[number].tables.image_ids)  # and not left out
            for image in finding.images[there][:_LOOKED_AT].tolist():
                reasons.setdefault((number, image), []).append(finding)
        odd = {
            key: sum(1 / len(finding.images) for finding in found) for key, found in reasons.items()
        }
        for number, data in enumerate(self.data):
            for index in np.argsort(-data.object_counts, kind="stable")[:count].tolist():
                key = (number, int(data.tables.image_ids[index]))
                odd.setdefault(key, -1 / (1 + data.object_counts[index]))
        chosen = sorted(odd, key=lambda key: -odd[key])[:count]
        return [
            OddImage.of(self.data[number], image, reasons.get((number, image), []))
            for number, image in chosen
        ]

    def _repr_html_(self) -> str:
        lines = "<br>".join(_in_short(data) for data in self.data)
        odd = self.odd.to_html(index=False) if self.findings else "<p>Nothing odd was found.</p>"
        return f"<p>{lines}</p>{odd}{self.classes.to_html(index=False, float_format='%.0f')}"


def check(
    data: str | Path | DetectionData,
    val: DetectionData | None = None,
    *,
    proposals: int = _PUBLISHED_PROPOSALS,
    images: bool = True,
    progress: bool = True,
) -> DataCheck:
    """Checks a data set: what it holds, what looks wrong, and what was done about it.

    data: a folder in COCO format (its train and val are checked together), one json file, or a
    :class:`CocoFolder`.  val: another data set to compare it with.  proposals: images with more
    objects than this are reported.  images: read the header of every image file (size,
    orientation) and compare files of equal length; False opens none.  progress: show a bar.

    What is mended when the data is read is reported as done; the files themselves do not change.
    Raises LabError for data that cannot be read, or is drawn and has no files.

    >>> import json, tempfile
    >>> examples = Path(__file__).parent / "examples"
    >>> image = {"id": 1, "file_name": "cells_1.jpg", "width": 640, "height": 480}
    >>> box = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [600, 50, 90, 80]}
    >>> names = [{"id": 1, "name": "cell"}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "train.json")
    ...     _ = file.write_text(
    ...         json.dumps({"images": [image], "annotations": [box], "categories": names})
    ...     )
    ...     found = check(CocoFolder(file, images=examples))
    >>> print(found.findings[0])
    train.json: 1 box reaching out of the image ("cells_1.jpg", annotation id 5): clipped.
    """
    given: Sequence[DetectionData] = (
        open_splits(Path(data)) if isinstance(data, str | Path) else [data]
    )
    sets = [_folder(part) for part in (*given, *([] if val is None else [val]))]
    if len({part.file for part in sets}) < len(sets):
        sets = [_called_by_path(part) for part in sets]
    findings = [f for part in sets for f in (*part.findings, *_within(part, proposals))]
    for other in sets[1:]:
        findings += _between(sets[0], other)
    if images:
        findings += _files(sets, progress)
    return DataCheck(tuple(sets), tuple(findings))


def first_lines(
    data: DetectionData, val: DetectionData | None = None, proposals: int | None = None
) -> list[str]:
    """The lines about its data with which a training or an evaluation begins; opens no image.

    proposals: the model's number of proposals; images with more objects are reported.
    """
    parts = [data] if val is None else [data, val]
    lines = [_in_short(part) for part in parts]
    sets = [f for part in parts if isinstance(f := getattr(part, "data", part), CocoFolder)]
    notes: list[str] = []  # first what a person has to do
    if len(sets) == 2:
        between = _between(sets[0], sets[1])
        notes += [str(finding) for finding in between if finding.kind != "category"]
    for folder in sets:
        notes += map(str, _within(folder, proposals, thorough=False))
    for part in parts:
        notes += notes_of(part)
    more = len(notes) - _LINES
    if more > 0:
        place = sets[0].json_path.parent if sets else "FOLDER"
        notes[_LINES:] = [f"{more} more notes: sparse-rcnn-lab check {place}"]
    return [*lines, *notes]


def _folder(data: DetectionData) -> CocoFolder:
    folder = getattr(data, "data", data)
    if not isinstance(folder, CocoFolder):
        raise LabError("Only data in COCO format can be checked: a folder or a json file.")
    return folder


def _called_by_path(data: CocoFolder) -> CocoFolder:
    """A copy whose findings name all of its path: another set has a json of that name."""
    twin = copy.copy(data)
    twin.file = str(data.json_path)
    findings = tuple(replace(finding, file=twin.file) for finding in data.findings)
    twin.tables = replace(data.tables, findings=findings)
    return twin


def _in_short(data: DetectionData) -> str:
    names = ", ".join(data.class_names[:6]) + (", ..." if len(data.class_names) > 6 else "")
    classes = f"{len(data.class_names)} class{'es' * (len(data.class_names) != 1)}: {names}"
    folder = getattr(data, "data", data)
    if not isinstance(folder, CocoFolder):
        return f"data   {len(data):,} images of {classes}"
    counts, crowds = folder.object_counts, int(folder.tables.crowd.sum())
    return (
        f"data   {folder.file}: {len(folder):,} images ({(counts == 0).sum():,} without "
        f"a box), {counts.sum():,} boxes and {crowds:,} crowds of {classes}"
    )


def _classes(data: CocoFolder) -> pd.DataFrame:
    tables = data.tables
    small, medium = _SIZES.values()
    frame = pd.DataFrame(
        {
            "label": tables.labels,
            "image": _owner(data),
            "single": ~tables.crowd,
            "area": tables.areas,
            "side": np.sqrt(tables.boxes_xywh[:, 2:].prod(axis=1)),
        }
    )
    single = frame[frame.single]
    label = single.label
    columns = {
        "boxes": label.value_counts(),
        "crowds": frame.label[~frame.single].value_counts(),
        "images": single.groupby("label").image.nunique(),
        "small": label[single.area < small].value_counts(),
        "medium": label[(single.area >= small) & (single.area < medium)].value_counts(),
        "large": label[single.area >= medium].value_counts(),
    }
    table = pd.DataFrame(columns, index=range(len(data.class_names))).fillna(0).astype(int)
    table["median side"] = single.groupby("label").side.median()
    table.insert(0, "class", data.class_names)
    table.insert(0, "file", data.file)
    return table


def _table(odd: pd.DataFrame) -> str:
    """The findings of each file, wrapped to the width of the terminal."""
    width = max(76, min(150, shutil.get_terminal_size((110, 24)).columns - 2)) - 14
    widths = [8, int(0.36 * width), int(0.24 * width), int(0.4 * width)]
    lines = []
    for file, rows in odd.groupby("file", sort=False):
        head = ("count", f"what is odd in {file}", "first", "what was done, or is to do")
        table = [head, *rows.drop(columns="file").itertuples(index=False)]
        for row in table:
            cells = zip(map(str, row), widths, strict=True)
            wrapped = [textwrap.wrap(cell, size) for cell, size in cells]
            for parts in zip_longest(*wrapped, fillvalue=""):
                padded = (f"{part:<{size}}" for part, size in zip(parts, widths, strict=True))
                lines.append("  ".join(padded).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


def _owner(data: CocoFolder) -> np.ndarray:
    """``[A]``: the index of each box's image."""
    return np.repeat(np.arange(len(data)), np.diff(data.tables.starts))


def _note(
    data: CocoFolder, kind: str, wrong: np.ndarray, what: str, done: str
) -> Iterator[Finding]:
    """A finding on the boxes or images of the cleaned tables that are set in ``wrong``."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        tables = data.tables
        owner = rows if kind == "image" else _owner(data)[rows]
        number = tables.source_id(owner[0]) if kind == "image" else tables.annotation_ids[rows[0]]
        first = f'"{tables.file_name(owner[0])}", {kind} id {number}'
        images = np.unique(tables.image_ids[owner])
        yield Finding(data.file, kind, len(rows), what, first, done, images)


def _within(data: CocoFolder, proposals: int | None, thorough: bool = True) -> Iterator[Finding]:
    """What looks wrong in the boxes of one set, as they are once it is read."""
    tables, counts = data.tables, data.object_counts
    if proposals is not None:
        what = f"with more objects than {proposals} proposals (most: {counts.max(initial=0)})"
        done = "the rest cannot be found; choose more, model.num_proposals"
        yield from _note(data, "image", counts > proposals, what, done)
    if not thorough:
        return
    thin = ((tables.boxes_xywh[:, 2:] < _THIN).any(axis=1)) & ~tables.crowd
    yield from _note(data, "annotation", thin, f"under {_THIN:g} pixels wide or high", "kept")
    again, other = _alike(data)
    yield from _note(data, "annotation", again, "nearly the same as another of its class", "kept")
    what = "nearly the same as one of another class"
    yield from _note(data, "annotation", other, what, "kept; is it one object, named twice?")


def _alike(data: CocoFolder) -> tuple[np.ndarray, np.ndarray]:
    """Two ``[A]``: whether a box nearly equals one to its left, of its class or of another one."""
    tables, owner = data.tables, _owner(data)
    order = np.lexsort((tables.boxes_xywh[:, 0], owner))
    boxes = box_ops.xywh_to_xyxy(torch.from_numpy(tables.boxes_xywh[order]))
    image, label, single = owner[order], tables.labels[order], ~tables.crowd[order]
    again, other = np.zeros(len(order), dtype=bool), np.zeros(len(order), dtype=bool)
    for step in range(1, _NEIGHBOURS + 1):
        near = (box_ops.paired_iou(boxes[:-step], boxes[step:]) >= _ALIKE).numpy()
        near &= (image[:-step] == image[step:]) & single[:-step] & single[step:]
        same = label[:-step] == label[step:]
        again[order[step:]] |= near & same
        other[order[step:]] |= near & ~same
    return again, other


def _between(train: CocoFolder, val: CocoFolder) -> Iterator[Finding]:
    """Findings on what train and val share, and on what only one of them has."""
    name = train.file
    for here, there in ((val, train), (train, val)):
        missing = [c for c in here.class_names if c not in there.class_names]
        if missing:
            shown = ", ".join(f'"{c}"' for c in missing[:3]) + ", ..." * (len(missing) > 3)
            what = f"that {there.file} does not list, {shown}"
            done = "left out of an evaluation" if here is val else "cannot be evaluated"
            yield Finding(here.file, "category", len(missing), what, "", done)
    done = "remove them from one of the two, as val must show images that were not trained on"
    paths = {f"{train.image_folder}/{file}" for file in train.tables.file_names}
    files = [f"{val.image_folder}/{file}" for file in val.tables.file_names]
    same = np.array([file in paths for file in files], dtype=bool)
    yield from _note(val, "image", same, f"that {name} has too", done)
    sources = {_source(file) for file in train.tables.file_names} - {None}
    same = np.array([_source(f) in sources for f in val.tables.file_names], dtype=bool) & ~same
    yield from _note(val, "image", same, f"augmented from the same original as one of {name}", done)


def _source(name: str) -> str | None:
    """The image that an image of Roboflow's was made from; None for any other image."""
    source, found, _ = name.rpartition("/")[2].partition(".rf.")
    return source if found else None


def _files(sets: Sequence[CocoFolder], progress: bool) -> Iterator[Finding]:
    """Findings on the image files: size, orientation, the same content twice."""
    seen: dict[int, list[tuple[int, int]]] = {}  # length of the file -> set and image
    total = sum(map(len, sets))
    bar = tqdm(total=total, desc="images", unit="image", leave=False, disable=not progress)
    with bar:
        for number, data in enumerate(sets):
            kinds = []
            for index in range(len(data)):
                kinds.append(_header(data, index))
                if kinds[-1] != "unreadable":
                    length = data.image_path(index).stat().st_size
                    seen.setdefault(length, []).append((number, index))
                bar.update()
            kind = np.array(kinds)
            for name, what, done in (
                ("unreadable", "that cannot be read", "refused when read: replace, or take out"),
                (
                    "other",
                    "of another size than in the json",
                    "refused when read; which is right?",
                ),
                ("upright", "turned by EXIF, labelled upright", "shown upright"),
                ("stored", "turned by EXIF, labelled as stored", "shown as stored"),
                ("either", "turned by EXIF, labelled either way", "shown upright; look at some"),
            ):
                yield from _note(data, "image", kind == name, what, done)
    first: dict[str, tuple[int, int]] = {}
    again = [np.zeros(len(data), dtype=bool) for data in sets]
    shared: dict[tuple[int, int], list[int]] = {}  # two sets -> images of the second
    for group in seen.values():
        for number, index in group if len(group) > 1 else ():
            content = sets[number].image_path(index).read_bytes()
            before = first.setdefault(hashlib.sha256(content).hexdigest(), (number, index))
            if before[0] != number:
                path = sets[before[0]].image_path(before[1])
                if path != sets[number].image_path(index):  # else it is reported already
                    shared.setdefault((before[0], number), []).append(index)
            elif before != (number, index):
                again[number][index] = True
    for data, wrong in zip(sets, again, strict=True):
        yield from _note(data, "image", wrong, "with the content of another", "kept")
    done = "remove them from one of the two, as val must show images that were not trained on"
    for (one, other), indices in shared.items():
        wrong = np.isin(np.arange(len(sets[other])), indices)
        what = f"with the content of one of {sets[one].file}"
        yield from _note(sets[other], "image", wrong, what, done)


def _header(data: CocoFolder, index: int) -> str:
    """How an image's header differs from the json's size; "" where it does not."""
    try:
        height, width, turn = image_header(data.image_path(index))
    except LabError:
        return "unreadable"
    stored, size = (height, width), tuple(data.image_sizes[index].tolist())
    upright = stored[::-1] if turn >= 5 else stored
    if size not in (stored, upright):
        return "other"
    if turn == 1:
        return ""
    return "either" if stored == upright else "upright" if size == upright else "stored"
