"""Many strings in two arrays: forked loader processes share them, lists of strings they copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np


class PackedStrings(Sequence[str]):
    """A read-only sequence of strings.

    Reading an object in a list counts a reference, which makes the system copy its memory page for
    the process that reads; here only the two arrays are objects.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), ends])
        self._text = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        start, stop = self._starts[index % len(self)], self._starts[index % len(self) + 1]
        return self._text[start:stop].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        text = self._text.tobytes()
        for start, stop in pairwise(self._starts.tolist()):
            yield text[start:stop].decode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"PackedStrings({len(self)} strings, {self._text.nbytes:,} bytes)"
