"""Labelled folders of any tool, projects on disk, and which images are held out."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from sparse_rcnn_lab import CocoFolder, LabError
from sparse_rcnn_lab.data.coco.held_out import split_images
from sparse_rcnn_lab.data.coco.labelled_folder import read_labelled_folder, unpack
from sparse_rcnn_lab.data.coco.project import LARGEST, Project, _taken
from sparse_rcnn_lab.detect.images import read_image

GREY = torch.full((3, 60, 80), 128, dtype=torch.uint8)


def noise(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Large patches of grey, each seed another look."""
    patches = torch.rand(6, 8, generator=torch.Generator().manual_seed(seed)).mul(255).byte()
    return Image.fromarray(patches.numpy()).convert("RGB").resize(size, Image.Resampling.NEAREST)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, size).save(path)
    return path


def frames(project: Project, times: list[float], alike: bool = False) -> None:
    for number, taken in enumerate(times):
        image = read_image(noise(0 if alike else number))
        project.add(image, boxes=[{"name": "mug", "box": [5, 5, 30, 30]}], taken=taken)


# Labelled folders


def voc(path: Path, *corners: float, name: str = "<name>mug</name>", size: str = "") -> None:
    """An xml of one object."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = f"<object>{name}<bndbox>{box}</bndbox></object>"
    path.write_text(f"<annotation>{size}{entry}</annotation>", encoding="utf-8")


def coco(path: Path, file_name: str, *bbox: float) -> None:
    """A json of one image, 80x60, and one box."""
    document = {
        "images": [{"id": 1, "file_name": file_name, "width": 80, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": bbox}],
        "categories": [{"id": 1, "name": "mug"}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def test_pascal_voc_of_two_folders_and_a_broken_file(tmp_path):
    """Catches boxes of another image, a part named val that is trained on, a lost note."""
    for number, part in enumerate(("train", "train", "val2017")):
        image = picture(tmp_path / "photos" / part / f"{number}.jpg", number)
        voc(image.with_suffix(".xml"), number, 2, 30, 40)
    (tmp_path / "photos" / "train" / "1.xml").write_text("<annotation>")
    picture(tmp_path / "photos" / "train" / "none.jpg", 9)
    found = read_labelled_folder(tmp_path)
    boxes = {image.path.name: image for image in found.images}
    assert found.kind == "Pascal VOC" and len(boxes) == 4
    assert boxes["0.jpg"].boxes == (("mug", 0.0, 2.0, 30.0, 40.0),)
    assert boxes["2.jpg"].held_out and not boxes["0.jpg"].held_out
    assert not boxes["1.jpg"].labelled and not boxes["none.jpg"].labelled
    assert "1.xml" in found.notes[0] and "1 images have no xml" in found.notes[1]


@pytest.mark.parametrize("labels", ["Annotations/{}", "{}/Annotations"])
def test_frames_of_two_videos_have_one_name(tmp_path, labels):
    """Catches the boxes of one day's frame 0 on the other day's, and a guess between two."""
    for number, day in enumerate(("monday", "tuesday")):
        picture(tmp_path / "JPEGImages" / day / "0.jpg", number)
        voc(tmp_path / labels.format(day) / "0.xml", number, 2, 30, 40)
    found = read_labelled_folder(tmp_path)
    assert [image.boxes[0][1] for image in found.images] == [0, 1]
    mine = tmp_path / labels.format("tuesday") / "0.xml"
    content = mine.read_text()
    mine.unlink()
    assert [image.labelled for image in read_labelled_folder(tmp_path).images] == [True, False]
    mine.write_text(content)
    picture(tmp_path / "0.jpg")
    with pytest.raises(LabError, match=r'xml files may belong to "0\.jpg": .*monday'):
        read_labelled_folder(tmp_path)


def test_the_masks_of_pascal_voc_are_no_photos_of_its_objects(tmp_path):
    """Catches a third of VOC2012's images, painted in flat colours, with boxes to learn from; and
    a traceback where the xml, in an encoding that Python does not read, cannot say which it means.
    """
    for name in ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"):
        for number in range(2):
            picture(tmp_path / name.format(number))
    labels = tmp_path / "Annotations"
    voc(labels / "0.xml", 5, 5, 25, 25, size="<filename>0.jpg</filename>")
    (labels / "1.xml").write_text('<?xml version="1.0" encoding="GBK"?><annotation/>')
    found = read_labelled_folder(tmp_path)
    assert [image.path.name for image in found.images if image.labelled] == ["0.jpg"]
    assert "1.xml (multi-byte encodings" in found.notes[0]


@pytest.mark.parametrize("tool", ["COCO", "Pascal VOC"])
@pytest.mark.parametrize("turn", [1, 5, 6, 7, 8])
def test_boxes_on_the_stored_pixels_of_a_turned_photo_turn_with_it(tmp_path, tool, turn):
    """Catches boxes beside their objects: a project keeps photos as they are shown."""
    stored = torch.zeros(60, 80, 3, dtype=torch.uint8)
    stored[8:16, 48:72] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored.numpy()).save(tmp_path / "a.png", exif=exif)
    if tool == "COCO":
        coco(tmp_path / "train.json", "a.png", 48, 8, 24, 8)
    else:
        size = "<size><width>80</width><height>60</height></size>"
        voc(tmp_path / "a.xml", 48, 8, 72, 16, size=size)
    project = Project(tmp_path / "out")
    assert project.take_over(read_labelled_folder(tmp_path)) == []
    ys, xs = torch.where(project.pixels(1)[0] > 127)
    white = [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]
    assert project.boxes(1) == [{"name": "mug", "box": white}]


@pytest.mark.parametrize("tool", ["COCO", "Pascal VOC"])
def test_images_that_were_resized_after_labelling_are_left_out(tmp_path, tool):
    """Catches boxes twice as far from the corner as their objects, without a word; and a note for
    each of a thousand images, or none of them to be labelled again.
    """
    whole, part = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", size=(40, 30))
    if tool == "COCO":
        coco(tmp_path / "train.json", "a.png", 5, 5, 20, 20)
        coco(tmp_path / "val.json", "b.png", 5, 5, 20, 20)
    else:
        size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
        for image in (whole, part):
            voc(image.with_suffix(".xml"), 5, 5, 25, 25, size=size)
    found = read_labelled_folder(tmp_path)
    assert [image.path for image in found.images if image.labelled] == [whole]
    assert len(found.notes) == 1 and "40x30 pixels, its labels are for 80x60" in found.notes[0]
    picture(whole, size=(40, 30))
    found = read_labelled_folder(tmp_path)
    assert [image.labelled for image in found.images] == [False, False] and len(found.notes) == 1


@pytest.mark.parametrize(
    ("name", "left"), [("<label>mug</label>", 5), ("<name></name>", 5), ("<name>mug</name>", "nan")]
)
def test_an_object_without_a_name_or_a_box_is_a_note(tmp_path, name, left):
    """Catches a class called None, and one file that ends the import of all."""
    for number in range(2):
        picture(tmp_path / f"{number}.png", number)
        voc(tmp_path / f"{number}.xml", 5, 5, 25, 25)
    voc(tmp_path / "1.xml", left, 5, 25, 25, name=name)
    found = read_labelled_folder(tmp_path)
    assert [image.labelled for image in found.images] == [True, False]
    assert "1.xml (an object has no name, or no bndbox of four numbers)" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [mug, 'my keys']", ["mug", "my keys"]),
        ("names:\n  0: mug\n  1: my keys\n", ["mug", "my keys"]),
        ("nc: 2\nnames:\n- mug\n- my keys\n", ["mug", "my keys"]),
        ("names: {1: my keys, 0: mug}", ["mug", "my keys"]),
        ("names:\n  1: my keys\n  0: mug\n", ["mug", "my keys"]),
        ("names: # two\n  '0': mug  # a cup\n\n  # and\n  1: \"it's #1\"", ["mug", "it's #1"]),
        ("names: ['2: mug, or cup', driver's licence]", ["2: mug, or cup", "driver's licence"]),
        ("names: [no, 007]", ["no", "007"]),
    ],
)
def test_yolo_in_its_layout(tmp_path, text, names):
    """Catches centres read as corners, names that are shifted, polygons taken for boxes."""
    picture(tmp_path / "images" / "train" / "a.png")
    label = tmp_path / "labels" / "train" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.4 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text(text)
    ((second, *box), (first, *around)) = read_labelled_folder(tmp_path).images[0].boxes
    assert [first, second] == names
    assert box == pytest.approx([30, 15, 50, 45]) and around == pytest.approx([8, 6, 40, 24])


@pytest.mark.parametrize(
    "wrong", ["0 40 30 20 20", "0 0.4 0.4 0.2 0.2 0.3 0.3 2 0.5 0.5 2", "0.5 0.4 0.4 0.2 0.2"]
)
def test_yolo_with_what_is_no_share(tmp_path, wrong):
    """Catches pixels, or how visible keypoints are, that are taken for shares of the image: boxes
    a hundred times too large; and a share taken for a class."""
    picture(tmp_path / "a.png").with_suffix(".txt").write_text(wrong)
    picture(tmp_path / "b.tif").with_suffix(".txt").write_text("")  # a microscope's, say
    found = read_labelled_folder(tmp_path)
    assert [image.labelled for image in found.images] == [False, True]
    assert "a.txt (line 1 is not class, centre" in found.notes[0]


def yolo(folder: Path, label: str = "0") -> None:
    """An image with one box of a class, in Roboflow's layout."""
    picture(folder / "train" / "images" / "a.png")
    (folder / "train" / "labels").mkdir()
    (folder / "train" / "labels" / "a.txt").write_text(f"{label} 0.5 0.5 0.25 0.5 0.4 0.4 0.6 0.6")


