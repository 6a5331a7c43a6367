"""Texts beyond the teacher's length: segments, targets, what is learnt, how it is planned."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from osa.model import EmbeddingModel
from osa.model.conversion.plan import LONG_SHARES, SHARES, make_plan, shares_of
from osa.model.conversion.report import measure_long
from osa.model.conversion.request import Request
from osa.model.conversion.student import make_student
from osa.model.conversion.texts.long_texts import (
    Lengths,
    LongTexts,
    long_gradients,
    long_targets,
    long_vectors,
)
from osa.model.conversion.texts.pieces import TrainingTexts
from osa.model.errors import ConfigError
from tests.unit.model.conversion.conftest import texts

LONGEST, READS = 40, 2048
CPU = torch.device("cpu")


@pytest.fixture
def long(teacher: EmbeddingModel) -> LongTexts:
    assert teacher.tokenizer is not None
    lengths = Lengths(LONGEST, READS)
    return LongTexts(texts(60), texts(20), teacher.tokenizer, lengths, seed=0, progress=False)


@pytest.fixture
def student(teacher: EmbeddingModel) -> EmbeddingModel:
    return make_student(teacher, (0, 1, 2), READS)


def test_only_longer_texts_and_all_of_their_tokens(
    teacher: EmbeddingModel, long: LongTexts
) -> None:
    assert 0 < len(long) < 60
    tokenizer = teacher.tokenizer
    assert tokenizer is not None
    room = LONGEST - tokenizer.num_special_tokens
    wanted = {tuple(item.ids) for item in tokenizer.encode(texts(20), 4096)}
    for text in long.held_out:
        assert sum(map(len, text)) > room
        assert max(map(len, text)) <= room
        batch = long.join([text], CPU)
        assert tuple(batch.texts.ids[0].tolist()) in wanted


def test_no_text_is_longer_than_the_student_reads(teacher: EmbeddingModel) -> None:
    assert teacher.tokenizer is not None
    lengths = Lengths(20, 48)
    found = LongTexts(texts(60), texts(20), teacher.tokenizer, lengths, seed=0, progress=False)
    longest = [int(found.join([text], CPU).texts.ids.numel()) for text in found.held_out]
    assert longest
    assert 20 < max(longest) <= 48


def test_a_batch_is_that_of_its_number(long: LongTexts) -> None:
    first, again, other = (long.batch(number, 200, CPU) for number in (3, 3, 4))
    assert torch.equal(first.texts.ids, again.texts.ids)
    assert not torch.equal(first.texts.ids, other.texts.ids)
    assert first.texts.ids.numel() >= 200
    assert int(first.spans[-1]) == first.texts.ids.numel()


def test_targets_are_the_teachers_vectors_of_segments(
    teacher: EmbeddingModel, long: LongTexts
) -> None:
    batch = long.join(long.held_out[:2], CPU)
    parts, whole = long_targets(teacher, batch)
    bounds = itertools.pairwise(batch.segments.cu_seqlens.tolist())
    alone = [batch.segments.ids[0, start:stop].tolist() for start, stop in bounds]
    torch.testing.assert_close(parts, teacher.embed_ids(alone).embeddings, atol=1e-4, rtol=0)
    count = len(long.held_out[0])
    mean = (parts[:count] * batch.tokens[:count, None]).sum(0)
    torch.testing.assert_close(whole[0], F.normalize(mean, dim=0), atol=1e-5, rtol=0)


def test_vectors_of_parts_are_those_of_embed_spans(
    student: EmbeddingModel, long: LongTexts
) -> None:
    batch = long.join(long.held_out[:2], CPU)
    with torch.no_grad():
        parts, whole = long_vectors(student.eval(), batch)
        spans = student.embed_spans(*batch.texts, batch.spans).embeddings[batch.inner]
        texts_alone = student(batch.texts.ids, cu_seqlens=batch.texts.cu_seqlens).embeddings
    torch.testing.assert_close(parts, spans, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole, texts_alone, atol=1e-5, rtol=0)


def test_updates_bring_parts_and_wholes_nearer(
    teacher: EmbeddingModel, student: EmbeddingModel, long: LongTexts
) -> None:
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    cosines = []
    for _ in range(8):
        optimizer.zero_grad()
        cosines.append(long_gradients(student, teacher, long.batch(0, 200, CPU)))
        optimizer.step()
    assert cosines[-1] > cosines[0]
    position = student.encoder.positions
    assert position is not None
    found = measure_long(teacher, student.eval(), long)
    assert sum(value["texts"] for value in found.values()) == len(long.held_out)
    assert all(-1.0 <= value["whole"] <= 1.0 for value in found.values())


def plan_of(teacher: EmbeddingModel, reads: int, **changes: object) -> list[int | None]:
    assert teacher.tokenizer is not None
    found = TrainingTexts(texts(60), teacher.tokenizer, LONGEST, 0, False, reads)
    request = Request(Path("m"), "m", Path("o"), **changes)  # type: ignore[arg-type]
    config = dataclasses.replace(teacher.config, pooling="mean")
    wanted = LONG_SHARES if reads > LONGEST else SHARES
    assert shares_of(config, found) == wanted
    return make_plan(request, config, found).steps


def test_a_stage_for_long_texts_where_there_are_any(teacher: EmbeddingModel) -> None:
    assert plan_of(teacher, READS) == [None, None, None]
    assert plan_of(teacher, LONGEST) == [None, None, 0]
    assert plan_of(teacher, READS, steps=(5, 4, 3)) == [5, 4, 3]
    with pytest.raises(ConfigError, match="asks for 3 updates on long texts, but no text has more"):
        plan_of(teacher, LONGEST, steps=(5, 4, 3))


def test_other_pooling_has_no_vectors_of_parts(teacher: EmbeddingModel) -> None:
    assert teacher.tokenizer is not None
    found = TrainingTexts(texts(60), teacher.tokenizer, LONGEST, 0, False, READS)
    config = dataclasses.replace(teacher.config, pooling="cls")
    assert shares_of(config, found) == SHARES
    request = Request(Path("m"), "m", Path("o"), steps=(1, 1, 1))
    with pytest.raises(ConfigError, match="with cls pooling the parts of a text have no vectors"):
        make_plan(request, config, found)
