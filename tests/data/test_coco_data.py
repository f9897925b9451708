"""COCO-json folders: the layout, the cleaning, and an error for what cannot be read one way."""

import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_rcnn_lab import CocoFolder, LabError, open_data
from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.data.coco.annotations import read_coco_json
from sparse_rcnn_lab.data.coco.folder import open_train_val
from sparse_rcnn_lab.data.subset import usable_images

Document = dict[str, Any]

# Category ids with gaps and out of order, annotations not grouped by image, one crowd box, one
# image without boxes.
DOCUMENT: Document = {
    "categories": [
        {"id": 44, "name": "bottle"},
        {"id": 3, "name": "car"},
        {"id": 90, "name": "toothbrush"},
    ],
    "images": [
        {"id": 70, "file_name": "a.png", "width": 8, "height": 6},
        {"id": 9, "file_name": "sub/b.png", "width": 10, "height": 4},
        {"id": 30, "file_name": "c.png", "width": 5, "height": 5},
    ],
    "annotations": [
        {"id": 5, "image_id": 70, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 7.5},
        {"id": 6, "image_id": 9, "category_id": 3, "bbox": [0, 0, 10, 4], "iscrowd": 0},
        {"id": 7, "image_id": 70, "category_id": 44, "bbox": [0.5, 0, 2, 2], "iscrowd": 1},
        {"id": 8, "image_id": 70, "category_id": 3, "bbox": [4, 1, 4, 5], "area": 20},
    ],
}


def write(root: Path, document: Document | None = None, split: str = "train") -> Path:
    """A folder with ``split``.json and its images, each of one grey of its own."""
    document = DOCUMENT if document is None else document
    (root / "images" / "sub").mkdir(parents=True, exist_ok=True)
    (root / f"{split}.json").write_text(json.dumps(document))
    for value, image in enumerate(DOCUMENT["images"]):
        size = (image["width"], image["height"])
        Image.new("RGB", size, (value, value, value)).save(root / "images" / image["file_name"])
    return root


def changed(change: Callable[[Document], Any]) -> Document:
    """DOCUMENT after ``change`` has worked on a copy."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def test_samples_follow_the_json(tmp_path):
    """Catches wrong grouping by image, xywh left as xyxy, crowd boxes as objects, category ids or
    the order of the file as labels, an index that wraps around, and a lambda or an open file, which
    loader processes cannot receive."""
    data = pickle.loads(pickle.dumps(CocoFolder(write(tmp_path))))
    assert len(data) == 3
    first, second, third = data
    assert data.class_names == ("car", "bottle", "toothbrush")
    assert data.category_ids() == (3, 44, 90)
    assert (first.labels.tolist(), second.labels.tolist()) == ([2, 0], [0])
    assert first.boxes.tolist() == [[1, 2, 4, 6], [4, 1, 8, 6]]
    assert first.boxes.dtype == torch.float32 and first.labels.dtype == torch.int64
    assert second.boxes.tolist() == [[0, 0, 10, 4]]
    assert third.boxes.shape == (0, 4) and third.labels.shape == (0,)
    assert [s.image_id for s in data] == [70, 9, 30]
    assert [s.name for s in data] == ["a.png", "sub/b.png", "c.png"]
    assert [int(s.image.max()) for s in data] == [0, 1, 2]
    assert second.image.shape == (3, 4, 10)
    assert data.image_sizes.tolist() == [[6, 8], [4, 10], [5, 5]]
    assert data.object_counts.tolist() == [2, 1, 0]
    assert data[-1].image_id == 30
    for index in (3, -4):
        with pytest.raises(IndexError):
            data[index]
    empty = CocoFolder(write(tmp_path, changed(lambda d: d["annotations"].clear())))
    assert empty[1].boxes.shape == (0, 4) and empty.ground_truth()["annotations"] == []


def test_ground_truth_keeps_crowds_areas_and_source_ids(tmp_path):
    """Catches labels for category ids, a lost crowd box, and areas replaced by w * h."""
    truth = CocoFolder(write(tmp_path)).ground_truth()
    rows = {row["id"]: row for row in truth["annotations"]}
    assert {i: row["area"] for i, row in rows.items()} == {5: 7.5, 6: 40, 7: 4, 8: 20}
    assert {i: row["iscrowd"] for i, row in rows.items()} == {5: 0, 6: 0, 7: 1, 8: 0}
    assert {i: row["category_id"] for i, row in rows.items()} == {5: 90, 6: 3, 7: 44, 8: 3}
    assert {i: row["image_id"] for i, row in rows.items()} == {5: 70, 6: 9, 7: 70, 8: 70}
    assert rows[7]["bbox"] == [0.5, 0, 2, 2]
    assert [i["id"] for i in truth["images"]] == [70, 9, 30]
    assert [(c["id"], c["name"]) for c in truth["categories"]] == [
        (3, "car"),
        (44, "bottle"),
        (90, "toothbrush"),
    ]
    json.dumps(truth)  # plain numbers, so that it can be written beside the results


def test_images_without_boxes_can_be_left_out(tmp_path):
    """Catches boxes that slip to another image, or the crowd box of one that was left out."""
    # a.png keeps its crowd box alone, c.png has none: only sub/b.png, in the middle, stays.
    document = changed(lambda d: d.update(annotations=d["annotations"][1:3]))
    data = CocoFolder(write(tmp_path, document), keep_empty=False)
    assert [s.name for s in data] == ["sub/b.png"]
    assert data[0].boxes.tolist() == [[0, 0, 10, 4]]
    assert [(a["id"], a["image_id"]) for a in data.ground_truth()["annotations"]] == [(6, 9)]
    assert data.fingerprint() != CocoFolder(tmp_path).fingerprint()


def test_fingerprint_follows_the_json(tmp_path):
    """Catches a fingerprint of the path or of Python's random hash."""
    first = CocoFolder(write(tmp_path / "one")).fingerprint()
    assert CocoFolder(write(tmp_path / "two")).fingerprint() == first
    other = changed(lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 3]))
    assert CocoFolder(write(tmp_path / "two", other)).fingerprint() != first


