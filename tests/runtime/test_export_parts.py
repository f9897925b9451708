"""The exported parts: that they answer as the model does, and that the page's example runs."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import BACKBONES, lively, small_batch, small_model

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.cli import cmd_export
from sparse_rcnn_lab.cli import main as cli
from sparse_rcnn_lab.runtime import onnx_graphs
from sparse_rcnn_lab.runtime.engines import open_onnxruntime
from sparse_rcnn_lab.runtime.export import parts as exporting

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[2]
NAMES = ("cat", "dog", "größer")


@pytest.mark.parametrize("name", BACKBONES)
def test_pyramid_of_every_backbone(name):
    """Catches a layer written with other settings, a shortcut lost, rows or levels out of order."""
    model = small_model(backbone=name, num_stages=1)
    lively(model.backbone)
    graph = open_onnxruntime(onnx_graphs.write_pyramid(model).SerializeToString(), 1)
    images, _ = small_batch(2)
    with torch.no_grad():
        wanted = model.pyramid(images)
    found = graph({"images": images.numpy()})
    table = wanted.table.numpy()
    assert np.abs(found["table"] - table).max() < 1e-5 * np.abs(table).max()
    first = 0
    for level, (height, width) in enumerate(wanted.shapes):
        for image in range(2):
            row = [width, height, 4 * 2**level, first]
            assert found["levels"][image, level].tolist() == row
            first += height * width


def test_stage_with_boxes_that_no_image_has():
    """Catches rows outside the table, which an engine reads all the same or dies of."""
    model = small_model(num_stages=1)
    images, _ = small_batch(2)
    strange = torch.tensor(
        [
            [0.0, 0, 200, 150], [-500, -400, -300, -200], [1e9, 1e9, 2e9, 2e9], [30, 40, 10, 20],
            [5, 5, 5, 5], [float("nan"), 0, 9, 9], [float("inf"), 0, 9, 9], [0, 0, 111.999, 112],
            [0, 0, 112, 112], [0, 0, 224, 224], [-1e9, -1e9, 1e9, 1e9], [3, 2, 500, 3],
        ]
    )  # fmt: skip
    boxes = strange.expand(2, -1, -1)
    features = model.proposals.features[:1].expand(2, len(strange), -1)
    graph = open_onnxruntime(onnx_graphs.write_stage(model, 0, pooled=True).SerializeToString(), 1)
    bags = open_onnxruntime(onnx_graphs.write_bags(model).SerializeToString(), 1)
    whole = open_onnxruntime(onnx_graphs.write_stage(model, 0).SerializeToString(), 1)
    pyramid = open_onnxruntime(onnx_graphs.write_pyramid(model).SerializeToString(), 1)
    with torch.no_grad():
        wanted = model.run_stages(model.pyramid(images), boxes, features, record=["roi_features"])[
            0
        ]
    given = {"boxes": boxes.numpy(), "features": features.detach().contiguous().numpy()}
    shared = pyramid({"images": images.numpy()})
    read = bags({"levels": shared["levels"], "boxes": given["boxes"]})
    roi = np.einsum("bnko,bnkod->bnkd", read["weights"], shared["table"][read["rows"]])
    assert np.abs(roi - wanted.roi_features.numpy()).max() < 1e-4
    for found in (
        whole({**shared, **given}),
        graph({"roi": roi.astype(np.float32), "levels": shared["levels"], **given}),
    ):
        np.testing.assert_allclose(found["logits"], wanted.logits, rtol=1e-4, atol=1e-4)
        refined = found["refined_boxes"][:, [0, 1, 3, 4, 7, 8, 9, 11]]
        ours = wanted.boxes[:, [0, 1, 3, 4, 7, 8, 9, 11]]
        np.testing.assert_allclose(refined, ours, rtol=1e-5, atol=1e-3)


def test_the_page_says_how_to_chain_them(tmp_path, monkeypatch, capsys):
    """Catches an example that does not run, or finds something else than the model."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "--model", "nano-shapes", "--parts"]) == 0
    said = capsys.readouterr().out
    assert "stage_6.onnx: table, levels, boxes, features -> refined_boxes, logits" in said
    assert said.count("boxes differ by at most") == 2
    example = ROOT / "sparse_rcnn_lab" / "data" / "examples" / "shapes_1.png"
    Image.open(example).convert("RGB").save("photo.jpg", quality=95)
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.S)
        if "parts.json" in block
    ]
    exec(code, scope := {})
    wanted = srl.load("nano-shapes")("photo.jpg", threshold=0.5, num_proposals=10)
    found = scope["found"]
    assert [name for name, *_ in found] == wanted.names() and len(found) > 1
    for (_, score, box), s, b in zip(found, wanted.scores, wanted.boxes, strict=True):
        assert score == pytest.approx(float(s), abs=0.02)  # Pillow resizes a little differently
        assert box == pytest.approx(b.numpy(), abs=2)
    about = json.loads(Path("nano-shapes/parts.json").read_text(encoding="utf-8"))
    assert set(about["tensors"]) >= {"table", "levels", "refined_boxes", "attention"}
    assert b"/root" not in Path("nano-shapes/stage_1.onnx").read_bytes()


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    """Catches a check that lets wrong graphs pass, and one that leaves some of them behind."""
    detector = srl.Detector(small_model(num_stages=2, overlap_attention=8.0), NAMES, "tiny")
    done = exporting.export_parts(detector, tmp_path / "right")
    taken = done.about["graphs"]
    assert "confidence" in taken["stage_2.onnx"]["inputs"]
    assert "confidence" not in taken["stage_1.onnx"]["inputs"]
    assert [check.batch for check in done.checks] == [1, 2] and "3 files" not in str(done)
    right = onnx_graphs.write_stage
    monkeypatch.setattr(exporting, "write_stage", lambda model, index: right(model, 0))
    with pytest.raises(LabError, match="do not compute what the model does"):
        exporting.export_parts(detector, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_what_cannot_be_exported_is_said(tmp_path):
    """Catches a graph that leaves out what it does not know."""
    model = small_model(num_stages=1)
    model.backbone.body["stem"].append(torch.nn.GELU())
    with pytest.raises(LabError, match="layer that is not exported: GELU"):
        exporting.export_parts(srl.Detector(model, NAMES), tmp_path / "new")
    for option in (["--stage", "2"], ["--stages", "all"], ["--sizes"]):
        parser = argparse.ArgumentParser()
        cmd_export.add_arguments(parser)
        given = parser.parse_args(["--parts", *option, "--out", str(tmp_path / "new")])
        with pytest.raises(LabError, match=f"{option[0]} cannot be used with --parts"):
            cmd_export.run(given)
    assert not (tmp_path / "new").exists()
