"""Model files: what is written is read; what is broken, foreign or dangerous is refused by name."""

import argparse
import json
import os
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_model import small_batch, small_model

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.models import layouts as published
from sparse_rcnn_lab.models.checkpoint import FORMAT, read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.config_edit import to_dict

NAMES = ("circle", "square", "Käfer")


def test_round_trip(tmp_path):
    """Catches a weight, a buffer, a name or a setting that does not come back, averaged weights
    that are not those kept, and a file written after hours of training that can never be read."""
    model = small_model(num_reg_layers=2, prior_probability=0.02)
    info = {"recipe": "nano", "ap": [0.1, 0.2]}
    path = save_checkpoint(tmp_path / "runs" / "a" / "model.safetensors", model, NAMES, "a", info)
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == model.config
    assert (checkpoint.class_names, checkpoint.name, checkpoint.info) == (NAMES, "a", info)
    again = checkpoint.build()
    assert not again.training
    with torch.no_grad():
        for a, b in zip(model(*small_batch()), again(*small_batch()), strict=True):
            assert torch.equal(a.logits, b.logits)
            assert torch.equal(a.boxes, b.boxes)
    average = {key: value + 1 for key, value in model.state_dict().items()}
    save_checkpoint(path, model, NAMES, "a", state=average)
    assert all(torch.equal(v, average[k]) for k, v in read_checkpoint(path).state.items())
    with pytest.raises(LabError, match="3 classes, but 2"):
        save_checkpoint(tmp_path / "m.safetensors", model, NAMES[:2], "a")
    assert not (tmp_path / "m.safetensors").exists()


def test_others_may_read_it(tmp_path):
    """Catches a model in a shared folder that only the one who trained it can open."""
    path, usual = tmp_path / "model.safetensors", tmp_path / "usual"
    usual.touch()
    for _ in range(2):  # new, and in place of an old one
        save_checkpoint(path, small_model(), NAMES, "a", {})
        assert path.stat().st_mode == usual.stat().st_mode


def test_half(tmp_path):
    """Catches a model that stays in half precision, a file that is no smaller, and a batch-norm
    variance above 65,504 that is shipped as infinity."""
    model = small_model()
    large = next(v for k, v in model.state_dict().items() if k.endswith("running_var"))
    large[0] = 1e6
    full = save_checkpoint(tmp_path / "full.safetensors", model, NAMES, "a")
    half = save_checkpoint(tmp_path / "half.safetensors", model, NAMES, "a", half=True)
    assert half.stat().st_size < 0.7 * full.stat().st_size
    checkpoint = read_checkpoint(half)
    state = model.state_dict()
    for key, value in checkpoint.state.items():
        assert value.dtype == state[key].dtype
        torch.testing.assert_close(value, state[key], rtol=2**-8, atol=0)
    checkpoint.build()


def rewrite(path: Path, target: Path, drop: str = "", **header: Any) -> Path:
    """A copy of one of our files with tensors dropped or parts of its header replaced."""
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {key: value for key, value in state.items() if not drop or drop not in key}
    model = {**json.loads(metadata["model"]), **header}
    save_file(state, target, {"format": FORMAT, "model": json.dumps(model)})
    return target


@pytest.fixture
def whole(tmp_path) -> Path:
    return save_checkpoint(tmp_path / "whole.safetensors", small_model(), NAMES, "whole")


