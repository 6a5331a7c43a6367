"""Routes find the model of their kind beside a default of another; what cannot serve is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file

from osa.model.errors import ConfigError, OsaError
from tests.head_models import make_head_model
from tests.transformer_models import MINILM, make

Serve = Callable[..., httpx.Client]


def test_embedding_routes_find_the_embedding_model_beside_a_reranker(
    serve: Serve, tmp_path: Path
) -> None:
    reranker = make_head_model(tmp_path / "reranker", "reranker")
    client = serve(model__path=reranker, model__others={"minilm": MINILM})
    text = {"inputs": "a cat"}
    assert len(client.post("/embed", json=text).json()[0]) == 384
    assert len(client.post("/embed_all", json=text).json()[0][0]) == 384
    assert client.post("/embed_chunks", json=text).status_code == 200
    sentences = {"inputs": {"source_sentence": "a cat", "sentences": ["a dog"]}}
    assert len(client.post("/similarity", json=sentences).json()) == 1
    assert client.post("/vertex", json={"instances": [text]}).status_code == 200
    ranked = client.post("/rerank", json={"query": "a cat", "texts": ["a dog", "a cat"]})
    assert len(ranked.json()) == 2


def test_a_prompt_that_fills_the_window_stops_the_start(serve: Serve) -> None:
    with pytest.raises(ConfigError, match=r"the prompt 'long' has 20 tokens, .* leaves 14 beside"):
        serve(
            model__path=MINILM,
            model__max_input_length=16,
            model__prompts={"long": "word " * 20, "short": "word "},
        )


def test_a_model_without_finite_values_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    reranker = tmp_path / "reranker"
    make(reranker, "bert", "ForSequenceClassification", num_labels=1)
    weights = load_file(reranker / "model.safetensors")
    weights["classifier.weight"].fill_(3e38)
    save_file(weights, reranker / "model.safetensors")
    with pytest.raises(OsaError, match="no finite value for any trial input"):
        serve(model__path=reranker)
