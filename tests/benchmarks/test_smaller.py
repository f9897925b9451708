"""A smaller copy of a data set, in parts."""

import json
import shutil

import numpy as np
import torch
from PIL import Image

from benchmarks import smaller
from sparse_rcnn_lab import CocoFolder


def test_the_parts_are_the_data_set_again(tmp_path):
    """Catches boxes left in the pixels of the large images, an image in two parts or in none,
    crowds to evaluate on that became objects, and boxes of images that were left out."""
    rng = np.random.default_rng(0)
    (tmp_path / "large" / "images").mkdir(parents=True)
    for split, count in (("train", 3), ("val", 2)):
        content: dict[str, list[dict[str, object]]] = {
            "categories": [{"id": 7, "name": "mug"}], "images": [], "annotations": []
        }  # fmt: skip
        for i in range(count):
            name = f"{split}{i}.png"
            pixels = rng.integers(0, 255, (200, 400, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "large" / "images" / name)
            content["images"].append({"id": i, "file_name": name, "width": 400, "height": 200})
            content["annotations"].append(
                {"id": i, "image_id": i, "category_id": 7, "bbox": [40, 20, 100, 60], "area": 6000,
                 "iscrowd": int(i == 0)}
            )  # fmt: skip
        (tmp_path / "large" / f"{split}.json").write_text(json.dumps(content))
    parts = tmp_path / "parts"
    options = ["--data", str(tmp_path / "large"), "--out", str(parts), "--side", "100"]
    options += ["--crowds", "--val", "1"]
    assert smaller.main([*options, "--megabytes", "0.003"]) == 0
    folders = sorted(parts.iterdir())
    assert len(folders) > 1
    for folder in folders:
        size = sum(file.stat().st_size for file in (folder / "images").glob("*"))
        assert size <= 3000
        shutil.copytree(folder, tmp_path / "small", dirs_exist_ok=True)
    for split, count in (("train", 3), ("val", 1)):
        data = CocoFolder(tmp_path / "small", split)
        assert len(data) == count
        for sample in (data[i] for i in range(count)):
            assert sample.image.shape == (3, 50, 100)
            boxes = [[10.0, 5.0, 35.0, 20.0]] if split == "train" else []
            assert torch.equal(sample.boxes, torch.tensor(boxes).view(-1, 4))
    assert smaller.main(options) == 2  # the folder is not empty
