"""What runs on Apple's GPUs and on Windows, as far as a machine that is neither can tell."""

import re
from pathlib import Path

import pytest
import torch
import torchgen
from torch.utils._python_dispatch import TorchDispatchMode

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Shapes
from sparse_rcnn_lab.runtime import gather

PACKAGE = Path(srl.__file__).parent


# Asked of a CPU alone (runtime), and two that only look around.
NOT_ASKED = ("mkldnn::", "profiler::", "torchvision::_cuda_version")


class Operators(TorchDispatchMode):
    """Collects the names of all operators that tensors go through."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.add(function.name().removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def on_mps() -> set[str]:
    """The operators that torch has for mps, by its own table; those made of others included."""
    from torchgen.gen import parse_native_yaml
    from torchgen.model import DispatchKey

    native = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    table = parse_native_yaml(str(native / "native_functions.yaml"), str(native / "tags.yaml"))
    index = table.backend_indices[DispatchKey.MPS]
    named = {f.func.name: f for f in table.native_functions}
    has = {
        name
        for name, f in named.items()
        if index.has_kernel(f)
        or f.has_composite_kernel
        or (f.structured_delegate and index.has_kernel(named[f.structured_delegate]))
    }
    return set(map(str, has))


def test_no_operator_is_missing_on_mps(on_mps, monkeypatch, tmp_path):
    """Catches an operator that would stop the model on an Apple GPU."""
    assert "_fft_r2c" in on_mps and "convolution" in on_mps  # the table is read as it is meant
    assert "_pdist_forward" not in on_mps
    monkeypatch.setattr(gather, "_trains_on_cpu", lambda table: False)  # as on any GPU
    with Operators() as forward:
        detector = srl.load("nano-shapes")
        detector.trace(torch.zeros(3, 96, 128, dtype=torch.uint8))
    with Operators() as training:
        srl.fit(
            Shapes(8, size=(64, 64)),
            srl.recipe("nano", train__steps=1, train__batch_size=2, train__warmup_steps=1),
            tmp_path,
            workers=0,
            progress=False,
        )
    assert "_embedding_bag" in training.seen and "_embedding_bag_forward_only" in forward.seen
    missing = {
        name
        for name in forward.seen | training.seen
        if name not in on_mps and not name.startswith(NOT_ASKED)
    }
    assert missing == set()


def test_calls_of_one_system_are_guarded():
    """Catches a call that only Linux, or only Unix, has, without a look at whether it is there."""
    calls = re.compile(r"\b(fcntl|SIGALRM|setitimer|sysconf\(|/proc/|sched_getaffinity|os\.fork)")
    allowed = {
        "course/classroom/checks.py",  # hasattr(signal, "SIGALRM") first
        "models/releases.py",  # import fcntl within try
        "data/coco/records.py",  # sysconf within try
    }
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if calls.search(path.read_text("utf-8"))
    }
    assert found <= allowed
