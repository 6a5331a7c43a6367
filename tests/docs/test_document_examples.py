"""The examples of ``docs/documents.md`` run; Qdrant finds what comparing everything finds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from osa.model import EmbeddingModel
from osa.model.documents.document_vectors import DocumentVectors

PAGE = Path(__file__).parents[2] / "docs" / "documents.md"
THEMES = (
    "Cats sleep most of the day and hunt at night.",
    "Stock markets fell and investors sold their shares.",
    "The recipe takes two eggs, flour and a little butter.",
    "Rain and strong wind are expected at the coast.",
    "The orchestra played a symphony in the new hall.",
)


def blocks(first: str) -> list[str]:
    """Blocks of Python that begin with these words."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [str(block) for block in found if block.startswith(first)]


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def articles() -> list[str]:
    """Six texts of two themes each, one after the other; stocks are in the second and fifth."""
    pairs = [(0, 2), (1, 3), (4, 0), (2, 3), (4, 1), (3, 0)]
    return [" ".join([THEMES[one]] * 40 + [THEMES[other]] * 12) for one, other in pairs]


def test_a_text_of_two_parts_has_a_vector_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("from osa.model")
    names = run(code, {})
    document, text = names["document"], names["text"]
    assert isinstance(document, DocumentVectors)
    cats, stocks = names["model"].encode(["a pet that naps", "prices of shares"]).numpy()
    assert (document.vectors @ cats).argmax() == 0
    assert (document.vectors @ stocks).argmax() == 1
    start, end = document.ranges[1][-1]
    assert text[start:end].count("Stocks") > 40
    assert capsys.readouterr().out.count("(384,)") == 2


def test_qdrant_finds_documents_by_the_best_of_their_vectors(
    default_model: EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qdrant_client", reason="no Qdrant client: pip install qdrant-client")
    from osa.service.cli import main

    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": n + 10, "text": text}) for n, text in enumerate(articles())]
    Path("articles.jsonl").write_text("\n".join(lines) + "\n")
    options = ["--vectors-per-document", "4", "--chunk-tokens", "32"]
    assert main(["embed", "articles.jsonl", "--output", "vectors.parquet", *options]) == 0
    table = pq.read_table("vectors.parquet")
    assert table.num_rows > len(lines), "there are several vectors a document"
    (search,), (again,) = blocks("import pyarrow"), blocks("documents: dict")
    names = run(search, {})
    rows = np.array(table.column("embedding").to_pylist())
    scores = rows @ np.array(names["query"])
    own = np.array(table.column("id").to_pylist())
    wanted = sorted(((float(scores[own == one].max()), int(one)) for one in set(own)), reverse=True)
    assert {wanted[0][1], wanted[1][1]} == {11, 14}, "those that say something of stocks"
    ids = [one for _, one in wanted]
    assert [one for one, _ in names["found"]] == ids
    assert [score for _, score in names["found"]] == pytest.approx([s for s, _ in wanted], abs=1e-5)
    best = run(again, names)["best"]
    assert [point.id for point in best] == ids
    assert [point.score for point in best] == pytest.approx([s for s, _ in wanted], abs=1e-5)
    hit = names["groups"].groups[0].hits[0].payload
    text = articles()[hit["id"] - 10]
    spans = zip(hit["vector_starts"], hit["vector_ends"], strict=True)
    assert any("Stock" in text[start:end] for start, end in spans)


def test_the_best_documents_are_among_as_many_rows_as_the_page_says() -> None:
    generator = np.random.default_rng(0)
    for most in (1, 3, 8):
        own = np.repeat(np.arange(50), generator.integers(1, most + 1, 50))
        scores = generator.standard_normal(len(own))
        nearest = np.argsort(-scores)[: 9 * most + 1]
        best = sorted(set(own), key=lambda one: -scores[own == one].max())[:10]
        assert set(best) <= set(own[nearest])
