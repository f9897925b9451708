"""Batches for training: what step k gets depends on the seed and k alone.

So a resumed run continues with exactly the images and augmentations that an unbroken one would
have seen, whatever the number of workers.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sparse_rcnn_lab.config import InputConfig, TrainConfig
from sparse_rcnn_lab.data.sample import DetectionData, Sample
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.images import normalise_and_pad
from sparse_rcnn_lab.training.matching import Targets


@dataclass(frozen=True)
class TrainBatch:
    """images: ``[B, 3, H, W]`` normalised, padded.  names: what to call them in a message."""

    images: Tensor
    targets: Targets
    names: tuple[str, ...]

    def to(self, device: torch.device) -> TrainBatch:
        """The batch on another device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TrainBatch:
        """The batch in page-locked memory; the data loader calls this where a GPU waits."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> TrainBatch:
        t = self.targets
        targets = Targets(move(t.boxes), move(t.labels), t.counts, move(t.sizes))
        return TrainBatch(move(self.images), targets, self.names)


class StepSampler(Sampler[list[tuple[int, int]]]):
    """For each step from ``start`` to ``stop``: the (image index, augmentation seed) pairs.

    Every epoch is a permutation of all images drawn from ``seed`` and the epoch; a batch may reach
    over the end of an epoch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.start, self.stop):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self._permutation(epoch)
                seed = random.Random(f"{self.seed} augment {position}").getrandbits(62)
                batch.append((int(order[position % self.length]), seed))
            yield batch

    def _permutation(self, epoch: int) -> Tensor:
        seed = random.Random(f"{self.seed} epoch {epoch}").getrandbits(62)
        return torch.randperm(self.length, generator=torch.Generator().manual_seed(seed))


class _Augmented(Dataset[Sample]):
    def __init__(self, data: DetectionData, augment: Augment) -> None:
        self.data, self.augment = data, augment

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, seed = key
        return self.augment(self.data[index], seed)


def collate(samples: Sequence[Sample], config: InputConfig) -> TrainBatch:
    """Normalises, pads and stacks samples."""
    images, sizes = normalise_and_pad(
        [s.image for s in samples], config.mean, config.std, config.multiple
    )
    targets = Targets.pad([s.boxes for s in samples], [s.labels for s in samples], sizes)
    return TrainBatch(images, targets, tuple(s.name for s in samples))


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker that died of it would take the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def train_loader(
    data: DetectionData,
    augment: Augment,
    train: TrainConfig,
    inputs: InputConfig,
    start: int,
    stop: int,
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[TrainBatch]:
    """Batches for steps ``start`` to ``stop``."""
    sampler = StepSampler(len(data), train.batch_size, train.seed, start, stop)
    return DataLoader(
        _Augmented(data, augment),  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, config=inputs),
        worker_init_fn=_leave_interrupts_to_the_trainer,
        pin_memory=pin_memory,
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )
