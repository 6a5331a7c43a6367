"""Vectors of inputs seen before, bounded in bytes; exact, for a vector's bits do not change."""

from __future__ import annotations

from collections import OrderedDict

from osa.service.batching.item import ItemResult
from osa.service.inference.inflight import Key

OVERHEAD = 300
"""Bytes of an entry beside its key and vector: tuple, dict slot, result and array headers."""


class VectorCache:
    """Least recently used entries leave first; used by the event loop alone."""

    def __init__(self, max_bytes: int) -> None:
        """Hold at most ``max_bytes`` [bytes]; 0 holds nothing."""
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Key, ItemResult] = OrderedDict()

    def __len__(self) -> int:
        """Entries."""
        return len(self._entries)

    def get(self, key: Key) -> ItemResult | None:
        """The result of an input, if it is held; its times are zero."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: Key, result: ItemResult) -> None:
        """Hold a vector; vectors of tokens and spans, and errors, are not held."""
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
