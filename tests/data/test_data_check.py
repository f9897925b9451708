"""The check of a data set: each finding with its count, first example and what was done."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import CocoFolder, DataCheck, LabError
from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.data.coco.mended import write_mended
from sparse_rcnn_lab.data.data_check import first_lines

Document = dict[str, Any]
SIDE = 64


def document(name: str, images: int = 3) -> Document:
    """Two boxes an image, of classes "a" and "b"; every number is in its place."""
    return {
        "images": [
            {"id": i, "file_name": f"{name}{i}.png", "width": SIDE, "height": SIDE - 16}
            for i in range(1, images + 1)
        ],
        "annotations": [
            {
                "id": 2 * i + k,
                "image_id": i,
                "category_id": 1 + k,
                "bbox": [4 + 20 * k, 5, 15, 30 + k],
                "segmentation": [[1, 2, 3, 4]],
            }
            for i in range(1, images + 1)
            for k in (0, 1)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def write(root: Path, **documents: Document) -> Path:
    """Each document under its name, and an image of its own for each of its entries."""
    (root / "images").mkdir(exist_ok=True)
    for split, content in documents.items():
        (root / f"{split}.json").write_text(json.dumps(content))
        for number, image in enumerate(content["images"]):
            grey = 40 * len(split) % 251 + 7 * number
            pixels = np.full((SIDE - 16, SIDE, 3), grey, np.uint8)
            pixels[0, 0] = number, len(split), 9
            path = root / "images" / image["file_name"]
            if not path.exists():
                Image.fromarray(pixels).save(path)
    return root


def said(found: DataCheck) -> list[str]:
    return [str(finding) for finding in found.findings]


@pytest.fixture
def root(tmp_path) -> Path:
    return write(tmp_path, train=document("t"), val=document("v"))


def test_clean_data_is_counted_and_nothing_is_odd(root):
    """Catches a finding about nothing, and a count of crowds as boxes."""
    crowd = document("t")
    crowd["annotations"] += [{**crowd["annotations"][0], "id": 99, "iscrowd": 1}]
    write(root, train=crowd)
    found = srl.check(root, progress=False)
    assert said(found) == [
        'train.json: 1 box marked as crowds (iscrowd 1), of 7 ("t1.png", annotation id 99): not '
        "trained on, and no objects in evaluation; where each is a single object, set iscrowd to 0."
    ]
    table = found.classes
    row = table[(table.file == "train.json") & (table["class"] == "a")].iloc[0]
    assert row[["boxes", "crowds", "images", "small", "medium"]].tolist() == [3, 1, 3, 3, 0]
    assert row["median side"] == pytest.approx((15 * 30) ** 0.5)
    assert "train.json: 3 images (0 without a box), 6 boxes and 1 crowds of 2 classes: a, b" in str(
        found
    )
    assert "median side" in found._repr_html_()


def change(root: Path, split: str, edit: Callable[[Document], Any]) -> None:
    path = root / f"{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def like(row: int, **fields: Any) -> Callable[[Document], Any]:
    """Adds an annotation that is a copy of another but for some fields."""
    return lambda d: d["annotations"].append({**d["annotations"][row], "id": 50, **fields})


BOXES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "nearly twice": (
        like(0, bbox=[4.3, 5, 15, 30]),
        '1 box nearly the same as another of its class ("t1.png", annotation id 50): kept.',
    ),
    "two classes": (
        like(0, category_id=2),
        '1 box nearly the same as one of another class ("t1.png", annotation id 50): kept; is it '
        "one object, named twice?",
    ),
    "thin": (
        like(0, bbox=[40, 5, 1.5, 30]),
        '1 box under 2 pixels wide or high ("t1.png", annotation id 50): kept.',
    ),
    "many": (
        like(2, bbox=[40, 5, 15, 30]),
        '1 image with more objects than 2 proposals (most: 3) ("t2.png", image id 2): the rest '
        "cannot be found; choose more, model.num_proposals.",
    ),
    "mended": (
        like(0, bbox=[50, 5, 40, 30]),
        '1 box reaching out of the image ("t1.png", annotation id 50): clipped.',
    ),
}


@pytest.mark.parametrize("case", BOXES)
def test_odd_boxes_are_told_with_the_first_of_them(root, case):
    """Catches a finding that is missed, or named after another image."""
    edit, sentence = BOXES[case]
    change(root, "train", edit)
    found = srl.check(root, images=False, proposals=2 if case == "many" else 100)
    assert said(found) == [f"train.json: {sentence}"]
    shown = found.oddest(2)[0]
    assert shown.name == f"train: {sentence.split(chr(34))[1]}" and shown.why[:10] in sentence
    assert shown.sample is not None and len(shown.sample.boxes) == 3


def test_what_train_and_val_share_is_told(root):
    """Catches an AP of images that were trained on: by entry, by content, by Roboflow's name."""
    change(root, "val", lambda d: d["images"][0].update(file_name="t2.png"))
    shutil.copy(root / "images" / "t1.png", root / "images" / "v2.png")
    for split, mark in (("train", "1f"), ("val", "2e")):
        name = f"cat_jpg.rf.{mark}.png"
        change(root, split, lambda d, name=name: d["images"][2].update(file_name=name))
        Image.new("RGB", (SIDE, SIDE - 16), f"#{mark * 3}").save(root / "images" / name)
    change(root, "val", lambda d: d["categories"].append({"id": 3, "name": "c"}))
    found = srl.check(root, progress=False)
    do = "remove them from one of the two, as val must show images that were not trained on"
    assert said(found)[1:] == [
        'val.json: 1 category that train.json does not list, "c": left out of an evaluation.',
        f'val.json: 1 image that train.json has too ("t2.png", image id 1): {do}.',
        "val.json: 1 image augmented from the same original as one of train.json "
        f'("cat_jpg.rf.2e.png", image id 3): {do}.',
        f'val.json: 1 image with the content of one of train.json ("v2.png", image id 2): {do}.',
    ]
    first = first_lines(*(CocoFolder(root, split) for split in ("train", "val")), proposals=100)
    assert sum("remove them" in line for line in first) == 2, "no image is opened for these"