def test_yolo_with_keypoints(tmp_path):
    """Catches the box and its keypoints read as the corners of a polygon; and the letters of a
    single name as classes, or a comment of Windows' own encoding that ends the import."""
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_bytes(b"# M\xfcnchen\nkpt_shape: [2, 2]\nnames: mug")
    assert read_labelled_folder(tmp_path).images[0].boxes == (("mug", 30.0, 15.0, 50.0, 45.0),)


def test_yolo_numbers_keep_their_names(tmp_path):
    """Catches names that close a gap: every later class has the name of its neighbour; those that
    a Windows shell wrote, in two bytes a letter; and numpy's 2.0 refused."""
    yolo(tmp_path, "2.000000e+00")
    for file, text in (("classes.txt", "mug\n\nkeys\n"), ("data.yaml", "names: {1: mug, 2: keys}")):
        (tmp_path / file).write_text(text, encoding="utf-16")
        assert read_labelled_folder(tmp_path).images[0].boxes[0][0] == "keys"


def test_yolo_sets_put_together_keep_their_names(tmp_path):
    """Catches the class numbers of one set read with the names of another."""
    for file, names in (("a/data.yaml", "names: [mug, keys]"), ("b/classes.txt", "keys\nmug")):
        path = tmp_path / file
        yolo(path.parent)
        path.write_text(names)
    found = read_labelled_folder(tmp_path)
    assert [image.boxes[0][0] for image in found.images] == ["mug", "keys"]
    yolo(tmp_path / "c")
    (tmp_path / "b" / "classes.txt").rename(tmp_path / "b" / "data.yaml")
    (tmp_path / "b" / "data.yaml").write_text("names: [keys, mug]")
    found = read_labelled_folder(tmp_path)
    assert [image.labelled for image in found.images] == [True, True, False]
    assert "name its classes in two ways" in found.notes[0]


