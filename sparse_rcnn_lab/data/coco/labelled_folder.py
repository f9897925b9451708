"""Any labelled folder, whatever tool wrote it: COCO json, Pascal VOC, YOLO, or a zip of one.

It gives every image with its boxes in pixels and the names of their classes. What is wrong with a
single file is a sentence in ``notes``; a folder of which nothing can be read is a LabError.
"""

from __future__ import annotations

import codecs
import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path
from xml.etree import ElementTree

import torch
import yaml

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import MissingJson, find_json, open_splits
from sparse_rcnn_lab.data.coco.image_files import upright_size
from sparse_rcnn_lab.data.coco.records import file_label, leads_out
from sparse_rcnn_lab.data.finding import first_few
from sparse_rcnn_lab.detect.images import image_header

IMAGES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
)
_HELD_OUT = re.compile(r"(?:val|valid|validation|test)(?:20\d\d)?", re.IGNORECASE)
_NAME_FILES = (
    "data.yaml",
    "data.yml",
    "classes.txt",
    "obj.names",
    "predefined_classes.txt",
    "_darknet.labels",
)
_BROKEN = (ElementTree.ParseError, LabError, ValueError, LookupError, OverflowError, OSError)
# RuntimeError: encrypted, or of a method Python does not know; ValueError: a wrong offset.
_NO_ZIP = (zipfile.BadZipFile, zlib.error, LZMAError, RuntimeError, EOFError, ValueError)
NamedBox = tuple[str, float, float, float, float]  # class, xyxy in pixels of the image


@dataclass(frozen=True)
class LabelledImage:
    """An image and what is in it.

    boxes: ``(name, x1, y1, x2, y2)`` of each object, in pixels of the image as it is shown, with
    its EXIF rotation.  labelled: whether somebody has labelled it; without boxes there is then no
    object in it.  held_out: whether the folder itself sets it aside for evaluation.
    """

    path: Path
    boxes: tuple[NamedBox, ...] = ()
    labelled: bool = True
    held_out: bool = False


@dataclass
class LabelledFolder:
    """kind: "COCO", "Pascal VOC", "YOLO" or "photographs" (no labels).  notes: a sentence each."""

    kind: str
    images: list[LabelledImage]
    notes: list[str] = field(default_factory=list)