def test_a_third_set_is_compared_too(root, tmp_path_factory):
    """Catches a folder of train and val beside other data that ends in an IndexError, or of which
    nothing is compared with what is given last."""
    other = write(tmp_path_factory.mktemp("other"), test=document("x", 1))
    shutil.copy(root / "images" / "t3.png", other / "images" / "x1.png")
    shutil.copy(root / "images" / "t2.png", root / "images" / "v3.png")
    found = srl.check(root, CocoFolder(other / "test.json"), progress=False)
    assert [(f.file, f.subject, f.first.split(",")[0]) for f in found.findings] == [
        ("val.json", "1 image with the content of one of train.json", '"v3.png"'),
        ("test.json", "1 image with the content of one of train.json", '"x1.png"'),
    ]


def test_image_files_are_looked_at(root):
    """Catches phone photos whose boxes lie beside their objects, files that end a training in its
    tenth hour, and the same photograph labelled twice."""
    images = root / "images"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (SIDE - 16, SIDE)).save(images / "t1.png", exif=exif)
    exif[0x0112] = 3
    Image.new("RGB", (SIDE, SIDE - 16)).save(images / "t2.png", exif=exif)
    (images / "t3.png").write_bytes(b"no image")
    Image.new("RGB", (32, 32)).save(images / "v1.png")
    shutil.copy(images / "v2.png", images / "v3.png")
    found = srl.check(root, progress=False)
    assert [(f.file, f.subject, f.first.split(",")[0].strip('"')) for f in found.findings] == [
        ("train.json", "1 image that cannot be read", "t3.png"),
        ("train.json", "1 image turned by EXIF, labelled upright", "t1.png"),
        ("train.json", "1 image turned by EXIF, labelled either way", "t2.png"),
        ("val.json", "1 image of another size than in the json", "v1.png"),
        ("val.json", "1 image with the content of another", "v3.png"),
    ]
    assert any(odd.sample is None for odd in found.oddest(6))


