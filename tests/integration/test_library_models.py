"""Models of other libraries, run by sentence-transformers: its vectors, on every route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import torch

from osa.model.errors import ConfigError, InputError
from osa.service.engines.sentence_transformers import SentenceTransformersEngine
from tests.library_models import KINDS, LONGEST, TEXTS, make_library_model, unit

LIBRARY = "sentence-transformers"
POOLINGS = {"electra": "cls", "qwen2": "last", "xlnet": "mean+max"}
WIDTHS = {"electra": 12, "xlnet": 32}
BATCHES = ([1], [1, 1], [16, 17], [5, 1, 64, 33], [64], [3] * 40)
Serve = Callable[..., httpx.Client]


class Case(NamedTuple):
    """A saved model, the library's own, and the engine on it."""

    kind: str
    directory: Path
    library: Any
    engine: SentenceTransformersEngine

    def encode(self, texts: list[str]) -> np.ndarray:
        """The library's vectors, each text alone."""
        found: np.ndarray = self.library.encode(texts, batch_size=1)
        return found

    def states(self, text: str) -> np.ndarray:
        """The library's vectors of a text's tokens [n, H]."""
        found: torch.Tensor = self.library.encode(text, output_value="token_embeddings")
        return found.numpy()


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp("library") / request.param
    library = make_library_model(directory, request.param)
    return Case(request.param, directory, library, SentenceTransformersEngine(directory, "cpu"))


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("library") / "albert"
    make_library_model(directory, "albert")
    return directory


def test_served_vectors_are_the_librarys(serve: Serve, case: Case) -> None:
    client = serve(
        model__path=case.directory, model__engine=LIBRARY, model__dtype="float32",
        batching__max_batch_tokens=case.engine.info.max_input_length,
    )  # fmt: skip
    expected = unit(case.encode(TEXTS))
    together = client.post("/embed", json={"inputs": TEXTS}).json()
    np.testing.assert_allclose(together, expected, atol=1e-5)
    for text, vector in zip(TEXTS, expected, strict=True):
        alone = client.post("/v1/embeddings", json={"input": text}).json()["data"][0]["embedding"]
        np.testing.assert_allclose(alone, vector, atol=1e-5)
    cut = client.post("/embed", json={"inputs": "the cat " * 200, "truncate": True}).json()
    if case.kind != "static":
        np.testing.assert_allclose(cut, unit(case.encode(["the cat " * 200])), atol=1e-5)
    width = WIDTHS.get(case.kind, 16)
    full = client.post("/embed", json={"inputs": TEXTS, "dimensions": width}).json()
    np.testing.assert_allclose(full, expected, atol=1e-5)
    refused = client.post("/embed", json={"inputs": TEXTS, "dimensions": width - 1})
    assert refused.status_code == 422
    assert f"dimensions must be {width}, the only width" in refused.text


def test_info_claims_neither_invariance_nor_packing(serve: Serve, case: Case) -> None:
    client = serve(
        model__path=case.directory, model__engine=LIBRARY, model__dtype="float32",
        batching__max_batch_tokens=case.engine.info.max_input_length,
    )  # fmt: skip
    info = client.get("/info").json()
    assert (info["backend"], info["model_dtype"]) == (LIBRARY, "float32")
    assert info["batch_invariant"] is info["packed"] is False
    assert "neither batch invariance nor packing" in info["batch_invariant_reason"]
    pooling = info["model_type"]["embedding"]["pooling"]
    assert pooling == POOLINGS.get(case.kind, "mean")
    assert info["max_input_length"] == (32768 if case.kind == "static" else LONGEST)
    assert info["dimensions"] == [WIDTHS.get(case.kind, 16)]
    assert len(info["model_sha"]) == 64


def test_norms_are_those_before_the_last_normalisation(case: Case) -> None:
    rows = [text.ids for text in case.engine.tokenizer.encode(TEXTS, 40)]  # type: ignore[union-attr]
    found = case.engine.embed(rows)
    if case.kind == "roberta":  # has no module that normalises: the library's are as long
        long = case.encode(["the cat", "rain"])
        ids = [text.ids for text in case.engine.tokenizer.encode(["the cat", "rain"])]  # type: ignore[union-attr]
        output = case.engine.embed(ids)
        np.testing.assert_allclose(output.embeddings * output.norms[:, None], long, atol=1e-5)
    assert np.ptp(found.norms) > 0.01, "of unit vectors"
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1.0, atol=1e-6)


def test_token_vectors_are_the_librarys(serve: Serve, case: Case) -> None:
    if case.kind == "static":
        pytest.skip("the library has no vectors of tokens for a static model")
    client = serve(model__path=case.directory, model__engine=LIBRARY, model__dtype="float32")
    rows = client.post("/embed_all", json={"inputs": TEXTS[:4], "normalize": False}).json()
    for row, text in zip(rows, TEXTS[:4], strict=True):
        states = case.states(text)
        if case.kind == "electra":  # what follows the pooling is done to each
            dense = case.library[2].float()
            with torch.no_grad():
                made = dense({"sentence_embedding": torch.from_numpy(states)})
            states = made["sentence_embedding"].numpy()
        elif case.kind == "xlnet":  # the mean and the maximum of one token
            states = np.concatenate([states, states], axis=1)
        np.testing.assert_allclose(row, states, atol=1e-5)


