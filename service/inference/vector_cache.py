"""An exact LRU cache of vectors, bounded in bytes: a vector's bits do not change."""

from __future__ import annotations

import heapq
from collections import OrderedDict

from osa.service.batching.item import ItemResult
from osa.service.inference.inflight import Key

OVERHEAD = 300
"""Overhead of an entry beside its key and vector [bytes]."""
KEPT = 64
"""Outdated sizes that are kept, beside as many as are of use, before they are swept out."""


class _Share:
    """Entries of one tenant, the least recently used first."""

    def __init__(self) -> None:
        self.bytes = 0
        self.entries: OrderedDict[Key, ItemResult] = OrderedDict()


class VectorCache:
    """Evicts the least recently used entries of whoever has most. Event loop only.

    So no tenant loses entries to others while it has less than they have.
    """

    def __init__(self, max_bytes: int) -> None:
        """Hold at most ``max_bytes`` [bytes]; 0 holds nothing."""
        self.max_bytes = max_bytes
        self.bytes = 0
        self._shares: dict[str, _Share] = {}
        self._largest: list[tuple[int, str]] = []  # -bytes and tenant; some are outdated

    def __len__(self) -> int:
        """Number of entries."""
        return sum(len(share.entries) for share in self._shares.values())

    def get(self, key: Key) -> ItemResult | None:
        """The cached result of an input, with times of zero; None if it is not cached."""
        share = self._shares.get(key[3])
        found = None if share is None else share.entries.get(key)
        if share is not None and found is not None:
            share.entries.move_to_end(key)
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
        tenant, size = key[3], _size(key, result)
        share = self._shares.get(tenant)
        if size > self.max_bytes or (share is not None and key in share.entries):
            return
        if share is None:
            share = self._shares[tenant] = _Share()
        # a copy: a view would keep its whole batch in memory
        share.entries[key] = ItemResult(result.embedding.copy(), result.norm)
        self._resize(tenant, share, size)
        while self.bytes > self.max_bytes:
            self._evict()

    def _evict(self) -> None:
        """Remove one entry of the tenant that has most."""
        while True:
            size, tenant = heapq.heappop(self._largest)
            share = self._shares.get(tenant)
            if share is not None and share.bytes == -size:
                break
        old, dropped = share.entries.popitem(last=False)
        self._resize(tenant, share, -_size(old, dropped))

    def _resize(self, tenant: str, share: _Share, change: int) -> None:
        """Count a change, and note the tenant's new size among those of the others."""
        self.bytes += change
        share.bytes += change
        if not share.entries:
            del self._shares[tenant]
            return
        heapq.heappush(self._largest, (-share.bytes, tenant))
        if len(self._largest) > 2 * len(self._shares) + KEPT:
            self._largest = [(-one.bytes, name) for name, one in self._shares.items()]
            heapq.heapify(self._largest)


def _size(key: Key, result: ItemResult) -> int:
    assert result.embedding is not None  # entries have one
    return len(key[0]) + result.embedding.nbytes + OVERHEAD