def read_labelled_folder(folder: str | Path) -> LabelledFolder:
    """Reads a labelled folder. Raises LabError where there is no image or the labels are ambiguous.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as place:
    ...     Image.new("RGB", (64, 48)).save(Path(place, "a.png"))
    ...     _ = Path(place, "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    ...     _ = Path(place, "classes.txt").write_text("mug")
    ...     found = read_labelled_folder(place)
    >>> found.kind, found.images[0].boxes
    ('YOLO', (('mug', 24.0, 12.0, 40.0, 36.0),))
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() != ".json":
        raise LabError(
            f'"{folder.name}" is not a folder. Give a folder, a zip of one, or a COCO json.'
        )
    if not folder.exists():
        raise LabError(f'There is no folder "{folder}".')
    if folder.is_file():
        return _read_coco(folder)
    files = _files(folder)
    images = [path for path in files if path.suffix.lower() in IMAGES]
    xmls = [path for path in files if path.suffix.lower() == ".xml"]
    name_files = [path for path in files if path.name in _NAME_FILES]
    xml = bool({path.stem for path in images} & {path.stem for path in xmls})
    yolo = any(_yolo_file(path).exists() for path in images)
    if any(path.suffix.lower() == ".json" for path in files):
        try:
            return _read_coco(folder)
        except LabError as error:
            # With other labels beside it, the json belongs to some other tool.
            if not (xml or yolo or (name_files and isinstance(error, MissingJson))):
                raise
    if not images:
        found = first_few(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise LabError(
            f'No image in "{folder.name}" (found: {found}). JPEG, PNG or WebP is needed.'
        )
    if xml:
        return _read_voc(folder, images, xmls)
    if yolo or name_files:
        return _read_yolo(folder, images, name_files)
    if any(path.name == "annotations.xml" for path in xmls):
        raise LabError(
            f'"{folder.name}" has the annotations.xml of "CVAT for images". Export as COCO, Pascal '
            "VOC or YOLO there."
        )
    if xmls:  # none has the name of an image, which a note reports
        return _read_voc(folder, images, xmls)
    return LabelledFolder("photographs", [LabelledImage(path, labelled=False) for path in images])


def unpack(file: str | Path, into: Path, megabytes: int = 2000) -> Path:
    """Unpacks a zip into an empty folder; skips hidden files and those that would be outside it.

    Raises LabError where it is damaged, encrypted, or larger than ``megabytes`` unpacked.
    """
    file = Path(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            size = sum(member.file_size for member in members) / 1e6
            if size > megabytes:
                raise LabError(
                    f'"{file.name}" has {size:.0f} MB unpacked, but at most {megabytes} MB are '
                    "accepted."
                )
            for member in members:
                path = Path(member.filename.replace("\\", "/"))
                hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
                if hidden or leads_out(path.as_posix()) or not path.name:
                    continue
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except LabError:  # which is a ValueError too
        raise
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f'"{file.name}" could not be unpacked ({reason}).') from None
    except _NO_ZIP as error:
        raise LabError(f'"{file.name}" is not a zip that can be unpacked ({error}).') from None
    return into


def _files(folder: Path) -> list[Path]:
    """All files except the hidden ones, which editors and operating systems create."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(folder / n for n in names if not any(p.startswith(".") for p in n.parts))


def _set_aside(path: Path, folder: Path) -> bool:
    """Whether a folder that contains the file has the name of a held-out part."""
    parts = path.relative_to(folder).parts[:-1]
    return any(_HELD_OUT.fullmatch(part) for part in parts)


def _read_coco(folder: Path) -> LabelledFolder:
    images: list[LabelledImage] = []
    notes: list[str] = []
    broken: list[str] = []
    sets = open_splits(folder)
    with suppress(LabError):  # there is none, or several
        if (test := find_json(folder, "test")) not in [data.json_path for data in sets]:
            notes.append(f'"{file_label(test)}" is neither learned from nor held out.')
    for data in sets:
        notes += data.notes
        tables = data.tables
        corners = box_ops.xywh_to_xyxy(torch.from_numpy(tables.boxes_xywh)).tolist()
        for index, (height, width) in enumerate(data.image_sizes.tolist()):
            rows = range(int(tables.starts[index]), int(tables.starts[index + 1]))
            boxes: list[NamedBox] = [
                (tables.class_names[int(tables.labels[row])], *corners[row])
                for row in rows
                if not tables.crowd[row]
            ]
            path = data.image_path(index)
            try:
                shown = tuple(_as_shown(path, boxes, (height, width)))
                images.append(LabelledImage(path, shown, held_out=data.split == "val"))
            except LabError as error:
                broken.append(f"{path.name} ({error})")
                images.append(LabelledImage(path, labelled=False))
    return LabelledFolder("COCO", images, [*notes, *_unread(broken)])


def _as_shown(image: Path, boxes: list[NamedBox], size: tuple[int, int]) -> list[NamedBox]:
    """Boxes labelled on an image of ``size`` (height, width), rotated as EXIF rotates the image.

    Raises LabError where the image has another size, as its boxes would not fit their objects.
    """
    height, width, turn = image_header(image)
    if size == ((width, height) if turn >= 5 else (height, width)):
        return boxes
    if size != (height, width):
        raise LabError(
            f"the image has {width}x{height} pixels, its labels are for {size[1]}x{size[0]}: use "
            "the images that were labelled, or correct the labels"
        )
    shown: list[NamedBox] = []
    for name, y1, x1, y2, x2 in boxes:  # labelled as stored: x and y are swapped
        if turn in (6, 7):
            x1, x2 = height - x2, height - x1
        if turn in (7, 8):
            y1, y2 = width - y2, width - y1
        shown.append((name, x1, y1, x2, y2))
    return shown


