"""The check that an answer is the vector of its text."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.serving.harness.system_under_test import AnswerChecker, IndistinguishableTexts
from benchmarks.serving.peers import PEERS
from tests.unit.benchmarks.serving.harness.conftest import corpus_of, unit_rows

OSA = PEERS["osa"]


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (lambda own, other: [own.tolist()], True),
        (lambda own, other: [(own + 5e-5).tolist()], True),
        (lambda own, other: [(own + 5e-4).tolist()], False),
        (lambda own, other: [other.tolist()], False),
        (lambda own, other: [own.tolist()[:-1]], False),
        (lambda own, other: [[None] * len(own)], False),
        (lambda own, other: [], False),
        (lambda own, other: {"error": "no"}, False),
    ],
    ids=["own", "near", "off", "another's", "short", "no numbers", "empty", "error"],
)
def test_only_a_texts_own_vector_passes(body: object, right: bool) -> None:
    vectors = unit_rows(4)
    check = AnswerChecker(OSA, corpus_of(vectors), 1e-4)
    assert callable(body)
    assert check(1, orjson.dumps(body(vectors[1], vectors[2]))) is right
    assert check.largest_error <= 1e-4


def test_what_is_no_json_does_not_pass() -> None:
    assert not AnswerChecker(OSA, corpus_of(unit_rows(2)), 1e-4)(0, b"<html>")


def test_texts_that_a_tolerance_cannot_tell_apart_are_refused() -> None:
    vectors = unit_rows(3)
    vectors[2] = vectors[0] + 1e-5
    with pytest.raises(IndistinguishableTexts, match="cannot distinguish"):
        AnswerChecker(OSA, corpus_of(vectors), 1e-4)