def test_what_is_no_labelled_folder(tmp_path):
    """Catches a traceback for an empty folder, photographs that count as labelled, and an
    editor's own json read as COCO's."""
    with pytest.raises(LabError, match="No image"):
        read_labelled_folder(tmp_path)
    with pytest.raises(LabError, match="no folder"):
        read_labelled_folder(tmp_path / "gone")
    picture(tmp_path / "a.jpg")
    (tmp_path / ".vscode").mkdir()
    (tmp_path / ".vscode" / "settings.json").write_text("{}")
    found = read_labelled_folder(tmp_path)
    assert found.kind == "photographs" and not found.images[0].labelled


def test_a_damaged_part_is_not_left_out(tmp_path):
    """Catches a val.json that cannot be read and is then silently trained without."""
    picture(tmp_path / "images" / "a.png")
    coco(tmp_path / "train.json", "a.png", 5, 5, 20, 20)
    assert [image.held_out for image in read_labelled_folder(tmp_path).images] == [False]
    (tmp_path / "val.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match=r"val\.json"):
        read_labelled_folder(tmp_path)


def test_a_part_to_test_on_is_said(tmp_path):
    """Catches images of Roboflow's "test" of which teach says nothing."""
    for part in ("train", "valid", "test"):
        picture(tmp_path / part / f"{part}.png")
        coco(tmp_path / part / "_annotations.coco.json", f"{part}.png", 5, 5, 20, 20)
    found = read_labelled_folder(tmp_path)
    assert [image.held_out for image in found.images] == [False, True]
    assert found.notes == ['"test/_annotations.coco.json" is neither learned from nor held out.']


def test_files_that_are_no_labels(tmp_path):
    """Catches labels that are not read because of an editor's xml, CVAT's own that reads as
    nothing, and a broken json of which only the empty list of names beside it is told."""
    yolo(tmp_path / "yolo")
    (tmp_path / "yolo" / ".idea").mkdir()
    (tmp_path / "yolo" / ".idea" / "a.xml").write_text("<project/>")
    assert read_labelled_folder(tmp_path / "yolo").kind == "YOLO"
    picture(tmp_path / "cvat" / "a.png")
    (tmp_path / "cvat" / "annotations.xml").write_text("<annotations/>")
    with pytest.raises(LabError, match='"CVAT for images"'):
        read_labelled_folder(tmp_path / "cvat")
    picture(tmp_path / "coco" / "images" / "a.png")
    (tmp_path / "coco" / "classes.txt").write_text("mug")
    (tmp_path / "coco" / "train.json").write_text("{")
    with pytest.raises(LabError, match=r"train\.json is not valid json"):
        read_labelled_folder(tmp_path / "coco")


def test_names_that_have_no_end(tmp_path):
    """Catches 200 bytes of yaml, lists that name each other, that fill the memory as text."""
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    for text in ("a: &a [[x, x], [x, x]]\nnames: [*a]", "names: " + "[" * 5000):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(LabError, match=r"names in .*data\.yaml"):
            read_labelled_folder(tmp_path)


def test_one_xml_of_another_encoding(tmp_path):
    """Catches one file of a tool that writes Chinese, which costs all the others."""
    text = (
        "{}<annotation><object><name>mug</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "Annotations").mkdir()
    for name, head in (("a", ""), ("b", '<?xml version="1.0" encoding="gbk"?>')):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text.format(head))
    found = read_labelled_folder(tmp_path)
    assert [image.labelled for image in found.images] == [True, False]
    assert "b.xml (multi-byte encodings" in found.notes[0]


def test_zips(tmp_path):
    """Catches a member that is written outside, a bomb that is unpacked, a traceback for no zip."""
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("/absolute.txt", "x")
        archive.writestr("C:/absolute.txt", "x")
        archive.writestr(".", "x")
        archive.writestr("__MACOSX/a.jpg", "x")
        archive.writestr("in/a.txt", "x" * 2000)
    unpack(good, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.txt"]
    assert not (tmp_path.parent / "escaped.txt").exists()
    with pytest.raises(LabError, match=r'^"good\.zip" has 0 MB unpacked'):
        unpack(good, tmp_path / "out", megabytes=0)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(range(256)) * 20)
    damaged = bytearray(bad.read_bytes())
    damaged[40:44] = b"\xff\xff\xff\xff"
    whole = good.read_bytes()
    start = whole.index(b"PK\x01\x02")
    lost = whole[: start + 46] + b"\xff" + whole[start + 47 :]  # a name that is no text
    lost = lost[: start + 9] + b"\x08" + lost[start + 10 :]
    for content in (b"PK not a zip", damaged, lost):
        bad.write_bytes(content)
        with pytest.raises(LabError, match=r"bad\.zip"):
            unpack(bad, tmp_path / "out")


# Projects


def test_boxes_are_kept_in_the_pixels_of_the_kept_image(tmp_path):
    """Catches boxes of a large photograph that are not scaled with it, or leave it."""
    project = Project(tmp_path)
    large = torch.zeros(3, 1200, 1920, dtype=torch.uint8)
    row = project.add(large, boxes=[{"name": "mug", "box": [1920, 1200, 960, 600]}])
    assert (row["width"], row["height"]) == (LARGEST, LARGEST * 1200 // 1920)
    assert project.boxes(row["id"]) == [{"name": "mug", "box": [480.0, 300.0, 960.0, 600.0]}]
    project.label(row["id"], [{"name": "mug", "box": [-50, -50, 40, 5000]}])
    assert project.boxes(row["id"])[0]["box"] == [0.0, 0.0, 40.0, 600.0]
    project.label(row["id"], [{"name": "mug", "box": [10, 10, 11, 11]}])  # a slip of the hand
    assert project.boxes(row["id"]) == []
    assert CocoFolder(tmp_path / "labels.json", images=tmp_path / "images")[0].image.shape[1] == 600


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ({"name": "", "box": [0, 0, 9, 9]}, "needs a name"),
        ({"name": "x" * 99, "box": [0, 0, 9, 9]}, "needs a name"),
        ({"name": "mug", "box": [0, 0, float("nan"), 9]}, "left, top"),
        ({"name": "mug", "box": "everywhere"}, "left, top"),
        ({"name": "mug"}, "left, top"),
    ],
)
def test_what_is_no_box(tmp_path, box, said):
    """Catches a broken message that damages what was drawn before."""
    project = Project(tmp_path)
    frame = project.add(GREY, boxes=[{"name": "mug", "box": [1, 1, 20, 20]}])["id"]
    with pytest.raises(LabError, match=said):
        project.label(frame, [{"name": "mug", "box": [0, 0, 9, 9]}, box])
    assert Project(tmp_path).boxes(frame) == [{"name": "mug", "box": [1.0, 1.0, 20.0, 20.0]}]


