"""Exported files: what is in them, and that they answer as the model does."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from parity import rule
from small_model import PROPOSALS, STAGES, small_model
from torch import Tensor

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.pooling import pool
from sparse_rcnn_lab.runtime import export as exporting
from sparse_rcnn_lab.runtime.export import formats
from sparse_rcnn_lab.runtime.export.graph import DetectionGraph

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "sparse_rcnn_lab" / "data" / "examples" / "shapes_1.png"
NAMES = ("cat", "dog", "größer")
# Float32 sums in another order, amplified by the small model's deliberately large weights.
BOXES, SCORES = 0.01, 1e-5  # pixels of images with sides of about 100


def tiny(stages: int = 2) -> srl.Detector:
    info = {"source": "made up; CC0"}
    return srl.Detector(small_model(num_stages=stages), NAMES, "tiny", info)


def pictures(*shapes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8) for s in shapes]


def stacked(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Float images in one batch, rubbish where a picture ends, and their sizes."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    batch = torch.full((len(images), 3, height, width), 200.0)
    for slot, image in zip(batch, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return batch, torch.tensor([image.shape[1:] for image in images], dtype=torch.float32)


def page_code() -> list[str]:
    """The Python of docs/export.md."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text("utf-8"), re.S)


def assert_same(found: dict[str, Tensor], wanted: list[srl.Detections]) -> None:
    assert sum(map(len, wanted)) > 0
    for index, detections in enumerate(wanted):
        kept = found["scores"][index] > 0
        assert found["labels"][index][kept].tolist() == detections.labels.tolist()
        assert found["proposals"][index][kept].tolist() == detections.proposals.tolist()
        torch.testing.assert_close(
            found["boxes"][index][kept], detections.boxes, rtol=0, atol=BOXES
        )
        torch.testing.assert_close(
            found["scores"][index][kept], detections.scores, rtol=0, atol=SCORES
        )


# --- the graph itself, untraced


@pytest.mark.parametrize(("num", "stage"), [(PROPOSALS, STAGES), (2, STAGES), (PROPOSALS, 1)])
def test_graph_answers_as_the_detector(num, stage):
    """Catches a missing normalisation, padding that is seen, and options that are not used."""
    detector = tiny(STAGES).with_runtime("eager")
    shapes = pictures((45, 70), (64, 33))
    graph = DetectionGraph(detector.model, num, stage, all_stages=True)
    with torch.no_grad():
        found = graph(*stacked(shapes))
    assert_same(found, detector(shapes, num_proposals=num, stage=stage, resize=False))
    for index, trace in enumerate(detector.trace(shapes, num_proposals=num, resize=False)):
        torch.testing.assert_close(found["stage_boxes"][index], trace.boxes[: stage + 1])
        torch.testing.assert_close(found["stage_logits"][index], trace.logits[:stage])


def test_box_without_area_has_no_score():
    """Catches a detection that Detections drops but that passes a user's threshold."""
    detector = tiny()
    torch.nn.init.zeros_(detector.model.stages[-1].regress.weight)
    detector.model.stages[-1].regress.bias.data = torch.tensor([50.0, 0, 0, 0])  # far to the right
    with torch.no_grad():
        found = DetectionGraph(detector.model, PROPOSALS, 2)(torch.rand(1, 3, 64, 64) * 255)
    assert found["scores"].max() == 0
    assert len(detector(pictures((64, 64))[0], resize=False)) == 0


# --- real files


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory) -> exporting.Export:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "new folder" / "tiny.onnx"
    return srl.export(tiny(), path, sizes=True, all_stages=True)


class Loaded:
    """A ``.pt2`` file, written and loaded once, since both take seconds; of one stage for that."""

    def __init__(self, path: Path) -> None:
        detector = tiny(1)
        detector.model.use_pooling(lambda *_: pytest.fail("pooled with the model's own setting"))
        self.done = srl.export(detector, path, check=False)
        assert all(stage.pool is not pool for stage in detector.model.stages)
        assert all(parameter.requires_grad for parameter in detector.model.stages.parameters())
        files = {formats.METADATA_FILE: ""}
        self.run = torch.export.load(path, extra_files=files).module()
        self.metadata = json.loads(files[formats.METADATA_FILE])


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory) -> Loaded:
    return Loaded(tmp_path_factory.mktemp("torch") / "tiny.pt2")


# A batch of one and of more; neither of the traced sizes; wide and high, larger and smaller.
SHAPES = [[(41, 75)], [(130, 64), (101, 90), (33, 35)]]


# Only ONNX takes sides of at most 32 pixels, where the coarsest level is one pixel.
@pytest.mark.parametrize("shapes", [*SHAPES, [(20, 32)]])
def test_onnx_answers_as_the_detector(onnx_file, shapes):
    """Catches a size, a batch or padding that tracing froze, and outputs under wrong names."""
    run = formats.run_onnx(onnx_file.path, list(onnx_file.outputs))
    images = pictures(*shapes)
    found = run(*stacked(images))
    assert_same(found, tiny()(images, resize=False))
    for index, trace in enumerate(tiny().trace(images, resize=False)):
        boxes, logits = found["stage_boxes"][index], found["stage_logits"][index]
        torch.testing.assert_close(boxes, trace.boxes, rtol=0, atol=BOXES)
        torch.testing.assert_close(logits, trace.logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [shapes[0] for shapes in SHAPES])
@pytest.mark.parametrize("batch", [1, 2])
def test_torch_export_answers_as_the_detector(torch_file, shape, batch):
    """Catches the same in the other format, whose graph takes no sizes."""
    images = pictures(*[shape] * batch)
    assert_same(torch_file.run(stacked(images)[0]), tiny(1)(images, resize=False))


