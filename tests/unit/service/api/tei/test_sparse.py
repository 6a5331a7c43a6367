"""Sparse weights as JSON."""

from __future__ import annotations

import json

import numpy as np

from osa.service.api.stages.answers import AnswerLimit
from osa.service.api.tei.sparse import SparseRows, write_weights
from osa.service.batching.item import ItemResult


def test_weights_that_are_not_zero_by_id() -> None:
    weights = np.array([0.0, 0.5, 0.0, 2.0], dtype=np.float32)
    expected = [{"index": 1, "value": 0.5}, {"index": 3, "value": 2.0}]
    assert json.loads(write_weights(weights)) == expected
    assert write_weights(weights[:1]) == b"[]"


def test_whole_rows_are_not_kept() -> None:
    rows = SparseRows(2, AnswerLimit(100))
    left = rows.take(1, ItemResult(np.array([1.5], dtype=np.float32), 1.0))
    assert left.embedding is not None
    assert left.embedding.size == 0
    assert rows.render().content == b'[[],[{"index":0,"value":1.5}]]'
