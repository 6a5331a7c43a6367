"""Clients of OpenAI's protocol: its own SDK, and those built on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients.conftest import TEXTS, same

Load = Callable[[str], Any]
KEY = "any"


@pytest.fixture
def openai_client(load: Load, url: str) -> Any:
    openai = load("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as bound:
        yield bound


def test_openai(openai_client: Any, vectors: np.ndarray) -> None:
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = openai_client.embeddings.create(input=TEXTS, model="osa-default", **options)
        if options.get("encoding_format") != "base64":  # when requested, it is returned as received
            same([entry.embedding for entry in answer.data], vectors)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)
    assert [model.id for model in openai_client.models.list()] == ["osa-default"]


def test_openai_with_dimensions_as_mteb_sends_them(
    openai_client: Any, url: str, vectors: np.ndarray
) -> None:
    answer = openai_client.embeddings.create(
        input=TEXTS, model="m", dimensions=vectors.shape[1], encoding_format="float"
    )
    same([entry.embedding for entry in answer.data], vectors)
    smallest = min(httpx.get(f"{url}/info").json()["dimensions"])
    many = openai_client.embeddings.create(input=TEXTS * 100, model="m", dimensions=smallest)
    assert [entry.index for entry in many.data] == list(range(300))
    assert {len(entry.embedding) for entry in many.data} == {smallest}


def test_openai_understands_our_errors(load: Load, openai_client: Any) -> None:
    openai = load("openai")
    with pytest.raises(openai.BadRequestError, match=r"dimensions must be (1 to )?384") as refused:
        openai_client.embeddings.create(input="a", model="m", dimensions=500)
    assert (refused.value.param, refused.value.code) == ("dimensions", "validation")
    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.chat.completions.create(model="m", messages=[])
    assert missing.value.code == "not_found"


def test_openai_async(load: Load, url: str, vectors: np.ndarray) -> None:
    openai = load("openai")

    async def embed() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as bound:
            requests = (bound.embeddings.create(input=text, model="m") for text in TEXTS)
            return await asyncio.gather(*requests)

    same([answer.data[0].embedding for answer in asyncio.run(embed())], vectors)


def test_langchain(load: Load, url: str, vectors: np.ndarray) -> None:
    embeddings = load("langchain_openai").OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=KEY, model="m", check_embedding_ctx_length=False
    )
    same(embeddings.embed_documents(TEXTS), vectors)
    same(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_langchains_ids_of_another_vocabulary_are_refused(
    load: Load, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it sends ids of OpenAI's tokenizer, which would mean other words here."""
    tables = Path(load("litellm").__file__).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tables))
    embeddings = load("langchain_openai").OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=KEY, model="text-embedding-3-small", max_retries=0
    )
    with pytest.raises(load("openai").BadRequestError, match="allowed are 0 to 30521"):
        embeddings.embed_documents(["Incomprehensibilities, notwithstanding."])
    with pytest.raises(load("openai").BadRequestError, match="tokens of another model"):
        embeddings.embed_documents(["This is a test of the house."])  # every id is one of ours too


def test_llama_index(load: Load, url: str, vectors: np.ndarray) -> None:
    embedding = load("llama_index.embeddings.openai_like").OpenAILikeEmbedding(
        model_name="osa-default", api_base=f"{url}/v1", api_key=KEY
    )
    same(embedding.get_text_embedding_batch(TEXTS), vectors)
    same(embedding.get_query_embedding(TEXTS[0]), vectors[0])


def test_haystack(load: Load, url: str, vectors: np.ndarray) -> None:
    haystack, embedders = load("haystack"), load("haystack.components.embedders")
    options = {"api_base_url": f"{url}/v1", "model": "osa-default",
               "api_key": load("haystack.utils").Secret.from_token(KEY)}  # fmt: skip
    same(embedders.OpenAITextEmbedder(**options).run(TEXTS[0])["embedding"], vectors[0])
    documents = [haystack.Document(content=text) for text in TEXTS]
    embedder = embedders.OpenAIDocumentEmbedder(**options, progress_bar=False)
    same([document.embedding for document in embedder.run(documents)["documents"]], vectors)


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_litellm(load: Load, url: str, vectors: np.ndarray, provider: str) -> None:
    answer = load("litellm").embedding(
        model=f"{provider}/osa-default", input=TEXTS, api_base=f"{url}/v1", api_key=KEY
    )
    same([entry["embedding"] for entry in answer.data], vectors)
    assert answer.usage.prompt_tokens > len(TEXTS)
