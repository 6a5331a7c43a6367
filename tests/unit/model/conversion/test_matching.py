"""What a student is taught: the teacher's states and vectors, in chunks as in one piece."""

from __future__ import annotations

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.conversion.matching import (
    Batch,
    blocks_of,
    match_attention,
    split,
    trace,
    vector_gradients,
)
from osa.model.conversion.student import make_student
from osa.model.functional.varlen import cu_seqlens_of

LENGTHS = [3, 9, 1, 20, 6]


@pytest.fixture
def batch() -> Batch:
    ids = torch.randint(1000, 3000, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(0))
    return Batch(ids, cu_seqlens_of(LENGTHS))


def test_a_trace_is_what_the_model_computes(teacher: EmbeddingModel, batch: Batch) -> None:
    found = trace(teacher, [0, 2], batch)
    with torch.no_grad():
        wanted = teacher(batch.ids, cu_seqlens=batch.cu_seqlens).embeddings
    torch.testing.assert_close(found.vectors, wanted)
    assert len(found.inputs) == len(found.mixed) == len(found.outputs) == 2


def test_a_perfect_layer_has_nothing_to_learn(teacher: EmbeddingModel, batch: Batch) -> None:
    """A teacher taught by itself: all is explained, from its own states and from given ones."""
    found = trace(teacher, range(3), batch)
    for own in (False, True):
        assert max(match_attention(teacher, found, batch, own)) < 1e-6


def test_a_layer_makes_good_what_came_before_it(teacher: EmbeddingModel, batch: Batch) -> None:
    """Other states are given, the target moves so that the sum stays."""
    student = make_student(teacher, range(3))
    found = trace(teacher, range(3), batch)
    shift = torch.randn_like(found.inputs[1]) * 0.1
    states, wanted = found.inputs[1] + shift, found.mixed[1] + found.inputs[1]
    block = blocks_of(student)[1]
    torch.testing.assert_close(states + (wanted - states), found.inputs[1] + found.mixed[1])
    assert block.residual == "add"


def test_gradients_in_chunks_are_those_of_the_whole(teacher: EmbeddingModel, batch: Batch) -> None:
    gradients = []
    for most in (1000, 12):
        torch.manual_seed(0)
        student = make_student(teacher, range(3))
        cosine = vector_gradients(student, teacher, range(3), batch, most)
        assert -1.0 <= cosine <= 1.0
        gradients.append([part.grad for part in student.parameters() if part.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_chunks_are_whole_sequences(batch: Batch) -> None:
    parts = list(split(batch, 12))
    assert torch.cat([part.ids for part in parts], 1).equal(batch.ids)
    lengths = [part.cu_seqlens.diff().tolist() for part in parts]
    assert lengths == [[3, 9], [1], [20], [6]]