def test_classes(tmp_path):
    """Catches the same name in other case as two classes, and boxes that change their class."""
    project = Project(tmp_path)
    frame = project.add(GREY)["id"]
    names = ("Mug", " mug ", "MUG", "keys")
    project.label(frame, [{"name": name, "box": [1, 1, 20, 20]} for name in names])
    assert project.class_names == ("Mug", "keys")
    project.set_classes(["keys", "cup"], {"Mug": "cup"})
    assert [box["name"] for box in project.boxes(frame)] == ["cup", "cup", "cup", "keys"]
    with pytest.raises(LabError, match="twice"):
        project.set_classes(["cup", "Cup"])
    project.set_classes(["cup"])
    assert len(project.boxes(frame)) == 3


def test_boxes_stay_with_their_renamed_class(tmp_path):
    """Catches all boxes of a class lost to a blank, to a capital, or to two that become one."""
    project = Project(tmp_path)
    names = ("cat", "kitten", "dog")
    frame = project.add(GREY, boxes=[{"name": n, "box": [1, 1, 20, 20]} for n in names])["id"]
    project.set_classes(["Cat", "hound"], {"kitten": "cat", "dog": " hound "})
    assert project.class_names == ("Cat", "hound")
    assert [box["name"] for box in project.boxes(frame)] == ["Cat", "Cat", "hound"]
    project.set_classes(["hound", "cat"], {"Cat": "hound", "hound": "cat"})
    assert [box["name"] for box in project.boxes(frame)] == ["hound", "hound", "cat"]


