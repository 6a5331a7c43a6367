"""Clients that rerank, of text-embeddings-inference's form and of Cohere's and Jina's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Load = Callable[[str], Any]
QUERY = "the cat"
TEXTS = ["a dog sat", "the cat sat", "a cat"]


@pytest.fixture(scope="session")
def ranks(url: str) -> list[dict[str, Any]]:
    """What ``/rerank`` answers, the most relevant first."""
    answer = httpx.post(f"{url}/rerank", json={"query": QUERY, "texts": TEXTS})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.fixture(scope="session")
def order(ranks: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Indices and scores, the most relevant first."""
    return [(rank["index"], rank["score"]) for rank in ranks]


def test_cohere(load: Load, url: str, order: list[tuple[int, float]]) -> None:
    cohere = load("cohere")
    for kind in (cohere.Client, cohere.ClientV2):  # /v1/rerank, /v2/rerank
        client = kind(api_key="any", base_url=url)
        answer = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=2)
        assert [(one.index, one.relevance_score) for one in answer.results] == order[:2]
        assert answer.meta.tokens.input_tokens > 0
    whole = cohere.Client(api_key="any", base_url=url).rerank(
        model="any",
        query=QUERY,
        documents=[{"text": text} for text in TEXTS],
        return_documents=True,
        rank_fields=["text"],
    )
    assert [one.document.text for one in whole.results] == [TEXTS[index] for index, _ in order]


def test_cohere_understands_our_errors(load: Load, url: str) -> None:
    cohere = load("cohere")
    with pytest.raises(cohere.errors.BadRequestError, match="query is empty"):
        cohere.ClientV2(api_key="any", base_url=url).rerank(model="any", query="", documents=TEXTS)


def test_maxkb_reads_documents_of_the_second_version(
    load: Load, url: str, order: list[tuple[int, float]]
) -> None:
    """It asks ``cohere.ClientV2`` for no documents, and reads ``document["text"]``."""
    client = load("cohere").ClientV2("any", base_url=url)
    answer = client.rerank(model="any", query=QUERY, documents=TEXTS)
    found = [one.document.get("text") for one in answer.results]
    assert found == [TEXTS[index] for index, _ in order]


def test_langchain_cohere(load: Load, url: str, order: list[tuple[int, float]]) -> None:
    documents = [load("langchain_core.documents").Document(text) for text in TEXTS]
    ranker = load("langchain_cohere").CohereRerank(
        model="any", base_url=url, cohere_api_key="any", top_n=2
    )
    found = ranker.compress_documents(documents, QUERY)
    assert [one.page_content for one in found] == [TEXTS[index] for index, _ in order[:2]]
    assert [one.metadata["relevance_score"] for one in found] == [score for _, score in order[:2]]