def test_what_can_be_checked(root, tmp_path):
    """Catches a folder with one split refused, two jsons of one name mixed up, and drawn shapes
    that end in a traceback."""
    (root / "val.json").unlink()
    assert [data.file for data in srl.check(root, images=False).data] == ["train.json"]
    assert len(srl.check(root / "train.json", images=False).data) == 1
    with pytest.raises(LabError, match="Only data in COCO format"):
        srl.check(srl.Shapes(length=2))
    with pytest.raises(LabError, match="No folder"):
        srl.check(tmp_path / "nothing")
    both = tmp_path / "roboflow"
    for split in ("train", "valid"):
        (both / split).mkdir(parents=True)
        content = document("t", 1)
        content["annotations"][0]["bbox"] = [50, 5, 40, 30]
        (both / split / "_annotations.coco.json").write_text(json.dumps(content))
        shutil.copy(root / "images" / "t1.png", both / split)
    found = srl.check(both, progress=False)
    names = [f"{split}/_annotations.coco.json" for split in ("train", "valid", "valid")]
    assert [finding.file for finding in found.findings] == names
    assert {odd.name for odd in found.oddest(2)} == {
        "train/_annotations.coco: t1.png",
        "valid/_annotations.coco: t1.png",
    }


def test_two_files_of_one_name(tmp_path):
    """Catches an image of the wrong set shown as odd."""
    sets = []
    for name, width in (("a", 15), ("b", 0.5)):
        (tmp_path / name).mkdir()
        content = document(name, 1)
        content["annotations"][0]["bbox"][2] = width
        sets.append(CocoFolder(write(tmp_path / name, train=content)))
    for given in (sets, sets[::-1]):
        odd = srl.check(*given, images=False).oddest(1)[0]
        assert odd.name == f"{tmp_path / 'b' / 'train'}: b1.png" and "under 2 pixels" in odd.why


def test_first_lines_are_few(root):
    """Catches a training whose first screen is full of notes."""
    for k in range(24):
        change(
            root,
            "train",
            lambda d, k=k: d["categories"].append({"id": 10 + k, "name": f"c{k // 2}"}),
        )
    lines = first_lines(CocoFolder(root))
    assert lines[0].startswith("data   train.json: 3 images (0 without a box), 6 boxes")
    assert lines[1].startswith('train.json: 2 categories called "c0" (id 10, 11)')
    assert lines[9:] == [f"5 more notes: sparse-rcnn-lab check {root}"]
    assert first_lines(srl.Shapes(length=2)) == [
        "data   2 images of 6 classes: circle, square, triangle, star, heart, cross"
    ]


# The mended copy


def spoil(d: Document) -> None:
    """Something of each kind that is mended."""
    a, i = d["annotations"], d["images"]
    a[0]["bbox"] = [50, 5, 40, 30]
    a[1].update(bbox=["24", 5, 15, 31], attributes={"rotation": 90, "occluded": True})
    a[2]["bbox"] = [200, 200, 5, 5]
    a[3]["category_id"] = 7
    a.append({**a[4], "id": 50})
    i.append({**i[2], "id": 9})
    a.append({**a[4], "id": 51, "image_id": 9, "bbox": [40, 5, 10, 10], "area": -1})
    i[1].update(file_name="=C:\\data\\T2.PNG", width=0)
    d["categories"] += [{"id": 7, "name": "b "}, {"id": 8, "name": "c"}]


