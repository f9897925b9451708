"""Which images train, in which batches, and that step k decides it alone."""

import json
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from coco_folders import coco_folder

from sparse_rcnn_lab import LabError, Shapes, fit
from sparse_rcnn_lab.core.config import AugmentConfig, InputConfig
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.subset import Indexed, Subset, aspect_groups, usable_images
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.training.loader import StepSampler, check_main_guard, train_loader

PUBLISHED = recipes.recipe("r50_3x_300")


class Made:
    """A data set of grey images, sizes and object counts as given; it counts what is opened."""

    class_names = ("thing", "other")

    def __init__(self, sizes: Any, counts: Any) -> None:
        self.image_sizes, self.object_counts = np.array(sizes), np.array(counts)
        self.opened = 0

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, index: int) -> Sample:
        self.opened += 1
        height, width = self.image_sizes[index].tolist()
        boxes = torch.tensor([[1.0, 2, 9, 8]]).repeat(int(self.object_counts[index]), 1)
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        image = torch.full((3, height, width), index % 256, dtype=torch.uint8)
        return Sample(image, boxes, labels, 100 + index, f"{index}.png")

    def ground_truth(self, indices: Sequence[int] | None = None) -> dict[str, Any]:
        ids = [100 + i for i in (range(len(self)) if indices is None else indices)]
        return {
            "images": [{"id": i} for i in ids],
            "annotations": [{"image_id": i} for i in ids],
            "categories": ["kept"],
        }

    def category_ids(self) -> tuple[int, ...]:
        return (5, 9)

    def fingerprint(self) -> str:
        return "made"


def like_coco(count: int, seed: int = 0) -> np.ndarray:
    """Sizes of three wide images for an upright one, as COCO's are."""
    wide = np.random.default_rng(seed).random(count) < 0.75
    return np.where(wide[:, None], (480, 640), (640, 480))


def loader(data: Made, augment: AugmentConfig, steps: int, workers: int = 0, **options: Any) -> Any:
    train = replace(PUBLISHED.train, batch_size=4)
    return train_loader(data, Augment(augment), train, InputConfig(), 0, steps, workers, **options)


def indices(sampler: StepSampler) -> list[list[int]]:
    return [[index for index, _, _ in batch] for batch in sampler]


# Groups