# Layouts


def test_cocos_own_layout_and_a_json_path(tmp_path):
    """Catches a loader that knows one layout only, takes captions for instances, or does not use
    its ``images`` argument."""
    write(tmp_path)
    (tmp_path / "annotations").mkdir()
    target = tmp_path / "annotations" / "instances_train2017.json"
    (tmp_path / "train.json").rename(target)
    (tmp_path / "images").rename(tmp_path / "train2017")
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    for root in (tmp_path, target):
        data = CocoFolder(root)
        assert data.image_folder == tmp_path / "train2017"
        assert data[1].image_id == 9
    (tmp_path / "train2017").rename(tmp_path / "elsewhere")
    assert CocoFolder(tmp_path, images=tmp_path / "elsewhere")[1].image_id == 9


def test_json_with_its_images_beside_it(tmp_path):
    """Catches the layout in which Roboflow exports, one folder a split, val named valid."""
    write(tmp_path)
    (tmp_path / "images").rename(tmp_path / "valid")
    (tmp_path / "train.json").rename(tmp_path / "valid" / "_annotations.coco.json")
    assert CocoFolder(tmp_path, "val")[1].image_id == 9
    assert CocoFolder(tmp_path / "valid" / "_annotations.coco.json")[1].image_id == 9


LAYOUTS = {
    # json of train and of val, the folders of their images, and what stands before a file's name
    "CVAT": ("annotations/instances_{}.json", "Train Validation", "images/{}", ""),
    "CVAT, lower case": ("annotations/instances_{}.json", "train validation", "images/{}", ""),
    "CVAT, a folder": ("annotations/instances_{}.json", "train val", "images/{}/Data", ""),
    "CVAT, a folder, named": ("annotations/instances_{}.json", "train val", "images/{}", "Data/"),
    "CVAT, two tasks": (
        "{}/annotations/instances_default.json",
        "train val",
        "{}/images/default",
        "",
    ),
    "Roboflow": ("{}/_annotations.coco.json", "train valid", "{}", ""),
    "Label Studio": ("{}/result.json", "train val", "{}", "images\\"),
    "FiftyOne": ("{}/labels.json", "train validation", "{}/data", ""),
    "LabelMe": ("{}/annotations.json", "train val", "{}", "JPEGImages/"),
    "by hand": ("{}.json", "Train VAL", "Images/{}", ""),
    "one folder down": ("export/annotations/{}.json", "train val", "export/images/{}", ""),
}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_layouts_of_label_tools(tmp_path, tool):
    """Catches a layout that is not found, and val's images taken for train's: the names are the
    same in both."""
    json_name, splits, folder, before = LAYOUTS[tool]
    for grey, name in enumerate(splits.split()):
        document = changed(lambda d: d.update(images=d["images"][:1], annotations=[]))
        document["images"][0]["file_name"] = f"{before}a.png"
        file = tmp_path / json_name.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
        path = tmp_path / folder.format(name) / f"{before}a.png".replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (grey, grey, grey)).save(path)
    train, val = open_train_val(tmp_path)
    assert [int(data[0].image.max()) for data in (train, val)] == [0, 1]


