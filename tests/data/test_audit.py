"""What label tools and converters get wrong: mended where it is meant one way only, else asked."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.data.coco.annotations import CocoTables, read_coco_json

WIDTH, HEIGHT = 200, 100
# Corners: at every edge, and in the middle; in none of the other forms all lie within the image.
CORNERS = [
    (0, 0, 40, 30),
    (150, 60, 200, 100),
    (120, 40, 180, 90),
    (90, 70, 140, 95),
    (2, 50, 60, 98),
    (100, 2, 190, 44),
]


def read(folder: Path, boxes: Sequence[Sequence[float]], **more: Any) -> CocoTables:
    """One image a box; ``more`` goes into the json as it is, ``rows`` into every annotation."""
    rows = more.pop("rows", [{}] * len(boxes))
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(1, len(boxes) + 1)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": list(box), **row}
            for i, (box, row) in enumerate(zip(boxes, rows, strict=True), 1)
        ],
        "categories": [{"id": 1, "name": "cell"}],
        **more,
    }
    (folder / "some.json").write_text(json.dumps(document))
    return read_coco_json(folder / "some.json")


def notes(tables: CocoTables) -> list[str]:
    return [str(finding) for finding in tables.findings]


def xywh(corners: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]


def shares(box: Sequence[float]) -> list[float]:
    return [v / side for v, side in zip(box, (WIDTH, HEIGHT) * 2, strict=True)]


def centre(box: Sequence[float]) -> list[float]:
    x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


FORMS: dict[str, tuple[Callable[[Sequence[float]], Sequence[float]], str]] = {
    "xywh": (xywh, ""),
    "xyxy": (list, "left, top, right, bottom in pixels"),
    "cxcywh": (lambda c: centre(xywh(c)), "centre x, centre y, width, height in pixels"),
    "xywh-shares": (lambda c: shares(xywh(c)), "left, top, width, height as shares"),
    "xyxy-shares": (shares, "left, top, right, bottom as shares"),
    "cxcywh-shares": (lambda c: shares(centre(xywh(c))), "centre x, centre y, .* as shares"),
    "negative": (
        lambda c: [c[2], c[3], c[0] - c[2], c[1] - c[3]],
        r'6 boxes of negative sides \(first: "1\.png", annotation id 1\): turned round',
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_boxes_of_another_form_are_told_from_all_of_them(tmp_path, form):
    """Catches training on specks, or on boxes that reach from the object to the image's edge."""
    write, said = FORMS[form]
    tables = read(tmp_path, [write(corners) for corners in CORNERS])
    np.testing.assert_allclose(tables.boxes_xywh, [xywh(c) for c in CORNERS], atol=1e-9)
    np.testing.assert_allclose(tables.areas, tables.boxes_xywh[:, 2:].prod(axis=1))
    assert len(notes(tables)) == (form != "xywh")
    if said:
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(notes(tables)[0])


def test_areas_follow_the_boxes_or_stay_where_they_fit(tmp_path):
    """Catches AP of small objects counted by areas in shares, or a mask's area thrown away."""
    rows = [{"area": 700}, {"area": 0.01}, *[{"area": 10**6}] * 4]
    areas = read(tmp_path, [shares(xywh(c)) for c in CORNERS], rows=rows).areas
    assert areas[:3] == pytest.approx([700, 50 * 40, 60 * 50])


def test_a_few_boxes_that_reach_out_are_clipped_as_ever(tmp_path):
    """Catches a whole set converted because a few of its boxes were drawn beyond the edge."""
    boxes = [[150, 60, 80, 30]] * 2 + [[10, 10, 40, 30]] * 18
    tables = read(tmp_path, boxes)
    assert tables.boxes_xywh[[0, 2]].tolist() == [[150, 60, 50, 30], [10, 10, 40, 30]]
    assert notes(tables) == [
        'some.json: 2 boxes reaching out of the image (first: "1.png", annotation id 1): clipped.'
    ]


