"""Batches for training: what step k gets depends on the seed and k alone.

So a resumed run continues with exactly the images and augmentations that an uninterrupted one would
have seen, whatever the number of workers.
"""

from __future__ import annotations

import ast
import multiprocessing
import random
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sparse_rcnn_lab.core.config import InputConfig, TrainConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Targets, normalise, pad_images
from sparse_rcnn_lab.core.train import total_steps
from sparse_rcnn_lab.data.sample import DetectionData, Sample
from sparse_rcnn_lab.data.subset import aspect_groups, in_batches_of_one_group
from sparse_rcnn_lab.data.transforms import Augment


@dataclass(frozen=True)
class TrainBatch:
    """images: ``[B, 3, H, W]``, padded and normalised.  names: what messages call them.

    raw: how to normalise ``images`` while they are still uint8: :meth:`to` does it on the other
    device. None once they are normalised.
    """

    images: Tensor
    targets: Targets
    names: tuple[str, ...]
    raw: InputConfig | None = None

    def to(self, device: torch.device) -> TrainBatch:
        """The batch on another device, normalised."""
        moved = self._moved(lambda tensor: tensor.to(device, non_blocking=True))
        if self.raw is None:
            return moved
        images = normalise(moved.images, self.targets.sizes, self.raw.mean, self.raw.std)
        return replace(moved, images=images, raw=None)

    def pin_memory(self) -> TrainBatch:
        """The batch in page-locked memory; the data loader calls this when training on a GPU."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> TrainBatch:
        t = self.targets
        targets = Targets(move(t.boxes), move(t.labels), t.counts, move(t.sizes))
        return replace(self, images=move(self.images), targets=targets)


class StepSampler(Sampler[list[tuple[int, int, int]]]):
    """The (image index, augmentation seed, step) of each sample, from step ``start`` to ``stop``.

    Every epoch is a permutation of all images, drawn from ``seed`` and the epoch; a batch may span
    the end of an epoch. shard: the part of each batch that this process takes. groups:
    ``[length]``, a group number for each image; a batch then holds one group (except for two or
    three batches at the ends of an epoch).
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        shard: slice = slice(None),
        groups: np.ndarray | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.stop, self.shard, self.groups = start, stop, shard, groups

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch, order = -1, np.empty(0)
        for step in range(self.start, self.stop):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self._permutation(epoch)
                seed = random.Random(f"{self.seed} augment {position}").getrandbits(62)
                batch.append((int(order[position % self.length]), seed, step))
            yield batch[self.shard]

    def _permutation(self, epoch: int) -> np.ndarray:
        seed = random.Random(f"{self.seed} epoch {epoch}").getrandbits(62)
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(seed)).numpy()
        if self.groups is None:
            return order
        begun = epoch * self.length % self.batch_size
        return in_batches_of_one_group(order, self.groups, self.batch_size, begun)


class _Augmented(Dataset[Sample | LabError]):
    """Returns an error as a value, since torch would put a worker's traceback into its message.

    small_until: the step from which the images have their full size.
    """

    def __init__(self, data: DetectionData, augment: Augment, small_until: int) -> None:
        self.data, self.augment, self.small_until = data, augment, small_until
        self.small = augment.smaller() if small_until else augment

    def __getitem__(self, key: tuple[int, int, int]) -> Sample | LabError:
        index, seed, step = key
        augment = self.small if step < self.small_until else self.augment
        try:
            return augment.of(self.data, index, seed)
        except LabError as error:
            return error


class TrainLoader(DataLoader[TrainBatch]):
    """Torch's loader, but a worker's failure is raised as a LabError when a batch is asked for.

    Torch itself raises as soon as a worker has died, wherever the program is: even in the middle of
    an update, which would leave half-updated weights.
    """

    def __iter__(self) -> Generator[TrainBatch]:  # type: ignore[override]
        with _no_sudden_errors():
            batches = super().__iter__()
        try:
            for batch in batches:
                if isinstance(batch, LabError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise LabError(
                "A process that loads images is gone: killed, most likely out of memory. "
                "Continue with fewer of them (workers, --workers)."
            ) from error
        finally:
            del batches  # ends the workers even while a traceback keeps this frame alive


@contextmanager
def _no_sudden_errors() -> Iterator[None]:
    """Undoes the handler that torch's loader sets; a dead worker is noticed without it."""
    number = getattr(signal, "SIGCHLD", None)  # Windows has no SIGCHLD
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, before)


def collate(samples: Sequence[Sample], config: InputConfig, raw: bool = False) -> TrainBatch:
    """Pads, stacks and, unless ``raw``, normalises samples."""
    images, sizes = pad_images([s.image for s in samples], config.multiple)
    if not raw:
        images = normalise(images, sizes, config.mean, config.std)
    targets = Targets.pad([s.boxes for s in samples], [s.labels for s in samples], sizes)
    return TrainBatch(images, targets, tuple(s.name for s in samples), config if raw else None)


def _collate_or_fail(
    samples: Sequence[Sample | LabError], config: InputConfig, raw: bool
) -> TrainBatch | LabError:
    good = [sample for sample in samples if isinstance(sample, Sample)]
    errors = [sample for sample in samples if isinstance(sample, LabError)]
    return errors[0] if errors else collate(good, config, raw)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ignores Ctrl-C, which reaches every process of a terminal, and torchrun's SIGTERM.

    A worker that died of them would end the whole run. Without its trainer a worker ends by itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def check_main_guard() -> None:
    """Raises LabError when workers would run the user's script again, and so start to train.

    Where processes are spawned (Windows, macOS) or come from a forkserver (Linux from Python 3.14
    on), each imports the script. This is checked before any starts: later some would hang.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)  # a notebook or a prompt has none, and needs no guard
    spec = getattr(main, "__spec__", None)  # %reset in a notebook deletes it
    package = getattr(spec, "name", "").endswith("__main__")  # `python -m` needs no guard either
    usual = multiprocessing.get_all_start_methods()[0]
    method = multiprocessing.get_start_method(allow_none=True) or usual  # does not set the method
    if method == "fork" or file is None or package:
        return
    frame, line = sys._getframe().f_back, 0
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            line = frame.f_lineno
        frame = frame.f_back
    try:
        script = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    before = [node for node in script.body if isinstance(node, ast.If) and node.lineno <= line]
    names = {n.id for node in before for n in ast.walk(node.test) if isinstance(n, ast.Name)}
    if line and "__name__" not in names:
        raise LabError(
            f'"{Path(file).name}", line {line}, trains without `if __name__ == "__main__":` before '
            "it, so processes that load images would run the script again. Put the call into such "
            "a block, or load in the same process (workers=0)."
        )


def train_loader(
    data: DetectionData,
    augment: Augment,
    train: TrainConfig,
    inputs: InputConfig,
    start: int,
    stop: int,
    workers: int,
    pin_memory: bool = False,
    shard: slice = slice(None),
) -> TrainLoader:
    """Batches for steps ``start`` to ``stop``; of each, only the images in ``shard``.

    pin_memory: for a GPU. The batches are then page-locked and raw: ``batch.to(device)``
    normalises them.
    """
    groups = aspect_groups(data, augment.config)
    sampler = StepSampler(len(data), train.batch_size, train.seed, start, stop, shard, groups)
    small_until = round(train.progressive_resizing * total_steps(train, len(data)))
    return TrainLoader(
        _Augmented(data, augment, small_until),  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=partial(_collate_or_fail, config=inputs, raw=pin_memory),
        worker_init_fn=_leave_signals_to_the_trainer,
        pin_memory=pin_memory,
        persistent_workers=False,
        prefetch_factor=2 if workers else None,
    )
