"""Rerankers and classifiers of transformers, served: scores, bits, truncation."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SparseEncoder

from osa.service.server.app import create_service
from tests.conftest import local_settings, run_service
from tests.transformer_models import make

QUERY = "Which instruments does the man play?"
TEXTS = [
    "A man is playing a guitar.",
    "Stocks fell on Tuesday.",
    "",
    "The company reported higher profits than analysts had expected. " * 4,
    "Rain",
    "Someone plays music, and someone else listens to it in the rain. " * 2,
]
MAX_INPUT_LENGTH = 128


@pytest.fixture(scope="module", params=["bert", "roberta", "modernbert"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    make(path, request.param, "ForSequenceClassification", num_labels=1)
    if request.param == "roberta":  # its own tokenizers name no types of tokens
        file = path / "tokenizer_config.json"
        named = {"model_input_names": ["input_ids", "attention_mask"]}
        file.write_text(json.dumps({**json.loads(file.read_text()), **named}))
    return path


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[httpx.Client]:
    settings = local_settings(
        model__path=directory,
        model__dtype="float32",
        model__max_input_length=MAX_INPUT_LENGTH,
        batching__max_batch_tokens=400,
    )
    with run_service(create_service(settings), settings) as client:
        yield client


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def logits(client: httpx.Client, query: str, texts: list[str]) -> list[float]:
    """Logits in the order of the texts."""
    ranks = post(client, "/rerank", query=query, texts=texts, raw_scores=True)
    assert [rank["score"] for rank in ranks] == sorted((r["score"] for r in ranks), reverse=True)
    return [rank["score"] for rank in sorted(ranks, key=lambda rank: rank["index"])]


def test_scores_are_those_of_sentence_transformers(served: httpx.Client, directory: Path) -> None:
    peer = CrossEncoder(str(directory), device="cpu", max_length=MAX_INPUT_LENGTH)
    pairs = [(QUERY, text) for text in TEXTS]
    expected = peer.predict(pairs, activation_fn=torch.nn.Identity())
    assert np.ptp(expected) > 0.01, "else any order would do"
    np.testing.assert_allclose(logits(served, QUERY, TEXTS), expected, atol=1e-5)
    ranks = post(served, "/rerank", query=QUERY, texts=TEXTS, return_text=True)
    chances = peer.predict(pairs, activation_fn=torch.nn.Sigmoid())
    for rank in ranks:
        assert rank["text"] == TEXTS[rank["index"]]
        assert abs(rank["score"] - chances[rank["index"]]) < 1e-5


def test_a_pair_has_the_same_bits_alone_and_in_any_batch(served: httpx.Client) -> None:
    assert served.get("/info").json()["batch_invariant"] is True
    alone = {text: logits(served, QUERY, [text])[0] for text in TEXTS}
    generator = random.Random(1)
    for _ in range(20):
        texts = generator.choices(TEXTS, k=generator.randint(2, 40))
        assert logits(served, QUERY, texts) == [alone[text] for text in texts]
    predicted = post(served, "/predict", inputs=[[QUERY, text] for text in TEXTS], raw_scores=True)
    assert [row[0]["score"] for row in predicted] == list(alone.values())
    results = post(served, "/v1/rerank", query=QUERY, documents=TEXTS)["results"]
    ranks = post(served, "/rerank", query=QUERY, texts=TEXTS)
    assert [one["relevance_score"] for one in results] == [rank["score"] for rank in ranks]


def test_the_longer_text_is_cut_and_too_long_ones_are_refused(
    served: httpx.Client, directory: Path
) -> None:
    long = " ".join(f"word {number}" for number in range(200))
    peer = CrossEncoder(str(directory), device="cpu", max_length=MAX_INPUT_LENGTH)
    for query, text in ((QUERY, long), (long, "Rain"), (long, long)):
        expected = peer.predict([(query, text)], activation_fn=torch.nn.Identity())
        np.testing.assert_allclose(logits(served, query, [text]), expected, atol=1e-5)
    answer = served.post("/rerank", json={"query": QUERY, "texts": ["a", long], "truncate": False})
    assert answer.status_code == 422
    assert "input 1 has" in answer.json()["error"]
    left = post(
        served, "/rerank", query=QUERY, texts=[long], truncation_direction="Left", raw_scores=True
    )
    assert left[0]["score"] != logits(served, QUERY, [long])[0]


def test_labels_are_those_of_transformers(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    labels = {0: "sad", 1: "glad", 2: "neither"}
    model = make(
        tmp_path,
        "bert",
        "ForSequenceClassification",
        id2label=labels,
        label2id={label: place for place, label in labels.items()},
    )
    client = serve(model__path=tmp_path, model__dtype="float32")
    tokenizer = CrossEncoder(str(tmp_path), device="cpu").tokenizer
    for inputs in ("Rain fell.", ["Rain fell.", "The man played."]):
        parts = [inputs] if isinstance(inputs, str) else inputs
        with torch.no_grad():
            expected = model(**tokenizer(*parts, return_tensors="pt")).logits.softmax(-1)[0]
        found = post(client, "/predict", inputs=inputs)
        assert [one["score"] for one in found] == sorted((o["score"] for o in found), reverse=True)
        by_label = {one["label"]: one["score"] for one in found}
        for place, label in labels.items():
            assert abs(by_label[label] - float(expected[place])) < 1e-5


def test_sparse_weights_are_those_of_sentence_transformers(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    make(tmp_path / "model", "bert", "ForMaskedLM")
    peer = SparseEncoder(str(tmp_path / "model"), device="cpu")
    peer.save_pretrained(str(tmp_path / "splade"))
    client = serve(model__path=tmp_path / "splade", model__dtype="float32")
    texts = [text for text in TEXTS if text]
    expected = peer.encode(texts, convert_to_sparse_tensor=False)
    for weights, row in zip(post(client, "/embed_sparse", inputs=texts), expected, strict=True):
        found = torch.zeros(len(row))
        found[[one["index"] for one in weights]] = torch.tensor([one["value"] for one in weights])
        assert all(one["value"] > 0 for one in weights)
        torch.testing.assert_close(found, torch.as_tensor(row), atol=1e-5, rtol=0)