AMBIGUOUS: dict[str, tuple[list[tuple[float, ...]], str]] = {
    "small shares in the middle": ([(0.4, 0.5, 0.1, 0.1)] * 3, '"xywh-shares".*"cxcywh-shares"'),
    "whole images, or a pixel": ([(0, 0, 1, 1)], '"xywh-shares".*"xywh" if they are pixels'),
    "corners, or centres": ([(95, 50, 150, 80)] * 4, '"xyxy".*"cxcywh"'),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_can_be_meant_in_two_ways_is_asked(tmp_path, case):
    """Catches a guess, and a question that cannot be answered."""
    boxes, question = AMBIGUOUS[case]
    with pytest.raises(LabError, match=rf"some\.json.*box_format.*{question}"):
        read(tmp_path, boxes)
    answered = read(tmp_path, boxes, info={"box_format": "xywh"})
    assert answered.boxes_xywh[0, :2].tolist() == list(boxes[0][:2])


def test_an_answer_is_taken_at_its_word(tmp_path):
    """Catches an answer that is overruled, and one that is no form."""
    tables = read(tmp_path, [(0.4, 0.5, 0.1, 0.2)], info={"box_format": "cxcywh-shares"})
    assert tables.boxes_xywh[0].tolist() == pytest.approx([70, 40, 20, 20])
    with pytest.raises(LabError, match=r"'YXYX'; expected one of xywh, xyxy, cxcywh, xywh-sha"):
        read(tmp_path, [(1, 2, 3, 4)], info={"box_format": "YXYX"})


SMALL = [(3 * k, 2 * k, 10, 8) for k in range(4)]


def in_per_cent(count: int) -> list[list[float]]:
    """Boxes over the whole of an image of 640x480, left and top, width and height in per cent."""
    step = 90.0 / (count - 1)
    return [[step * k, 90 - step * k, 9.5, 9.5] for k in range(count)]


def test_boxes_in_per_cent_are_told_where_they_are_many_and_else_asked_about(tmp_path):
    """Catches the specks in a corner that Label Studio's own numbers are as pixels."""
    sizes = {"width": 640, "height": 480}
    many = in_per_cent(40)
    images = [{"id": i, "file_name": f"{i}.png", **sizes} for i in range(1, 41)]
    tables = read(tmp_path, many, images=images)
    expected = [[x * 6.4, y * 4.8, w * 6.4, h * 4.8] for x, y, w, h in many]
    np.testing.assert_allclose(tables.boxes_xywh, expected)
    assert "40 boxes written as left, top, width, height in per cent" in notes(tables)[0]
    with pytest.raises(LabError, match=r'as boxes in per cent would.*than 480 .*"xywh-percent"'):
        read(tmp_path, in_per_cent(10), images=images)
    told = read(tmp_path, in_per_cent(10), images=images, info={"box_format": "xywh"})
    assert told.boxes_xywh.tolist() == in_per_cent(10)


def test_exports_of_two_forms_put_together_are_refused(tmp_path):
    """Catches half of a set trained on specks, or on boxes cut off at the edge."""
    whole = [xywh(corners) for corners in CORNERS]
    with pytest.raises(LabError, match=r"4 of 10 boxes have numbers in 0..1 .*id 7\).*Convert"):
        read(tmp_path, whole + [shares(box) for box in whole[:4]])
    half = [list(map(float, corners)) for corners in CORNERS[1:5]]
    with pytest.raises(LabError, match=r"of 10 boxes reach out .*two exports.*\"xywh\" to have"):
        read(tmp_path, whole + half)


def test_one_slip_does_not_hide_how_the_others_are_written(tmp_path):
    """Catches corners cut off at the edge, all of them, because a single box fits in no form."""
    boxes = [list(corners) for corners in CORNERS] * 4 + [[150, 60, 260, 100]]
    with pytest.raises(LabError, match=r'nearly all of which as left, top.*"xyxy" if all are'):
        read(tmp_path, boxes)
    told = read(tmp_path, boxes, info={"box_format": "xyxy"})
    assert told.boxes_xywh[[0, 24]].tolist() == [[0, 0, 40, 30], [150, 60, 50, 40]]


def test_a_box_that_cvat_turned_is_the_upright_one_around_it(tmp_path):
    """Catches a box across its object: CVAT writes sides and angle of the box before its turn."""
    rows = [{"attributes": {"rotation": angle}} for angle in (90, 0.0, 360, 30, None)]
    tables = read(tmp_path, [(50, 40, 60, 20)] * 5, rows=rows)
    assert tables.boxes_xywh[0].tolist() == pytest.approx([70, 20, 20, 60])
    assert tables.boxes_xywh[1:3].tolist() == [[50, 40, 60, 20]] * 2
    w, h = 60 * 3**0.5 / 2 + 10, 30 + 10 * 3**0.5
    assert tables.boxes_xywh[3].tolist() == pytest.approx([80 - w / 2, 50 - h / 2, w, h])
    assert notes(tables)[0].startswith("some.json: 2 boxes with attributes.rotation")


def test_areas_that_no_mask_of_the_box_can_have(tmp_path):
    """Catches large objects counted as small because a tool wrote 0, or a polygon's area in other
    units; and a mask a pixel larger than its box, as COCO has them, called wrong."""
    rows = [{"area": area} for area in (0, -5, 101, 10**6, 105)]
    tables = read(tmp_path, [(20 + k, 30, 10, 10) for k in range(5)], rows=rows)
    assert tables.areas.tolist() == [100, 100, 101, 100, 105]
    assert notes(tables)[0].startswith("some.json: 3 boxes with an area that cannot be theirs")


def test_numbers_written_as_text_are_read(tmp_path):
    """Catches a refusal of VIA's image ids, and "1,5" taken for 15."""
    rows: list[dict[str, Any]] = [
        {"image_id": "1", "area": " 70 "},
        {"bbox": ["10", 5.5, "2e1", "8"]},
        {},
        {"iscrowd": "0"},
    ]
    tables = read(tmp_path, SMALL, rows=rows)
    assert tables.boxes_xywh[1].tolist() == [10, 5.5, 20, 8] and tables.areas[0] == 70
    assert tables.starts.tolist() == [0, 1, 2, 3, 4]
    assert notes(tables)[-1] == (
        'some.json: 3 boxes with a number written as text (first: "1.png", annotation id 1): read '
        "as numbers."
    )
    for wrong in ("1,5", "1_5", "", "one"):
        with pytest.raises(LabError, match='"area" of annotation id 3 is not a number'):
            read(tmp_path, SMALL, rows=[{}, {}, {"area": wrong}, {}])


def test_the_same_box_twice_counts_once(tmp_path):
    """Catches a detector taught to find everything twice by an export that was merged twice."""
    rows: list[dict[str, Any]] = [{"image_id": 1}] * 4
    rows[3] = {"image_id": 1, "iscrowd": 1}
    tables = read(tmp_path, [SMALL[0], SMALL[1], SMALL[0], SMALL[0]], rows=rows)
    assert tables.annotation_ids.tolist() == [1, 2, 4] and tables.rows.tolist() == [0, 1, 3]
    assert "1 box listed before, of the same class and place" in notes(tables)[0]


def test_an_image_listed_twice_is_one_with_all_boxes(tmp_path):
    """Catches each half of an image's objects counted as background in the other entry."""
    sizes = {"width": WIDTH, "height": HEIGHT}
    names = ["a.png", "b.png", "a.png", "./a.png"]
    images = [{"id": i, "file_name": name, **sizes} for i, name in enumerate(names, 1)]
    images[3]["width"] = 100  # one of the two sizes is wrong: left for the reader to refuse
    tables = read(tmp_path, SMALL, images=images)
    assert tables.image_ids.tolist() == [1, 2, 4] and tables.starts.tolist() == [0, 2, 3, 4]
    assert tables.annotation_ids.tolist() == [1, 3, 2, 4]
    assert "1 image listed before under another id" in notes(tables)[0]
    assert tables.to_dict()["annotations"][1]["image_id"] == 1


def test_findings_name_the_images(tmp_path):
    """Catches an odd image that the contact sheet does not show."""
    tables = read(tmp_path, [(-5, 3, 20, 20), (10, 10, 0, 5), (10, 10, 20, 20)])
    assert [f.images.tolist() for f in tables.findings] == [[1], [2]]
    assert [f.rows.tolist() for f in tables.findings] == [[0], [1]]


@pytest.mark.parametrize(
    ("document", "tool"),
    [
        ({"_via_settings": {}, "_via_img_metadata": {}}, "VIA project"),
        ({"version": "5.0", "shapes": [], "imagePath": "a.jpg"}, "LabelMe's file"),
        ([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}], "Label Studio's format"),
        ([{"image": "a.jpg", "annotations": [], "annotation": 1}], "CreateML"),
        ({"samples": []}, "FiftyOne's format"),
    ],
)
def test_the_own_files_of_label_tools_are_named(tmp_path, document, tool):
    """Catches a list of keys for somebody who only chose the wrong line of a menu."""
    (tmp_path / "own.json").write_text(json.dumps(document))
    with pytest.raises(LabError, match=rf"own\.json is not COCO json.*{tool}"):
        read_coco_json(tmp_path / "own.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_json_that_windows_wrote(tmp_path, encoding):
    """Catches a byte order mark taken for broken json."""
    read(tmp_path, SMALL)
    text = (tmp_path / "some.json").read_text().replace("cell", "Übergröße")
    (tmp_path / "some.json").write_text(text, encoding=encoding)
    assert read_coco_json(tmp_path / "some.json").class_names == ("Übergröße",)


# Classes


def classes(folder: Path, entries: list[dict[str, Any]], used: list[int]) -> CocoTables:
    boxes, rows = [(10, 10, 20, 20)] * len(used), [{"category_id": i} for i in used]
    return read(folder, boxes, rows=rows, categories=entries)


def test_entries_of_one_name_are_one_class(tmp_path):
    """Catches half of a class's objects counted as missed, and a class that can never score."""
    merged = [(7, "dog "), (1, "dog"), (3, " cat"), (9, "Cat")]
    tables = classes(tmp_path, [{"id": i, "name": n} for i, n in merged], [1, 7, 3, 7, 9])
    assert tables.class_names == ("dog", "cat", "Cat") and tables.category_ids == (1, 3, 9)
    assert tables.labels.tolist() == [0, 0, 1, 0, 2]
    truth = tables.to_dict()
    assert [a["category_id"] for a in truth["annotations"]] == [1, 1, 3, 1, 9]
    assert len(truth["categories"]) == 3
    assert notes(tables) == [
        'some.json: 2 categories called "dog" (id 7, 1): one class, with the boxes of all (3).',
        'some.json: 2 categories nearly alike, "cat", "Cat" (id 3, 9): they stay 2 classes; give '
        "them one name if they are one.",
    ]


def test_a_class_without_a_box_is_told_beside_entries_of_one_name(tmp_path):
    """Catches it left out where another class has two ids."""
    entries = [{"id": i, "name": name} for i, name in enumerate(("dog", "cat", "dog"), 1)]
    assert any(
        'without a box, "cat" (id 2)' in note for note in notes(classes(tmp_path, entries, [1]))
    )


@pytest.mark.parametrize("empty", [0, 9])
def test_an_empty_entry_of_a_classs_name_gives_its_id_to_nothing(tmp_path, empty):
    """Catches detections counted for an id that no object has: AP 0 for a perfect detector."""
    entries = [{"id": empty, "name": "dog"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    tables = classes(tmp_path, entries, [1, 2])
    assert tables.class_names == ("dog", "cat") and tables.category_ids == (1, 2)


def test_a_projects_entry_above_the_classes_is_none(tmp_path):
    """Catches a class "my-project" in every legend, and a class left out that has boxes or that
    is its own supercategory alone."""
    entries = [
        {"id": 0, "name": "farm", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "farm"},
        {"id": 2, "name": "person", "supercategory": "person"},
        {"id": 3, "name": "animal"},
        {"id": 4, "name": "cow", "supercategory": "animal"},
    ]
    tables = classes(tmp_path, entries, [1, 3, 4])
    assert tables.class_names == ("dog", "person", "animal", "cow")
    assert tables.labels.tolist() == [0, 2, 3]
    assert notes(tables) == [
        'some.json: 1 category without a box that others have as supercategory, "farm" (id 0): '
        "not taken for a class.",
        'some.json: 1 category without a box, "person" (id 2): nothing to learn or to measure.',
    ]


def test_crowds_are_counted_apart(tmp_path):
    """Catches an AP of nothing, and a training on nothing, without a word."""
    tables = read(tmp_path, [xywh(c) for c in CORNERS], rows=[{"iscrowd": 1}] * 6)
    assert notes(tables)[0].startswith(
        'some.json: 6 boxes marked as crowds (iscrowd 1), of 6 (first: "1.png", annotation id 1): '
        "not trained on"
    )


# Ids

CLOCK = 1763836861123456768  # float64 knows this one and the 256th after it


@pytest.mark.parametrize("ids", [[CLOCK + k for k in (3, 0, 2)], [2**63 + 11, 5, 2**64]])
def test_ids_too_large_for_floats_are_numbered_in_their_order(tmp_path, ids):
    """Catches boxes on another image, or of another class, that has the same id as a float."""
    boxes = [xywh(corners) for corners in CORNERS[:3]]
    tables = read(
        tmp_path,
        boxes,
        images=[{"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in ids],
        categories=[{"id": i, "name": f"class {i}"} for i in ids],
        rows=[{"image_id": ids[1], "category_id": ids[k]} for k in range(3)],
    )
    order = sorted(ids)
    assert tables.image_ids.tolist() == [order.index(i) + 1 for i in ids]
    assert tables.starts.tolist() == [0, 0, 3, 3]
    assert tables.class_names == tuple(f"class {i}" for i in order)
    assert tables.labels.tolist() == [order.index(i) for i in ids]
    assert tables.source_ids == (tuple(order), tuple(order))
    assert [tables.source_id(k) for k in range(3)] == ids


@pytest.mark.parametrize("wrong", [CLOCK + 1, 7, float(CLOCK), "x"])
def test_an_annotation_of_an_image_beside_a_large_id_is_refused(tmp_path, wrong):
    """Catches the neighbour in float64 taken for the image that is meant."""
    images = [{"id": CLOCK + 2, "file_name": "a.png", "width": 200, "height": 100}]
    with pytest.raises(LabError, match=re.escape(f'id 1 is {wrong}, which "images" does')):
        read(tmp_path, [(1, 2, 3, 4)], images=images, rows=[{"image_id": wrong}])