def test_import_says_what_it_merged(tmp_path):
    """Catches two spellings that are two classes, and a broken image that ends the import."""
    for number in range(2):
        image = picture(tmp_path / "in" / f"{number}.jpg", number)
        image.with_suffix(".txt").write_text(f"{number} 0.5 0.5 0.5 0.5")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"none")
    (tmp_path / "in" / "classes.txt").write_text("Mug\nmug\n")
    project = Project(tmp_path / "out")
    notes = project.take_over(read_labelled_folder(tmp_path / "in"))
    assert project.class_names == ("Mug",) and len(project) == 2
    assert any('"mug" is taken for "Mug"' in note for note in notes)
    assert any("broken.jpg" in note for note in notes)


def test_import_says_which_boxes_are_too_small_to_keep(tmp_path):
    """Catches labelled objects that silently become background, and an image of which half is
    taken where its boxes are refused."""
    image = picture(tmp_path / "in" / "a.png", size=(LARGEST * 2, 60))
    image.with_suffix(".txt").write_text("0 0.5 0.5 0.001 0.5\n0 0.5 0.5 0.5 0.5\n")
    project = Project(tmp_path / "out")
    notes = project.take_over(read_labelled_folder(tmp_path / "in"))
    assert len(project.boxes(1)) == 1 and "1 boxes are under 2 pixels" in notes[-1]
    with pytest.raises(LabError, match="needs a name"):
        project.add(GREY, boxes=[{"name": "", "box": [1, 1, 20, 20]}])
    assert len(project) == 1


def test_a_photo_beyond_pillows_limit_is_imported(tmp_path):
    """Catches Pillow's own error, where only the time of the photo is read."""
    Image.new("1", (14_000, 13_000)).save(tmp_path / "a.png")
    assert _taken(tmp_path / "a.png") == (tmp_path / "a.png").stat().st_mtime