def _read_each(
    kind: str,
    ending: str,
    images: list[Path],
    folder: Path,
    file_of: Callable[[Path], Path],
    boxes_of: Callable[[Path, Path], Iterable[NamedBox]],
) -> LabelledFolder:
    """Reads the labels of a tool that writes one file per image; an unreadable one becomes a note.

    boxes_of: called with the file and the image.
    """
    read, broken, unlabelled = [], [], 0
    for path in images:
        file, boxes = file_of(path), None
        try:
            if file.exists():
                boxes = tuple(boxes_of(file, path))
            else:
                unlabelled += 1
        except _BROKEN as error:
            broken.append(f"{file.name} ({error})")
        held_out = boxes is not None and _set_aside(path, folder)
        read.append(LabelledImage(path, boxes or (), boxes is not None, held_out))
    notes = _unread(broken)
    if unlabelled:
        notes.append(f"{unlabelled} images have no {ending} file: not labelled, left out.")
    return LabelledFolder(kind, read, notes)


def _unread(broken: list[str]) -> list[str]:
    shown = first_few(broken, joint="; ")
    return [f"Labels that cannot be read are left out: {shown}."] if broken else []


def _read_voc(folder: Path, images: list[Path], xmls: list[Path]) -> LabelledFolder:
    """One xml per image, beside it or in another folder, with the image's name."""
    called, alike = _by_stem(xmls), _by_stem(images)

    def file_of(image: Path) -> Path:
        beside = image.with_suffix(".xml")
        if beside.exists() or image.stem not in called:
            return beside
        # Frames of videos are all numbered from 0; then the folders tell them apart.
        best, *others = _nearest(image, called[image.stem])
        if any(xml.read_bytes() != best.read_bytes() for xml in others):
            shown = ", ".join(f'"{xml.relative_to(folder)}"' for xml in (best, others[0]))
            raise LabError(
                f'Several xml files may belong to "{image.relative_to(folder)}": {shown}. Put '
                "each beside its image."
            )
        rivals = _nearest(best, alike[image.stem])
        if image not in rivals:
            return beside
        # Where a photo has a mask of the same name, the xml says which of the two it describes.
        names = {other.name for other in rivals} - {image.name}
        return beside if names and _named_image(best) in names else best

    return _read_each("Pascal VOC", "xml", images, folder, file_of, _voc_boxes)


