"""Routes of rerankers, classifiers and sparse models: forms, errors, sharing, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from osa.service.server.app import create_service
from tests.conftest import WORDS, local_settings, make_tiny_model, run_service
from tests.head_models import HEADS, LABELS, make_head_models

Serve = Callable[..., httpx.Client]
QUERY, TEXTS = "the cat", ["a dog", "the cat sat", "", "a cat"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An embedding model, the default, and one model of every other kind."""
    root = tmp_path_factory.mktemp("models")
    make_tiny_model().save_pretrained(root / "embedding")
    settings = local_settings(
        model__path=root / "embedding",
        model__others=make_head_models(root),
        batching__max_client_batch_size=64,
    )
    with run_service(create_service(settings), settings) as client:
        yield client


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: httpx.Client, path: str, **body: Any) -> tuple[int, str]:
    """Status and message."""
    answer = client.post(path, json=body)
    found = answer.json()
    return answer.status_code, str(found.get("message") or found["error"])


def tensor(name: str, texts: list[str]) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def test_rerank_takes_both_forms(served: httpx.Client) -> None:
    ranks = post(served, "/rerank", query=QUERY, texts=TEXTS, return_text=True)
    scores = [rank["score"] for rank in ranks]
    assert scores == sorted(scores, reverse=True)
    assert [rank["text"] for rank in ranks] == [TEXTS[rank["index"]] for rank in ranks]
    assert post(served, "/rerank", query=QUERY, texts=TEXTS, top_n=2) == [
        {"index": rank["index"], "score": rank["score"]} for rank in ranks[:2]
    ]
    raw = post(served, "/rerank", query=QUERY, texts=TEXTS, raw_scores=True)
    assert [rank["index"] for rank in raw] == [rank["index"] for rank in ranks]
    np.testing.assert_allclose(
        scores, [1 / (1 + np.exp(-rank["score"])) for rank in raw], atol=1e-7
    )
    documents = [TEXTS[0], {"text": TEXTS[1], "id": 7}, TEXTS[2], {"text": TEXTS[3]}]
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        found = post(served, path, query=QUERY, documents=documents, return_documents="true")
        results = found["results"]
        assert [(one["index"], one["relevance_score"]) for one in results] == [
            (rank["index"], rank["score"]) for rank in ranks
        ]
        assert {"text": TEXTS[1], "id": 7} in [one["document"] for one in results]
        assert found["model"] == "reranker"
        tokens = found["usage"]["total_tokens"]
        assert tokens == found["meta"]["tokens"]["input_tokens"] > len(TEXTS) * 2
        best = post(served, path, query=QUERY, documents=documents, top_n=2)["results"]
        assert [one["index"] for one in best] == [rank["index"] for rank in ranks[:2]]
        assert ("document" in best[0]) == (path == "/v2/rerank")


def test_fields_of_documents_and_their_length(served: httpx.Client) -> None:
    documents = [{"title": "the dog", "body": "a cat sat", "year": 2026}]
    joined = post(served, "/rerank", query=QUERY, texts=["the dog\na cat sat"])[0]["score"]
    asked = {"query": QUERY, "documents": documents, "rank_fields": ["title", "year", "body"]}
    found = post(served, "/v1/rerank", return_documents=True, **asked)["results"][0]
    assert found["relevance_score"] == joined
    assert found["document"] == {**documents[0], "text": "the dog\na cat sat"}
    assert refused(served, "/v1/rerank", query=QUERY, documents=documents) == (
        400,
        "documents[0] must have a text in text",
    )
    short = post(served, "/rerank", query=QUERY, texts=["a cat"])[0]["score"]
    cut = post(
        served, "/v2/rerank", query=QUERY, documents=["a cat sat on the dog"], max_tokens_per_doc=2
    )
    assert cut["results"][0]["relevance_score"] == short
    assert cut["results"][0]["document"] == {"text": "a cat sat on the dog"}


def test_maxsim_is_the_sum_of_the_largest_cosines(served: httpx.Client) -> None:
    tokens = [
        np.array(rows)
        for rows in post(served, "/embed_all", inputs=[QUERY, "a dog", "the cat"], normalize=True)
    ]
    expected = [float((tokens[0] @ text.T).max(1).sum()) for text in tokens[1:]]
    ranks = post(served, "/rerank", query=QUERY, texts=["a dog", QUERY], method="maxsim")
    assert [rank["index"] for rank in ranks] == [1, 0], "a text is the closest to itself"
    np.testing.assert_allclose([rank["score"] for rank in ranks], expected[::-1], atol=1e-5)
    np.testing.assert_allclose(ranks[0]["score"], len(tokens[0]), atol=1e-5)
    many = [" ".join(WORDS[4 + place % 8 :]) for place in range(60)]
    together = post(served, "/rerank", query=QUERY, texts=many, method="maxsim")
    for rank in together[::7]:
        alone = post(served, "/rerank", query=QUERY, texts=[many[rank["index"]]], method="maxsim")
        assert alone[0]["score"] == rank["score"], "the same bits alone"
    found = post(served, "/v1/rerank", query=QUERY, documents=["a dog", QUERY], method="maxsim")
    assert [one["relevance_score"] for one in found["results"]] == [one["score"] for one in ranks]


