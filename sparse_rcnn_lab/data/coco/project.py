"""A labelling project: a folder of images with their boxes, which no crash can damage.

``labels.json``   COCO, with whether each image is ``labelled`` and when it was ``taken``
``images/``       the images, at most ``LARGEST`` pixels wide or high
``runs/001/``     the training runs, see ``teach``

Every change is on disk before the call returns, so a killed process loses nothing.
"""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.labelled_folder import LabelledFolder
from sparse_rcnn_lab.data.transforms import fitted_size
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.detect.images import read_image, resize_to

LARGEST = 960  # pixels; a model for 320 px learns nothing from more
MOST_IMAGES = 2000
MOST_BOXES = 2000  # of an image
MOST_CLASSES = 300
LABELS = "labels.json"
_LEAST = 2.0  # pixels; a box with a smaller side was drawn by accident

Box = Mapping[str, Any]  # {"name": str, "box": [x1, y1, x2, y2] in pixels of the kept image}


class Project:
    """A labelling project in a folder, which is created where it is missing.

    It may be used from several threads. Raises LabError where its labels are damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     project = Project(place)
    ...     frame = project.add(torch.zeros(3, 48, 64, dtype=torch.uint8))
    ...     _ = project.label(frame["id"], [{"name": "mug", "box": [4, 4, 20, 20]}])
    ...     again = Project(place)
    ...     print(again.class_names, again.boxes(frame["id"]))
    ('mug',) [{'name': 'mug', 'box': [4.0, 4.0, 20.0, 20.0]}]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.images = self.folder / "images"
        self._lock = threading.RLock()
        self._content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        if (self.folder / LABELS).exists():
            self._content = _read(self.folder / LABELS)
        else:
            self._write()

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder is a project rather than just labelled images."""
        if not ((folder / LABELS).is_file() and (folder / "images").is_dir()):
            return False
        text = (folder / LABELS).read_bytes()  # other tools use this name too
        return b'"labelled"' in text or b'"images": []' in text

    def __len__(self) -> int:
        return len(self._content["images"])

    def pixels(self, image: int) -> Tensor:
        """The pixels of an image, ``[3, H, W]`` uint8. Raises LabError for an unknown image."""
        with self._lock:
            name = self._row(image)["file_name"]
        return read_image(self.images / name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order in which they were first given."""
        return tuple(entry["name"] for entry in self._content["categories"])

    def coco(self, images: Iterable[int] | None = None) -> dict[str, Any]:
        """A copy of the COCO document, for all images or for those with these ids."""
        with self._lock:
            copy: dict[str, Any] = json.loads(json.dumps(self._content))
        if images is not None:
            kept = set(images)
            copy["images"] = [row for row in copy["images"] if row["id"] in kept]
            copy["annotations"] = [a for a in copy["annotations"] if a["image_id"] in kept]
        return copy

    def add(
        self,
        image: Tensor,
        *,
        boxes: Sequence[Box] | None = None,
        taken: float | None = None,
        source: str = "",
        held_out: bool = False,
        write: bool = True,
    ) -> dict[str, Any]:
        """Adds an image, downscaled where it is large, and returns its row of the document.

        image: ``[3, H, W]`` uint8.  boxes: in its pixels; None: not labelled yet.  taken: the time
        it was taken, in seconds.  source: its file, for messages.  held_out: whether it is kept for
        evaluation.  write: False where further changes follow at once.
        """
        height, width = image.shape[-2:]
        large = max(height, width) > LARGEST
        size = fitted_size(height, width, (LARGEST, LARGEST)) if large else (height, width)
        with self._lock:
            if len(self._content["images"]) >= MOST_IMAGES:
                raise LabError(f"There are {MOST_IMAGES:,} images already, which is the limit.")
            number = max((row["id"] for row in self._content["images"]), default=0) + 1
            row: dict[str, Any] = {
                "id": number,
                "file_name": f"{number:06d}.jpg",
                "width": size[1],
                "height": size[0],
                "labelled": False,
                "taken": time.time() if taken is None else taken,
                "source": source,
                "held_out": held_out,
            }
            pixels = resize_to(image, size, True).permute(1, 2, 0).contiguous().numpy()
            self.images.mkdir(parents=True, exist_ok=True)
            with write_whole(self.images / row["file_name"]) as file:
                Image.fromarray(pixels).save(file, "JPEG", quality=92)
            if boxes is not None:
                scale = torch.tensor([size[1] / width, size[0] / height])
                self._set(row, boxes, scale)
            self._content["images"].append(row)
            if write:
                self._write()
            return dict(row)

    def label(self, image: int, boxes: Sequence[Box], labelled: bool = True) -> dict[str, Any]:
        """Sets the boxes of an image and returns its row; no boxes means no objects.

        labelled: False marks it as not labelled yet. Raises LabError for an unknown image and for
        invalid boxes.
        """
        with self._lock:
            row = self._row(image)
            self._set(row, boxes, torch.ones(2))
            row["labelled"] = labelled
            self._write()
            return dict(row)

    def boxes(self, image: int) -> list[dict[str, Any]]:
        """The boxes of an image, as :meth:`label` takes them."""
        with self._lock:
            names = {entry["id"]: entry["name"] for entry in self._content["categories"]}
            rows = [a for a in self._content["annotations"] if a["image_id"] == image]
        if not rows:
            return []
        corners = box_ops.xywh_to_xyxy(torch.tensor([row["bbox"] for row in rows])).tolist()
        return [
            {"name": names[row["category_id"]], "box": [round(value, 2) for value in box]}
            for row, box in zip(rows, corners, strict=True)
        ]

    def remove(self, image: int) -> None:
        """Removes an image and its boxes."""
        with self._lock:
            row = self._row(image)
            content = self._content
            content["images"] = [one for one in content["images"] if one["id"] != image]
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] != image]
            self._write()
            (self.images / row["file_name"]).unlink(missing_ok=True)

    def set_classes(self, names: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        """Sets the classes; those that are dropped lose their boxes.

        renamed: former name -> new name; the name of another class merges the two. Raises LabError
        for a name that is empty or occurs twice.
        """
        clean = [_clean(name) for name in names]
        folded = [name.casefold() for name in clean]
        if len(set(folded)) < len(folded):
            twice = next(name for name in clean if folded.count(name.casefold()) > 1)
            raise LabError(f'"{twice}" is there twice; upper and lower case count as the same.')
        if len(clean) > MOST_CLASSES:
            raise LabError(f"There can be at most {MOST_CLASSES} classes, found {len(clean)}.")
        with self._lock:
            content, renamed = self._content, renamed or {}
            ids: dict[str, int] = {}
            now = {}  # id of a class -> id of the class it has become
            for category in content["categories"]:
                name = _clean(renamed.get(category["name"], category["name"])).casefold()
                now[category["id"]] = ids.setdefault(name, category["id"])
            free = max(now, default=0)
            for name in folded:
                if name not in ids:
                    free += 1
                    ids[name] = free
            content["categories"] = [
                {"id": ids[key], "name": name} for key, name in zip(folded, clean, strict=True)
            ]
            kept = {ids[name] for name in folded}
            content["annotations"] = [
                {**a, "category_id": now[a["category_id"]]}
                for a in content["annotations"]
                if now[a["category_id"]] in kept
            ]
            self._write()

    def take_over(self, found: LabelledFolder) -> list[str]:
        """Copies the images of a labelled folder into the project; returns remarks about them."""
        notes = list(found.notes)
        spelled = {name.casefold(): name for name in self.class_names}
        known: dict[str, str] = {}
        other: set[str] = set()
        for name in dict.fromkeys(name for image in found.images for name, *_ in image.boxes):
            clean = _clean(name)
            known[name] = spelled.setdefault(clean.casefold(), clean)
            if known[name] != clean:
                other.add(f'"{name}" is taken for "{known[name]}"')
        given = 0
        added: set[int] = set()
        for image in found.images:
            boxes = [{"name": known[name], "box": corners} for name, *corners in image.boxes]
            try:
                pixels = read_image(image.path)
            except LabError as error:
                notes.append(f"Left out: {error}")
                continue
            row = self.add(
                pixels,
                boxes=boxes if image.labelled else None,
                taken=_taken(image.path),
                source=image.path.name,
                held_out=image.held_out,
                write=False,
            )
            added.add(row["id"])
            given += len(boxes)
        self._write()
        lost = given - sum(a["image_id"] in added for a in self._content["annotations"])
        if lost:
            notes.append(
                f"{lost} boxes are under {_LEAST:g} pixels wide or high in images of at most "
                f"{LARGEST} pixels: left out."
            )
        return [*notes, *(f"{text} (upper and lower case)." for text in sorted(other))]

    def _set(self, row: dict[str, Any], boxes: Sequence[Box], scale: Tensor) -> None:
        if len(boxes) > MOST_BOXES:
            raise LabError(f"An image can have at most {MOST_BOXES:,} boxes, found {len(boxes):,}.")
        ids = {c["name"].casefold(): c["id"] for c in self._content["categories"]}
        rows = []
        for box in boxes:
            corners = _corners(box) * scale.repeat(2)
            corners = box_ops.clip(corners[None], row["height"], row["width"])
            x, y, w, h = (round(value, 2) for value in box_ops.xyxy_to_xywh(corners)[0].tolist())
            if w < _LEAST or h < _LEAST:
                continue
            name = _clean(box.get("name"))
            if name.casefold() not in ids:
                if len(ids) >= MOST_CLASSES:
                    raise LabError(f"There are {MOST_CLASSES} classes already, which is the limit.")
                ids[name.casefold()] = max(ids.values(), default=0) + 1
                entry = {"id": ids[name.casefold()], "name": name}
                self._content["categories"].append(entry)
            rows.append((ids[name.casefold()], [x, y, w, h]))
        annotations = [a for a in self._content["annotations"] if a["image_id"] != row["id"]]
        free = max((a["id"] for a in annotations), default=0)
        for number, (category, bbox) in enumerate(rows, free + 1):
            annotations.append(
                {
                    "id": number,
                    "image_id": row["id"],
                    "category_id": category,
                    "bbox": bbox,
                    "area": round(bbox[2] * bbox[3], 2),
                    "iscrowd": 0,
                }
            )
        self._content["annotations"] = annotations
        row["labelled"] = True

    def _row(self, image: int) -> dict[str, Any]:
        for row in self._content["images"]:
            if row["id"] == image:
                return row
        raise LabError(f"There is no image {image!r} in this project.")

    def _write(self) -> None:
        self.images.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / LABELS, json.dumps(self._content) + "\n")

    def archive(self, target: Path) -> Path:
        """Writes the labelled images and ``train.json`` (COCO) as a zip; returns its path."""
        with (
            self._lock,  # so that no image is removed meanwhile
            write_whole(target) as file,  # somebody may be downloading the previous one
            zipfile.ZipFile(file, "w") as archive,  # without compression, useless for JPEGs
        ):
            document = self.coco(row["id"] for row in self._content["images"] if row["labelled"])
            for row in document["images"]:
                archive.write(self.images / row["file_name"], f"images/{row['file_name']}")
            archive.writestr("train.json", json.dumps(document, indent=1) + "\n")
        return target


def _clean(name: Any) -> str:
    text = " ".join(str(name or "").split())
    if not text or len(text) > 60:
        raise LabError(f"A class needs a name of 1 to 60 letters, found {str(name)[:80]!r}.")
    return text


def _corners(box: Box) -> Tensor:
    """A box as ``[4]`` xyxy, with its corners in order."""
    try:
        corners = torch.tensor([float(value) for value in box["box"]])
        assert corners.shape == (4,) and bool(corners.isfinite().all())
    except (KeyError, TypeError, ValueError, AssertionError):
        raise LabError(
            f"A box must be left, top, right, bottom in pixels, found {box.get('box')!r:.80}."
        ) from None
    pairs = corners.view(2, 2)
    return torch.cat([pairs.amin(0), pairs.amax(0)])


def _taken(path: Path) -> float:
    """When a photograph was taken: the camera's time, or else the file's."""
    try:
        with Image.open(path) as image:
            text = image.getexif().get_ifd(0x8769).get(0x9003) or image.getexif().get(0x0132)
        return time.mktime(time.strptime(str(text), "%Y:%m:%d %H:%M:%S"))
    except Exception:  # a damaged EXIF block, whatever it raises, must not cost the image
        return path.stat().st_mtime


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert all(
            isinstance(content[key], list) for key in ("images", "annotations", "categories")
        )
        assert all({"id", "file_name", "labelled"} <= set(row) for row in content["images"])
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise LabError(f'"{path}" is damaged ({error!r}). Its images are beside it.') from None
    return content
