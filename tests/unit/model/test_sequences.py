"""Ids and features that do not fit a model are refused by place; those that fit are packed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from osa.model.errors import InputError
from osa.model.sequences import check_features, check_ids, check_sequences
from tests.conftest import make_tiny_model

MODEL = make_tiny_model(vocab_size=None, feature_size=3, max_seq_len=6)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
NAN = ROWS.copy()
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "at least one sequence is needed, got none"),
        ([ROWS, ROWS[:0]], "sequence 1 has 0 rows, allowed are 1 to 6"),
        ([np.ones((7, 3))], "sequence 0 has 7 rows, allowed are 1 to 6"),
        ([ROWS, ROWS[:, :2]], "sequence 1 has shape [4, 2], this model takes rows of 3 numbers"),
        ([ROWS[0]], "sequence 0 has shape [3], this model takes rows of 3 numbers: [n, 3]"),
        ([ROWS, NAN], "sequence 1 must hold finite float32 numbers: row 2, column 1 is not"),
        ([np.full((1, 3), -np.inf)], "row 0, column 0 is not"),
    ],
)
def test_features_that_do_not_fit(sequences: list[Any], message: str) -> None:
    for check in (check_features, check_sequences):
        with pytest.raises(InputError, match=re.escape(message)):
            check(MODEL.config, sequences)
    with pytest.raises(InputError, match=re.escape(message)):
        MODEL.embed_features(sequences)


def test_a_model_takes_one_kind_of_sequence() -> None:
    tokens = make_tiny_model()
    with pytest.raises(InputError, match="takes feature vectors, not token ids"):
        check_ids(MODEL.config, [[1]])
    with pytest.raises(InputError, match="takes token ids, not feature vectors"):
        check_features(tokens.config, [ROWS])
    with pytest.raises(InputError, match="sequence 0 holds id 99"):
        check_sequences(tokens.config, [[99]])


@torch.no_grad()
def test_packed_features_are_embedded_like_each_alone() -> None:
    sequences = [ROWS, ROWS[:1], -ROWS[1:]]
    packed, offsets = MODEL.pack(sequences)
    assert (packed.shape, packed.dtype, offsets.tolist()) == (
        (1, 8, 3),
        torch.float32,
        [0, 4, 5, 8],
    )
    together = MODEL.embed_features(sequences)
    for place, rows in enumerate(sequences):
        alone = MODEL(torch.from_numpy(rows)[None])
        torch.testing.assert_close(together.embeddings[place], alone.embeddings[0])
        torch.testing.assert_close(together.norms[place], alone.norms[0])
    encoded = MODEL.encode_features(sequences, batch_tokens=4)
    torch.testing.assert_close(encoded, together.embeddings)


def test_pack_takes_ids_where_the_model_does() -> None:
    tokens = make_tiny_model()
    packed, offsets = tokens.pack([[2, 4, 3], [2, 3]])
    assert (packed.tolist(), offsets.tolist()) == ([[2, 4, 3, 2, 3]], [0, 3, 5])
