"""A json of the size of COCO's ``instances_train2017.json``, made in seconds.

118,287 images, 860,001 boxes, polygons included, 0.45 GB: as many, and as large, as in the real
one. Empty files stand for the images.
"""

from pathlib import Path

import numpy as np

IMAGES, BOXES, EMPTY = 118_287, 860_001, 1_021
_LICENCE = '"license": 3, "date_captured": "2013-11-14 11:18:45"'


def write_coco(root: Path, images: int = IMAGES, boxes: int = BOXES, empty: int = EMPTY) -> Path:
    """Writes ``annotations/instances_train2017.json`` and ``train2017/``; returns the json."""
    random = np.random.default_rng(0)
    wide = random.random(images) < 0.75
    sizes = np.where(wide[:, None], (480, 640), (640, 480))
    owner = np.sort(random.integers(empty, images, boxes))  # the first few images have no box
    owner[: images - empty] = np.arange(empty, images)
    side = random.uniform(5, 200, (boxes, 2)).round(2)
    corner = (random.random((boxes, 2)) * (sizes[owner][:, ::-1] - side)).round(2)
    crowd, category = random.random(boxes) < 0.01, random.integers(1, 81, boxes)
    crowd[: images - empty] = False  # an object in each of the others
    polygons = [
        str(random.uniform(0, 640, 2 * n).round(2).tolist()) for n in (9, 14, 20, 26, 33, 52)
    ]

    (root / "annotations").mkdir(parents=True, exist_ok=True)
    folder = root / "train2017"
    folder.mkdir(exist_ok=True)
    path = root / "annotations" / "instances_train2017.json"
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for row, (height, width) in enumerate(sizes.tolist()):
            name = f"{row + 1:012}.jpg"
            (folder / name).touch()
            url = f'"coco_url": "http://images.cocodataset.org/train2017/{name}"'
            file.write(
                f'{", " * bool(row)}{{{_LICENCE}, "file_name": "{name}", {url}, "height": {height},'
                f' "width": {width}, "flickr_url": "http://farm4.staticflickr.com/{name}",'
                f' "id": {row + 1}}}'
            )
        file.write('], "annotations": [')
        columns = (owner, side, corner, crowd, category)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for row, (image, (w, h), (x, y), is_crowd, kind) in enumerate(rows):
            polygon = polygons[row % len(polygons)]
            file.write(
                f'{", " * bool(row)}{{"segmentation": [{polygon}], "area": {w * h / 2:.5f},'
                f' "iscrowd": {is_crowd:d}, "image_id": {image + 1}, "bbox": [{x}, {y}, {w}, {h}],'
                f' "category_id": {kind}, "id": {row + 1}}}'
            )
        kinds = ", ".join(
            f'{{"supercategory": "thing", "id": {i}, "name": "class {i}"}}' for i in range(1, 81)
        )
        file.write(f'], "categories": [{kinds}]}}')
    return path