@pytest.mark.parametrize("name", ["result.json", "annotations/instances_default.json"])
def test_one_json_that_is_the_whole_is_no_validation_part(tmp_path, name):
    """Catches a training that is evaluated on its own images, and an export that does not open."""
    write(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train.json").rename(tmp_path / name)
    assert len(open_data(tmp_path, "val")) == 3
    with pytest.raises(LabError, match="is one json file and has no validation part"):
        open_train_val(tmp_path)


FILE_NAMES = {
    # what the json says, and the file below images/
    "other case": ("IMG_1.JPG", "img_1.jpg"),
    "a blank as %20": ("my%20cat.png", "my cat.png"),
    "accents apart, as macOS has them": ("cafe\u0301.png", "caf\u00e9.png"),
    "a web address": ("https://host/data/1/a.png?X-Amz-Date=3", "a.png"),
    "Label Studio, local files": ("/data/local-files/?d=cats/a.png", "a.png"),
    "Label Studio 1.16": ("..\\..\\label-studio\\media\\upload\\4\\cb06-a.png", "cb06-a.png"),
    "FiftyOne, absolute": ("/home/me/cats/a.png", "deep/er/a.png"),
    "Windows": ("C:\\cats\\a.png", "a.png"),
    "another folder": ("train/a.png", "Train/Data/a.png"),
}


@pytest.mark.parametrize("case", FILE_NAMES)
def test_file_names_as_label_tools_write_them(tmp_path, case):
    """Catches an export that does not open, a guess between two files, and no word about it."""
    name, file = FILE_NAMES[case]
    document = changed(lambda d: d.update(images=d["images"][:1], annotations=[]))
    document["images"][0]["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(document))
    path = tmp_path / "images" / file
    path.parent.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(path)
    data = CocoFolder(tmp_path)
    assert data.image_path(0) == path and len(data.notes) >= 1, data.notes
    (tmp_path / "images" / "two").mkdir()
    other = path.rename(path.with_name(path.name.swapcase()))
    (tmp_path / "images" / "two" / other.name).write_bytes(other.read_bytes())
    if other.name != name:
        with pytest.raises(LabError, match=r"1 of them .* are not in"):
            CocoFolder(tmp_path)


def test_two_names_for_one_file_are_refused(tmp_path):
    """Catches two images' boxes on one of them."""
    document = changed(
        lambda d: [image(k, file_name=n)(d) for k, n in enumerate(("A.png", "%61.png"))]
    )
    write(tmp_path, changed(lambda d: None))
    (tmp_path / "train.json").write_text(json.dumps(document))
    with pytest.raises(LabError, match="image id 70, 9 is one of several names for the same file"):
        CocoFolder(tmp_path)


@pytest.mark.parametrize("absent", [0, -1, None, "0"])
def test_sizes_that_a_tool_left_out_are_read_from_the_files(tmp_path, absent):
    """Catches VIA's 0x0, and a phone's photo measured as it is stored, not as it was shown."""
    document = changed(lambda d: [image(row, width=absent)(d) for row in (0, 1)])
    write(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(document))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "images" / "a.png", exif=exif)
    data = CocoFolder(tmp_path)
    assert data.image_sizes.tolist() == [[6, 8], [4, 10], [5, 5]]
    assert data[0].image.shape == (3, 6, 8)
    assert any(
        'train.json: 2 images without a width and height (first: "a.png", image id 70): read from '
        "the file." in note
        for note in data.notes
    )
    with pytest.raises(LabError, match=r'"width.*" of image id 70, 9 '):
        read_coco_json(tmp_path / "train.json")


def test_several_files_or_folders_that_fit_are_listed(tmp_path):
    """Catches the first of two taken without a word, a test set that is taken for val, and a
    message that does not help to find the right file."""
    with pytest.raises(LabError, match=r'No folder ".*nothing"'):
        CocoFolder(tmp_path / "nothing")
    write(tmp_path)
    (tmp_path / "images").rename(tmp_path / "one")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(LabError, match=r'in several folders: ".*one", ".*two"'):
        CocoFolder(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "_annotations.coco.json").write_text("{}")
    with pytest.raises(LabError, match=r"no val\.json.*found: train\.json, test/_annotations"):
        CocoFolder(tmp_path, "val")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        (tmp_path / folder / "val.json").write_text("{}")
    with pytest.raises(LabError, match=r'several files for "val": a/val\.json, b/val\.json'):
        CocoFolder(tmp_path, "val")


def test_open_data(tmp_path):
    """Catches a data set name that is not understood, and an error without the choices."""
    assert open_data(write(tmp_path))[0].image_id == 70
    shapes, others = open_data("shapes:hard"), open_data("shapes", "val")
    assert (len(shapes), len(others)) == (100_000, 500)
    assert shapes.fingerprint() != open_data("shapes").fingerprint()
    assert not torch.equal(open_data("shapes")[0].image, others[0].image)
    with pytest.raises(LabError, match=r'No data set "shpes".*"shapes", shapes:easy'):
        open_data("shpes")
    with pytest.raises(LabError, match="train, val"):
        open_data("shapes", "test")


# Cleaning: one note, and the rest of the data works


def test_clean_data_gives_no_note(tmp_path):
    """Catches a note about boxes that only touch the border or stick out by rounding."""
    document = changed(lambda d: d["annotations"][0].update(bbox=[-0.4, 2, 8.6, 4.5]))
    document["annotations"][2]["iscrowd"] = 0
    data = CocoFolder(write(tmp_path, document))
    assert data.notes == ()
    assert data[0].boxes[0].tolist() == [0, 2, 8, 6]
    assert data.ground_truth()["annotations"][0]["bbox"] == [-0.4, 2, 8.6, 4.5]


def test_boxes_outside_flat_or_nan_are_cleaned_and_said_once(tmp_path):
    """Catches NaN losses, boxes of the wrong image, and a note for every box."""

    def spoil(document: Document) -> None:
        bad = [
            (20, [5, 3, 100, 100]),  # reaches out: clipped to 5, 3, 3, 3
            (21, [50, 50, 4, 4]),  # wholly outside
            (22, [2, 2, 0, 3]),
            (23, [2, 2, -3, 0]),
            (24, [math.nan, 0, 1, 1]),
            (25, [0, 0, math.inf, 1]),
            (26, [-9, 1, 12, 2]),  # clipped to 0, 1, 3, 2
        ]
        document["annotations"] = [
            {"id": i, "image_id": 70, "category_id": 3, "bbox": box, "area": 10} for i, box in bad
        ] + document["annotations"]

    data = CocoFolder(write(tmp_path, changed(spoil)))
    assert data[0].boxes.tolist() == [[5, 3, 8, 6], [0, 1, 3, 3], [1, 2, 4, 6], [4, 1, 8, 6]]
    assert data[1].boxes.tolist() == [[0, 0, 10, 4]]
    truth = {row["id"]: row for row in data.ground_truth()["annotations"]}
    assert sorted(truth) == [5, 6, 7, 8, 20, 26]
    assert truth[20]["bbox"] == [5, 3, 3, 3] and truth[20]["area"] == 9
    assert truth[26]["bbox"] == [0, 1, 3, 2] and truth[26]["area"] == 6
    first = '"a.png", annotation id'
    assert [note.removeprefix("train.json: ") for note in data.notes[:5]] == [
        f"1 box of negative sides ({first} 23): turned round.",
        f"2 boxes reaching out of the image (first: {first} 20): clipped.",
        f"1 box wholly outside the image ({first} 21): dropped.",
        f"2 boxes of no width or height (first: {first} 22): dropped.",
        f"2 boxes with NaN or infinity (first: {first} 24): dropped.",
    ]


def test_repeated_or_missing_annotation_ids_are_numbered_anew(tmp_path):
    """Catches annotations that overwrite each other in pycocotools' index, an id of 0, which it
    counts as not found, a refusal of json's own booleans, and crowd boxes that become objects."""

    def repeat(document: Document) -> None:
        document["annotations"][1]["id"] = 5
        del document["annotations"][2]["id"]
        for row in document["annotations"]:
            row["iscrowd"] = bool(row.get("iscrowd"))

    from_zero = changed(lambda d: [a.update(id=k) for k, a in enumerate(d["annotations"])])
    for document in (from_zero, changed(repeat)):
        data = CocoFolder(write(tmp_path, document))
        assert [row["id"] for row in data.ground_truth()["annotations"]] == [1, 2, 3, 4]
    assert data[0].labels.tolist() == [2, 0]


def test_data_of_crowds_alone_cannot_be_trained_on(tmp_path):
    """Catches a training on nothing, whatever the recipe does with empty images."""
    document = changed(lambda d: [a.update(iscrowd=1) for a in d["annotations"]])
    data = CocoFolder(write(tmp_path, document))
    for config in (AugmentConfig(), AugmentConfig(drop_empty=True)):
        with pytest.raises(LabError, match=r"no object in 3 images.*4 boxes marked as crowds"):
            usable_images(data, config)


# Polygons

OUTLINES: dict[str, Any] = {
    "lists": [[1.5, 2, 3, 4.25, 1e-3, -6], [7, 8]],
    "nothing": [],
    "run lengths": {"counts": [0, 12, 4], "size": [6, 8]},
    "compressed": {"counts": 'PPYo0[1\\\\]"}', "size": [6, 8]},
    "null": None,
    "a name": 'it\'s "segmentation": [1, 2], or not',
}


@pytest.mark.parametrize("kind", OUTLINES)
def test_outlines_of_objects_change_nothing(tmp_path, kind):
    """Catches an outline that is read for its form, and a field that goes with it."""

    def outline(document: Document) -> None:
        for row in document["annotations"]:
            row["segmentation"] = OUTLINES[kind]

    plain = CocoFolder(write(tmp_path / "plain")).ground_truth()
    assert CocoFolder(write(tmp_path / "outlined", changed(outline))).ground_truth() == plain


def test_a_cut_json_is_named_at_the_place_in_the_file(tmp_path):
    """Catches a place that only one of the two readers of json counts so."""
    text = json.dumps(DOCUMENT)
    write(tmp_path)
    for stop in (text.rindex('"bbox"') + 10, len(text) - 1):
        (tmp_path / "train.json").write_text(text[:stop])
        with pytest.raises(LabError, match=rf"line 1, column {stop + 1}\. It may be cut short"):
            CocoFolder(tmp_path)
    (tmp_path / "train.json").write_text(text + "}")
    with pytest.raises(LabError, match=f"Extra data at line 1, column {len(text) + 1}"):
        CocoFolder(tmp_path)


def test_file_names_of_any_letters(tmp_path):
    """Catches names cut at the wrong place: letters are not bytes, and one is no proper UTF-8."""
    names = ["a.jpg", "Übergröße/東京.png", "\udcff.jpg"]
    document = changed(lambda d: [image(row, file_name=names[row])(d) for row in range(3)])
    (tmp_path / "train.json").write_text(json.dumps(document))
    tables = pickle.loads(pickle.dumps(read_coco_json(tmp_path / "train.json")))
    assert tables.file_names == [tables.file_name(i) for i in range(3)] == names


# Errors


def annotation(row: int, **fields: Any) -> Callable[[Document], Any]:
    return lambda document: document["annotations"][row].update(fields)


def image(row: int, **fields: Any) -> Callable[[Document], Any]:
    return lambda document: document["images"][row].update(fields)


BAD_DOCUMENTS: dict[str, tuple[Callable[[Document], Any], str]] = {
    "no images": (lambda d: d.pop("images"), r'"images" is missing.*"categories", "annotations"'),
    "no annotations key": (lambda d: d.pop("annotations"), '"annotations" is missing'),
    "images empty": (lambda d: d.update(images=[], annotations=[]), '"images" is empty'),
    "annotations of strings": (lambda d: d.update(annotations=["x"]), '"annotations" must be'),
    "unknown category": (annotation(1, category_id=4), r'"category_id" of annotation id 6 is 4'),
    "unknown image": (annotation(3, image_id=71), r'"image_id" of annotation id 8 is 71'),
    "category as text": (
        annotation(0, category_id="nine"),
        '"category_id" of annotation id 5 is not',
    ),
    "no bbox": (lambda d: d["annotations"][2].pop("bbox"), '"bbox" of annotation id 7 is missing'),
    "bbox of three": (annotation(2, bbox=[1, 2, 3]), '"bbox" of annotation id 7 is not a list of'),
    "bbox of text": (
        annotation(2, bbox=["1", "2", "3,5", "4"]),
        '"bbox" of annotation id 7 is not',
    ),
    "bbox with null": (annotation(0, bbox=[1, None, 3, 4]), '"bbox" of annotation id 5 is not'),
    "area as text": (annotation(0, area="big"), '"area" of annotation id 5 is not a number'),
    "two images of one id": (image(1, id=70), '"id" of image id 70 is used more than once'),
    "image id as text": (image(1, id="b"), r'"id" of image id \(entry 1\) is not a number'),
    "image id of 400 digits": (
        image(1, id=10**400),
        r'"id" of image id \(entry 1\) is not a number',
    ),
    "bbox of 400 digits": (
        annotation(2, bbox=[10**400, 1, 2, 3]),
        "annotation id 7 is not a list of",
    ),
    "image id fraction": (image(1, id=1.5), r'"id" of image id \(entry 1\) is not a whole'),
    "no file name": (
        lambda d: d["images"][2].pop("file_name"),
        '"file_name" of image id 30 is mis',
    ),
    "file name a number": (image(2, file_name=3), '"file_name" of image id 30 is not a name'),
    "two categories of one id": (
        lambda d: d["categories"][2].update(id=3),
        '"id" of category id 3 is used',
    ),
    "no category name": (lambda d: d["categories"][1].pop("name"), '"name" of category id 3 is mi'),
    "a file's place alone": (
        image(0, file_name="../"),
        "image id 70 is not a file below the image",
    ),
    "two files of one last part": (
        lambda d: [image(row, file_name=f"/{row}/a.png")(d) for row in (0, 1)],
        "image id 70, 9 leaves the image folder, and ends like",
    ),
    "missing files": (
        lambda d: [image(row, file_name=f"{row}.png")(d) for row in (0, 2)],
        r'names 3 images, and 2 of them \(first: "0\.png", "2\.png"\) are not in',
    ),
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_a_json_that_breaks_the_format_is_named(tmp_path, case):
    """Catches a KeyError from deep inside, and a message without file, field or id."""
    change, message = BAD_DOCUMENTS[case]
    with pytest.raises(LabError, match=message) as caught:
        CocoFolder(write(tmp_path, changed(change)))
    assert str(caught.value).startswith("train.json")


def test_only_the_first_offenders_are_listed(tmp_path):
    """Catches a message of 860,000 ids."""

    def repeat(document: Document) -> None:
        row = document["annotations"][0]
        document["annotations"] = [{**row, "id": i, "category_id": 1} for i in range(100, 200)]

    with pytest.raises(LabError, match="annotation id 100, 101, 102 and 97 more is 1, which"):
        CocoFolder(write(tmp_path, changed(repeat)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid json"),
        (json.dumps(DOCUMENT).encode()[:-40], r"not valid json.*line 1, column.*cut short"),
        (b"[1, 2]", "found a list"),
        (b"\xff\xd8\xff\xe0 no text", "not UTF-8 text"),
        (b"images: 3", r"not valid json: .* at line 1, column 1\.$"),
    ],
)
def test_what_is_no_coco_json(tmp_path, content, message):
    """Catches json's own exception, without the name of the file."""
    write(tmp_path)
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(LabError, match=r"train\.json.*" + message):
        CocoFolder(tmp_path)


def test_an_image_of_another_size_is_an_error(tmp_path):
    """Catches boxes drawn on an image that was resized after labelling, and a decoder's traceback
    in the middle of an epoch."""
    data = CocoFolder(write(tmp_path))
    (tmp_path / "images" / "c.png").write_bytes(b"")
    with pytest.raises(LabError, match=r'"c\.png".*an empty file'):
        data[2]
    Image.new("RGB", (16, 12)).save(tmp_path / "images" / "a.png")
    with pytest.raises(
        LabError, match=r'"a\.png" has 16x12.*"width" 8, "height" 6 for image id 70'
    ):
        data[0]


@pytest.mark.parametrize("labelled", ["upright", "stored"])
def test_the_jsons_size_decides_about_exif_rotation(tmp_path, labelled):
    """Catches boxes beside their objects on phone photos, whichever way the labeller saw them."""
    stored = np.zeros((6, 8, 3), np.uint8)
    stored[0, 0] = 255  # after the turn of orientation 6 (90 degrees clockwise): top right
    document = copy.deepcopy(DOCUMENT)
    if labelled == "upright":
        document["images"][0].update(width=6, height=8)
        document["annotations"] = []
    data = CocoFolder(write(tmp_path, document))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "images" / "a.png", exif=exif)
    read = data[0].image
    if labelled == "upright":
        assert read.shape == (3, 8, 6) and read[0, 0, 5] == 255
    else:
        assert read.shape == (3, 6, 8) and read[0, 0, 0] == 255
