"""Retrieval metrics, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.quality import retrieval
from benchmarks.quality.chunk_encoders import teacher_strategies
from benchmarks.quality.long_documents import Haystack, Needle
from osa.model import EmbeddingModel
from tests.unit.benchmarks.quality.conftest import WORDS, page


def test_what_ranks_say() -> None:
    result = retrieval.ranking(torch.tensor([0, 1, 9, 10]))
    assert result.recall_at_1 == 25.0
    assert result.recall_at_10 == 75.0
    assert result.mrr_at_10 == pytest.approx(100 * (1 + 1 / 2 + 1 / 10) / 4)
    assert result.ndcg_at_10 == pytest.approx(100 * (1 + 0.63093 + 0.28906) / 4, abs=1e-2)
    queries = F.normalize(torch.eye(3) + 0.1, dim=-1)
    assert retrieval.ranks_of(queries, torch.eye(3), [0, 1, 2]).tolist() == [0, 0, 0]
    assert retrieval.ranks_of(queries, torch.eye(3), [1, 1, 0])[2] > 0


def test_the_best_chunk_finds_its_document() -> None:
    made = Haystack(600, [["a", "b"], ["c"]], [Needle("what", 0, 0)])
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, 0.0], "a b": [1.0, 1.0]}

    def encode(texts: list[str]) -> torch.Tensor:
        return torch.tensor([vectors.get(text, [1.0, 0.2]) for text in texts])

    strategies = teacher_strategies(encode, made.documents, [1, 2])
    lines = list(retrieval.long_rows("m", encode, strategies, made))
    assert lines[0].startswith("| 600 | m | its first 256 tokens | 100.0 | 100.0 | - |")
    assert lines[1].startswith("| 600 | m | chunks alone | 100.0 | 100.0 |")
    for few, line in enumerate(lines[2:], 1):
        name = f"{few} vectors a document, of chunks alone"
        assert line.startswith(f"| 600 | m | {name} | 100.0 | 100.0 | - |")


def test_a_document_is_as_good_as_the_best_of_its_vectors() -> None:
    scores = torch.tensor([[0.1, 0.7, 0.5], [0.2, 0.1, 0.5]])
    best = retrieval.best_of(scores, torch.tensor([0, 0, 1]))
    assert best.tolist() == [[pytest.approx(0.7), 0.5], [pytest.approx(0.2), 0.5]]


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
    options = ["--data", str(tmp_path), "--teacher", "--vectors", "3", "--lengths", "600", "9000"]
    assert retrieval.main([*options, "--output", str(tmp_path / "r.md")]) == 0
    text = (tmp_path / "r.md").read_text()
    assert text == capsys.readouterr().out
    assert str(tmp_path) not in text
    table = [line for line in text.splitlines() if line.startswith("| 600 |")]
    assert [line.split(" | ")[2] for line in table] == [
        "whole document",
        "late chunks", "3 vectors a document, of late chunks",
        "chunks alone", "3 vectors a document, of chunks alone",
        "its first 256 tokens",
        "chunks alone", "3 vectors a document, of chunks alone",
    ]  # fmt: skip
    assert "- 9000 tokens: 0 documents" in text
    assert {line.count("|") for line in table} == {10}
