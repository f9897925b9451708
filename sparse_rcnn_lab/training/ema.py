"""The moving average of the weights: often a better model than the last step's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of everything in a model's state dict.

    After update k the decay is ``min(decay, (1 + k) / (10 + k))``, so that the first weights, which
    are random, are soon forgotten. Counters are copied.

    updates: how many there were.  state: the averages, by the names of the state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        # The state dict's tensors are the model's own memory, so they are looked up only once.
        self._live = dict(model.state_dict())
        self.state = {name: value.clone() for name, value in self._live.items()}
        self._averaged = [name for name, value in self._live.items() if value.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = [self.state[name] for name in self._averaged]
        weights = [self._live[name] for name in self._averaged]
        get_ema_multi_avg_fn(decay)(averages, weights, None)
        for name in self._live.keys() - set(self._averaged):
            self.state[name].copy_(self._live[name])

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Goes on from a saved average."""
        for name, value in self.state.items():
            value.copy_(state[name])
        self.updates = updates

    @contextmanager
    def in_the_model(self) -> Iterator[None]:
        """The model has the averaged weights in here, and its own again afterwards."""
        own = {name: value.clone() for name, value in self._live.items()}
        try:
            self.apply()
            yield
        finally:
            self._put(own)

    def apply(self) -> None:
        """Gives the model the averaged weights for good."""
        self._put(self.state)

    @torch.no_grad()
    def _put(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self._live.items():
            value.copy_(state[name])
