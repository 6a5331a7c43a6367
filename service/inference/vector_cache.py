"""An exact LRU cache of vectors, bounded in bytes: a vector's bits do not change."""

from __future__ import annotations

from collections import OrderedDict

from osa.service.batching.item import ItemResult
from osa.service.inference.inflight import Key

OVERHEAD = 300
"""Overhead of an entry beside its key and vector [bytes]."""


class VectorCache:
    """Evicts the least recently used entries. Event loop only."""

    def __init__(self, max_bytes: int) -> None:
        """Hold at most ``max_bytes`` [bytes]; 0 holds nothing."""
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Key, ItemResult] = OrderedDict()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def get(self, key: Key) -> ItemResult | None:
        """The cached result of an input, with times of zero; None if it is not cached."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: Key, result: ItemResult) -> None:
        """Add a result, unless it is an error or has vectors of tokens or spans."""
        if (
            not self.max_bytes
            or result.embedding is None
            or result.token_vectors is not None
            or result.span_vectors is not None
        ):
            return
        if key in self._entries:
            return
        size = _size(key, result)
        if size > self.max_bytes:
            return
        # a copy: a view would keep its whole batch in memory
        self._entries[key] = ItemResult(result.embedding.copy(), result.norm)
        self.bytes += size
        while self.bytes > self.max_bytes:
            old, dropped = self._entries.popitem(last=False)
            self.bytes -= _size(old, dropped)


def _size(key: Key, result: ItemResult) -> int:
    assert result.embedding is not None  # entries have one
    return len(key[0]) + result.embedding.nbytes + OVERHEAD
