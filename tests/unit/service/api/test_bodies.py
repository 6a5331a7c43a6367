"""Bodies that are wrong cost no more than bodies that are right."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from osa.service.api.admin import LoadRequest
from osa.service.api.cohere.schemas import DocumentsRequest
from osa.service.api.kserve.schemas import InferRequest
from osa.service.api.openai.schemas import EmbeddingsRequest
from osa.service.api.parsing import parse_body
from osa.service.api.tei.document_schemas import EmbedAllRequest, EmbedChunksRequest
from osa.service.api.tei.schemas import (
    DecodeRequest,
    EmbedRequest,
    SimilarityRequest,
    TokenizeRequest,
    VertexRequest,
)
from osa.service.api.tei.score_schemas import EmbedSparseRequest, PredictRequest, RerankRequest
from osa.service.errors import ValidationError

BODIES = (
    DecodeRequest, DocumentsRequest, EmbedAllRequest, EmbedChunksRequest, EmbedRequest,
    EmbedSparseRequest, EmbeddingsRequest, InferRequest, LoadRequest, PredictRequest,
    RerankRequest, SimilarityRequest, TokenizeRequest, VertexRequest,
)  # fmt: skip
SIZE = 2_000_000
ONES, EMPTY = [1] * (SIZE // 2), [""] * (SIZE // 3)
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
UNKNOWN = {f"{number:x}": 0 for number in range(SIZE // 12)}
WRONG: list[tuple[type[BaseModel], dict[str, Any], str]] = [
    (TokenizeRequest, {"inputs": ONES}, "inputs.list[str].0"),
    (TokenizeRequest, {"inputs": [*EMPTY, 1]}, f"inputs.list[str].{len(EMPTY)}"),
    (TokenizeRequest, {"inputs": "a", "add_special_tokens": ONES}, "add_special_tokens"),
    (DecodeRequest, {"ids": EMPTY}, "ids.list[int].0"),
    (DecodeRequest, {"ids": [EMPTY]}, "ids.list[list[int]].0.0"),
    (DecodeRequest, {"ids": [[1], *[[""]] * (SIZE // 5)]}, "ids.list[list[int]].1.0"),
    (DecodeRequest, {"ids": [*ONES, ""]}, f"ids.list[int].{len(ONES)}"),
    (VertexRequest, {"instances": ONES}, "instances.0"),
    (VertexRequest, {"instances": [{}] * (SIZE // 3)}, "instances.0.inputs"),
    (SimilarityRequest, {"inputs": {"source_sentence": 1, "sentences": ONES}}, "sentences.0"),
    (EmbedChunksRequest, {"inputs": ONES}, "inputs.list[str].0"),
    (EmbedChunksRequest, {"inputs": "a", "chunking": UNKNOWN}, "permitted: 0; allowed: strategy"),
    (EmbedChunksRequest, {"inputs": "a", "chunking": {"x" * SIZE: 1}}, "permitted: xxx"),
    (LoadRequest, UNKNOWN, "permitted: 0; allowed: path"),
    (InferRequest, {"inputs": ONES}, "inputs.0"),
    (InferRequest, {"inputs": [TENSOR] * (SIZE // 65)}, "at most 16 items"),
    (InferRequest, {"inputs": [{**TENSOR, "shape": EMPTY}]}, "inputs.0.shape.0"),
    (InferRequest, {"inputs": [TENSOR], "outputs": ONES}, "outputs.0"),
    (InferRequest, {"inputs": [TENSOR], "parameters": {"normalize": ONES}}, "parameters.normalize"),
    (RerankRequest, {"query": "a", "texts": ONES}, "texts.0"),
    (DocumentsRequest, {"query": "a", "documents": ["a"], "rank_fields": ONES}, "rank_fields.0"),
    (DocumentsRequest, {"query": "a", "documents": ["a"], "rank_fields": EMPTY}, "at most 64"),
    (EmbedRequest, {"inputs": "a", "embedding_type": "x" * SIZE}, "embedding_type"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_validation_that_fails_is_cheap(case: int) -> None:
    """Each took 2 to 5 s of CPU time and half a gigabyte, or named nothing in particular."""
    model, body, told = WRONG[case]
    raw = orjson.dumps(body)
    began = time.thread_time()
    orjson.loads(raw)  # of many small lists most of the time goes into collecting garbage
    reading_s = time.thread_time() - began
    began = time.thread_time()
    with pytest.raises(ValidationError) as caught:
        parse_body(raw, None, model)
    assert time.thread_time() - began < 1.0 + 2 * reading_s
    assert told in str(caught.value)
    assert len(str(caught.value)) < 2000
    tracemalloc.start()  # after the time: it makes everything slow
    try:
        with pytest.raises(ValidationError):
            parse_body(raw, None, model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * SIZE, f"{peak / SIZE:.0f} bytes a byte"


def lists_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Schemas of lists, sets and dictionaries within a schema of pydantic's core."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "set", "frozenset", "tuple", "dict"):
            yield schema
        if schema.get("extra_behavior") == "forbid":
            assert "_refuse_unknown" in str(schema) or schema["type"] == "model-fields"
        for value in schema.values():
            yield from lists_of(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from lists_of(value)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_list_of_a_body_ends_at_its_first_fault(body: type[BaseModel]) -> None:
    for found in lists_of(body.__pydantic_core_schema__):
        items = found.get("items_schema", {"type": "any"})
        assert items["type"] == "any" or found.get("fail_fast"), found
        assert found["type"] != "dict", found


def test_a_list_without_that_is_found() -> None:
    class Slow(BaseModel):
        texts: list[str] | None = None

    assert [found.get("fail_fast") for found in lists_of(Slow.__pydantic_core_schema__)] == [None]
