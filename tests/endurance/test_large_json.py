"""A json of COCO's size, 0.5 GB, is written and read: about half a minute."""

import pickle
import time

import pytest
from coco_size import write_coco

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import RECIPES, CocoFolder
from sparse_rcnn_lab.data.subset import usable_images


@pytest.mark.slow
def test_a_json_of_cocos_size_is_read_in_seconds(tmp_path):
    """Catches images left out that have objects, and a heap of them that workers would copy."""
    write_coco(tmp_path)
    start = time.process_time()
    data = CocoFolder(tmp_path)
    used = usable_images(data, RECIPES["r50_3x_300"].augment)
    seconds = time.process_time() - start  # said, not judged: 6 s on a core of a server
    start = time.process_time()
    found = srl.check(data, images=False)
    print(f"checked: {time.process_time() - start:.1f} s more")  # 1.5 s
    assert [finding.kind for finding in found.findings] == ["annotation"]  # drawn at random
    arrays = sum(len(pickle.dumps(value)) for value in vars(data.tables).values())
    print(f"{data!r}: {seconds:.1f} s of CPU time, {arrays / 1e6:.0f} MB kept")
    assert (len(data), len(used)) == (118_287, 117_266)
    assert len(data.tables.labels) == 860_001
    assert arrays < 80e6  # 56 MB; as Python objects they would be five times that