def test_langchain_jina(
    load: Load, url: str, order: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is a constant of its module."""
    module = load("langchain_community.document_compressors.jina_rerank")
    monkeypatch.setattr(module, "JINA_API_URL", f"{url}/v1/rerank")
    ranker = module.JinaRerank(jina_api_key="any")
    found = ranker.rerank(TEXTS, QUERY)
    assert [(one["index"], one["relevance_score"]) for one in found] == order
    with pytest.raises(RuntimeError, match="query is empty"):
        ranker.rerank(TEXTS, "")


def test_llama_index_tei(load: Load, url: str, order: list[tuple[int, float]]) -> None:
    schema = load("llama_index.core.schema")
    ranker = load("llama_index.postprocessor.tei_rerank").TextEmbeddingInference(
        base_url=url, top_n=2
    )
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    found = ranker.postprocess_nodes(nodes, query_str=QUERY)
    assert [(one.node.text, one.score) for one in found] == [
        (TEXTS[index], score) for index, score in order[:2]
    ]


@pytest.mark.parametrize(
    ("module", "name", "suffix"),
    [
        ("llama_index.postprocessor.jinaai_rerank", "JinaRerank", "/v1"),
        ("llama_index.postprocessor.cohere_rerank", "CohereRerank", ""),
    ],
)
def test_llama_index(
    load: Load, url: str, order: list[tuple[int, float]], module: str, name: str, suffix: str
) -> None:
    schema = load("llama_index.core.schema")
    ranker = getattr(load(module), name)(base_url=url + suffix, api_key="any", top_n=2)
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    found = ranker.postprocess_nodes(nodes, query_str=QUERY)
    assert [(one.node.text, one.score) for one in found] == [
        (TEXTS[index], score) for index, score in order[:2]
    ]


@pytest.mark.parametrize("raw", [False, True])
def test_haystack(load: Load, url: str, order: list[tuple[int, float]], raw: bool) -> None:
    document = load("haystack").Document
    ranker = load("haystack_integrations.components.rankers.huggingface_api").HuggingFaceTEIRanker(
        url=url, top_k=2, raw_scores=raw
    )
    found = ranker.run(query=QUERY, documents=[document(content=text) for text in TEXTS])
    documents = found["documents"]
    assert [one.content for one in documents] == [TEXTS[index] for index, _ in order[:2]]
    assert ([one.score for one in documents] == [score for _, score in order[:2]]) is not raw


@pytest.mark.parametrize(
    ("provider", "returned"),
    [
        ("huggingface", True),
        ("hosted_vllm", True),
        ("jina_ai", True),
        ("cohere", True),
        ("infinity", False),
    ],
)
def test_litellm(
    load: Load,
    url: str,
    order: list[tuple[int, float]],
    only_this_machine: list[object],
    provider: str,
    returned: bool,
) -> None:
    """Infinity's documents are strings, those of all others objects: it can have none of ours."""
    answer = load("litellm").rerank(
        model=f"{provider}/any",
        query=QUERY,
        documents=TEXTS,
        top_n=3,
        return_documents=returned,
        api_base=url,
        api_key="any",
    )
    assert [(one["index"], one["relevance_score"]) for one in answer.results] == order
    if returned:
        found = [one["document"]["text"] for one in answer.results]
        assert found == [TEXTS[index] for index, _ in order]
    only_this_machine.clear()  # it asks for prices of models


def test_litellm_async(load: Load, url: str, order: list[tuple[int, float]]) -> None:
    answer = asyncio.run(
        load("litellm").arerank(
            model="hosted_vllm/any", query=QUERY, documents=TEXTS, api_base=url, api_key="any"
        )
    )
    assert [(one["index"], one["relevance_score"]) for one in answer.results] == order


def test_bodies_of_applications(url: str, order: list[tuple[int, float]]) -> None:
    """What Dify, RAGFlow, Open WebUI and Continue post, and the fields that they read."""
    dify = httpx.post(
        f"{url}/rerank", json={"query": QUERY, "texts": TEXTS, "return_text": True}
    ).json()
    assert [(one["index"], one["text"], one["score"]) for one in dify] == [
        (index, TEXTS[index], score) for index, score in order
    ]
    ragflow = {"query": QUERY, "texts": TEXTS, "raw_scores": False, "truncate": True}
    found = httpx.post(f"{url}/rerank", json=ragflow).json()
    assert [(one["index"], one["score"]) for one in found] == order
    documents = {"model": "any", "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    words = {"return_documents": "true", "return_len": "true"}
    chunks = {"return_documents": False, "max_chunks_per_doc": 1024, "overlap_tokens": 80}
    for path, more in (("/rerank", {}), ("/v1/rerank", words), ("/v1/rerank", chunks)):
        answer = httpx.post(f"{url}{path}", json={**documents, **more}).json()
        assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == order
        tokens = answer["meta"]["tokens"]
        assert tokens["input_tokens"] + tokens["output_tokens"] == answer["usage"]["total_tokens"]
    continued = {
        "query": QUERY, "return_text": False, "raw_scores": False, "texts": TEXTS,
        "truncation_direction": "Right", "truncate": True,
    }  # fmt: skip
    found = httpx.post(f"{url}/rerank", json=continued).json()
    assert [(one["index"], one["score"]) for one in found] == order
    assert "reranker" in httpx.get(f"{url}/info").json()["model_type"]
