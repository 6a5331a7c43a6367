"""Clients of text-embeddings-inference and of Hugging Face's endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import TEXTS, same

Load = Callable[[str], Any]


def test_inference_client(load: Load, url: str, vectors: np.ndarray) -> None:
    hub = load("huggingface_hub")
    for address in (url, f"{url}/embed"):
        bound = hub.InferenceClient(address)
        same(bound.feature_extraction(TEXTS), vectors)
        options = {"normalize": True, "truncate": True, "truncation_direction": "Right"}
        same(bound.feature_extraction(TEXTS[0], **options), vectors[:1])
    scores = hub.InferenceClient(f"{url}/similarity").sentence_similarity(
        TEXTS[0], other_sentences=TEXTS[1:]
    )
    np.testing.assert_allclose(scores, vectors[1:] @ vectors[0], atol=1e-6)


def test_inference_client_async(load: Load, url: str, vectors: np.ndarray) -> None:
    hub = load("huggingface_hub")

    async def embed() -> Any:
        async with hub.AsyncInferenceClient(url) as bound:
            return await bound.feature_extraction(TEXTS)

    same(asyncio.run(embed()), vectors)


def test_inference_client_understands_our_errors(load: Load, url: str) -> None:
    hub = load("huggingface_hub")
    with pytest.raises(load("huggingface_hub.errors").HfHubHTTPError, match="unknown prompt"):
        hub.InferenceClient(url).feature_extraction("a", prompt_name="none")


def test_langchain(load: Load, url: str, vectors: np.ndarray) -> None:
    """Its constructor takes names of repositories only; its inner client takes an address."""
    embeddings = load("langchain_huggingface").HuggingFaceEndpointEmbeddings(model="any/name")
    embeddings.client = load("huggingface_hub").InferenceClient(url)
    same(embeddings.embed_documents(TEXTS), vectors)
    same(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_llama_index(load: Load, url: str, vectors: np.ndarray) -> None:
    embedding = load("llama_index.embeddings.text_embeddings_inference").TextEmbeddingsInference(
        model_name="osa-default", base_url=url
    )
    same(embedding.get_text_embedding_batch(TEXTS), vectors)
    same(embedding.get_query_embedding(TEXTS[0]), vectors[0])


def test_haystack(load: Load, url: str, vectors: np.ndarray) -> None:
    """It sends ``normalize: false`` unless told otherwise."""
    haystack = load("haystack")
    embedders = load("haystack_integrations.components.embedders.huggingface_api")
    options = {"api_type": "text_embeddings_inference", "api_params": {"url": url}}
    single = embedders.HuggingFaceAPITextEmbedder(**options).run(TEXTS[0])["embedding"]
    np.testing.assert_allclose(single / np.linalg.norm(single), vectors[0], atol=1e-6)
    documents = [haystack.Document(content=text) for text in TEXTS]
    embedder = embedders.HuggingFaceAPIDocumentEmbedder(
        **options, normalize=True, progress_bar=False
    )
    same([document.embedding for document in embedder.run(documents)["documents"]], vectors)


def test_litellm(
    load: Load, url: str, vectors: np.ndarray, only_this_machine: list[object]
) -> None:
    """After the answer it asks the hub for the model's price, and works without it."""
    answer = load("litellm").embedding(
        model="huggingface/any", input=TEXTS, api_base=url, api_key="any", input_type="embed"
    )
    same([entry["embedding"] for entry in answer.data], vectors)
    assert set(only_this_machine) == {"huggingface.co"}
    only_this_machine.clear()