def test_chunks_are_pooled_from_the_whole_document(serve: Serve, case: Case) -> None:
    client = serve(model__path=case.directory, model__engine=LIBRARY, model__dtype="float32")
    document = "the cat sat, a man ran. " * 2
    body = {"inputs": document, "chunking": {"size": 5, "overlap": 2}}
    (chunks,) = client.post("/embed_chunks", json=body).json()
    assert len(chunks) > 4
    tokenizer = case.engine.tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode([document])[0].ids
    if case.kind == "static":
        table = case.library[0].embedding.weight.detach().numpy()
        states = table[ids]
    else:
        states = case.states(document)
    first = len(tokenizer.prefix)
    offsets = tokenizer.encode([document], offsets=True)[0].offsets
    for chunk in chunks:
        starts = [start for start, _ in offsets]
        stops = [stop for _, stop in offsets]
        span = states[first + starts.index(chunk["start"]) : first + stops.index(chunk["end"]) + 1]
        pooled = {"electra": span[:1], "qwen2": span[-1:]}.get(case.kind, span).mean(axis=0)
        if case.kind == "xlnet":
            pooled = np.concatenate([pooled, span.max(axis=0)])
        if case.kind == "electra":
            with torch.no_grad():
                made = case.library[2]({"sentence_embedding": torch.from_numpy(pooled)[None]})
            pooled = made["sentence_embedding"][0].numpy()
        np.testing.assert_allclose(unit(np.array(chunk["embedding"])), unit(pooled), atol=1e-5)


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_the_order_is_the_callers(case: Case, lengths: list[int]) -> None:
    generator = np.random.default_rng(0)
    batch = [generator.integers(4, 90, length).tolist() for length in lengths]
    found = case.engine.embed(batch)
    kept = found.embeddings.copy()
    for row, ids in enumerate(batch):
        alone = case.engine.embed([ids])
        np.testing.assert_allclose(found.embeddings[row], alone.embeddings[0], atol=1e-5)
        np.testing.assert_allclose(found.norms[row], alone.norms[0], rtol=1e-4)
    np.testing.assert_array_equal(found.embeddings, kept)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([], "at least one sequence is needed"),
        ([[1], []], "sequence 1 has 0 tokens, allowed are 1 to 64"),
        ([[1] * 65], "sequence 0 has 65 tokens, allowed are 1 to 64"),
        ([[1], [1, 101]], "sequence 1 holds id 101, allowed are 0 to 100"),
        ([[-1]], "sequence 0 holds id -1, allowed are 0 to 100"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_runs(
    albert: Path, batch: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SentenceTransformersEngine(albert, "cpu").embed(batch)


def test_ids_are_those_of_the_model(case: Case) -> None:
    if case.kind == "static":
        own = case.library[0].tokenizer.encode_batch(TEXTS, add_special_tokens=False)
        expected = [encoding.ids for encoding in own]
    else:
        expected = case.library.tokenizer(TEXTS, truncation=True)["input_ids"]
    limit = case.engine.info.max_input_length
    found = case.engine.tokenizer.encode(TEXTS, limit)  # type: ignore[union-attr]
    assert [text.ids for text in found] == expected


def test_bfloat16_is_near_and_float32_to_be_had_of_it(case: Case) -> None:
    if case.kind == "xlnet":  # in transformers it mixes types
        with pytest.raises(ConfigError, match=r"does not run .*/xlnet in it: take float32"):
            SentenceTransformersEngine(case.directory, "cpu", "bfloat16")
        assert SentenceTransformersEngine(case.directory, "cpu", "auto").info.dtype == "float32"
        return
    narrow = SentenceTransformersEngine(case.directory, "cpu", "bfloat16")
    if case.kind == "static":
        assert narrow.info.dtype == "float32"
        return
    assert narrow.info.dtype == "bfloat16"
    batch = [[4, 5, 6, 30], [50, 51], [9] * 40]
    wide = case.engine.embed(batch).embeddings
    before = narrow.embed(batch).embeddings
    assert before.dtype == np.float32
    np.testing.assert_allclose((before * wide).sum(1), 1.0, atol=0.02)
    exact = narrow.embed(batch, exact=True).embeddings
    assert not np.array_equal(exact, before)
    np.testing.assert_allclose((exact * wide).sum(1), 1.0, atol=0.02)
    np.testing.assert_array_equal(narrow.embed(batch).embeddings, before)


def test_warm_up_runs(case: Case) -> None:
    case.engine.warm_up()
