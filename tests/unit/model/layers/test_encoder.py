"""Encoders of every configuration: padding and packing exact, gradients reach every weight."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from osa.model import EmbeddingModel, EncoderConfig
from osa.model.errors import InputError
from osa.model.functional.tiling import TOKEN_TILE
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers import MIXERS
from tests.conftest import make_tiny_model

VARIANTS = [
    {"mixer": "osa"},
    {"mixer": "softmax"},
    {"mixer": "osa", "scale": "paper", "alpha_init": 0.5},
    {"mixer": "osa", "center": True, "qk_norm": False},
    {"mixer": "osa", "residual": False, "norm": False},
    {"mixer": "osa", "residual": False},
    {"mixer": "osa", "norm": False, "activation": "relu"},
    {"mixer": "osa", "positions": "learned", "pooling": "cls"},
    {"mixer": "softmax", "positions": "none", "activation": "silu"},
    {"mixer": "osa", "embedding_size": 6, "matryoshka_dims": ()},
    {"residual": "delta"},
    {"residual": "delta4", "linear": "monarch"},
    {"residual": "write_only", "mixer": "softmax", "norm": False},
    {"linear": "monarch", "attention_bias": True, "ffn_gated": True, "ffn_down_bias": True},
    {"linear": "monarch", "residual": "none", "norm": False},
    {"mixer": "softmax", "share_qk": True, "vo": "none", "ffn": "none"},
    {"vo": "none", "ffn": "none", "norm_place": "post"},
    {"bottleneck": "rank_reduction", "bottleneck_size": 5, "matryoshka_dims": (5, 3)},
]
SIZES = [3, 11, 1, 40]


def ids_of(size: int) -> list[int]:
    return [(7 * place + size) % 12 for place in range(size)]


@pytest.mark.parametrize("changes", VARIANTS)
def test_alone_padded_and_packed_are_the_same(changes: dict[str, object]) -> None:
    model = make_tiny_model(**changes).double()
    sequences = [ids_of(size) for size in SIZES]
    alone = torch.cat([model(torch.tensor([ids])).embeddings for ids in sequences])
    padded = torch.zeros(len(SIZES), max(SIZES), dtype=torch.int64)
    mask = torch.zeros(len(SIZES), max(SIZES), dtype=torch.bool)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)], mask[row, : len(ids)] = torch.tensor(ids), True
    packed = torch.tensor([list(itertools.chain(*sequences))])
    for batch in (model(padded, mask=mask), model(packed, cu_seqlens=cu_seqlens_of(SIZES))):
        torch.testing.assert_close(batch.embeddings, alone, rtol=0, atol=1e-12)
    norms = alone.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradients_reach_every_weight(changes: dict[str, object]) -> None:
    model = make_tiny_model(**changes).train()
    output = model(torch.tensor([ids_of(20)]), cu_seqlens=cu_seqlens_of([6, 14]))
    (output.embeddings * torch.randn_like(output.embeddings)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), f"{name} has no gradient"


def test_vectors_times_norms_are_the_pooled_states() -> None:
    model = make_tiny_model()
    ids = torch.tensor([ids_of(9)])
    embeddings, norms = model(ids)
    pooled = model.encoder(ids).mean(1)
    torch.testing.assert_close(embeddings * norms[:, None], pooled)


def test_features_go_in_where_the_model_has_no_vocabulary() -> None:
    config = EncoderConfig(feature_size=5, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32)
    model = EmbeddingModel(config)
    features = torch.randn(2, 7, 5)
    assert model(features).embeddings.shape == (2, 16)
    with pytest.raises(InputError, match="feature vectors"):
        model.embed_ids([[1]])
    with pytest.raises(InputError, match="no tokenizer"):
        model.encode(["a cat"])


def test_word_order_matters_with_positions_and_not_without() -> None:
    def distance(positions: str) -> float:
        model = make_tiny_model(positions=positions, alpha_init=1.0).double()
        there, back = model.embed_ids([ids_of(9), ids_of(9)[::-1]]).embeddings
        gap: float = (there - back).norm().item()
        return gap

    assert distance("none") < 1e-12 < 1e-6 < distance("rotary")


def test_tiles_of_long_inputs_change_nothing() -> None:
    config = EncoderConfig(vocab_size=12, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32)
    encoder = Encoder(config).double()
    ids = torch.randint(12, (1, 2 * TOKEN_TILE + 5))
    with torch.inference_mode():
        tiled = encoder(ids)
    whole = encoder(ids).detach()
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixer", ["osa", "softmax"])
def test_inference_first_and_training_after(mixer: str) -> None:
    """Offsets cached during inference must work with autograd."""
    model, sequences = make_tiny_model(mixer=mixer), [ids_of(13), ids_of(29)]
    with torch.inference_mode():
        expected = model.embed_ids(sequences).embeddings.clone()
    output = model.embed_ids(sequences).embeddings
    output.sum().backward()
    torch.testing.assert_close(output.detach(), expected)


BERT = {"norm_type": "layer", "norm_place": "post", "norm_bias": True, "attention_bias": True,
        "ffn_up_bias": True, "ffn_down_bias": True}  # fmt: skip
COMPLETED = {"osa_pool": True, "osa_taps": 2, "osa_gate": True}


@pytest.mark.parametrize(
    "changes",
    [{"mixer": "softmax", **BERT}, {**COMPLETED, **BERT}, *({"mixer": name} for name in MIXERS)],
)
def test_autocast_works_with_and_without_gradients(changes: dict[str, object]) -> None:
    """Kernels that take float32 are not given what products under autocast give."""
    model, sequences = make_tiny_model(**changes), [ids_of(13), ids_of(29), ids_of(40)]
    expected = model.embed_ids(sequences).embeddings.detach()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            without = model.embed_ids(sequences).embeddings
        with_gradients = model.embed_ids(sequences).embeddings.detach()
    torch.testing.assert_close(without.float(), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(with_gradients, without, atol=0.02, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_empty_and_left_padded_sequences(pooling: str) -> None:
    model = make_tiny_model(pooling=pooling)
    ids = torch.tensor([ids_of(5)])
    packed = model(ids, cu_seqlens=torch.tensor([0, 2, 2, 5, 5])).embeddings
    alone = [model(ids[:, :2]).embeddings, model(ids[:, 2:]).embeddings]
    torch.testing.assert_close(packed[[0, 2]], torch.cat(alone))
    assert torch.equal(packed[[1, 3]], torch.zeros(2, 16))
    left = torch.tensor([[False, False, True, True, True]])
    torch.testing.assert_close(model(ids, mask=left).embeddings, alone[1])
    assert model(ids[:, :0], cu_seqlens=torch.tensor([0])).embeddings.shape == (0, 16)


@pytest.mark.parametrize("mixer", ["osa", "softmax"])
@pytest.mark.parametrize(
    ("mask", "offsets", "message"),
    [
        (None, [0, 3], "rise from 0 to the 5"),
        ([True] * 5, [0, 5], "and a mask"),
        ([1] * 5, None, "mask must be bool"),
        ([True] * 4, None, r"mask must be bool \[1, 5\]"),
    ],
)
def test_masks_and_offsets_that_do_not_fit_are_refused(
    mixer: str, mask: list[bool] | None, offsets: list[int] | None, message: str
) -> None:
    model, ids = make_tiny_model(mixer=mixer), torch.tensor([ids_of(5)])
    masks = None if mask is None else torch.tensor([mask])
    with pytest.raises(InputError, match=message):
        model(ids, masks, None if offsets is None else torch.tensor(offsets))
    with pytest.raises(InputError, match="257 tokens"):
        model(torch.zeros(1, 257, dtype=torch.int64))


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "at least one sequence"),
        ([[]], "0 tokens"),
        ([[1] * 257], "257 tokens, allowed are 1 to 256"),
        ([[1], [3, -1]], "sequence 1 holds id -1, allowed are 0 to 11"),
        ([[12]], "holds id 12"),
    ],
)
def test_ids_that_do_not_fit_are_refused(
    tiny_model: EmbeddingModel, sequences: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model.embed_ids(sequences)


def test_encode_keeps_the_order_of_texts(tiny_model: EmbeddingModel) -> None:
    texts = ["the cat sat on the mat", "a dog", "the dog ran", "cat"] * 5
    vectors = tiny_model.encode(texts, batch_tokens=20)
    one_by_one: Tensor = torch.cat([tiny_model.encode([text]) for text in texts])
    assert torch.equal(vectors, one_by_one)
    raw = tiny_model.encode(texts, normalize=False)
    torch.testing.assert_close(torch.nn.functional.normalize(raw), vectors)
    assert tiny_model.encode([]).shape == (0, 16)


def test_one_string_gives_one_vector(tiny_model: EmbeddingModel) -> None:
    assert torch.equal(tiny_model.encode("a cat"), tiny_model.encode(["a cat"])[0])
    assert tiny_model.encode("a cat").shape == (16,)


@pytest.mark.parametrize(("texts", "row"), [("", 0), ([""], 0), (["a cat", ""], 1)])
def test_an_empty_text_is_refused_as_by_the_server(
    tiny_model: EmbeddingModel, texts: str | list[str], row: int
) -> None:
    with pytest.raises(InputError, match=rf"texts\[{row}\] is empty"):
        tiny_model.encode(texts)