def test_another_tools_labels_json_is_no_project(tmp_path):
    """Catches FiftyOne's export called damaged."""
    picture(tmp_path / "images" / "a.png")
    coco(tmp_path / "labels.json", "a.png", 5, 5, 20, 20)
    assert not Project.is_one(tmp_path)
    own = Project(tmp_path / "own")
    assert Project.is_one(own.folder)
    own.add(GREY)
    assert Project.is_one(own.folder)


def test_damage_is_said(tmp_path):
    """Catches labels that begin anew over a damaged file."""
    Project(tmp_path).add(GREY)
    (tmp_path / "labels.json").write_text('{"images": [')
    with pytest.raises(LabError, match="damaged"):
        Project(tmp_path)


def test_a_kill_loses_nothing_that_was_answered(tmp_path):
    """Catches labels that are half written, or answered before they are on disk."""
    script = (
        "import sys, torch; from sparse_rcnn_lab.data.coco.project import Project\n"
        "project = Project(sys.argv[1]); image = torch.zeros(3, 60, 80, dtype=torch.uint8)\n"
        "for number in range(10000):\n"
        "    row = project.add(image); box = [0, 0, 10 + number % 50, 20]\n"
        "    project.label(row['id'], [{'name': 'mug', 'box': box}])\n"
        "    print(row['id'], flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(8):
        answered = int(process.stdout.readline())
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    project = Project(tmp_path)
    assert len(project) >= answered
    for number in range(1, answered + 1):
        assert project.boxes(number)[0]["box"][2] == 10 + (number - 1) % 50
        assert project.pixels(number).shape == (3, 60, 80)


# Held out


def test_neighbours_in_time_stay_together(tmp_path):
    """Catches a held-out frame whose neighbour, a moment before, is trained on."""
    project = Project(tmp_path)
    bursts = [100 * burst + 0.4 * shot for burst in range(5) for shot in range(4)]
    frames(project, bursts)
    split = split_images(project.coco(), project.images)
    assert len(split.train) + len(split.val) == 20 and 4 <= len(split.val) <= 8
    assert not {(i - 1) // 4 for i in split.train} & {(i - 1) // 4 for i in split.val}
    assert split.note == ""


def test_one_moment_is_said(tmp_path):
    """Catches numbers from one scene that are told as if they held anywhere."""
    project = Project(tmp_path)
    frames(project, [0.3 * shot for shot in range(12)], alike=True)
    split = split_images(project.coco(), project.images)
    assert len(split.val) == 3 and split.val in {(10, 11, 12), (1, 2, 3), (4, 5, 6), (7, 8, 9)}
    assert "one moment" in split.note


def test_every_class_is_held_out_but_not_starved(tmp_path):
    """Catches a class that is never measured, and one whose only boxes are held out."""
    project = Project(tmp_path)
    frames(project, [10.0 * number for number in range(16)])
    for image in range(1, 17):
        names = ["mug"] + (["keys"] if image % 4 == 0 else []) + (["rare"] if image == 7 else [])
        project.label(image, [{"name": name, "box": [5, 5, 30, 30]} for name in names])
    split = split_images(project.coco(), project.images)
    assert {image for image in split.val if image % 4 == 0} and 7 in split.train


def test_what_cannot_be_split(tmp_path):
    """Catches a training on one image, or on none with a box."""
    project = Project(tmp_path)
    first, _ = project.add(GREY)["id"], project.add(GREY)["id"]
    with pytest.raises(LabError, match="nothing to learn from"):
        split_images(project.coco(), project.images)
    project.label(first, [{"name": "mug", "box": [1, 1, 20, 20]}])
    with pytest.raises(LabError, match="One image is labelled"):
        split_images(project.coco(), project.images)


def test_the_archive_is_coco(tmp_path):
    """Catches a download that this package itself cannot read, that has unlabelled images, or
    that takes the folder of its name away, the project here."""
    project = Project(tmp_path / "data")
    project.add(GREY, boxes=[{"name": "mug", "box": [1, 1, 20, 20]}])
    project.add(GREY)
    unpack(project.archive(tmp_path / "data.zip"), tmp_path / "again")
    data = CocoFolder(tmp_path / "again")
    assert len(data) == 1 and data.class_names == ("mug",)
    assert json.loads((tmp_path / "again" / "train.json").read_text())["images"][0]["labelled"]
