"""``/embed_all`` and ``/embed_chunks``: documents encoded once, whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from osa.export.exporter import ExportOptions, export_model
from osa.model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.tokenization import TextTokenizer
from osa.service.batching import worker
from osa.service.batching.item import ItemResult
from osa.service.cli import main
from tests.conftest import ArtifactMaker, make_tiny_model

DOCUMENT = (
    "A man is playing a guitar on the stage. The crowd sings along.\n"
    "Stocks fell sharply on Tuesday. Investors sold shares of banks. "
) * 6


def post(client: httpx.Client, path: str, body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def test_the_mean_of_token_vectors_is_the_texts_own(client: httpx.Client) -> None:
    texts = ["A man is playing a guitar.", "Rain"]
    rows = post(client, "/embed_all", {"inputs": texts})
    tokens = post(client, "/tokenize", {"inputs": texts})
    assert [len(row) for row in rows] == [len(row) for row in tokens]
    means = unit(np.stack([np.mean(row, axis=0) for row in rows]))
    np.testing.assert_allclose(means, post(client, "/embed", {"inputs": texts}), atol=1e-5)
    short = post(client, "/embed_all", {"inputs": texts[0], "normalize": True, "dimensions": 64})
    assert np.array(short).shape[::2] == (1, 64)
    np.testing.assert_allclose(np.linalg.norm(short[0], axis=1), 1.0, atol=1e-5)


def test_token_vectors_have_the_same_bits_beside_other_requests(client: httpx.Client) -> None:
    alone = post(client, "/embed_all", {"inputs": "Rain"})
    together = post(client, "/embed_all", {"inputs": ["Rain", DOCUMENT]})
    assert together[0] == alone[0]


def test_chunks_are_pooled_from_the_whole_document(
    client: httpx.Client, default_model: EmbeddingModel
) -> None:
    body = {"inputs": DOCUMENT, "chunking": {"size": 50, "overlap": 10}, "return_text": True}
    (chunks,) = post(client, "/embed_chunks", body)
    assert default_model.tokenizer is not None
    (ids,) = [text.ids for text in default_model.tokenizer.encode([DOCUMENT])]
    states = default_model.embed_tokens(torch.tensor([ids]), cu_seqlens=cu_seqlens_of([len(ids)]))[
        1
    ]
    first = 0
    for chunk in chunks:
        stop = min(first + 50, len(ids) - 2)
        expected = states[0, 1 + first : 1 + stop].mean(0).detach().numpy()
        np.testing.assert_allclose(
            chunk["embedding"], unit(expected), atol=2e-3
        )  # served in bfloat16
        assert chunk["text"] == DOCUMENT[chunk["start"] : chunk["end"]]
        first = stop - 10
    assert chunks[-1]["end"] == len(DOCUMENT.rstrip())


def test_null_means_the_default(client: httpx.Client) -> None:
    body = {"inputs": DOCUMENT, "chunking": None, "normalize": None, "dimensions": None}
    assert post(client, "/embed_chunks", body) == post(
        client, "/embed_chunks", {"inputs": DOCUMENT}
    )


def test_sentences_find_the_part_that_answers(client: httpx.Client) -> None:
    text = "A man is playing a guitar on the stage. Stocks fell sharply on Tuesday."
    body = {"inputs": [text, "One."], "chunking": {"strategy": "sentences", "size": 12}}
    chunks, single = post(client, "/embed_chunks", body)
    assert [text[chunk["start"] : chunk["end"]] for chunk in chunks] == [
        "A man is playing a guitar on the stage.",
        "Stocks fell sharply on Tuesday.",
    ]
    assert len(single) == 1
    assert "text" not in single[0]
    (query,) = post(client, "/embed", {"inputs": "shares lost value"})
    scores = [np.dot(chunk["embedding"], query) for chunk in chunks]
    assert scores[1] > scores[0]


def test_spans_are_the_callers_own(client: httpx.Client) -> None:
    text = "Rain falls. Snow too."
    both = {"strategy": "spans", "spans": [[0, 11], [12, 21]]}
    (chunks,) = post(client, "/embed_chunks", {"inputs": text, "chunking": both})
    assert [(chunk["start"], chunk["end"]) for chunk in chunks] == [(0, 11), (12, 21)]
    each = {"strategy": "spans", "spans": [[[0, 11]], []]}
    rows = post(client, "/embed_chunks", {"inputs": [text, text], "chunking": each})
    assert [len(row) for row in rows] == [1, 0]
    assert rows[0][0] == chunks[0]


def test_a_chunk_of_the_whole_is_nearly_the_text(client: httpx.Client) -> None:
    """But for the special tokens, which belong to no chunk."""
    (chunks,) = post(client, "/embed_chunks", {"inputs": DOCUMENT, "chunking": {"size": 10_000}})
    assert len(chunks) == 1
    (whole,) = post(client, "/embed", {"inputs": DOCUMENT})
    assert np.dot(chunks[0]["embedding"], whole) > 0.99


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": []}, 400),
        ({"inputs": ""}, 400),
        ({"inputs": [1, 2]}, 422),
        ({"inputs": "a", "chunking": {"size": 0}}, 422),
        ({"inputs": "a", "chunking": {"size": 5, "overlap": 5}}, 422),
        ({"inputs": "a", "chunking": {"strategy": "pages"}}, 422),
        ({"inputs": "a", "chunking": {"strategy": "spans"}}, 422),
        ({"inputs": "a", "chunking": {"spans": [[0, 1]]}}, 422),
        ({"inputs": "a", "chunking": {"strategy": "spans", "spans": [[0, 2]]}}, 422),
        ({"inputs": "a", "chunking": {"strategy": "spans", "spans": [[0, True]]}}, 422),
        ({"inputs": ["a"], "chunking": {"strategy": "spans", "spans": []}}, 422),
        ({"inputs": "a", "chunking": {"unknown": 1}}, 422),
        ({"inputs": "a", "dimensions": 500}, 422),
    ],
)
def test_what_cannot_be_cut_is_refused(
    client: httpx.Client, body: dict[str, Any], status: int
) -> None:
    response = client.post("/embed_chunks", json=body)
    assert response.status_code == status
    assert response.json()["error_type"] == ("Empty" if status == 400 else "Validation")


@pytest.mark.parametrize("kind", ["onnx", "aoti", "torch-export"])
def test_artifacts_give_the_same_token_vectors(
    serve: Callable[..., httpx.Client], make_artifact: ArtifactMaker, kind: str
) -> None:
    checkpoint = make_artifact("onnx").parent / "checkpoint"
    source = serve(model__path=checkpoint, model__dtype="float32")
    other = serve(model__path=make_artifact(kind))
    body = {"inputs": ["the cat sat on the mat", "a dog"]}
    for expected, found in zip(
        post(source, "/embed_all", body), post(other, "/embed_all", body), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_chunks_before_a_projection_that_is_not_linear_are_refused_at_once(
    serve: Callable[..., httpx.Client], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph has it inside: the request is told, not the batch that it would have been in."""
    width = {"embedding_size": 8, "embedding_dense": True, "matryoshka_dims": ()}
    model = make_tiny_model(embedding_activation="tanh", **width)
    artifact = tmp_path / "artifact"
    export_model(model, artifact, ExportOptions("torch-export", "packed"))
    response = serve(model__path=artifact).post("/embed_chunks", json={"inputs": "the cat"})
    assert response.status_code == 422
    assert "before the model's non-linear projection" in response.json()["error"]
    (tmp_path / "texts.txt").write_text("the cat\n")
    command = ["embed", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "out.parquet")]
    assert main([*command, "--model", str(artifact), "--vectors-per-document", "2"]) == 2
    told = capsys.readouterr().err
    assert "--vectors-per-document: vectors of chunks are pooled before the model's non-lin" in told


