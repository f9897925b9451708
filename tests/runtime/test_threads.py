"""How many threads a model takes."""

from collections.abc import Iterator

import pytest
import torch

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.runtime.torch_runtime import threads_for


@pytest.fixture(autouse=True)
def three_threads(monkeypatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_light_models_take_one_thread_and_give_the_others_back():
    with threads_for("nano"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="inside"), threads_for("mobilenet_v2"):
        raise ValueError("inside")
    assert torch.get_num_threads() == 3


def test_heavy_models_and_a_users_own_number_stay(monkeypatch):
    with threads_for("resnet50"):
        assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with threads_for("nano"):
        assert torch.get_num_threads() == 3


def test_a_detector_computes_on_one_thread(monkeypatch):
    """Catches the pyramid or the stages left out."""
    detector = srl.load("nano-shapes")
    seen: list[int] = []

    def watch(owner: object, name: str) -> None:
        work = getattr(owner, name)

        def watched(*args: object) -> object:
            seen.append(torch.get_num_threads())
            return work(*args)

        monkeypatch.setattr(owner, name, watched)

    watch(detector.runtime, "_up_to_date")
    watch(detector.model.stages[0], "pool")
    detector(torch.zeros(3, 64, 64))
    assert seen == [1, 1] and torch.get_num_threads() == 3
