"""Small bodies of every inference route, right and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import WORDS
from tests.engines import POISON

TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1]}
DOCUMENTS = ("/embed_all", "/embed_chunks")
INFER = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
EMBED = ("/embed", "/", "/invocations", "/vertex", *DOCUMENTS, "/v1/embeddings", "/embeddings",
         *INFER)  # fmt: skip
TEXT = ("/tokenize", "/decode")
RERANK = ("/rerank", "/v1/rerank", "/v2/rerank")
BY_TASK = {
    "embedding": (*EMBED, "/similarity"),
    "reranker": (*RERANK, "/predict"),
    "sparse": ("/embed_sparse",),
}
"""Inference routes by what their model does; KServe's are tried with the first."""
INFERENCE = tuple(path for paths in BY_TASK.values() for path in paths)


def place(path: str) -> str:
    return path.format(model="osa-default", version="1", name="osa-default")


def body_of(path: str, **fields: Any) -> dict[str, Any]:
    """A small body that the route answers, with more fields."""
    if path == "/vertex":
        return {"instances": [{"inputs": "the cat", **fields}]}
    if path == "/similarity":
        return {"inputs": {"source_sentence": "the cat", "sentences": ["a dog"]}}
    if path == "/decode":
        return {"ids": [4, 5]}
    if path in INFER:
        return {"inputs": [{**TENSOR, "data": ["the cat"]}], "parameters": fields}
    if path in RERANK:
        texts = "texts" if path == "/rerank" else "documents"
        return {"query": "the cat", texts: ["a dog"], **fields}
    return {"input" if "embeddings" in path else "inputs": "the cat", **fields}


def empty_of(path: str) -> dict[str, Any]:
    """A body with empty inputs."""
    if path == "/similarity":
        return {"inputs": {"source_sentence": "the cat", "sentences": []}}
    if path in INFER:
        return {"inputs": [{**TENSOR, "shape": [0], "data": []}]}
    if path in RERANK:
        return {**body_of(path), next(reversed(body_of(path))): []}
    fields = {"/vertex": "instances", "/decode": "ids"}
    return {fields.get(path, next(iter(body_of(path)))): []}


def poisoned(path: str) -> dict[str, Any]:
    """A body with a text that the faulty engine cannot take."""
    text = json.dumps(body_of(path)).replace("the cat", WORDS[POISON])
    found: dict[str, Any] = json.loads(text)
    return found


def every_kind(root: Path) -> dict[str, Any]:
    """Settings of a server that answers every route."""
    others = ",".join(f"{task}={root / task}" for task in BY_TASK if task != "embedding")
    return {"model__path": root / "embedding", "model__others": others}


def ids_of(ids: list[int]) -> dict[str, Any]:
    """A body of KServe's."""
    shape = [1, len(ids)]
    return {"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": shape, "data": ids}]}