def _by_stem(paths: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _nearest(file: Path, others: list[Path]) -> list[Path]:
    """The paths whose folders have the most names in common with those of ``file``."""
    shared = {other: len({*file.parent.parts} & {*other.parent.parts}) for other in others}
    most = max(shared.values())
    return [other for other in others if shared[other] == most]


def _named_image(xml: Path) -> str | None:
    with suppress(*_BROKEN):  # reported when its boxes are read
        return ElementTree.parse(xml).getroot().findtext("filename")
    return None


def _voc_boxes(xml: Path, image: Path) -> list[NamedBox]:
    root = ElementTree.parse(xml).getroot()
    boxes: list[NamedBox] = []
    for entry in root.iter("object"):
        name = (entry.findtext("name") or "").strip()
        sides = (entry.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        x1, y1, x2, y2 = (float(side or "nan") for side in sides)
        if not name or not math.isfinite(x1 + y1 + x2 + y2):
            raise ValueError("an object has no name, or no bndbox of four numbers")
        boxes.append((name, x1, y1, x2, y2))
    height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    return _as_shown(image, boxes, (height, width)) if height and width else boxes


def _yolo_file(image: Path) -> Path:
    """``labels/train/a.txt`` for ``images/train/a.jpg``; or the file beside the image."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() in ("images", "jpegimages"):
            other = Path(*parts[:place], "labels", *parts[place + 1 :])
            return beside if beside.exists() and not other.exists() else other
    return beside


def _read_yolo(folder: Path, images: list[Path], name_files: list[Path]) -> LabelledFolder:
    told = {file: names for file in name_files if (names := _yolo_names(file)).names}

    def boxes_of(file: Path, image: Path) -> Iterator[NamedBox]:
        height, width = upright_size(image)
        names = _names_of(file, told)
        return _yolo_boxes(file.read_text(encoding="utf-8-sig"), names, width, height)

    found = _read_each("YOLO", "txt", images, folder, _yolo_file, boxes_of)
    if not told:
        found.notes.append(
            f'"{folder.name}" has no data.yaml or classes.txt, so classes are named by number.'
        )
    return found


@dataclass(frozen=True)
class _Names:
    """Class names by number. keypoints: whether keypoints follow each box."""

    names: dict[int, str] = field(default_factory=dict)
    keypoints: bool = False


def _yolo_boxes(text: str, names: _Names, width: int, height: int) -> Iterator[NamedBox]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *shares = map(float, line.split())
            label = int(kind)
        except (ValueError, OverflowError):
            raise ValueError(f"line {number} is not numbers") from None
        polygon = len(shares) > 5 and len(shares) % 2 == 0 and not names.keypoints
        places = shares if polygon else shares[:4]
        if label != kind or len(places) < 4 or not all(-0.1 <= share <= 1.1 for share in places):
            raise ValueError(f"line {number} is not class, centre x, y, width, height as shares")
        if names.names and label not in names.names:
            raise ValueError(f"line {number} has class {label}, for which there is no name")
        if polygon:  # take the box around it
            points = torch.tensor(shares).view(-1, 2)
            corners = torch.cat([points.amin(0), points.amax(0)])
        else:
            corners = box_ops.cxcywh_to_xyxy(torch.tensor(places))
        box = box_ops.rescale(corners[None], torch.tensor([width, height]))[0].tolist()
        yield names.names.get(label, f"class {label}"), *box


def _yolo_names(file: Path) -> _Names:
    """The names in a data.yaml (a list, or a table with numbers), or in a file with one per line.

    Raises LabError for yaml that cannot be read.
    """
    content = file.read_bytes()
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf_16 else "utf-8-sig", errors="replace")
    if file.suffix in (".yaml", ".yml"):
        try:
            told = yaml.load(text, yaml.BaseLoader)  # keeps a class called "no" from being False
            told = told if isinstance(told, dict) else {}
            names = told.get("names") or {}
            names = [names] if isinstance(names, str) else names
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            names = {int(number): _text(name) for number, name in pairs}
            return _Names(names, "kpt_shape" in told)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise LabError(f'The names in "{file}" cannot be read: {error}') from None
    rows = enumerate(line.strip() for line in text.splitlines())
    return _Names({number: name for number, name in rows if name})


def _text(name: object) -> str:
    if not isinstance(name, str):  # the text of lists that contain each other would be endless
        raise ValueError("a name is not text")
    return name


def _names_of(label_file: Path, told: dict[Path, _Names]) -> _Names:
    """The class names for a label file; data sets that were merged each have their own.

    They are those in a folder above it, data.yaml before other kinds and then the nearest; or else
    of the first kind that there is. Raises LabError where several of that kind differ.
    """
    if not told:
        return _Names()
    above = [file for file in told if file.parent in label_file.parents]
    first = min(above or list(told), key=lambda f: (_NAME_FILES.index(f.name), -len(f.parts)))
    others = [] if above else [f for f in told if f.name == first.name and told[f] != told[first]]
    if others:
        raise LabError(f'"{first}" and "{others[0]}" name its classes in two ways')
    return told[first]
