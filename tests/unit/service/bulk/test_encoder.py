"""Bulk encoding with failing engines: failing inputs, retries, and a broken engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from osa.service.bulk.encoder import BatchLimits, BulkEncoder, EncodingError
from osa.service.engines.eager import EagerEngine
from tests.engines import POISON, FaultyEngine, How

IDS = [[2, 4 + n % 4, *([5] * n), 3] for n in range(20)]


@pytest.mark.parametrize("how", get_args(How))
def test_only_the_text_at_fault_has_no_vector(how: How, tiny_checkpoint: Path) -> None:
    poisoned = [[*ids, POISON] if n in (3, 11) else ids for n, ids in enumerate(IDS)]
    encoder = BulkEncoder(FaultyEngine(tiny_checkpoint, how), BatchLimits(100, 8))
    counted: list[int] = []
    vectors, failed = encoder.embed(poisoned, counted.append)
    assert sorted(failed) == [3, 11]
    assert sum(counted) == len(IDS)
    alone = EagerEngine(tiny_checkpoint, "cpu")
    for place, ids in enumerate(IDS):
        if place not in failed:
            assert np.array_equal(vectors[place], alone.embed([ids]).embeddings[0])


def test_an_engine_that_computes_nothing_is_no_bad_record(tiny_checkpoint: Path) -> None:
    encoder = BulkEncoder(FaultyEngine(tiny_checkpoint, "raise"), BatchLimits(100, 8))
    with pytest.raises(EncodingError, match="failed on each of 2 texts"):
        encoder.embed([[2, POISON], [POISON, 3]], lambda count: None)


def test_batches_keep_to_both_limits_and_hold_like_lengths(tiny_checkpoint: Path) -> None:
    engine = FaultyEngine(tiny_checkpoint, "raise")
    lengths: list[list[int]] = []
    original = engine.embed

    def spy(sequences: list[list[int]], *options: Any) -> object:
        lengths.append([len(ids) for ids in sequences])
        return original(sequences, *options)

    engine.embed = spy  # type: ignore[method-assign, assignment]
    BulkEncoder(engine, BatchLimits(60, 4)).embed(IDS, lambda count: None)
    assert max(map(sum, lengths)) <= 60
    assert max(map(len, lengths)) == 4
    flat = [length for batch in lengths for length in batch]
    assert sorted(flat, reverse=True) == sorted((len(ids) for ids in IDS), reverse=True)
    assert lengths[0][0] == max(flat)