@pytest.mark.parametrize(("length", "batch"), [(1003, 16), (64, 16), (10, 16), (7, 1), (50, 7)])
def test_grouped_epochs_hold_every_image_once(length, batch):
    """Catches images that no full batch of their group takes, and an epoch that slips."""
    groups = (np.random.default_rng(1).random(length) < 0.75).astype(int)
    steps = -(-4 * length // batch)
    batches = indices(StepSampler(length, batch, 0, 0, steps, groups=groups))
    flat = [index for batch in batches for index in batch]
    for epoch in range(4):
        assert sorted(flat[epoch * length : (epoch + 1) * length]) == list(range(length))
    assert flat[:length] != flat[length : 2 * length]


def test_batches_are_of_one_group_but_for_the_ends_of_an_epoch():
    """Catches groups that are ignored, that come one after the other, or leave many mixed."""
    groups = (np.random.default_rng(1).random(1003) < 0.75).astype(int)
    batches = indices(StepSampler(1003, 16, 0, 0, 188, groups=groups))  # three epochs
    kinds = [set(groups[batch].tolist()) for batch in batches]
    assert sum(len(kind) > 1 for kind in kinds) <= 2 * 3 + 1
    pure = [min(kind) for kind in kinds if len(kind) == 1]
    assert 0.6 < np.mean(pure) < 0.85
    first, second = pure[:25], pure[25:50]
    assert 0 < sum(first) < 25 and 0 < sum(second) < 25  # not all wide ones first


def test_what_a_step_gets_depends_on_seed_and_step_alone():
    """Catches grouping that hangs on where a run started, or on how many processes share it, and
    another order where all images are alike."""
    groups = (np.random.default_rng(1).random(103) < 0.75).astype(int)
    whole = list(StepSampler(103, 8, 3, 0, 60, groups=groups))
    for start in (1, 12, 13, 14, 59):  # an epoch ends within step 12
        assert list(StepSampler(103, 8, 3, start, 60, groups=groups)) == whole[start:]
    halves = [
        list(StepSampler(103, 8, 3, 0, 60, slice(4 * rank, 4 * rank + 4), groups))
        for rank in (0, 1)
    ]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    other = list(StepSampler(103, 8, 4, 0, 60, groups=groups))
    assert other != whole
    seeds = [seed for batch in whole for _, seed, _ in batch]
    assert len(set(seeds)) == len(seeds)  # an image is augmented anew in each epoch
    alike = list(StepSampler(103, 8, 3, 0, 60, groups=np.zeros(103, int)))
    assert alike == list(StepSampler(103, 8, 3, 0, 60))


@pytest.mark.parametrize("start", [0, 3, 7])
def test_the_first_steps_have_smaller_images_wherever_a_run_goes_on(start):
    """Catches a share that is counted from where a run goes on, boxes that stay as they were, and
    a last small step too many."""
    data = Made([(96, 128)] * 5, [1] * 5)
    train = replace(PUBLISHED.train, batch_size=2, steps=10, progressive_resizing=0.4)
    augment = Augment(AugmentConfig(size=(96, 128), hflip=0.0))
    batches = list(train_loader(data, augment, train, InputConfig(), start, 10, 0))
    sizes = [tuple(batch.images.shape[-2:]) for batch in batches]
    assert sizes == ([(64, 96)] * 4 + [(96, 128)] * 6)[start:]
    full, last = data[0].boxes, batches[-1].targets.boxes[0]
    assert torch.allclose(last, full)
    if start < 4:
        scale = torch.tensor([85 / 128, 64 / 96] * 2)
        assert torch.allclose(batches[0].targets.boxes[0], full * scale, atol=1e-4)


def test_groups_are_by_aspect_and_only_where_asked_for():
    """Catches height taken for width, square images between the groups, and forced grouping."""
    data = Made([(480, 640), (640, 480), (500, 500)], [1, 1, 1])
    groups = aspect_groups(data, PUBLISHED.augment)
    assert groups is not None and groups.tolist() == [1, 0, 1]
    assert aspect_groups(data, AugmentConfig()) is None
    assert aspect_groups(Shapes(length=4), PUBLISHED.augment) is None  # unknown before drawing


def test_the_loader_groups_the_published_recipe():
    """Catches a setting that never reaches the batches."""
    data = Made(like_coco(60) // 16, np.ones(60))
    augment = replace(PUBLISHED.augment, short_sides=(32,), crop=0.0)
    sizes = [batch.targets.sizes for batch in loader(data, augment, 15)]
    upright = [(size[:, 0] > size[:, 1]).float().mean().item() for size in sizes]
    assert sum(share in (0.0, 1.0) for share in upright) >= 13
    assert 0.0 in upright and 1.0 in upright


# Selection


def test_images_without_objects_or_too_small_do_not_train():
    """Catches rows that slip, a boundary that is one pixel off, and images opened to find out."""
    data = Made([(100, 90), (32, 200), (31, 200), (200, 31), (80, 80)], [1, 2, 1, 1, 0])
    used = usable_images(data, PUBLISHED.augment)
    assert isinstance(used, Subset) and data.opened == 0
    assert [sample.name for sample in (used[0], used[1])] == ["0.png", "1.png"]
    assert len(used) == 2
    assert used.note == "3 of 5 images left out: 1 without objects, 2 under 32 pixels"
    assert used.image_sizes.tolist() == [[100, 90], [32, 200]]
    assert used.object_counts.tolist() == [1, 2]
    truth = used.ground_truth()
    assert [image["id"] for image in truth["images"]] == [100, 101]
    assert [row["image_id"] for row in truth["annotations"]] == [100, 101]
    assert used.ground_truth([1])["images"] == [{"id": 101}]
    assert truth["categories"] == ["kept"] and used.category_ids() == (5, 9)
    assert used.class_names == data.class_names
    assert used.fingerprint().startswith("made-") and used.fingerprint() != "made"


def test_empty_data_set_is_said(tmp_path):
    """Catches a division by zero where every of no images is used."""
    with pytest.raises(LabError, match="no images; there is nothing to train on"):
        fit(Made(np.zeros((0, 2)), []), "nano", tmp_path / "x", device="cpu", progress=False)


def test_nothing_to_leave_out_gives_the_data_itself():
    """Catches another fingerprint, so a run that cannot be resumed, for data that needs no rule."""
    full = Made([(100, 90)] * 3, [1, 1, 1])
    assert usable_images(full, PUBLISHED.augment) is full
    sparse = Made([(100, 90)] * 3, [1, 0, 1])
    assert usable_images(sparse, AugmentConfig()) is sparse
    shapes = Shapes(length=4)
    assert usable_images(shapes, PUBLISHED.augment) is shapes and not isinstance(shapes, Indexed)


def test_a_data_set_of_nothing_usable_is_refused():
    """Catches an endless search for a batch, and a division by no images."""
    with pytest.raises(LabError, match=r"1 without objects, 1 under.*augment\.drop_empty"):
        usable_images(Made([(100, 90), (8, 90)], [0, 1]), PUBLISHED.augment)
    for config in (PUBLISHED.augment, AugmentConfig()):
        with pytest.raises(LabError, match=r"nothing to learn from: no object in 2 images\. No im"):
            usable_images(Made([(100, 90)] * 2, [0, 0]), config)


# Batches for a GPU


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # said where there is no GPU
def test_a_raw_batch_becomes_the_same_batch():
    """Catches targets or names lost on the way to the GPU, or images normalised twice."""
    data = Made(like_coco(8) // 8, np.arange(8) % 3)
    augment = replace(PUBLISHED.augment, short_sides=(64,), crop=0.0)
    plain, raw = (list(loader(data, augment, 2, pin_memory=pinned)) for pinned in (False, True))
    for one, other in zip(plain, raw, strict=True):
        assert one.raw is None and other.images.dtype == torch.uint8
        there = other.to(torch.device("cpu"))
        assert there.raw is None and there.names == one.names
        assert torch.equal(there.images, one.images)
        assert torch.equal(there.targets.boxes, one.targets.boxes)
        assert torch.equal(there.targets.sizes, one.targets.sizes)
        assert torch.equal(there.to(torch.device("cpu")).images, there.images)


# Errors


class Damaged(Made):
    """Its third image cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise LabError('"2.png" is cut short.')
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_told_in_its_own_words(workers):
    """Catches a worker's traceback in place of the sentence, and a damaged image passed over."""
    data = Damaged([(40, 60)] * 4, [1] * 4)
    with pytest.raises(LabError) as caught:
        list(loader(data, AugmentConfig(short_sides=(40,)), 3, workers))
    assert str(caught.value) == '"2.png" is cut short.'


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_worker_and_signals():
    """Catches a worker that ends by a Ctrl-C or by torchrun's SIGTERM, which each process of a
    group gets; one that stays when all is over; and, where it was killed, torch's own error, which
    tears whatever is being computed."""
    others, data = set(_children()), Made([(40, 60)] * 4, [1] * 4)

    def started() -> tuple[Any, int]:
        loading = iter(loader(data, AugmentConfig(short_sides=(40,)), 30, workers=1))
        next(loading)
        (worker,) = set(_children()) - others
        assert worker is not None
        return loading, worker

    loading, worker = started()
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker, number)
    assert len(list(loading)) == 29
    loading, _ = started()
    loading.close()
    assert set(_children()) == others
    loading, worker = started()
    os.kill(worker, signal.SIGKILL)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:  # torch would raise in here
        pass
    with pytest.raises(LabError, match=r"loads images is gone.*--workers"):
        list(loading)


# A training of it all


def test_a_run_trains_on_usable_images_with_crops_and_resumes(tmp_path, capsys):
    """Catches a selection or a recipe's new field that training, schedule or resume do not see."""
    box = (0, [8.0, 8, 30, 40])
    objects = [[box] * count for count in (1, 0, 2, 1, 1, 0, 1, 3)]
    sizes = [(96, 64) if number % 3 else (64, 96) for number in range(8)]
    data = coco_folder(tmp_path / "data", sizes, objects)
    recipe = recipes.recipe(
        "nano",
        **{"train__steps": None, "train__epochs": 2, "train__batch_size": 3, "train__denoising": 0},
        **{"augment__size": None, "augment__short_sides": (48, 64), "augment__crop": 0.5},
        **{"augment__crop_short_sides": (40, 56), "augment__crop_size": (32, 60)},
        **{"augment__drop_empty": True, "augment__group_by_aspect": True},
    )
    seen: list[int] = []

    def stop_early(step: int, _: object) -> None:
        seen.append(step)
        if step == 2:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"workers": 0, "evaluate_every": 0, "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        fit(data, recipe, tmp_path / "run", on_step=stop_early, **settings)
    assert "2 of 8 images left out: 2 without objects." in capsys.readouterr().out
    run = fit(data, recipe, tmp_path / "run", resume=True, progress=False, **settings)
    assert run.finished and run.step == 4  # two epochs of six images
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["steps"] == 4 and header["data"]["train"] != header["data"]["val"]


def _children() -> list[int | None]:
    return [process.pid for process in multiprocessing.active_children()]


SCRIPT = """
import sparse_rcnn_lab as srl

{guard}
    srl.fit(srl.Shapes(length=4, size=64), "nano", "run", workers={workers}, device="meta-not")
"""


@pytest.mark.parametrize(
    ("method", "guard", "workers", "words"),
    [
        ("spawn", "if True:", 1, 'mine.py", line 5, trains without `if __name__ =='),
        ("spawn", "def main():", 1, 'mine.py", line 6, trains without `if __name__ =='),
        ("spawn", 'if "__main__" == __name__:', 1, "no device"),
        ("spawn", "if True:", 0, "no device"),
        ("fork", "if True:", 1, "no device"),
    ],
)
def test_a_script_without_a_main_guard(method, guard, workers, words, tmp_path, monkeypatch):
    """Catches a training that starts itself in every worker, and a guarded one refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    script = tmp_path / "mine.py"
    text = SCRIPT.format(guard=guard, workers=workers)
    script.write_text(text + ("main()\n" if guard.startswith("def") else ""))
    with pytest.raises(LabError, match=re.escape(words)):
        runpy.run_path(str(script), run_name="__main__")
    assert not (tmp_path / "run").exists()


def test_a_notebook_that_was_reset(monkeypatch):
    """Catches an AttributeError after ``%reset``, which clears __main__."""
    monkeypatch.delattr(sys.modules["__main__"], "__spec__")
    check_main_guard()


@pytest.mark.parametrize(
    ("data", "recipe"),
    [("nano", "shapes"), (PUBLISHED, Shapes(length=4)), ("shapes", Shapes(length=4))],
)
def test_swapped_arguments(data, recipe, tmp_path):
    """Catches a recipe taken for data that ends in an AttributeError."""
    with pytest.raises(LabError, match=r"fit takes the data first, then the recipe.* as recipe"):
        fit(data, recipe, tmp_path / "run")


class Odd(Made):
    """One image of 64x48 with one box, given as it is."""

    def __init__(self, box: Sequence[float], label: int = 0, names: Sequence[str] = "ab") -> None:
        super().__init__([(48, 64)], [1])
        self.class_names = tuple(names)
        self.box, self.label = box, label

    def __getitem__(self, index: int) -> Sample:
        boxes, labels = torch.tensor([self.box]), torch.tensor([self.label])
        return replace(super().__getitem__(index), boxes=boxes, labels=labels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Odd([1.0, 2, float("nan"), 9]), r'"0.png": Ground-truth box 0 is \[1.0, 2.0, nan'),
        (Odd([0.2, 0.1, 0.9, 1.0]), r"box 0 is \[0.2.*in an image of 64x48; expected left, top"),
        (Odd([70.0, 2, 90, 9]), r"box 0 is \[70.0, 2.0, 90.0, 9.0\] in an image of 64x48"),
        (Odd([30.0, 20, 10, 9]), "with right > left"),
        (Odd([1.0, 2, 9, 9], label=2), r"labels must be 0..1, found 2..2"),
        (Odd([1.0, 2, 9, 9], names="aa"), r"a name and a category id of its own.*\['a', 'a'\]"),
    ],
)
def test_own_data_that_cannot_be_trained_on(data, words, tmp_path):
    """Would catch a training on NaN or on specks without a word, and torch's own error about an
    index somewhere in the loss."""
    recipe = recipes.recipe("nano", train__steps=1, train__batch_size=1, augment__min_image_side=0)
    with pytest.raises(LabError, match=words):
        fit(data, recipe, tmp_path / "run", workers=0, progress=False)
