"""Every architecture that is read gives transformers' hidden states, logits and sparse weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from tests.transformer_models import ARCHITECTURES, make

LENGTHS = (1, 3, 17, 64, 100, 300)
SPARSE = ("bert", "roberta", "distilbert", "mpnet", "modernbert")


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1000, 30000, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    theirs = make(tmp_path, architecture)
    ours = EmbeddingModel.from_pretrained(tmp_path)
    packed, offsets = ours.pack_ids(sequences())
    states = ours.encoder(packed, None, offsets)[0].split(offsets.diff().tolist())
    for ids, found in zip(sequences(), states, strict=True):
        expected = theirs(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_logits_of_classifiers_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    labels = {0: "no", 1: "maybe", 2: "yes"}
    theirs = make(tmp_path, architecture, "ForSequenceClassification", id2label=labels)
    ours = EmbeddingModel.from_pretrained(tmp_path)
    assert ours.config.task == "classifier"
    assert ours.config.head is not None
    assert ours.config.head.labels == ("no", "maybe", "yes")
    for ids, found in zip(sequences(), ours.embed_ids(sequences()).embeddings, strict=True):
        torch.testing.assert_close(found, theirs(torch.tensor([ids])).logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "nomic"])
@torch.inference_mode()
def test_pairs_score_as_in_transformers(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    theirs = make(tmp_path, architecture, "ForSequenceClassification", num_labels=1)
    ours = EmbeddingModel.from_pretrained(tmp_path)
    assert ours.config.task == "reranker"
    pairs = [("a short query", "a text " * 40), ("a query that is long " * 30, "text"), ("a", "b")]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(
        *map(list, zip(*pairs, strict=True)),
        truncation="longest_first",
        max_length=64,
        padding=True,
        return_tensors="pt",
    )
    if architecture == "xlm-roberta":
        batch.pop("token_type_ids")
    assert ours.tokenizer is not None
    stride = (ours.config.vocab_size or 0) if ours.config.token_types else 0
    tokenized = ours.tokenizer.encode_pairs(pairs, 64, type_stride=stride)
    found = ours.embed_ids([item.ids for item in tokenized]).embeddings
    torch.testing.assert_close(found, theirs(**batch).logits, atol=1e-5, rtol=0)
    assert [item.truncated for item in tokenized] == [22, 90, 0]


@pytest.mark.parametrize("architecture", SPARSE)
@torch.inference_mode()
def test_sparse_weights_are_those_of_sentence_transformers(
    architecture: str, tmp_path: Path
) -> None:
    from sentence_transformers import SparseEncoder

    make(tmp_path / "mlm", architecture, "ForMaskedLM")
    theirs = SparseEncoder(str(tmp_path / "mlm"), device="cpu")
    theirs.save_pretrained(str(tmp_path / "splade"))
    ours = EmbeddingModel.from_pretrained(tmp_path / "splade")
    assert ours.config.task == "sparse"
    texts = ["a cat", "a man is playing a guitar on the stage", "x " * 90]
    expected = theirs.encode(texts, convert_to_sparse_tensor=False)
    assert ours.tokenizer is not None
    found = ours.embed_ids([item.ids for item in ours.tokenizer.encode(texts, 512)]).embeddings
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=1e-5, rtol=0)