def test_a_mended_copy_reads_as_the_data_did_with_nothing_left_to_say(root, tmp_path_factory):
    """Catches a change to the original, a field lost, and a copy that is mended twice."""
    change(root, "train", spoil)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    found = srl.check(root, progress=False)
    out = tmp_path_factory.mktemp("out") / "mended"
    listed = write_mended(found.data, out, progress=False)
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before

    copy = srl.check(out, progress=False)
    assert said(copy) == [
        'train.json: 1 category without a box, "c" (id 8): nothing to learn or to measure.',
        'train.json: 1 category that val.json does not list, "c": cannot be evaluated.',
    ]
    for old, new in zip(found.data, copy.data, strict=True):
        np.testing.assert_allclose(new.tables.boxes_xywh, old.tables.boxes_xywh)
        for name in ("labels", "areas", "image_ids", "annotation_ids", "names", "heights"):
            np.testing.assert_array_equal(getattr(new.tables, name), getattr(old.tables, name))
        assert new.class_names == old.class_names and (new[1].image == old[1].image).all()
    mended = json.loads((out / "train.json").read_text())
    assert all(row["segmentation"] == [[1, 2, 3, 4]] for row in mended["annotations"])
    assert mended["annotations"][1]["attributes"] == {"rotation": 0.0, "occluded": True}

    rows = list(csv.DictReader(listed.open(encoding="utf-8", newline="")))
    assert {(r["record"], r["id"], r["field"] or r["after"]) for r in rows} == {
        ("annotation", "2", "bbox"),
        ("annotation", "3", "bbox"),
        ("annotation", "3", "attributes"),
        ("annotation", "4", "removed"),
        ("annotation", "5", "category_id"),
        ("annotation", "50", "removed"),
        ("annotation", "51", "image_id"),
        ("annotation", "51", "area"),
        ("image", "2", "file_name"),
        ("image", "2", "width"),
        ("image", "9", "removed"),
        ("category", "7", "removed"),
    }
    (name,) = (r["before"] for r in rows if r["field"] == "file_name")
    assert name == "'=C:\\data\\T2.PNG"  # which no spreadsheet program runs
    row = next(r for r in rows if r["id"] == "2" and r["field"] == "bbox")
    assert (row["file"], row["before"], row["after"], row["why"]) == (
        "train.json",
        "[50, 5, 40, 30]",
        "[50.0, 5.0, 14.0, 30.0]",
        "box reaching out of the image",
    )


@pytest.mark.parametrize("form", ["xyxy-shares", "cxcywh"])
def test_a_mended_copy_of_another_form_is_in_pixels(root, form):
    """Catches boxes that are converted a second time when the copy is read."""
    change(root, "train", lambda d: d.update(info={"box_format": form, "year": 2026}))
    scale = (0.01, 0.01) if form.endswith("shares") else (1, 1)
    for row in range(6):
        box = [10 * scale[0], 10 * scale[0], 40 * scale[1], 30 * scale[1]]
        change(root, "train", lambda d, r=row, b=box: d["annotations"][r].update(bbox=b))
    data = CocoFolder(root)
    write_mended([data], root / "out", progress=False)
    copy = CocoFolder(root / "out")
    assert copy.tables.boxes_xywh.tolist() == data.tables.boxes_xywh.tolist()
    assert copy.notes == () and json.loads(copy.json_path.read_text())["info"]["year"] == 2026


def test_ids_beyond_floats_stay_in_the_copy(root):
    """Catches a mended copy whose ids are those that the lab uses inside."""
    large = 1763836861123456789

    def enlarge(d: Document) -> None:
        for row in (*d["images"], *d["categories"]):
            row["id"] += large
        for row in d["annotations"]:
            row["image_id"] += large
            row["category_id"] += large

    change(root, "train", enlarge)
    write_mended([CocoFolder(root)], root / "out", progress=False)
    mended = json.loads((root / "out" / "train.json").read_text())
    assert [row["id"] for row in mended["images"]] == [large + i for i in (1, 2, 3)]
    assert mended["annotations"][1]["category_id"] == large + 2


# The command


def test_the_command_writes_what_it_is_asked_for(root, capsys, monkeypatch):
    """Catches a sheet without its images or of another kind than its name says, and a copy over
    somebody's files.
    """
    monkeypatch.setenv("COLUMNS", "150")  # so that no heading is wrapped
    change(root, "train", like(0, bbox=[50, 5, 40, 30]))
    sheet, out = root / "odd.JPG", root / "out"
    assert main(["check", str(root), "--sheet", str(sheet), "--fix", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "what is odd in train.json" in printed and "clipped" in printed
    assert f"written: {sheet}, {out}: a mended copy" in printed
    with Image.open(sheet) as page:
        assert page.format == "JPEG"
        colors = {color for _, color in page.convert("RGB").getcolors(10**6) or []}
    assert page.width == 4 * 436 + 16 and len(colors) > 50
    (out / "mine.txt").touch()
    assert main(["check", str(root), "--fix", str(out), "--no-images"]) == 2
    assert "already exists" in capsys.readouterr().err
