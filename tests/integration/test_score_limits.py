"""Rerankers, classifiers and sparse models: names, sharing, cache, deadlines, quotas, failures."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from tests.conftest import WORDS, make_tiny_model, wait_until
from tests.engines import POISON, FaultyEngine, GatedEngine
from tests.feature_model import save_feature_model
from tests.head_models import make_head_model

Serve = Callable[..., httpx.Client]
QUERY = "the cat"


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sample(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)", client.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_unknown_names_are_refused_where_several_models_rerank(
    serve: Serve, tmp_path: Path
) -> None:
    path = make_head_model(tmp_path, "reranker")
    client = serve(model__path=path, model__others=f"law={path}")
    asked = {"query": "the cat", "documents": ["a dog"]}
    assert client.post("/v1/rerank", json={"model": "other", **asked}).status_code == 404
    assert post(client, "/v1/rerank", model="law", **asked)["model"] == "law"
    assert post(client, "/rerank", model="other", **asked)["model"] == "osa-default"


def test_equal_pairs_are_computed_once_and_counted(serve: Serve, tmp_path: Path) -> None:
    client = serve(model__path=make_head_model(tmp_path, "reranker"), cache__max_bytes=1_000_000)
    first = post(client, "/rerank", query=QUERY, texts=["a dog"] * 5 + ["a cat"])
    assert len({rank["score"] for rank in first}) == 2
    label = '{model="osa-default"}'
    assert sample(client, f"osa_shared_inputs_total{label}") == 4
    assert sample(client, f"te_predict_count{label}") == 6
    assert sample(client, f"te_predict_success{label}") == 6
    assert sample(client, f"te_embed_count{label}") == 0
    assert post(client, "/rerank", query=QUERY, texts=["a dog"])[0]["score"] in [
        rank["score"] for rank in first
    ]
    assert sample(client, f"osa_cache_hits_total{label}") == 1
    assert sample(client, 'te_request_count{method="batch",model="osa-default"}') == 1


def test_cached_sparse_rows_are_whole(serve: Serve, tmp_path: Path) -> None:
    client = serve(model__path=make_head_model(tmp_path, "sparse"), cache__max_bytes=1_000_000)
    texts = ["the cat", "a dog", "the cat"]
    first = post(client, "/embed_sparse", inputs=texts)
    assert first[0] == first[2] != first[1]
    assert post(client, "/embed_sparse", inputs=texts) == first


@pytest.mark.parametrize("method", [None, "maxsim"])
def test_a_deadline_and_a_quota(serve: Serve, tmp_path: Path, method: str | None) -> None:
    path = make_head_model(tmp_path, "reranker")
    if method is not None:
        make_tiny_model().save_pretrained(path := tmp_path / "embedding")
    engine = GatedEngine(path)
    secret, entry = make_key("team", 60, admin=False)
    keys = tmp_path / "keys.toml"
    keys.write_text(entry)
    client = serve(engine, model__path=path, auth__keys_file=keys)
    client.headers["authorization"] = f"Bearer {secret}"
    body = {"query": QUERY, "texts": ["a dog", "a cat"], "method": method}
    with engine.holding(client, "/rerank", {**body, "texts": ["the dog"]}):
        late = client.post("/rerank", json=body, headers={"x-request-timeout-ms": "50"})
        assert late.status_code == 504
        wait_until(lambda: sample(client, 'te_queue_size{model="osa-default"}') == 0)
    answers = [client.post("/rerank", json=body) for _ in range(12)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429


def test_a_failing_text_fails_its_request_alone(serve: Serve, tmp_path: Path) -> None:
    path = make_head_model(tmp_path, "reranker")
    client = serve(FaultyEngine(path, "raise"), model__path=path)
    answers: list[httpx.Response] = []

    def ask(text: str) -> None:
        answers.append(client.post("/predict", json={"inputs": [["the cat", "a"], [text]]}))

    threads = [threading.Thread(target=ask, args=(text,)) for text in (WORDS[POISON], "a cat")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 500]
    failed = next(answer for answer in answers if answer.status_code == 500)
    assert failed.json()["error"].startswith("input 1")


def test_info_tells_the_kind_as_tei_does(serve: Serve, tmp_path: Path) -> None:
    expected: dict[str, Any] = {
        "reranker": {"reranker": {"id2label": {"0": "relevant"}, "label2id": {"relevant": 0}}},
        "classifier": {
            "classifier": {
                "id2label": {"0": "sad", "1": "glad", "2": "neither"},
                "label2id": {"sad": 0, "glad": 1, "neither": 2},
            }
        },
        "sparse": {"embedding": {"pooling": "splade"}},
    }
    for task, kind in expected.items():
        client = serve(model__path=make_head_model(tmp_path, task))
        assert client.get("/info").json()["model_type"] == kind
        assert client.get("/info").json()["batch_invariant"] is True


def test_prompts_do_not_apply_to_classifiers_on_any_route(serve: Serve, tmp_path: Path) -> None:
    client = serve(
        model__path=make_head_model(tmp_path, "classifier"),
        model__prompts={"document": "the dog "},
        model__default_prompt_name="document",
    )
    (labels,) = post(client, "/predict", inputs=[["a cat"]], raw_scores=True)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a cat"]}
    (logits,) = post(client, "/v2/models/osa-default/infer", inputs=[tensor])["outputs"]
    assert sorted(label["score"] for label in labels) == sorted(logits["data"])


def test_feature_models_are_not_among_those_that_rerank(serve: Serve, tmp_path: Path) -> None:
    client = serve(model__others=f"patches={save_feature_model(tmp_path)}")
    asked = {"model": "any", "query": QUERY, "documents": ["a dog"], "method": "maxsim"}
    assert post(client, "/v1/rerank", **asked)["model"] == "osa-default"


def test_the_query_is_no_text_of_the_limit(serve: Serve) -> None:
    client = serve(batching__max_client_batch_size=2)
    for count, status in ((2, 200), (3, 422)):
        asked = {"query": QUERY, "texts": ["a dog"] * count, "method": "maxsim"}
        answer = client.post("/rerank", json=asked)
        assert answer.status_code == status
    assert "3 inputs in one request, at most 2" in answer.json()["error"]
