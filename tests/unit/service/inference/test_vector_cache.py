"""The cache of vectors: bounded, and no tenant flushes another's entries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.service.batching.item import ItemResult
from osa.service.inference.inflight import Key, input_key
from osa.service.inference.vector_cache import KEPT, VectorCache, _size

RESULT = ItemResult(np.ones(8, dtype=np.float32), 1.0)


def key(number: int, tenant: str = "", length: int = 1) -> Key:
    return input_key([number] * length, False, None, tenant)


SIZE = _size(key(0), RESULT)


def test_the_oldest_entries_leave_and_what_is_used_stays() -> None:
    cache = VectorCache(3 * SIZE)
    for number in range(3):
        cache.put(key(number), RESULT)
    assert cache.get(key(0)) is not None
    cache.put(key(3), RESULT)
    assert [cache.get(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert cache.bytes == 3 * SIZE


def test_an_entry_is_of_one_tenant() -> None:
    cache = VectorCache(10**6)
    cache.put(key(1, "a"), RESULT)
    assert cache.get(key(1, "b")) is None
    assert cache.get(key(1, "a")) is not None


def test_one_that_fills_the_cache_takes_its_own_entries_once_others_have_as_much() -> None:
    cache = VectorCache(100 * SIZE)
    for number in range(40):
        cache.put(key(number, "small"), RESULT)
    for number in range(10_000):
        cache.put(key(number, "large"), RESULT)
    assert all(cache.get(key(number, "small")) is not None for number in range(40))
    assert cache.get(key(9999, "large")) is not None
    assert cache.bytes == 100 * SIZE
    for number in range(10_000):
        cache.put(key(number, "third"), RESULT)
    held = {name: cache._shares[name].bytes // SIZE for name in ("small", "large", "third")}
    assert sorted(held.values()) == [33, 33, 34]


@settings(deadline=None)
@given(
    puts=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("abcd"), st.integers(1, 40)), max_size=200
    )
)
def test_the_bound_holds_and_every_byte_is_counted(puts: list[tuple[int, str, int]]) -> None:
    cache = VectorCache(10 * SIZE)
    for number, tenant, length in puts:
        cache.put(key(number, tenant, length), RESULT)
        held = [
            _size(one, result)
            for share in cache._shares.values()
            for one, result in share.entries.items()
        ]
        assert cache.bytes == sum(held) <= 10 * SIZE
        assert len(cache) == len(held)
        assert len(cache._largest) <= 2 * len(cache._shares) + KEPT + 1