def test_predict_takes_a_text_a_pair_or_a_batch(served: httpx.Client) -> None:
    single = post(served, "/predict", inputs="the cat")
    assert {one["label"] for one in single} == set(LABELS)
    assert sum(one["score"] for one in single) == pytest.approx(1)
    assert single == sorted(single, key=lambda one: -one["score"])
    assert post(served, "/predict", inputs=["the cat"]) == single
    pair = post(served, "/predict", inputs=["the cat", "a dog"])
    batch = post(served, "/predict", inputs=[["the cat"], ["the cat", "a dog"], ["", "a dog"]])
    assert batch[:2] == [single, pair]
    raw = post(served, "/predict", inputs="the cat", raw_scores=True)
    powers = np.exp([one["score"] for one in raw])
    np.testing.assert_allclose(powers / powers.sum(), [one["score"] for one in single], atol=1e-6)
    (only,) = post(served, "/predict", inputs=["the cat", "a dog"], model="reranker")
    rank = post(served, "/rerank", query="the cat", texts=["a dog"])
    assert (only["label"], only["score"]) == ("relevant", rank[0]["score"])


def test_sparse_rows_are_the_weights_of_kserve_that_are_not_zero(served: httpx.Client) -> None:
    texts = ["the cat", "a dog sat"]
    path = "/v2/models/sparse/infer"
    (output,) = post(served, path, inputs=[tensor("text", texts)])["outputs"]
    assert (output["name"], output["shape"]) == ("weights", [2, len(WORDS)])
    dense = np.array(output["data"]).reshape(2, -1)
    for row, weights in zip(post(served, "/embed_sparse", inputs=texts), dense, strict=True):
        assert row == [
            {"index": index, "value": weights[index]} for index in np.flatnonzero(weights).tolist()
        ]


def test_kserve_gives_logits_of_texts_and_pairs(served: httpx.Client) -> None:
    path = "/v2/models/classifier/infer"
    inputs = [tensor("text", ["the cat", "a dog"]), tensor("text_pair", ["a dog", "the cat"])]
    (output,) = post(served, path, inputs=inputs, outputs=[{"name": "logits"}])["outputs"]
    pairs = [["the cat", "a dog"], ["a dog", "the cat"]]
    predicted = post(served, "/predict", inputs=pairs, raw_scores=True)
    by_label = [{one["label"]: one["score"] for one in row} for row in predicted]
    assert output["shape"] == [2, len(LABELS)]
    assert output["data"] == [row[label] for row in by_label for label in LABELS]
    facts = served.get("/v2/models/classifier").json()
    assert facts["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert "text_pair" in [one["name"] for one in facts["inputs"]]
    single = [tensor("text", ["the cat"]), tensor("text_pair", [])]
    assert refused(served, path, inputs=single)[0] == 400
    uneven = [tensor("text", ["the cat"]), tensor("text_pair", ["a", "b"])]
    assert refused(served, path, inputs=uneven) == (
        400,
        "text_pair must have as many texts as text, 1, got 2",
    )
    assert refused(served, path, inputs=inputs, outputs=[{"name": "embedding"}])[0] == 400


@pytest.mark.parametrize("task", HEADS)
def test_a_model_of_another_kind_is_refused_with_the_routes_it_has(
    served: httpx.Client, task: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/embed": {"inputs": "a"},
        "/embed_all": {"inputs": "a"},
        "/embed_chunks": {"inputs": "a"},
        "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["a"]}},
        "/v1/embeddings": {"input": "a"},
        "/rerank": {"query": "a", "texts": ["a"]},
        "/v1/rerank": {"query": "a", "documents": ["a"]},
        "/predict": {"inputs": "a"},
        "/embed_sparse": {"inputs": "a"},
    }
    own = {
        "reranker": {"/rerank", "/v1/rerank", "/predict"},
        "classifier": {"/predict"},
        "sparse": {"/embed_sparse"},
    }[task]
    for path, body in bodies.items():
        answer = served.post(path, json={**body, "model": task})
        if path in own:
            assert answer.status_code == 200, answer.text
            continue
        assert answer.status_code == (400 if path.startswith("/v1") else 424), path
        assert sorted(own)[-1] in answer.text
        if not path.startswith("/v1"):
            assert answer.json()["error_type"] == "Backend"
    status, message = refused(served, "/rerank", query="a", texts=["a"], model="osa-default")
    assert (status, "maxsim" in message) == (424, True)
    status, _ = refused(served, "/rerank", query="a", texts=["a"], model=task, method="maxsim")
    assert status == 424


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rerank", {"query": "a", "texts": []}, 400),
        ("/rerank", {"query": "", "texts": ["a"]}, 400),
        ("/rerank", {"query": "a"}, 422),
        ("/rerank", {"query": "a", "texts": ["a"] * 65}, 422),
        ("/rerank", {"query": "a", "texts": "a"}, 422),
        ("/rerank", {"query": "a", "texts": ["a"], "method": "bm25"}, 422),
        ("/rerank", {"query": "a", "documents": [3]}, 422),
        ("/rerank", {"query": "a", "documents": ["a"], "texts": ["a"]}, 422),
        ("/v1/rerank", {"query": "a", "documents": []}, 400),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": 0}, 400),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "return_documents": "yes"}, 400),
        ("/v2/rerank", {"documents": ["a"]}, 400),
        ("/predict", {"inputs": []}, 400),
        ("/predict", {"inputs": ""}, 400),
        ("/predict", {"inputs": [["a"], []]}, 400),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422),
        ("/predict", {"inputs": [["a"], "b"]}, 422),
        ("/predict", {"inputs": [["a"], ["b", 3]]}, 422),
        ("/predict", {"inputs": 3}, 422),
        ("/embed_sparse", {"inputs": [""]}, 400),
        ("/embed_sparse", {"inputs": "a", "prompt_name": "none"}, 422),
    ],
)
def test_bad_bodies_are_refused(
    served: httpx.Client, path: str, body: dict[str, Any], status: int
) -> None:
    answer = served.post(path, json=body)
    assert answer.status_code == status, answer.text
    expected = {"message", "detail"} if path.startswith("/v") else {"error", "error_type"}
    assert set(answer.json()) == expected
