"""Where the time goes: each part of inference and of a training step, with two poolings.

Both poolings run in the same model, with the same weights, in turn, so that a busy machine slows
both alike. With one thread on a CPU the process's own time counts, which other programs hardly
change; with more threads, or on a GPU, it is the time on the wall.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab import config as configs
from sparse_rcnn_lab.config import RECIPES, Recipe
from sparse_rcnn_lab.data.shapes import CLASS_NAMES, Shapes
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.model.detector import SparseRCNN
from sparse_rcnn_lab.model.pooling import Pooling, Pyramid, build_pyramid, pool
from sparse_rcnn_lab.model.reference import FeatureMaps, roi_align_pool
from sparse_rcnn_lab.trace import top_pairs
from sparse_rcnn_lab.training.engine import make_optimizer
from sparse_rcnn_lab.training.loader import collate
from sparse_rcnn_lab.training.losses import set_loss
from sparse_rcnn_lab.training.matching import match
from sparse_rcnn_lab.training.run_folder import versions
from sparse_rcnn_lab.zoo import load

INFERENCE, TRAINING = "inference", "training step"


@dataclass(frozen=True)
class Settings:
    """What to measure.

    model: a preset (untrained weights) or a model that :func:`~sparse_rcnn_lab.load` finds.
    size: (height, width) of the input, multiples of 32; default: the model's own.
    proposals, batch: default the model's; one image for inference and the recipe's batch, at most
    8 (2 at the published size), for training.  only: "inference" or "training", None for both.
    """

    model: str = "nano"
    size: tuple[int, int] | None = None
    proposals: int | None = None
    batch: int | None = None
    threads: int = 1
    repeat: int = 5
    device: str = "cpu"
    only: str | None = None


@dataclass(frozen=True)
class Arm:
    """One way to pool: how its pyramid is made and how it is read."""

    name: str
    build: Callable[[list[Tensor]], Pyramid]
    pool: Pooling


ARMS = (
    Arm("one gather", build_pyramid, pool),
    Arm("torchvision", FeatureMaps.of, roi_align_pool),
)


class Clock:
    """Adds up the milliseconds of named parts; of nested ones only the inner part counts."""

    def __init__(self, device: str, process_time: bool) -> None:
        self.parts: dict[str, float] = {}
        self._cuda = torch.device(device).type == "cuda"
        self._now = time.process_time if process_time else time.perf_counter
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what happens inside."""
        start = self._read()
        self.parts.setdefault(name, 0.0)
        self._inner.append(0.0)
        yield
        spent = self._read() - start
        self.parts[name] += spent - self._inner.pop()
        if self._inner:
            self._inner[-1] += spent

    def pooling(self, inner: Pooling) -> Pooling:
        """The same pooling, timed."""

        def timed(pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int) -> Tensor:
            with self.part("RoI pooling, all stages"):
                return inner(pyramid, boxes, levels, roi_size)

        return timed

    def _read(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return 1000 * self._now()


def run_benchmark(settings: Settings) -> dict[str, Any]:
    """Measures and returns plain values that json can hold; times are median milliseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        return _run(settings)
    finally:
        torch.set_num_threads(threads)


def _run(settings: Settings) -> dict[str, Any]:
    recipe, model, trained = _model(settings)
    height, width = settings.size or _default_size(recipe)
    if min(height, width) < 32 or height % 32 or width % 32:
        raise LabError(f"The size must be multiples of 32, found {height}x{width}.")
    model.to(settings.device)
    published = recipe.model.input.short_side >= 800
    batches = {
        INFERENCE: settings.batch or 1,
        TRAINING: settings.batch or min(recipe.train.batch_size, 2 if published else 8),
    }
    process_time = settings.threads == 1 and torch.device(settings.device).type == "cpu"

    def measure(name: str, step: Callable[[Arm, Clock, int], None]) -> dict[str, Any]:
        seen: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in ARMS}
        for turn in range(settings.repeat + 1):
            for arm in ARMS if turn % 2 else ARMS[::-1]:
                clock = Clock(settings.device, process_time)
                model.use_pooling(clock.pooling(arm.pool))
                with clock.part("everything else"):
                    step(arm, clock, turn)
                if turn:  # the first one warms up
                    seen[arm.name].append(clock.parts)
        model.use_pooling(pool)
        return {"batch": batches[name], **_summary(seen)}

    result: dict[str, Any] = {
        "settings": {**asdict(settings), "size": [height, width]},
        "trained": trained,
        "proposals": settings.proposals or len(model.proposals),
        "clock": "process" if process_time else "wall",
        "machine": machine(settings.device),
        "versions": versions(),
    }
    if settings.only != "training":
        images = torch.randn(batches[INFERENCE], 3, height, width, device=settings.device)
        model.eval()
        result["largest_difference"] = _largest_difference(model, images, settings.proposals)
        result[INFERENCE] = measure(
            INFERENCE, lambda arm, clock, _: _infer(model, arm, clock, images, settings.proposals)
        )
    if settings.only != "inference":
        model.train()
        trainer = _Trainer(model, recipe, (height, width), batches[TRAINING], settings)
        result[TRAINING] = measure(TRAINING, trainer.step)
    return result


@torch.no_grad()
def _infer(
    model: SparseRCNN, arm: Arm, clock: Clock, images: Tensor, proposals: int | None
) -> None:
    with clock.part("backbone + FPN"):
        maps = model.backbone(images)
    with clock.part("pyramid table"):
        pyramid = arm.build(maps)
    with clock.part("rest of the stages"):
        outputs = model.run_stages(pyramid, *model.proposals(_sizes(images), proposals))
    with clock.part("decoding"):
        top_pairs(outputs[-1].logits)


class _Trainer:
    """The training step of ``training.engine`` taken apart. Its learning rate is 0: the weights,
    and with them the work, stay the same from one repetition to the next."""

    def __init__(
        self,
        model: SparseRCNN,
        recipe: Recipe,
        size: tuple[int, int],
        batch: int,
        settings: Settings,
    ) -> None:
        self.model, self.recipe, self.batch = model, recipe, batch
        self.proposals, self.device = settings.proposals, torch.device(settings.device)
        self.data = Shapes(length=10_000, size=size)
        self.augment = Augment(replace(recipe.augment, size=size), recipe.model.input.antialias)
        self.optimizer = make_optimizer(model, replace(recipe.train, lr=0.0))

    def step(self, arm: Arm, clock: Clock, turn: int) -> None:
        model, classes = self.model, self.model.config.num_classes
        with clock.part("data: drawing shapes"):
            samples = [self.data[turn * self.batch + i] for i in range(self.batch)]
            samples = [replace(s, labels=s.labels % classes) for s in samples]
        with clock.part("data: augmentation, batching"):
            samples = [self.augment(sample, turn) for sample in samples]
            batch = collate(samples, self.recipe.model.input).to(self.device)
        with clock.part("backbone + FPN"):
            maps = model.backbone(batch.images)
        # Cut the graph here, so that the two halves of the backward pass can be timed apart.
        leaves = [level.detach().requires_grad_() for level in maps]
        with clock.part("pyramid table"):
            pyramid = arm.build(leaves)
        with clock.part("rest of the stages"):
            start = model.proposals(batch.targets.sizes, self.proposals)
            outputs = model.run_stages(pyramid, *start)
            logits = torch.stack([output.logits for output in outputs])
            boxes = torch.stack([output.boxes for output in outputs])
        with clock.part("matching"):
            matches = match(logits, boxes, batch.targets, self.recipe.loss)
        with clock.part("losses"):
            loss = set_loss(logits, boxes, batch.targets, matches, self.recipe.loss).total()
        with clock.part("backward: losses, stages, pooling"):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with clock.part("backward: backbone + FPN"):
            pairs = [(m, leaf.grad) for m, leaf in zip(maps, leaves, strict=True)]
            used = [(m, gradient) for m, gradient in pairs if gradient is not None]
            torch.autograd.backward([m for m, _ in used], [gradient for _, gradient in used])
        with clock.part("clipping, optimizer"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.recipe.train.clip_norm)
            self.optimizer.step()


@torch.no_grad()
def _largest_difference(model: SparseRCNN, images: Tensor, proposals: int | None) -> float:
    """Largest difference of the two poolings, over all stages, on the same boxes."""
    largest = 0.0

    def both(pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int) -> Tensor:
        nonlocal largest
        ours = pool(pyramid, boxes, levels, roi_size)
        theirs = roi_align_pool(pyramid, boxes, levels, roi_size)
        largest = max(largest, float((ours - theirs).abs().max()))
        return ours

    model.use_pooling(both)
    model.run_stages(model.pyramid(images), *model.proposals(_sizes(images), proposals))
    model.use_pooling(pool)
    return largest


def _summary(seen: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of every part and of the totals, for each arm, and how they compare."""
    medians: dict[str, dict[str, float]] = {}
    for arm, runs in seen.items():
        medians[arm] = {
            name: round(statistics.median(run[name] for run in runs), 4)
            for name in sorted(runs[0], key="everything else".__eq__)  # opened first, shown last
        }
        medians[arm]["total"] = round(statistics.median(sum(run.values()) for run in runs), 4)
    ours, theirs = (medians[arm.name] for arm in ARMS)
    return {
        "milliseconds": medians,
        "ratio": {
            name: round(theirs[name] / ours[name], 3) for name in ours if ours[name] > 0
        },  # how many times as long torchvision takes
    }


def _model(settings: Settings) -> tuple[Recipe, SparseRCNN, bool]:
    if settings.model not in RECIPES:
        detector = load(settings.model)
        info = detector.info.get("recipe")
        recipe = configs.from_dict(Recipe, info) if info else Recipe(detector.name, "")
        return replace(recipe, model=detector.config), detector.model, True
    recipe = RECIPES[settings.model]
    # Untrained boxes are all the whole image, or all alike; a trained model's vary, as these do.
    config = replace(
        recipe.model,
        proposal_init="random",
        num_classes=max(recipe.model.num_classes, len(CLASS_NAMES)),
        num_proposals=settings.proposals or recipe.model.num_proposals,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return replace(recipe, model=config), SparseRCNN(config), False


def _default_size(recipe: Recipe) -> tuple[int, int]:
    """The size a picture with sides 2:3 gets, rounded up to multiples of 32."""
    want = recipe.model.input
    long = min(want.long_side, want.short_side * 3 // 2)
    return -(-want.short_side // 32) * 32, -(-long // 32) * 32


def _sizes(images: Tensor) -> Tensor:
    return images.new_tensor(images.shape[2:]).expand(len(images), 2)


def machine(device: str) -> dict[str, str]:
    """Names of the processor, and of the GPU where one is used."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    names = {"cpu": cpu}
    if torch.device(device).type == "cuda":
        names["gpu"] = torch.cuda.get_device_name(device)
    return names
