"""What becomes of texts on every route: prompts, special tokens, unknown tokens, mixed inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from osa.model import EmbeddingModel
from osa.model.config import Task
from osa.model.text.slices import SLICE
from osa.model.tokenization import TextTokenizer
from tests.head_models import make_head_model

SEP = "One sentence. [SEP] Another [PAD] one."
FOREIGN = (9906, 1917, 11, 420, 374, 264, 1296)
"""A sentence in OpenAI's cl100k_base: every id is one of the model's too."""
CLS, SEPARATOR, PAD = 101, 102, 0


def embed(client: httpx.Client, path: str = "/embed", **body: Any) -> np.ndarray:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), dtype=np.float32)


def ids_of(client: httpx.Client, text: str, **fields: Any) -> list[int]:
    (row,) = client.post("/tokenize", json={"inputs": text, **fields}).json()
    return [token["id"] for token in row]


@pytest.fixture(scope="module")
def ids(client: httpx.Client) -> list[int]:
    return ids_of(client, "A man is playing a guitar.")


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_the_left_side_of_a_text_is_cut_behind_its_prompt(
    serve: Callable[..., httpx.Client], client: httpx.Client, path: str
) -> None:
    prompts = {"query": "search query: ", "bare": "about"}
    bound = serve(model__max_input_length=12, model__prompts=prompts)
    text = " ".join(f"word{number}" for number in range(40))
    for name, prompt in prompts.items():
        whole = ids_of(client, prompt + text)
        head = ids_of(client, prompt, add_special_tokens=False)
        left = embed(bound, path, inputs=text, prompt_name=name, truncation_direction="left")
        kept = [CLS, *head, *whole[-1 - (10 - len(head)) : -1], SEPARATOR]
        np.testing.assert_array_equal(left, embed(client, inputs=kept))
        right = embed(bound, path, inputs=text, prompt_name=name)
        np.testing.assert_array_equal(right, embed(client, inputs=[*whole[:11], SEPARATOR]))
        asked = {"inputs": text, "prompt_name": name, "truncation_direction": "left"}
        told = bound.post(path, json=asked).headers
        assert int(told["x-truncated-tokens"]) == len(whole) - 12
        assert int(told["x-compute-characters"]) == len(prompt + text)


def test_a_prompt_is_put_before_texts_on_every_route_that_embeds_them(
    serve: Callable[..., httpx.Client], client: httpx.Client
) -> None:
    text, other, prompt = "A man is playing.", "Stocks fell.", "search query: "
    bound = serve(model__prompts={"query": prompt})
    wanted, far = embed(client, inputs=[prompt + text, prompt + other])
    name, tensor = {"prompt_name": "query"}, {"name": "text", "datatype": "BYTES", "shape": [1]}
    bodies: dict[str, dict[str, Any]] = {
        "/embed": {"inputs": text, **name},
        "/vertex": {"instances": [{"inputs": text}], "parameters": name},
        "/v1/embeddings": {"input": text, **name},
        "/v2/models/osa-default/infer": {"inputs": [{**tensor, "data": [text]}],
                                         "parameters": name},
        "/similarity": {"inputs": {"source_sentence": text, "sentences": [other]},
                        "parameters": name},
    }  # fmt: skip
    found = {path: bound.post(path, json=body).json() for path, body in bodies.items()}
    np.testing.assert_array_equal(np.float32(found["/embed"][0]), wanted)
    np.testing.assert_array_equal(np.float32(found["/vertex"]["predictions"][0][0]), wanted)
    openai = found["/v1/embeddings"]["data"][0]["embedding"]
    np.testing.assert_array_equal(np.float32(openai), wanted)
    kserve = found["/v2/models/osa-default/infer"]["outputs"][0]["data"]
    np.testing.assert_array_equal(np.float32(kserve), wanted)
    assert found["/similarity"][0] == pytest.approx(float(wanted @ far), abs=1e-5)
    for path, body in bodies.items():
        content = json.dumps(body).replace('"prompt_name": "query"', '"prompt_name": "no"')
        answer = bound.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), path
        assert "unknown prompt_name" in answer.text


def test_parameters_are_defaults_of_instances(client: httpx.Client) -> None:
    body = {
        "instances": [{"inputs": "a"}, {"inputs": "b", "dimensions": 128}],
        "parameters": {"dimensions": 128, "truncation_direction": "LEFT", "top_k": 3},
    }
    answer = client.post("/vertex", json=body)
    assert [len(row) for rows in answer.json()["predictions"] for row in rows] == [128, 128]
    body["instances"][1]["dimensions"] = 64  # type: ignore[index]
    assert "must share model and options" in client.post("/vertex", json=body).json()["error"]


def test_similarities_of_leading_dimensions(client: httpx.Client) -> None:
    texts = ["A man is playing.", "Stocks fell."]
    inputs = {"source_sentence": texts[0], "sentences": texts[1:]}
    first, second = embed(client, inputs=texts, dimensions=64)
    answer = client.post("/similarity", json={"inputs": inputs, "parameters": {"dimensions": 64}})
    assert answer.json()[0] == pytest.approx(float(first @ second), abs=1e-5)
    wrong = {"inputs": inputs, "parameters": {"dimensions": 1000}}
    assert client.post("/similarity", json=wrong).status_code == 422


def test_special_tokens_in_texts_are_text_unless_asked_for(client: httpx.Client) -> None:
    inner = ids_of(client, SEP)[1:-1]
    assert not {CLS, SEPARATOR, PAD} & set(inner)
    control = ids_of(client, SEP, parse_special_tokens=True)[1:-1]
    assert [number for number in control if number in (SEPARATOR, PAD)] == [SEPARATOR, PAD]
    plain = embed(client, inputs=[CLS, *inner, SEPARATOR])
    asked = embed(client, inputs=[CLS, *control, SEPARATOR])
    assert not np.array_equal(plain, asked)
    for path in ("/embed", "/", "/invocations"):
        np.testing.assert_array_equal(embed(client, path, inputs=SEP), plain)
        found = embed(client, path, inputs=SEP, parse_special_tokens=True)
        np.testing.assert_array_equal(found, asked)


def test_special_tokens_are_text_on_every_route(client: httpx.Client) -> None:
    plain, control = len(ids_of(client, SEP)), len(ids_of(client, SEP, parse_special_tokens=True))
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [SEP]}
    bodies: dict[str, dict[str, Any]] = {
        "/embed_all": {"inputs": SEP},
        "/embed_chunks": {"inputs": SEP},
        "/vertex": {"instances": [{"inputs": SEP}]},
        "/similarity": {"inputs": {"source_sentence": SEP, "sentences": [SEP]}},
        "/v2/models/osa-default/infer": {"inputs": [tensor]},
        "/v1/embeddings": {"input": SEP},
    }
    asked = {"parse_special_tokens": True}
    for path, body in bodies.items():
        texts = 2 if path == "/similarity" else 1
        count = client.post(path, json=body).headers["x-compute-tokens"]
        assert int(count) == texts * plain, path
        if path == "/v1/embeddings":
            continue  # OpenAI has no such field
        if path == "/vertex":
            body = {"instances": [{"inputs": SEP, **asked}]}
        elif path in ("/similarity", "/v2/models/osa-default/infer"):
            body |= {"parameters": asked}
        else:
            body |= asked
        count = client.post(path, json=body).headers["x-compute-tokens"]
        assert int(count) == texts * control, path


@pytest.mark.parametrize(
    ("task", "path", "body"),
    [
        ("reranker", "/rerank", {"query": "a [SEP] cat", "texts": ["the [SEP]"]}),
        ("reranker", "/predict", {"inputs": ["a [SEP] cat", "the [SEP]"]}),
        ("sparse", "/embed_sparse", {"inputs": "a [SEP] cat [SEP]"}),
    ],
)
def test_special_tokens_are_text_for_models_with_a_head(
    serve: Callable[..., httpx.Client], tmp_path: Path, task: Task, path: str, body: dict[str, Any]
) -> None:
    model = EmbeddingModel.from_pretrained(make_head_model(tmp_path, task))
    assert model.tokenizer is not None
    library = Tokenizer.from_str(model.tokenizer.to_json())
    library.add_special_tokens(["[SEP]"])
    model.tokenizer = TextTokenizer.from_json(library.to_str().encode())
    model.save_pretrained(tmp_path / "marked")
    client = serve(model__path=tmp_path / "marked")
    counts = []
    for asked in ({}, {"parse_special_tokens": True}):
        answer = client.post(path, json=body | asked)
        assert answer.status_code == 200, answer.text
        counts.append(int(answer.headers["x-compute-tokens"]))
    assert counts[0] == counts[1] + 4, "as text, each is a word between two brackets"


def test_unknown_tokens_are_told_and_counted(client: httpx.Client) -> None:
    def total() -> float:
        lines = client.get("/metrics").text.splitlines()
        (line,) = [one for one in lines if one.startswith("osa_unknown_tokens_total{")]
        return float(line.rpartition(" ")[2])

    before = total()
    answer = client.post("/embed", json={"inputs": ["🙂🙃", "a 🙂 cat", "a cat"]})
    assert answer.status_code == 200
    assert answer.headers["x-unknown-tokens"] == "2"
    assert client.post("/embed", json={"inputs": "a cat"}).headers["x-unknown-tokens"] == "0"
    chunks = client.post("/embed_chunks", json={"inputs": "🙂 cat"})
    assert chunks.headers["x-unknown-tokens"] == "1"
    lines = client.post(
        "/embed", json={"inputs": ["🙂"]}, headers={"accept": "application/x-ndjson"}
    )
    assert lines.headers["x-unknown-tokens"] == "1"
    assert client.post("/v1/embeddings", json={"input": "🙂"}).headers["x-unknown-tokens"] == "1"
    assert total() == before + 5


MIXED: dict[str, tuple[str, Callable[[Any], list[Any]]]] = {
    "/embed": ("inputs", lambda answer: answer),
    "/": ("inputs", lambda answer: answer),
    "/invocations": ("inputs", lambda answer: answer),
    "/v1/embeddings": ("input", lambda answer: [row["embedding"] for row in answer["data"]]),
    "/embeddings": ("input", lambda answer: [row["embedding"] for row in answer["data"]]),
    "/embed_all": ("inputs", lambda answer: [row[0] for row in answer]),
}


@pytest.mark.parametrize("path", MIXED)
def test_texts_and_ids_may_be_mixed_in_any_order(
    client: httpx.Client, ids: list[int], path: str
) -> None:
    field, read = MIXED[path]
    parts = ["a cat", ids, "dogs", [CLS, 2158, SEPARATOR], ids]
    answer = client.post(path, json={field: parts})
    assert answer.status_code == 200, answer.text
    alone = [read(client.post(path, json={field: [part]}).json())[0] for part in parts]
    np.testing.assert_array_equal(np.array(read(answer.json())), np.array(alone))
    wrong = client.post(path, json={field: ["a cat", ids, [99_999]]})
    assert "input 2 holds id 99999" in wrong.text
    assert "got a string" in client.post(path, json={field: [ids, ["a"]]}).text


def test_every_text_has_a_vector_where_one_is_as_long_as_a_slice_with_its_prompt(
    serve: Callable[..., httpx.Client],
) -> None:
    bound = serve(model__prompts={"query": "query: "})
    for length in (SLICE - 6, SLICE):
        texts = [("ab " * SLICE)[:length], "a cat"]
        found = embed(bound, inputs=texts, prompt_name="query")
        assert len(found) == 2
        np.testing.assert_array_equal(found[1:], embed(bound, inputs=["query: a cat"]))


def test_instances_may_be_mixed_and_a_prompt_goes_before_texts_alone(
    serve: Callable[..., httpx.Client], client: httpx.Client, ids: list[int]
) -> None:
    instances = [{"inputs": "a cat"}, {"inputs": [ids, "dogs"]}]
    found = client.post("/vertex", json={"instances": instances}).json()["predictions"]
    np.testing.assert_array_equal(
        np.concatenate(found).astype(np.float32), embed(client, inputs=["a cat", ids, "dogs"])
    )
    bound = serve(model__prompts={"query": "query: "})
    mixed = embed(bound, inputs=["a cat", ids], prompt_name="query")
    np.testing.assert_array_equal(mixed, embed(client, inputs=["query: a cat", ids]))
    alone = bound.post("/embed", json={"inputs": [ids], "prompt_name": "query"})
    assert alone.status_code == 422


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/embed_all"])
def test_ids_of_another_vocabulary_are_refused_where_they_can_be_told(
    client: httpx.Client, ids: list[int], path: str
) -> None:
    field = "input" if "v1" in path else "inputs"
    message = "input 1 holds id 11, which this model's tokenizer gives for no text"
    answer = client.post(path, json={field: [ids, list(FOREIGN)]})
    assert answer.status_code == (400 if "v1" in path else 422)
    assert message in answer.text
    assert "tokens of another model? Send texts" in answer.text
    over = client.post(path, json={field: [15339, 100_257]})
    assert "holds id 100257, allowed are 0 to 30521: are these tokens of another" in over.text
    tensor = {"name": "input_ids", "datatype": "INT64", "shape": [1, 7], "data": list(FOREIGN)}
    assert client.post("/v2/models/osa-default/infer", json={"inputs": [tensor]}).is_client_error