def test_a_document_is_tokenised_once_and_its_token_vectors_stay_in_the_engine(
    serve: Callable[..., httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenised: list[int] = []
    results: list[ItemResult] = []
    iterate, deliver = TextTokenizer.iterate, worker.deliver

    def count(self: TextTokenizer, texts: Any, *rest: Any, **options: Any) -> Any:
        tokenised.append(len(texts))
        return iterate(self, texts, *rest, **options)

    def see(items: Any, found: Any) -> None:
        results.extend(found)
        deliver(items, found)

    client = serve()  # which has tokenised trial texts
    monkeypatch.setattr(TextTokenizer, "iterate", count)
    monkeypatch.setattr(TextTokenizer, "offsets", None)
    monkeypatch.setattr(worker, "deliver", see)
    body = {"inputs": [DOCUMENT, "Short."], "chunking": {"size": 16, "overlap": 4}}
    chunks = post(client, "/embed_chunks", body)
    assert tokenised == [2]
    assert all(result.token_vectors is None for result in results)
    assert [len(one.span_vectors) for one in results if one.span_vectors is not None] == [
        len(document) for document in chunks
    ]


def test_a_document_of_blanks_has_no_chunks(client: httpx.Client) -> None:
    chunks = post(client, "/embed_chunks", {"inputs": ["   ", "One sentence."]})
    assert [len(document) for document in chunks] == [0, 1]
