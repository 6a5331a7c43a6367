"""Only the inputs at fault fail, and batches that do not fit in memory are made smaller."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.out_of_memory import RECOVERY_BATCHES, MemoryLimit, is_out_of_memory
from osa.service.batching.split_failures import NonFiniteError, embed_each
from osa.service.errors import BackendError
from tests.engines import POISON, FaultyEngine, How

ITEMS = [WorkItem([2, 4 + n, 3]) for n in range(4)] + [WorkItem([2, POISON, 3])]


def run(engine: FaultyEngine) -> tuple[list[ItemResult], list[int]]:
    too_large: list[int] = []
    return embed_each(lambda: engine, ITEMS, too_large.append), too_large


@pytest.mark.parametrize(
    ("how", "error", "memory"),
    [
        ("raise", BackendError, []),
        ("memory", BackendError, [15, 9, 6, 3]),
        ("nan", NonFiniteError, []),
    ],
)
def test_one_input_fails_as_it_does_alone(
    how: How, error: type[BackendError], memory: list[int], tiny_checkpoint: Path
) -> None:
    results, too_large = run(FaultyEngine(tiny_checkpoint, how))
    *fine, failed = results
    assert [result.error for result in fine] == [None] * 4
    assert type(failed.error) is error
    assert too_large == memory, "every attempt that ran out of memory is reported"


def test_an_engine_that_was_given_up_is_not_tried_again() -> None:
    calls = []

    def gone() -> FaultyEngine:
        calls.append(1)
        raise BackendError("the engine was given up")

    results = embed_each(gone, ITEMS, lambda tokens: None)
    assert [str(result.error) for result in results] == ["the engine was given up"] * len(ITEMS)
    assert len(calls) == 1


def test_a_limit_is_halved_and_recovers() -> None:
    limit = MemoryLimit(1000)
    limit.exceeded(800)
    assert limit.tokens == 400
    limit.exceeded(3)
    assert limit.tokens == 1
    for _ in range(200 * RECOVERY_BATCHES):
        limit.fitted()
    assert limit.tokens == 1000


def test_memory_is_told_from_other_failures() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("illegal instruction"))
