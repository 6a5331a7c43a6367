"""Directories of sentence-transformers: the same vectors, prompts and limits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from osa.model import EmbeddingModel
from tests.transformer_models import MINILM, make

TEXTS = ["A man is playing a guitar.", "Stocks fell.", "word " * 400, "x"]


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "weightedmean"])
def test_poolings(mode: str, tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    transformer = Transformer(str(tmp_path / "bert"), max_seq_length=100)
    theirs = SentenceTransformer(modules=[transformer, Pooling(32, mode)], device="cpu")
    compare(theirs, tmp_path / "st")


@pytest.mark.parametrize("activation", [nn.Identity(), nn.Tanh()])
@pytest.mark.parametrize("width", [32, 20])
def test_dense_layers(activation: nn.Module, width: int, tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    modules = [
        Transformer(str(tmp_path / "bert")),
        Pooling(32, "cls"),
        Dense(32, width, activation_function=activation),
        Normalize(),
    ]
    compare(SentenceTransformer(modules=modules, device="cpu"), tmp_path / "st")


def compare(theirs: SentenceTransformer, directory: Path) -> EmbeddingModel:
    """Save a model, load it natively, and compare its vectors; returns ours."""
    theirs.save_pretrained(str(directory))
    ours = EmbeddingModel.from_pretrained(directory)
    expected = theirs.encode(TEXTS, normalize_embeddings=False)
    normalised = any(isinstance(module, Normalize) for module in theirs)
    found = ours.encode(TEXTS, normalize=normalised).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    return ours


def test_the_real_minilm_with_prompts_and_its_limit(tmp_path: Path) -> None:
    directory = shutil.copytree(MINILM, tmp_path / "minilm")
    theirs = SentenceTransformer(
        str(directory), device="cpu", prompts={"query": "query: "}, default_prompt_name="query"
    )
    theirs.save_pretrained(str(tmp_path / "prompted"))
    ours = EmbeddingModel.from_pretrained(tmp_path / "prompted")
    assert dict(ours.prompts) == {"query": "query: "}
    assert ours.default_prompt_name == "query"
    assert ours.config.max_seq_len == 256
    cosines = (ours.encode(TEXTS).numpy() * theirs.encode(TEXTS, prompt="")).sum(axis=1)
    assert cosines.min() > 0.999999


def test_a_saved_model_is_a_checkpoint_with_the_same_vectors(tmp_path: Path) -> None:
    directory = shutil.copytree(MINILM, tmp_path / "minilm")
    settings = json.loads((directory / "config_sentence_transformers.json").read_text())
    settings |= {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(settings))
    ours = EmbeddingModel.from_pretrained(directory)
    ours.save_pretrained(tmp_path / "checkpoint")
    again = EmbeddingModel.from_pretrained(tmp_path / "checkpoint")
    assert again.config == ours.config
    assert (again.prompts, again.default_prompt_name) == ({"query": "query: "}, "query")
    assert (again.encode(TEXTS) == ours.encode(TEXTS)).all()


def test_the_digest_names_the_weights(tmp_path: Path) -> None:
    make(tmp_path / "one", "bert")
    make(tmp_path / "two", "bert")
    weights = load_file(tmp_path / "two" / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][3] += 1e-3
    save_file(weights, tmp_path / "two" / "model.safetensors")
    digests = [
        EmbeddingModel.from_pretrained(tmp_path / name).checkpoint_sha256 for name in ("one", "two")
    ]
    assert len(set(digests)) == 2
    assert all(len(digest) == 64 for digest in digests)


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "limit": {"sentence_bert_config.json": {"max_seq_length": 400}},
    "old name": {"sentence_distilbert_config.json": {"max_seq_length": 16}},
    "arguments": {"sentence_bert_config.json": {"tokenizer_args": {"do_lower_case": False}}},
    "case": {"tokenizer_config.json": {"do_lower_case": False}},
    "accents": {"tokenizer_config.json": {"strip_accents": False}},
    "Chinese": {"tokenizer_config.json": {"tokenize_chinese_chars": False}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_tokenizers_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    modules = [Transformer(str(tmp_path / "bert")), Pooling(32, "mean")]
    directory = tmp_path / "st"
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(directory))
    (directory / "sentence_bert_config.json").unlink()
    changes: dict[str, dict[str, Any]] = {"tokenizer_config.json": {"model_max_length": 128}}
    for file, values in [*changes.items(), *SETTINGS[name].items()]:
        before = json.loads((directory / file).read_text()) if (directory / file).exists() else {}
        (directory / file).write_text(json.dumps({**before, **values}))
    theirs = SentenceTransformer(str(directory), device="cpu")
    ours = EmbeddingModel.from_pretrained(directory)
    assert ours.config.max_seq_len == theirs.max_seq_length
    assert ours.tokenizer is not None
    for text in (*TEXTS, "Größe 日本語 ÉCOLE Two"):
        expected = theirs.preprocess([text])["input_ids"][0].tolist()
        assert ours.tokenizer.encode([text], ours.config.max_seq_len)[0].ids == expected
