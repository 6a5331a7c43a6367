"""Several models, each with its own table of settings, on one real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from osa.model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.service.auth.api_keys import make_key
from osa.service.engines.base import EngineInfo
from osa.service.engines.eager import EagerEngine
from osa.service.server.app import create_service
from tests.conftest import local_settings, make_tiny_model
from tests.transformer_models import MINILM

Serve = Callable[..., httpx.Client]
LONG = "the cat " * 40
Tables = dict[str, dict[str, Any]]


@pytest.fixture
def wide_checkpoint(tmp_path: Path) -> Path:
    """A model of another width than the tiny one."""
    directory = tmp_path / "wide"
    make_tiny_model(hidden_size=32, matryoshka_dims=(32, 16)).save_pretrained(directory)
    return directory


@pytest.fixture
def tables(tiny_checkpoint: Path, wide_checkpoint: Path) -> Tables:
    """Two tables that differ in everything that a table may say of these models."""
    return {
        "tiny": {
            "path": tiny_checkpoint,
            "dtype": "float32",
            "prompts": {"query": "a ", "passage": "the dog "},
            "default_prompt_name": "passage",
            "max_input_length": 16,
            "kind": "embedding",
        },
        "team/wide.v2": {
            "path": wide_checkpoint,
            "dtype": "bfloat16",
            "prompts": {"query": "on "},
            "max_input_length": 32,
            "auto_truncate": False,
        },
    }


@pytest.fixture
def both(serve: Serve, tables: Tables) -> httpx.Client:
    return serve(models=tables, model__name="tiny")


def embed(client: httpx.Client, model: str, text: Any, **fields: Any) -> np.ndarray:
    answer = client.post("/embed", json={"inputs": text, "model": model, **fields})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()[0])


def test_each_model_has_its_own_prompts(both: httpx.Client) -> None:
    named = embed(both, "tiny", "mat", prompt_name="query")
    assert (embed(both, "tiny", "mat") != named).any(), "the default prompt is another one"
    ids = both.post("/tokenize", json={"inputs": ["the dog mat", "a mat"]}).json()
    for row, (text, prompt) in enumerate([("mat", "passage"), ("mat", "query")]):
        rows = [token["id"] for token in ids[row]]
        found = embed(both, "tiny", text, prompt_name=prompt)
        assert (found == embed(both, "tiny", [rows])).all(), "ids get no prompt"
    assert (embed(both, "tiny", "mat") == embed(both, "tiny", "mat", prompt_name="passage")).all()
    wide = "team/wide.v2"
    assert (embed(both, wide, "on mat") == embed(both, wide, "mat", prompt_name="query")).all()
    refused = both.post("/embed", json={"inputs": "a", "model": wide, "prompt_name": "passage"})
    assert refused.status_code == 422
    assert "prompts of this model: query" in refused.json()["error"]
    openai = both.post("/v1/embeddings", json={"input": "mat", "model": "tiny"}).json()
    assert np.allclose(openai["data"][0]["embedding"], embed(both, "tiny", "mat"), atol=0)


def test_each_model_has_its_own_limits(both: httpx.Client) -> None:
    cut = both.post("/embed", json={"inputs": LONG, "model": "tiny"})
    assert (cut.status_code, cut.headers["x-compute-tokens"]) == (200, "16")
    refused = both.post("/embed", json={"inputs": LONG, "model": "team/wide.v2"})
    assert refused.status_code == 422
    assert "has 82 tokens, at most 32 are allowed" in refused.json()["error"]
    asked = {"inputs": LONG, "model": "team/wide.v2", "truncate": True}
    assert both.post("/embed", json=asked).headers["x-compute-tokens"] == "32"


def test_every_model_is_listed_with_its_facts(both: httpx.Client) -> None:
    listed = both.get("/v1/models").json()["data"]
    for entry in listed:
        assert entry.pop("created") > 1e9
    common = {
        "object": "model", "owned_by": "osa", "kind": "embedding", "any_dimension": True
    }  # fmt: skip
    assert listed == [
        {
            **common, "id": "tiny", "dtype": "float32", "dimensions": [16, 8],
            "max_input_length": 16, "prompts": ["passage", "query"],
            "default_prompt_name": "passage",
        },
        {
            **common, "id": "team/wide.v2", "dtype": "bfloat16", "dimensions": [32, 16],
            "max_input_length": 32, "prompts": ["query"], "default_prompt_name": None,
        },
    ]  # fmt: skip
    names = ["tiny", "team/wide.v2"]
    assert both.get("/v2/models").json() == {"models": names}
    for entry in listed:
        facts = both.get("/info", params={"model": entry["id"]}).json()
        assert (facts["model_id"], facts["models"]) == (entry["id"], names)
        assert facts["model_dtype"] == entry["dtype"]
        assert facts["auto_truncate"] == (entry["id"] == "tiny")
        for field in ("kind", "dimensions", "max_input_length", "prompts", "default_prompt_name"):
            assert facts[field] == entry[field]
        tensors = both.get(f"/v2/models/{entry['id']}").json()
        assert tensors["parameters"] == {
            field: entry[field]
            for field in ("kind", "dtype", "dimensions", "any_dimension", "max_input_length")
        }
        assert tensors["outputs"][0]["shape"] == [-1, entry["dimensions"][0]]
    assert both.get("/info").json()["model_id"] == "tiny"
    unknown = both.get("/info", params={"model": "other"})
    assert unknown.status_code == 404
    assert unknown.json()["error"] == "no such model; served: tiny, team/wide.v2"


def test_metrics_tell_the_models_apart(both: httpx.Client) -> None:
    for count, name in enumerate(["tiny", "team/wide.v2"], 1):
        for text in ("a", "the", "cat")[:count]:
            embed(both, name, text)
        metrics = both.get("/metrics").text
        assert f'te_embed_success{{model="{name}"}} {count}.0' in metrics
    assert 'dtype="float32"' in metrics
    assert 'dtype="bfloat16"' in metrics


def test_an_exchanged_model_keeps_its_table(
    serve: Serve, tables: Tables, wide_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("operator", None, admin=True)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(models=tables, auth__keys_file=tmp_path / "keys.toml", model__name="tiny",
                   model__auto_truncate=False)  # fmt: skip
    client.headers["authorization"] = f"Bearer {secret}"
    for name, kept in (("tiny", (16, ["passage", "query"])), ("new", (256, []))):
        answer = client.post(f"/admin/models/{name}", json={"path": str(wide_checkpoint)})
        facts = answer.json()
        assert facts["dimensions"] == [32, 16]
        assert (facts["max_input_length"], facts["prompts"]) == kept
        assert not facts["auto_truncate"], "what no table says comes from [model]"


class WithPrompts(EagerEngine):
    """A model that brings prompts."""

    @property
    def info(self) -> EngineInfo:
        """With prompts of its own."""
        prompts = {"query": "a ", "document": "the "}
        return replace(super().info, prompts=prompts, default_prompt_name="document")


def test_settings_go_over_the_prompts_that_a_model_brings(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    client = serve(WithPrompts(tiny_checkpoint, "cpu"))
    facts = client.get("/info").json()
    assert (facts["prompts"], facts["default_prompt_name"]) == (["document", "query"], "document")
    brought = embed(client, "osa-default", "cat")
    assert (brought == embed(client, "osa-default", "cat", prompt_name="document")).all()
    changed = serve(
        WithPrompts(tiny_checkpoint, "cpu"),
        model__prompts={"document": "the ", "query": "dog ", "none": ""},
        model__default_prompt_name="none",
    )
    facts = changed.get("/info").json()
    assert facts["prompts"] == ["document", "none", "query"]
    assert facts["default_prompt_name"] == "none"
    ours = embed(changed, "osa-default", "dog cat")
    assert (ours == embed(changed, "osa-default", "cat", prompt_name="query")).all()
    assert (brought == embed(changed, "osa-default", "the cat")).all()


TEXTS = ["How do I cook rice?", "A man is playing a guitar.", "word " * 300]


def test_a_model_of_sentence_transformers_beside_the_packaged_one(
    serve: Serve, tmp_path: Path
) -> None:
    """The prompts of its directory apply, beside one of the table; the other model has none."""
    directory = shutil.copytree(MINILM, tmp_path / "minilm")
    file = directory / "config_sentence_transformers.json"
    brought = {"prompts": {"query": "query: ", "passage": "text: "}, "default_prompt_name": "query"}
    file.write_text(json.dumps(json.loads(file.read_text()) | brought))
    table = {"path": directory, "dtype": "float32", "prompts": {"passage": "passage: "},
             "max_input_length": 128}  # fmt: skip
    client = serve(models={"minilm": table}, model__dtype="float32")
    ours, mini = client.get("/v1/models").json()["data"]
    assert (ours["prompts"], ours["default_prompt_name"]) == ([], None)
    assert (mini["prompts"], mini["default_prompt_name"]) == (["passage", "query"], "query")
    assert (ours["max_input_length"], mini["max_input_length"]) == (32768, 128)
    theirs = SentenceTransformer(str(directory), device="cpu")
    theirs.max_seq_length = 128
    for name, prompt in ((None, "query: "), ("query", "query: "), ("passage", "passage: ")):
        body = {"inputs": TEXTS, "model": "minilm", "prompt_name": name}
        found = np.array(client.post("/embed", json=body).json())
        expected = theirs.encode(TEXTS, prompt=prompt, normalize_embeddings=True)
        assert (found * expected).sum(axis=1).min() > 0.99999
    packaged = np.array(client.post("/embed", json={"inputs": TEXTS}).json())
    direct = EmbeddingModel.from_pretrained().encode(TEXTS).numpy()
    assert (packaged * direct).sum(axis=1).min() > 0.99999


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "reranker"}, "models.law: kind is reranker, but .*tiny is of kind embedding"),
        (
            {"default_prompt_name": "x"},
            r"models.law: default_prompt_name must .* \(none\), got 'x'",
        ),
        ({"engine": "aoti"}, "models.law: model.engine is aoti, but a checkpoint runs by eager"),
    ],
)
def test_a_table_that_does_not_fit_its_model_stops_the_start(
    tiny_checkpoint: Path, table: dict[str, str], message: str
) -> None:
    settings = local_settings(models={"law": {"path": tiny_checkpoint, **table}})
    with pytest.raises(ConfigError, match=message):
        create_service(settings)
