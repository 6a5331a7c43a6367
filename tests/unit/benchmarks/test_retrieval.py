"""The retrieval benchmark: what is looked for, how ranks count, and the command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.quality import retrieval
from benchmarks.quality.chunk_encoders import late_chunks, model_ways, teacher_ways
from benchmarks.quality.long_documents import CHUNK_TOKENS, Haystack, Needle, Page, haystack
from osa.model import EmbeddingModel

TEXT = """river stone cloud engine paper market window garden winter letter music bridge the a of
and in with under over near before after some every old new small"""
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel.from_pretrained()


def count(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def page(seed: int, paragraphs: int = 8) -> Page:
    generator = torch.Generator().manual_seed(seed)

    def sentence() -> str:
        picks = torch.randint(len(WORDS), (12,), generator=generator).tolist()
        return " ".join(WORDS[pick] for pick in picks).capitalize() + "."

    texts = (" ".join(sentence() for _ in range(6)) for _ in range(paragraphs))
    return Page("s", tuple(texts))


def test_a_query_is_taken_out_of_the_second_half() -> None:
    pages = [page(seed) for seed in range(4)]
    made = haystack(pages, 600, count, documents=3, needles=2)
    assert len(made.documents) == 3
    assert len(made.needles) == 6
    sources = {text: " ".join(item.paragraphs) for item in pages for text in item.paragraphs}
    for needle, place in zip(made.needles, made.places, strict=True):
        chunks = made.documents[needle.document]
        assert needle.query not in " ".join(chunks)
        (paragraph,) = [text for text in sources if text.startswith(needle.query)]
        rest = paragraph.removeprefix(needle.query).strip()
        assert rest[:40] in chunks[needle.chunk]
        assert sources[paragraph].index(paragraph) >= 0.4 * len(sources[paragraph])
        assert made.owners[place] == needle.document
    again = haystack(pages[::-1], 600, count, documents=3, needles=2)
    assert again == made, "the order of the file does not matter where nothing is joined"


def test_chunks_and_documents_keep_to_their_lengths() -> None:
    long, short = page(1, paragraphs=40), [page(seed, paragraphs=3) for seed in range(2, 9)]
    line = Page("t", (" ".join(page(9).paragraphs),))
    made = haystack([long, *short, line], 600, count, documents=9, needles=1)
    totals = [sum(count(chunks)) for chunks in made.documents]
    assert len(totals) == 3, "short pages of a source are laid end to end"
    assert all(0.7 * 600 <= total <= 600 for total in totals)
    sizes = [size for chunks in made.documents for size in count(chunks)]
    assert max(sizes) <= CHUNK_TOKENS
    assert not haystack([page(1, paragraphs=2)], 600, count, 9, 1).documents


def test_what_ranks_say() -> None:
    result = retrieval.ranking(torch.tensor([0, 1, 9, 10]))
    assert result.recall_at_1 == 25.0
    assert result.recall_at_10 == 75.0
    assert result.mrr_at_10 == pytest.approx(100 * (1 + 1 / 2 + 1 / 10) / 4)
    assert result.ndcg_at_10 == pytest.approx(100 * (1 + 0.63093 + 0.28906) / 4, abs=1e-2)
    queries = F.normalize(torch.eye(3) + 0.1, dim=-1)
    assert retrieval.ranks_of(queries, torch.eye(3), [0, 1, 2]).tolist() == [0, 0, 0]
    assert retrieval.ranks_of(queries, torch.eye(3), [1, 1, 0])[2] > 0


def test_late_chunks_add_up_to_the_document(model: EmbeddingModel) -> None:
    chunks = list(page(3).paragraphs)
    whole, vectors = late_chunks(model, chunks)
    expected = model.encode([" ".join(chunks)])[0]
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-4)
    assert vectors.shape == (len(chunks), model.config.output_size)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(chunks)))
    first, _ = late_chunks(model, chunks[:1])
    assert not torch.allclose(vectors[0], first, atol=1e-3), "a late chunk saw its document"


def test_documents_longer_than_the_model_are_read_in_windows(model: EmbeddingModel) -> None:
    chunks = list(page(3).paragraphs)
    narrow = EmbeddingModel(dataclasses.replace(model.config, max_seq_len=200), model.tokenizer)
    narrow.load_state_dict(model.state_dict())
    whole, vectors = late_chunks(narrow, chunks)
    assert len(vectors) == len(chunks)
    first, _ = late_chunks(model, chunks[:2])
    assert not torch.allclose(whole, first, atol=1e-3), "the other windows count too"


def test_the_best_chunk_finds_its_document() -> None:
    made = Haystack(600, [["a", "b"], ["c"]], [Needle("what", 0, 0)])
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, 0.0], "a b": [1.0, 1.0]}

    def encode(texts: list[str]) -> torch.Tensor:
        return torch.tensor([vectors.get(text, [1.0, 0.2]) for text in texts])

    lines = list(retrieval.long_rows("m", encode, teacher_ways(encode, made.documents), made))
    assert lines[0].startswith("| 600 | m | its first 256 tokens | 100.0 | 100.0 | - |")
    assert lines[1].startswith("| 600 | m | chunks alone | 100.0 | 100.0 |")


def test_the_command_writes_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"query": f"the {word}", "passage": f"all of a {word}"} for word in WORDS[:6]]
    records = [{"source": "s", "text": "\n".join(page(seed).paragraphs)} for seed in range(2)]
    for name, rows in (("pairs", pairs), ("documents", records)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"held_out_{name}.jsonl").write_text(lines)
    monkeypatch.setattr(
        retrieval, "teacher_encoder", lambda: EmbeddingModel.from_pretrained().encode
    )
    options = ["--data", str(tmp_path), "--teacher", "--lengths", "600", "9000"]
    assert retrieval.main([*options, "--output", str(tmp_path / "r.md")]) == 0
    text = (tmp_path / "r.md").read_text()
    assert text == capsys.readouterr().out
    assert str(tmp_path) not in text
    table = [line for line in text.splitlines() if line.startswith("| 600 |")]
    assert [line.split(" | ")[2] for line in table] == [
        "whole document", "late chunks", "chunks alone", "its first 256 tokens", "chunks alone",
    ]  # fmt: skip
    assert "- 9000 tokens: 0 documents" in text
    assert {line.count("|") for line in table} == {10}


def test_ways_of_a_model(model: EmbeddingModel) -> None:
    ways = list(model_ways(model, [list(page(1).paragraphs), list(page(2).paragraphs)]))
    shapes = [None if way.chunks is None else len(way.chunks) for way in ways]
    assert shapes == [None, 16, 16]