def test_cut_short(whole, tmp_path):
    """Catches half a download that raises a message without the file's name."""
    data = whole.read_bytes()
    for size in (0, 5, 200, len(data) // 2, len(data) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(data[:size])
        with pytest.raises(LabError, match=r"cut\.safetensors.*whole safetensors file"):
            read_checkpoint(cut)
    with pytest.raises(LabError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "absent.safetensors")


def test_wrong_class_count(whole, tmp_path):
    """Catches weights for other classes that load by chance, or fail inside torch."""
    target = tmp_path / "classes.safetensors"
    with pytest.raises(LabError, match=r"classes\.safetensors.* names 4 classes.* has 3"):
        read_checkpoint(rewrite(whole, target, class_names=["a", "b", "c", "d"]))
    config = {**to_dict(small_model().config), "num_classes": 4}
    checkpoint = read_checkpoint(
        rewrite(whole, target, class_names=["a", "b", "c", "d"], config=config)
    )
    with pytest.raises(LabError, match=r"classify\.\w+ has shape \[3.*needs \[4"):
        checkpoint.build()


def test_damaged_header(whole, tmp_path):
    """Catches a newer or edited file that raises without its name, any safetensors file taken
    for a model, and random weights where the file has none."""
    config = to_dict(small_model().config)
    for bad in ({**config, "invented": 1}, {**config, "backbone": "vgg"}, [], "text", 3):
        with pytest.raises(LabError, match=r"bad\.safetensors"):
            read_checkpoint(rewrite(whole, tmp_path / "bad.safetensors", config=bad))
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(LabError, match=r"foreign\.safetensors.*not Sparse R-CNN in a known lay"):
        read_checkpoint(tmp_path / "foreign.safetensors")
    part = rewrite(whole, tmp_path / "part.safetensors", drop="stages.2.")
    with pytest.raises(LabError, match=r'whole: .*"stages\.2\.\S+" is missing'):
        read_checkpoint(part).build()


class Trap:
    """Unpickled carelessly, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'echo > "{self.path}"',)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within it the system refuses to write files larger than this, as a full disk would."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped, tmp_path):
    """Catches a downloaded file that takes over the reader's machine."""
    trap = tmp_path / "sprung"
    content = {"init_proposal_boxes.weight": torch.zeros(3, 4), "model": Trap(trap)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(LabError, match=r"evil\.pth.*running code.*system"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_published_file_cut_short(zipped, tmp_path):
    """Catches a damaged file that raises KeyError or EOFError from inside torch."""
    path = tmp_path / "cut.pth"
    torch.save({"weight": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    contents = [data[:size] for size in (0, 1, 100, len(data) // 2, len(data) - 10)]
    for content in [*contents, b"hello, this is text", b"<html>404</html>", bytes(range(256))]:
        path.write_bytes(content)
        with pytest.raises(LabError, match=r"cut\.pth.*not a whole checkpoint"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {"backbone.conv1.weight": torch.zeros(3), "roi_head.mask": torch.zeros(1)},
        {"state_dict": {"rpn_head.init_proposal_bboxes.weight": torch.zeros(100, 4)}},
        {"model": {"init_proposal_boxes.weight": torch.zeros(9, 4), "head.extra": torch.ones(1)}},
        {"model": {"init_proposal_boxes.weight": "text"}},
        {"state_dict": [1, 2, 3]},
        [torch.zeros(3)],
        torch.zeros(3),
    ],
)
def test_other_architectures(content, tmp_path):
    """Catches another detector's file that is loaded in part, or an unnamed error."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(LabError, match=r"other\.pth"):
        read_checkpoint(tmp_path / "other.pth")


def resnet50_keys(classes: int = 2) -> dict[str, torch.Tensor]:
    """Enough of mmdetection's layout for its configuration to be read."""
    shapes = {
        "rpn_head.init_proposal_bboxes.weight": (7, 4),
        "rpn_head.init_proposal_features.weight": (7, 256),
        **{f"backbone.layer3.{i}.bn1.weight": (1,) for i in range(6)},
        "roi_head.bbox_head.0.fc_cls.weight": (classes, 256),
        "roi_head.bbox_head.0.ffn.layers.0.0.weight": (512, 256),
        "roi_head.bbox_head.0.instance_interactive_conv.norm_in.weight": (32,),
        "roi_head.bbox_head.1.fc_cls.weight": (classes, 256),
    }
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("dog", "cat")}, ("dog", "cat")),
        ({"dataset_meta": {"classes": ["dog", "cat"]}}, ("dog", "cat")),
        ({"CLASSES": "dog"}, ("dog",)),
        ({"CLASSES": ("one", "too", "many")}, ("class 0", "class 1")),
        ({}, ("class 0", "class 1")),
    ],
)
def test_configuration_and_names_of_a_published_file(meta, names, tmp_path):
    """Catches a fine-tuned file read as COCO's 80 classes, its sizes assumed, or the name of a
    single class, which has lost its comma, left out."""
    torch.save({"meta": meta, "state_dict": resnet50_keys(len(names))}, tmp_path / "tuned.pth")
    checkpoint = read_checkpoint(tmp_path / "tuned.pth")
    config = checkpoint.config
    found = (config.num_classes, config.num_proposals, config.num_stages, config.ffn_dim)
    assert found == (len(names), 7, 2, 512)
    assert config.dynamic_dim == 32
    assert checkpoint.class_names == names
    with pytest.raises(LabError, match=r"tuned: .*missing"):
        checkpoint.build()


def mmengine_log(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a training with mmdetection 3.x keeps of one number, as its pickle names it."""

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.arange(3.0)
            self.max_length = 1_000_000

    HistoryBuffer.__module__ = "mmengine.logging.history_buffer"
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    module = types.ModuleType(HistoryBuffer.__module__)
    module.__dict__["HistoryBuffer"] = HistoryBuffer
    for name in ("mmengine", "mmengine.logging", HistoryBuffer.__module__):
        monkeypatch.setitem(sys.modules, name, module)
    return HistoryBuffer()


@pytest.mark.parametrize("zipped", [True, False])
def test_training_checkpoint_of_mmdetection(zipped, tmp_path, monkeypatch):
    """Catches an own training refused for its log, the log's code being run, or its stand-in
    taken for a weight."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    content = {
        "meta": {"cfg": "model = dict()", "dataset_meta": {"classes": ("dog", "cat")}, "epoch": 3},
        "state_dict": {f"module.{key}": value for key, value in resnet50_keys().items()},
        "message_hub": {
            "log_scalars": {"train/loss": mmengine_log(monkeypatch)},
            "runtime_info": {"best": np.float64(0.4), "map": np.ones((2, 2)), "epoch": 3},
        },
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"last_step": 3, "_get_lr_called_within_step": False}],
    }
    torch.save(content, tmp_path / "epoch_3.pth", _use_new_zipfile_serialization=zipped)
    content["state_dict"]["backbone.conv1.weight"] = np.ones(3)
    torch.save(content, tmp_path / "array.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()  # nobody who reads it needs mmengine
    checkpoint = read_checkpoint(tmp_path / "epoch_3.pth")
    assert checkpoint.class_names == ("dog", "cat")
    assert checkpoint.config.num_proposals == 7
    with pytest.raises(LabError, match=r"array\.pth.*backbone\.conv1\.weight is not a tensor"):
        read_checkpoint(tmp_path / "array.pth")


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in resnet50_keys().items()}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": prefixed("module.module.")},
        {"state_dict": prefixed("_orig_mod.")},
        {"state_dict": prefixed("module.model._orig_mod.")},
        {"model": {"state_dict": resnet50_keys()}, "args": argparse.Namespace(path=Path("x"))},
        {"state_dict": {k.replace("e.l", "e._orig_mod.l"): v for k, v in resnet50_keys().items()}},
        {"state_dict": resnet50_keys(), "ema_state_dict": prefixed("module.")},
        {"model": {k: v.half() for k, v in resnet50_keys().items()}},
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_wraps_a_checkpoint(content, tmp_path):
    """Catches a file refused for what DDP, torch.compile or a trainer put around its names, and
    weights that stay in half precision."""
    torch.save(content, tmp_path / "wrapped.pth")
    state = read_checkpoint(tmp_path / "wrapped.pth").state
    plain = tmp_path / "plain.safetensors"
    save_file(resnet50_keys(), plain)
    expected = read_checkpoint(plain).state
    assert state.keys() == expected.keys()
    assert all(v.dtype == torch.float32 and v.equal(expected[k]) for k, v in state.items())


