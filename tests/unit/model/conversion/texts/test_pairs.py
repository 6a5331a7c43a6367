"""Pairs that rerankers learn on: of files, or sentences with passages of the texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from osa.model.common.progress import Progress
from osa.model.config import EncoderConfig, HeadConfig
from osa.model.conversion.request import Request
from osa.model.conversion.texts.pairs import (
    Pairing,
    cut_pairs,
    make_pairs,
    pairing_of,
    parts_and_rests,
)
from osa.model.conversion.texts.pieces import TrainingTexts
from osa.model.errors import ConfigError
from tests.unit.model.conversion.conftest import texts

RERANKER = HeadConfig(kind="classifier", labels=("relevant",))
CLASSIFIER = HeadConfig(kind="classifier", labels=("no", "yes"))
SPARSE = HeadConfig(kind="sparse")


def config_of(head: HeadConfig | None, token_types: int = 2) -> EncoderConfig:
    return EncoderConfig(vocab_size=500, token_types=token_types, mixer="softmax", head=head)


def request_of(*files: Path, pair_column: str = "") -> Request:
    return Request(Path("m"), "m", Path("o"), texts=files, column="query", pair_column=pair_column)


def test_right_near_and_other_passages_take_turns() -> None:
    found = [text for text in texts(60) if text.count(". ") >= 1]
    pairs = make_pairs(found, seed=0)
    assert len(pairs) == len(found)
    seconds = [second for _, second in pairs]
    own = [" ".join(pair) == text for pair, text in zip(pairs, found, strict=True)]
    whole = [sorted(f"{one} {other}".split()) == sorted(text.split())
             for (one, other), text in zip(pairs, found, strict=True)]  # fmt: skip
    assert all(whole[::3])
    assert sum(whole) <= len(whole[::3]) + 2, "others are of any text, seldom the same"
    assert any(own) or len(set(seconds)) > 10
    assert make_pairs(found, seed=0) == pairs


def test_short_texts_give_pairs_too() -> None:
    """Those of two sentences their halves; only where there are none their neighbours."""
    assert make_pairs(["One bird. It sings."], 0) == [("One bird.", "It sings.")]
    assert make_pairs(["one bird", "two rivers"], 0)[0] == ("one bird", "two rivers")
    assert len(make_pairs(["one bird"] * 9 + ["One bird. It sings. "] * 5, 0)) == 5
    long = "  First this. Here is the sentence that counts. And a third. Then a last."
    assert parts_and_rests([long])[0] == ["Here is the sentence that counts."]


def test_who_reads_pairs(tmp_path: Path) -> None:
    """A reranker does; a classifier if told which; none else."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"query": "a", "passage": "b"}\n{"query": "a"}\n{"query": "c", "passage": "d"}'
    )
    told = request_of(file, pair_column="passage")
    assert pairing_of(request_of(), config_of(RERANKER)) == Pairing(500)
    assert pairing_of(request_of(), config_of(RERANKER, 0)) == Pairing(0)
    assert pairing_of(request_of(), config_of(CLASSIFIER)) is None
    assert pairing_of(told, config_of(CLASSIFIER)) == Pairing(500, (("a", "b"), ("c", "d")))
    for head in (None, SPARSE):
        assert pairing_of(request_of(), config_of(head, 0)) is None
        with pytest.raises(ConfigError, match="--pair-column is of rerankers and classifiers"):
            pairing_of(told, config_of(head, 0))
    file.write_text('{"query": "a"}\n')
    with pytest.raises(ConfigError, match="the files hold no pairs"):
        pairing_of(told, config_of(RERANKER))


def test_ids_of_pairs_are_those_of_the_tokenizer(teacher: EmbeddingModel) -> None:
    tokenizer = teacher.tokenizer
    assert tokenizer is not None
    with Progress("", "", 1, enabled=False) as bar:
        (short, long) = sorted(
            cut_pairs([("a bird", "sings"), ("one", "river " * 500)], tokenizer, 64, 30522, 0, bar),
            key=len,
        )
    (wanted,) = tokenizer.encode_pairs([("a bird", "sings")], type_stride=30522)
    assert short.tolist() == wanted.ids
    assert max(wanted.ids) > 30522
    assert 16 < len(long) <= 64


def test_pairs_are_held_out_with_their_texts(teacher: EmbeddingModel) -> None:
    assert teacher.tokenizer is not None
    made = TrainingTexts(texts(200), teacher.tokenizer, 64, 0, False, pairing=Pairing(0))
    assert all(any(first in text for text in made.held_out) for first, _ in made.held_out_pairs)
    assert len(made.held_out_pieces) == len(made.held_out_pairs) > 0
    given = tuple((f"bird {k}", f"river {k}") for k in range(100))
    told = TrainingTexts([], teacher.tokenizer, 64, 0, False, pairing=Pairing(0, given))
    assert told.held_out_pairs == list(given[::20])
    assert len(told) == 95
