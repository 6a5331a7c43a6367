"""Every architecture that is read gives transformers' hidden states, logits and sparse weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from osa.model import EmbeddingModel
from tests.transformer_models import ARCHITECTURES, MINILM, make

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


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("bert", {"tie_word_embeddings": False}),
        ("roberta", {"tie_word_embeddings": False}),
        ("distilbert", {"activation": "relu"}),
    ],
)
@torch.inference_mode()
def test_sparse_heads_with_a_layer_or_activation_of_their_own(
    architecture: str, changes: dict[str, object], tmp_path: Path
) -> None:
    theirs = make(tmp_path, architecture, "ForMaskedLM", **changes)
    kinds = {"MLMTransformer": "", "SpladePooling": "1_SpladePooling"}
    entries = [{"type": f"sentence_transformers.models.{k}", "path": v} for k, v in kinds.items()]
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    (tmp_path / "1_SpladePooling").mkdir()
    (tmp_path / "1_SpladePooling" / "config.json").write_text("{}")
    ours = EmbeddingModel.from_pretrained(tmp_path)
    ids = sequences()[3]
    expected = theirs(torch.tensor([ids])).logits[0].relu().log1p().amax(0)
    torch.testing.assert_close(ours.embed_ids([ids]).embeddings[0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_jinas_bert_with_alibi_is_as_described(tmp_path: Path) -> None:
    """Against the equations: transformers has it as code of the model's own alone."""
    weights = jina_weights()
    save_file(weights, tmp_path / "model.safetensors")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "bert",
                "auto_map": {"AutoModel": "own--modeling_bert.JinaBertModel"},
                "position_embedding_type": "alibi",
                "feed_forward_type": "geglu",
                "vocab_size": 30522,
                "intermediate_size": 40,
                "max_position_embeddings": 8192,
                "type_vocab_size": 2,
                "layer_norm_eps": 1e-12,
                **sizes,
            }
        )
    )
    shutil.copy(MINILM / "tokenizer.json", tmp_path)
    ours = EmbeddingModel.from_pretrained(tmp_path)
    packed, offsets = ours.pack_ids(sequences())
    states = ours.encoder(packed, None, offsets)[0].split(offsets.diff().tolist())
    for ids, found in zip(sequences(), states, strict=True):
        torch.testing.assert_close(found, jina_states(weights, ids), atol=1e-5, rtol=0)


def jina_weights() -> dict[str, Tensor]:
    """Random weights of two layers of width 24."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (0.3 if len(shape) > 1 else 0.2)

    found = {
        "embeddings.word_embeddings.weight": random(30522, 24),
        "embeddings.token_type_embeddings.weight": random(2, 24),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(2):
        prefix = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            found[f"{prefix}.attention.{name}.weight"] = random(24, 24)
            found[f"{prefix}.attention.{name}.bias"] = random(24)
        found[f"{prefix}.mlp.gated_layers.weight"] = random(80, 24)
        found[f"{prefix}.mlp.wo.weight"], found[f"{prefix}.mlp.wo.bias"] = (
            random(24, 40),
            random(24),
        )
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.mlp.layernorm"]
    for norm in norms:
        found[f"{norm}.weight"], found[f"{norm}.bias"] = 1 + random(24), random(24)
    return found


def jina_states(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Hidden states of one sequence, in float64: arXiv:2310.19923, three heads of 8."""
    parts = {name: tensor.double() for name, tensor in weights.items()}

    def linear(states: Tensor, name: str) -> Tensor:
        return F.linear(states, parts[f"{name}.weight"], parts.get(f"{name}.bias"))

    def norm(states: Tensor, name: str) -> Tensor:
        weight, bias = parts[f"{name}.weight"], parts[f"{name}.bias"]
        return F.layer_norm(states, (24,), weight, bias, 1e-12)

    types = parts["embeddings.token_type_embeddings.weight"][0]
    hidden = norm(parts["embeddings.word_embeddings.weight"][ids] + types, "embeddings.LayerNorm")
    places = torch.arange(len(ids))
    apart = (places[:, None] - places[None, :]).abs()
    slopes = torch.tensor([2.0**-4, 2.0**-8, 2.0**-2], dtype=torch.float64)  # 2 heads, and 1 of 4
    for layer in range(2):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            linear(hidden, f"{prefix}.attention.self.{name}").view(-1, 3, 8).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(1, 2) / 8**0.5 - slopes[:, None, None] * apart
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        mixed = linear(mixed, f"{prefix}.attention.output.dense")
        hidden = norm(hidden + mixed, f"{prefix}.attention.output.LayerNorm")
        activated, gate = linear(hidden, f"{prefix}.mlp.gated_layers").chunk(2, -1)
        inner = linear(F.gelu(activated) * gate, f"{prefix}.mlp.wo")
        hidden = norm(hidden + inner, f"{prefix}.mlp.layernorm")
    return hidden.float()
