"""``/embed`` and ``/info`` on a real socket with the model that ships."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from osa.model import EmbeddingModel

RELATED = ["A man is playing a guitar.", "Someone plays an acoustic guitar."]
STRANGER = "The stock market fell sharply on Tuesday."


def embed(client: httpx.Client, **body: object) -> np.ndarray:
    response = client.post("/embed", json=body)
    assert response.status_code == 200, response.text
    return np.array(response.json(), dtype=np.float64)


def test_three_sentences_give_unit_vectors_with_the_related_pair_nearest(
    client: httpx.Client,
) -> None:
    vectors = embed(client, inputs=[*RELATED, STRANGER])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    similar = vectors @ vectors.T
    assert similar[0, 1] > max(similar[0, 2], similar[1, 2]) + 0.2


def test_one_text_answers_a_list_of_one_vector(client: httpx.Client) -> None:
    assert embed(client, inputs=STRANGER).shape == (1, 384)


def test_ids_are_taken_as_they_are(client: httpx.Client, default_model: EmbeddingModel) -> None:
    assert default_model.tokenizer is not None
    ids = [text.ids for text in default_model.tokenizer.encode(RELATED)]
    np.testing.assert_allclose(embed(client, inputs=ids), embed(client, inputs=RELATED), atol=1e-6)
    np.testing.assert_allclose(embed(client, inputs=ids[0]), embed(client, inputs=ids[:1]))


def test_vectors_are_those_of_the_python_interface(
    client: httpx.Client, serve: Callable[..., httpx.Client], default_model: EmbeddingModel
) -> None:
    texts = [*RELATED, STRANGER]
    expected = default_model.encode(texts).numpy()
    exact = embed(serve(model__dtype="float32"), inputs=texts)
    np.testing.assert_allclose(exact, expected, atol=5e-6)
    assert ((embed(client, inputs=texts) * expected).sum(axis=1) > 0.9998).all()


def test_raw_vectors_have_their_own_length(
    serve: Callable[..., httpx.Client], default_model: EmbeddingModel
) -> None:
    raw = embed(serve(model__dtype="float32"), inputs=RELATED, normalize=False)
    expected = default_model.encode(RELATED, normalize=False)
    np.testing.assert_allclose(raw, expected, rtol=1e-5, atol=1e-5)


def test_fewer_dimensions_are_normalised_again(client: httpx.Client) -> None:
    full, short = embed(client, inputs=RELATED), embed(client, inputs=RELATED, dimensions=128)
    assert short.shape == (2, 128)
    cut = full[:, :128]
    np.testing.assert_allclose(short, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    raw = embed(client, inputs=RELATED, dimensions=128, normalize=False)
    whole = embed(client, inputs=RELATED, normalize=False)
    np.testing.assert_allclose(raw, whole[:, :128], rtol=1e-5, atol=1e-5)


def test_numbers_are_printed_as_floats(client: httpx.Client) -> None:
    text = client.post("/embed", json={"inputs": "zero"}).text
    numbers = re.findall(r"[^\[\],]+", text)
    assert len(numbers) == 384
    assert all("." in number or "e" in number for number in numbers)


def test_headers_tell_tokens_truncation_and_time(client: httpx.Client) -> None:
    response = client.post(
        "/embed", json={"inputs": ["a cat", "dogs"]}, headers={"x-request-id": "abc"}
    )
    headers = response.headers
    assert headers["x-request-id"] == "abc"
    assert headers["x-compute-tokens"] == "7"
    assert headers["x-compute-characters"] == "9"
    assert headers["x-truncated-tokens"] == "0"
    for stage in ("total", "tokenization", "queue", "inference"):
        assert int(headers[f"x-{stage}-time"]) >= 0
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("length", [1, 2, 31, 64, 65, 511, 20_000])
def test_every_length_answers(client: httpx.Client, length: int) -> None:
    ids = [1000 + place % 25_000 for place in range(length)]
    (vector,) = embed(client, inputs=[ids])
    assert math.isclose(np.linalg.norm(vector), 1.0, abs_tol=1e-5)
    response = client.post("/embed", json={"inputs": [ids], "truncate": False})
    assert response.headers["x-compute-tokens"] == str(length)


def test_longer_inputs_are_cut_or_refused_as_asked(client: httpx.Client) -> None:
    limit = client.get("/info").json()["max_input_length"]
    text = "word " * (limit + 10)
    response = client.post("/embed", json={"inputs": text})
    assert response.headers["x-compute-tokens"] == str(limit)
    assert response.headers["x-truncated-tokens"] == "12"
    refused = client.post("/embed", json={"inputs": text, "truncate": False})
    assert refused.status_code == 422
    assert f"at most {limit}" in refused.json()["error"]
    ids = [2007] * (limit + 1)
    assert client.post("/embed", json={"inputs": ids, "truncate": False}).status_code == 422
    assert client.post("/embed", json={"inputs": ids}).headers["x-truncated-tokens"] == "1"


def test_the_cut_side_is_the_one_asked_for(
    serve: Callable[..., httpx.Client], client: httpx.Client
) -> None:
    words = ["alpha", "beta", "gamma", "delta"] * 20
    bound = serve(model__max_input_length=12)

    def truncated(direction: str) -> np.ndarray:
        return embed(bound, inputs=" ".join(words), truncation_direction=direction)

    np.testing.assert_allclose(
        truncated("Right"), embed(client, inputs=" ".join(words[:10])), atol=1e-6
    )
    np.testing.assert_allclose(
        truncated("left"), embed(client, inputs=" ".join(words[-10:])), atol=1e-6
    )


def test_batch_mates_change_nothing(client: httpx.Client) -> None:
    """Alone and with 63 others of mixed lengths, on both routes."""
    text = "The quick brown fox jumps over the lazy dog."
    others = ["word " * (1 + 7 * place % 190) for place in range(63)]
    alone = embed(client, inputs=text)[0]
    mixed = embed(client, inputs=[*others[:31], text, *others[31:]])[31]
    np.testing.assert_allclose(mixed, alone, rtol=0, atol=1e-6)
    answer = client.post("/v1/embeddings", json={"input": [*others[:31], text, *others[31:]]})
    np.testing.assert_allclose(answer.json()["data"][31]["embedding"], alone, rtol=0, atol=1e-6)


def test_requests_larger_than_a_batch_are_split(
    serve: Callable[..., httpx.Client], client: httpx.Client
) -> None:
    bound = serve(batching__max_batch_tokens=64, model__max_input_length=64)
    texts = [f"sentence number {place}" for place in range(100)]
    np.testing.assert_allclose(
        embed(bound, inputs=texts), embed(client, inputs=texts), rtol=0, atol=1e-6
    )


def test_info_tells_what_is_served_and_its_limits(client: httpx.Client) -> None:
    info = client.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["mixer"] == "osa"
    assert info["dimensions"][0] == 384
    assert info["max_input_length"] == 32768
    assert len(info["model_sha"]) == 64
    assert info["max_client_batch_size"] == 2048