def test_onnx_file_explains_itself(onnx_file):
    """Catches a file whose classes, input size or origin must be looked up elsewhere."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file.path))
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(NAMES)
    assert (about["short_side"], about["long_side"], about["antialias"]) == ("64", "96", "true")
    assert about["source"] == "made up; CC0" and about["model"] == "tiny"
    assert "6 proposals, 2 stages, 3 classes" in session.get_modelmeta().description
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert set(shapes) <= set(about)
    assert shapes["images"] == ["batch", 3, "height", "width"]
    assert shapes["sizes"] == ["batch", 2] and shapes["boxes"] == ["batch", PROPOSALS, 4]
    assert shapes["stage_logits"] == ["batch", 2, PROPOSALS, len(NAMES)]


def test_torch_export_file_explains_itself(torch_file):
    """Catches metadata that only the ONNX file has."""
    assert torch_file.metadata == torch_file.done.metadata
    assert torch_file.metadata["images"].startswith("[batch, 3, height, width]")
    assert json.loads(torch_file.metadata["class_names"]) == list(NAMES)


def test_files_hold_no_path_of_the_machine(onnx_file, torch_file):
    """Catches the stack traces that exporters write into every node, and leftovers."""
    for path in (onnx_file.path, torch_file.done.path):
        content = path.read_bytes()
        assert b".py" not in content and str(ROOT).encode() not in content
        assert list(path.parent.iterdir()) == [path]


def test_real_check_was_made(onnx_file):
    """Catches a check on one size only, or on the size that was traced."""
    assert [check.batch for check in onnx_file.checks] == [1, 2]
    assert all(check.agrees() for check in onnx_file.checks)
    sizes = {(check.height, check.width) for check in onnx_file.checks}
    assert len(sizes) == 2 and (96, 160) not in sizes


def test_the_pages_code_runs(onnx_file, torch_file, tmp_path, monkeypatch):
    """Catches a line of docs/export.md that does not run: a name, an input, a file's metadata."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(onnx_file.path, "nano-shapes.onnx")
    shutil.copy(torch_file.done.path, "nano-shapes.pt2")
    shutil.copy(EXAMPLE, "photo.jpg")
    onnx, torch_export, _ = page_code()  # the third one runs in test_export_parts.py
    with_sizes = '{"images": pixels, "sizes": np.float32([pixels.shape[2:]])}'
    assert '{"images": pixels}' in onnx
    exec(onnx.replace('{"images": pixels}', with_sizes), scope := {})
    assert scope["boxes"].shape == (1, PROPOSALS, 4)
    exec(torch_export, scope := {})
    assert scope["found"]["boxes"].shape == (1, PROPOSALS, 4)


# --- slow: a trained model


@pytest.mark.slow  # traces and writes all six stages: half a minute of computing
def test_the_page_says_how_to_use_the_file(tmp_path, monkeypatch, capsys):
    """Catches a docs/export.md whose lines do not run, or find something else than the model."""
    from PIL import Image

    pytest.importorskip("onnxruntime")
    detector = srl.load("nano-shapes")
    monkeypatch.chdir(tmp_path)
    done = srl.export(detector, "nano-shapes.onnx")
    assert max(check.boxes for check in done.checks) < 0.01
    Image.open(EXAMPLE).convert("RGB").save("photo.jpg", quality=95)
    blocks = page_code()
    capsys.readouterr()
    exec(blocks[0], {})
    lines = capsys.readouterr().out.strip().splitlines()
    wanted = detector("photo.jpg", threshold=0.5)
    found = [(line.split()[0], *map(float, re.findall(r"-?\d+\.?\d*", line))) for line in lines]
    sure = zip(wanted.names(), wanted.scores.tolist(), wanted.boxes.tolist(), strict=True)
    assert len(found) == len(wanted) > 2
    for name, score, box in sure:  # the page's Pillow resizes a little differently
        wanted_line = (
            name,
            pytest.approx(score, abs=0.02),
            *(pytest.approx(v, abs=2) for v in box),
        )
        assert wanted_line in found
    srl.export(detector, "nano-shapes.pt2")
    exec(blocks[1], scope := {})
    assert scope["found"]["boxes"].shape == (1, detector.num_proposals, 4)


@pytest.mark.slow  # R-50 in ONNX: minutes and 4 GB
def test_published_model_in_onnx_gives_the_numbers_of_mmdetection(tmp_path):
    """Catches what only the published architecture shows, against numbers that are not our own.

    Weights, pictures and limits are those of test_parity.py: 100 proposals, two pictures of
    different sizes in one batch, every stage.
    """
    pytest.importorskip("onnxruntime")
    state = {key: torch.from_numpy(value) for key, value in rule.weights("r50_100").items()}
    torch.save({"state_dict": state}, tmp_path / "rule.pth")
    detector = srl.load(tmp_path / "rule.pth")
    done = srl.export(detector, tmp_path / "r50.onnx", sizes=True, all_stages=True)
    assert not any(any(check.rounding) for check in done.checks)
    images = [torch.from_numpy(rule.image(p)).permute(2, 0, 1) for p in rule.PICTURES]
    run = formats.run_onnx(done.path, list(done.outputs))
    found, reference = run(*stacked(images)), rule.read_arrays("forward_r50_100")
    for stage in range(6):
        boxes = torch.from_numpy(reference[f"s{stage}_box"])
        logits = torch.from_numpy(reference[f"s{stage}_cls"])
        assert (found["stage_boxes"][:, stage + 1] - boxes).abs().max() < 0.03
        assert (found["stage_logits"][:, stage] - logits).abs().max() < 3e-4