def test_what_lies_beside_the_weights(tmp_path):
    """Catches a file refused for its averaged copy, that copy taken for the weights, things
    left out without a word, another normalisation kept quiet, one name that two tensors claim."""
    path = tmp_path / "beside.pth"
    ema = {f"ema_{k.replace('.', '_')}": v + 1 for k, v in resnet50_keys().items()}
    usual = {
        "data_preprocessor.mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1),
        "data_preprocessor.std": torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1),
    }
    torch.save({"state_dict": {**resnet50_keys(), **ema, **usual}}, path)
    with pytest.warns(UserWarning, match=r"12 ema_\*, 2 data_preprocessor\.\*\)\.$"):
        state = read_checkpoint(path).state
    assert len(state) == 12 and not any(value.any() for value in state.values())
    other = {"data_preprocessor.mean": torch.tensor([103.53, 116.28, 123.675])}
    torch.save({"state_dict": {**resnet50_keys(), **other}}, path)
    with pytest.warns(UserWarning, match=r"another normalisation \(mean \[103"):
        read_checkpoint(path)
    torch.save({"state_dict": {**resnet50_keys(), **prefixed("module.")}}, path)
    with pytest.raises(LabError, match=r"beside\.pth.*two tensors for"):
        read_checkpoint(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "HTML.*link of the file itself"),
        (b"", "an empty file"),
        (pickle.dumps({"model": {"conv1_w": np.ones(3)}}, protocol=2), "Python pickle.*detectron2"),
    ],
)
def test_what_a_file_is_instead(content, words, ending, tmp_path):
    """Catches a message that leaves open what the file is, or that passes on torch's advice to
    switch its safety off."""
    path = tmp_path / f"model.{ending}"
    path.write_bytes(content)
    with pytest.raises(LabError, match=rf"model\.{ending}.*{words}") as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)


def test_heads_of_another_depth(tmp_path):
    """Catches a file with deeper heads that is refused as another architecture."""
    state, head = resnet50_keys(), "roi_head.bbox_head.0"
    for i, shape in enumerate([(256, 256), (256,)] * 2):
        # Linear, layer norm, ReLU: the third has no weights.
        state[f"{head}.cls_fcs.{i + i // 2}.weight"] = torch.zeros(shape)
    state[f"{head}.reg_fcs.0.weight"] = torch.zeros(256, 256)
    torch.save({"state_dict": state}, tmp_path / "deep.pth")
    config = read_checkpoint(tmp_path / "deep.pth").config
    assert (config.num_cls_layers, config.num_reg_layers) == (2, 1)


def test_full_disk(whole):
    """Catches a training's last good model lost to a disk that is full."""
    before = whole.read_bytes()
    with (
        largest_file(10_000),
        pytest.raises(LabError, match=r"whole\.safetensors.*File too large"),
    ):
        save_checkpoint(whole, small_model(1), NAMES, "whole")
    assert whole.read_bytes() == before and list(whole.parent.iterdir()) == [whole]


def test_coco_classes():
    """Catches a category lost or doubled, which shifts every label after it."""
    assert len(set(published.COCO_CLASSES)) == 80
    places = {name: published.COCO_CLASSES.index(name) for name in ("person", "dog", "toothbrush")}
    assert places == {"person": 0, "dog": 16, "toothbrush": 79}
