"""Exported classifiers, rerankers and encoders of transformers, in every format."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from osa.export.errors import ParityError
from osa.export.exporter import ExportOptions, export_model
from osa.export.formats import FORMATS
from osa.export.graph import default_layout
from osa.export.manifest import load_artifact
from osa.export.onnx_model import build
from osa.export.parity.cases import grid
from osa.model import EmbeddingModel
from osa.model.config import HeadConfig
from osa.service.cli import main
from osa.service.engines.artifact import ArtifactEngine
from osa.service.engines.base import Engine
from osa.service.engines.eager import EagerEngine
from tests.conftest import make_tiny_model
from tests.transformer_models import MINILM, make

RERANKER = HeadConfig(kind="classifier", labels=("relevance",), dense=False)
CLASSIFIER = HeadConfig(
    kind="classifier", labels=("no", "maybe", "yes"), norm=True, score="softmax"
)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("ForSequenceClassification", {"num_labels": 1}),
    "mpnet": ("Model", {}),
    "modernbert": ("Model", {"num_hidden_layers": 2, "global_attn_every_n_layers": 2}),
}
"""Kind and configuration: token types and a head, position buckets, local layers."""
PAIRS = [("the cat", "a cat sat on the mat"), ("the dog", "the cat ran"), ("a", "mat")]


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osa.export.parity.reference.user_cache", lambda: None)


def with_head(head: HeadConfig, **changes: object) -> EmbeddingModel:
    """A tiny model whose head has random weights, so that errors show."""
    values = dataclasses.asdict(head)
    model = make_tiny_model(head=values, matryoshka_dims=(), token_types=2, **changes)
    generator = torch.Generator().manual_seed(1)
    assert model.head is not None
    for parameter in model.head.parameters():
        parameter.data.normal_(0.0, 0.5, generator=generator)
    return model


def logits(engine: Engine, pairs: list[tuple[str, str]]) -> np.ndarray:
    assert engine.tokenizer is not None
    encoded = engine.tokenizer.encode_pairs(pairs, type_stride=engine.info.type_stride)
    return engine.embed([item.ids for item in encoded]).embeddings


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("head", [RERANKER, CLASSIFIER], ids=["reranker", "classifier"])
def test_a_trained_head_is_exported_and_served(tmp_path: Path, kind: str, head: HeadConfig) -> None:
    with_head(head, max_seq_len=96).save_pretrained(tmp_path / "model")
    source = EagerEngine(tmp_path / "model")
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    results = export_model(model, tmp_path / "artifact", ExportOptions(kind))
    assert all(case.min_cosine is None for cases in results.values() for case in cases)
    served = ArtifactEngine(tmp_path / "artifact")
    for name in ("task", "labels", "score", "type_stride"):
        assert getattr(served.info, name) == getattr(source.info, name), name
    expected = logits(source, PAIRS)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits(served, PAIRS), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(served.embed([[1, 2, 3]]).norms, [1.0])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("architecture", KINDS)
def test_models_of_transformers_are_exported_and_served(
    tmp_path: Path, architecture: str, kind: str
) -> None:
    task, changes = KINDS[architecture]
    make(tmp_path / "model", architecture, task, **{"num_hidden_layers": 2, **changes})
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    if architecture == "modernbert":
        assert [model.config.is_local(layer) for layer in (0, 1)] == [False, True]
    layout = default_layout(model.config)
    results = export_model(model, tmp_path / "artifact", ExportOptions(kind, layout))
    cases = len(list(grid(model.config, layout)))
    assert {len(deviations) for deviations in results.values()} == {cases}
    served, source = ArtifactEngine(tmp_path / "artifact"), EagerEngine(tmp_path / "model")
    found, expected = logits(served, PAIRS), logits(source, PAIRS)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_token_types_reach_the_parity_grid() -> None:
    config = with_head(RERANKER).config
    assert max(case.inputs.max() for case in grid(config, "packed")) == config.num_ids - 1


def test_a_head_that_errs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_head(CLASSIFIER, max_seq_len=64)
    right = build.build_onnx

    def wrong(source: EmbeddingModel, layout: Any) -> onnx.ModelProto:
        other = EmbeddingModel(source.config, source.tokenizer)
        weights = source.state_dict()
        weights["head.out.bias"] = weights["head.out.bias"] + 1e-3
        other.load_state_dict(weights)
        return right(other, layout)

    monkeypatch.setattr(build, "build_onnx", wrong)
    with pytest.raises(ParityError, match="gives other values than its source"):
        export_model(model, tmp_path / "artifact")


def test_the_graph_and_inspect_tell_task_and_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    with_head(CLASSIFIER, max_seq_len=64).save_pretrained(tmp_path / "model")
    command = ["export", "--format", "onnx", "--model", str(tmp_path / "model"), "--output"]
    assert main([*command, str(out)]) == 0
    told = capsys.readouterr().out
    assert "off by at most" in told
    assert "cosine" not in told
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    for directory in (tmp_path / "model", out):
        assert main(["inspect", str(directory)]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["task"], facts["score"]) == ("classifier", "softmax")
        assert facts["labels"] == ["no", "maybe", "yes"]
    assert facts["outputs"]["embeddings"] == "float32 [sequences, 3]"
    graph = onnx.load(str(out / "model.onnx"))
    entries = {entry.key: entry.value for entry in graph.metadata_props}
    assert entries["osa.task"] == "classifier"
    assert json.loads(entries["osa.labels"]) == ["no", "maybe", "yes"]
    assert entries["osa.token_type_stride"] == "12"


def test_prompts_of_the_source_are_those_of_the_artifact(tmp_path: Path) -> None:
    model = make_tiny_model(max_seq_len=64)
    model.prompts, model.default_prompt_name = {"query": "the cat "}, "query"
    export_model(model, tmp_path / "artifact")
    assert load_artifact(tmp_path / "artifact").prompts == {"query": "the cat "}
    about = ArtifactEngine(tmp_path / "artifact").info
    assert (about.prompts, about.default_prompt_name) == ({"query": "the cat "}, "query")


def test_minilm_is_exported_by_the_command_and_served(tmp_path: Path) -> None:
    out = tmp_path / "minilm"
    command = ["export", "--format", "onnx", "--model", str(MINILM), "--output", str(out)]
    assert main(command) == 0
    assert load_artifact(out).manifest.layout == "padded"
    served, source = ArtifactEngine(out), EagerEngine(MINILM)
    assert served.info.source_sha256 == source.info.model_sha256
    assert source.tokenizer is not None
    texts = ["a cat", "The quick brown fox jumps over the lazy dog.", "x " * 300, "é"]
    ids = [item.ids for item in source.tokenizer.encode(texts, source.info.max_input_length)]
    found, expected = served.embed(ids).embeddings, source.embed(ids).embeddings
    np.testing.assert_allclose(found, expected, atol=1e-5)
