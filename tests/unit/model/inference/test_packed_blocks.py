"""Packed blocks: the blocks they replace, the same bits in any batch, weights kept once."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from osa.model import CheckpointError, ConfigError, EmbeddingModel
from osa.model.config import EncoderConfig
from osa.model.inference.packed_blocks import PackedBlocks, can_pack
from osa.model.inference.packed_linear import PackedLinear
from osa.model.inference.precision import in_float32, name_products, use_dtype
from osa.model.kernels import use_kernel
from osa.model.kernels.native_block import is_available
from osa.model.kernels.packed_weights import DTYPES
from osa.model.layers.block import Block
from osa.model.layers.mixers import MIXERS, TokenContext
from osa.model.layers.positions import rotary_table

pytestmark = pytest.mark.skipif(not is_available(), reason="needs the CPU kernel")
BIASES: dict[str, Any] = {
    "attention_bias": True,
    "ffn_up_bias": True,
    "ffn_down_bias": True,
    "norm_bias": True,
}
COMPLETED: dict[str, Any] = {"osa_pool": True, "osa_taps": 3, "osa_gate": True}
KINDS: dict[str, dict[str, Any]] = {
    "osa": {"mixer": "osa", "qk_norm": True},
    "osa of any width": {"mixer": "osa", "hidden_size": 60, "num_heads": 3, "ffn_size": 50},
    "completed": {"mixer": "osa", **COMPLETED},
    "completed after sums": {
        "mixer": "osa",
        "osa_pool": True,
        "osa_gate": True,
        "norm_type": "layer",
        "norm_place": "post",
        "positions": "none",
        **BIASES,
    },
    "completed of any width": {
        "mixer": "osa",
        "hidden_size": 60,
        "num_heads": 3,
        "ffn_size": 50,
        "osa_pool": True,
        "osa_taps": 2,
    },
    "without residual": {"mixer": "osa", "residual": False, "norm": False},
    "bert": {"norm_type": "layer", "norm_place": "post", **BIASES},
    "gte": {"norm_type": "layer", "norm_place": "post", "ffn_gated": True, **BIASES},
    "nomic": {"norm_type": "layer", "norm_place": "post", "ffn_gated": True, "activation": "silu"},
    "modernbert": {"norm_type": "layer", "ffn_gated": True, "embedding_norm": True},
    "pre-norm with biases": {"norm_type": "layer", "activation": "gelu_tanh", **BIASES},
    "rms after the sums": {"norm_place": "post"},
    "without norms": {"norm": False},
    "monarch": {"linear": "monarch", "mixer": "osa", **BIASES},
    "shared": {"share_qk": True, "attention_bias": True},
    "without projections": {"vo": "none", "mixer": "osa", "norm_type": "layer"},
    "without feed-forward": {"ffn": "none", "norm_place": "post", **BIASES},
    "minimal": {"share_qk": True, "vo": "none", "ffn": "none", "attention_bias": True},
}
ONE_CALL = ("osa", "osa of any width", "completed", "completed after sums", "bert")
LENGTHS = [1, 5, 40, 33, 200]
ERROR = {"float32": 3e-6, "bfloat16": 0.01, "int8": 0.05}
"""Of hidden states after three random blocks, over their own size."""
LEAST = {"float32": 0.9999999, "bfloat16": 0.9999, "int8": 0.997}
"""Cosines of the packaged model's vectors with those of float32."""


def blocks_of(**fields: Any) -> list[Block]:
    """Three random blocks, every parameter away from 0 and 1."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 64, "num_heads": 2, "ffn_size": 416, "vocab_size": 1}
    config = EncoderConfig.from_dict(
        {"mixer": "softmax", "qk_norm": False, "embedding_norm": False, **sizes, **fields}
    )
    blocks = [Block(config, layer) for layer in range(3)]
    for block in blocks:
        for parameter in block.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, -0.5, 1.5)
            else:
                fan = parameter.shape[1] if parameter.dim() == 2 else parameter.shape[1] ** 2
                nn.init.normal_(parameter, 0.0, fan**-0.25 if parameter.dim() > 2 else fan**-0.5)
    return blocks


def context_of(lengths: list[int], head: int) -> TokenContext:
    offsets = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    return TokenContext(None, offsets, rotary_table(places, head, 1e4))


def width_of(kind: str) -> tuple[int, int]:
    """Widths of hidden states and of a head."""
    hidden = KINDS[kind].get("hidden_size", 64)
    return hidden, hidden // KINDS[kind].get("num_heads", 2)


@functools.cache
def exact_results(kind: str) -> tuple[Tensor, Tensor]:
    """Hidden states of packed sequences, and what the blocks make of them in torch."""
    width, head = width_of(kind)
    with torch.inference_mode():
        exact = hidden = torch.randn(1, sum(LENGTHS), width)
        for block in blocks_of(**KINDS[kind]):
            exact = block(exact, context_of(LENGTHS, head))
    return hidden, exact


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_packed_blocks_are_the_blocks_and_a_sequence_has_the_same_bits_alone(
    products: str, kind: str, dtype: str
) -> None:
    _, head = width_of(kind)
    hidden, exact = exact_results(kind)
    before = hidden.clone()
    packed = PackedBlocks(blocks_of(**KINDS[kind]), nn.Identity(), dtype)
    found = packed(hidden, context_of(LENGTHS, head))
    assert torch.equal(hidden, before), "inputs were changed"
    scale = exact.square().mean().sqrt()
    assert ((found - exact).square().mean().sqrt() / scale) < ERROR[dtype]
    for part, whole in zip(hidden.split(LENGTHS, 1), found.split(LENGTHS, 1), strict=True):
        assert torch.equal(packed(part, context_of([part.shape[1]], head)), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kind",
    ["osa", "osa of any width", "completed", "completed after sums", "bert", "buckets", "window"],
)
@torch.inference_mode()
def test_one_call_gives_the_bits_of_mixers_that_are_called_one_by_one(
    kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that the library does not know."""
    others: dict[str, dict[str, Any]] = {
        "buckets": {"position_buckets": 8, "position_bucket_distance": 20},
        "window": {"local_window": 3, "global_every": 2, "positions": "rotary"},
    }
    fields = {**others, **KINDS}[kind]
    hidden = fields.get("hidden_size", 64)
    config = EncoderConfig.from_dict(
        {"mixer": "softmax", "qk_norm": False, "hidden_size": hidden, "num_heads": 2,
         "ffn_size": 100, "vocab_size": 50, "num_layers": 3, **fields}
    )  # fmt: skip
    model = use_dtype(EmbeddingModel(config), dtype)
    ids = [[1, 2, 3] * 9, [4], [5, 6]]
    (packed,) = model.encoder.blocks
    assert isinstance(packed, PackedBlocks)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_alternate", None)
        together = model.embed_ids(ids).embeddings
    monkeypatch.setattr(packed, "_pass", None)
    assert torch.equal(model.embed_ids(ids).embeddings, together)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixer", MIXERS)
@torch.inference_mode()
def test_padded_batches_go_block_by_block(mixer: str, dtype: str) -> None:
    """What pdssm rounds may choose another place of a one-hot column."""
    packed = PackedBlocks(blocks_of(mixer=mixer), nn.Identity(), dtype)
    hidden, mask = torch.randn(2, 9, 64), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    found = packed(hidden, TokenContext(mask, None, None))[mask]
    offsets = torch.tensor([0, 9, 14], dtype=torch.int32)
    expected = packed(hidden[mask][None], TokenContext(None, offsets, None))[0]
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    chooses = mixer == "pdssm" and dtype != "float32"  # rounding decides between equal rows
    assert error < (0.3 if chooses else ERROR[dtype])


def random_ids(lengths: list[int]) -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 29_000, length).tolist() for length in lengths]


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_are_near_those_of_float32(default_model: EmbeddingModel, dtype: str) -> None:
    ids = random_ids([1, 8, 30, 200, 700])
    exact = default_model.embed_ids(ids).embeddings
    found = use_dtype(copy.deepcopy(default_model), dtype).embed_ids(ids).embeddings
    assert found.dtype == torch.float32
    assert ((exact * found).sum(-1) >= LEAST[dtype]).all()
    assert not torch.equal(exact, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
@torch.no_grad()
def test_the_bits_do_not_depend_on_the_batch(
    default_model: EmbeddingModel, products: str, dtype: str, threads: int
) -> None:
    model = use_dtype(copy.deepcopy(default_model), dtype)
    rows = random_ids([1, 2, 3, 31, 32, 33, 64, 100, 129, 257, 600])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = model.embed_ids(rows).embeddings
        torch.set_num_threads(1)
        for row, ids in enumerate(rows):
            assert torch.equal(model.embed_ids([ids]).embeddings[0], together[row]), len(ids)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_float32_is_to_be_had_with_the_weights_as_they_were_rounded(
    default_model: EmbeddingModel, dtype: str
) -> None:
    ids = random_ids([40, 3])
    model = use_dtype(copy.deepcopy(default_model), dtype)
    narrow = model.embed_ids(ids).embeddings
    with in_float32(model):
        exact = model.embed_ids(ids).embeddings
    wanted = default_model.embed_ids(ids).embeddings
    if dtype == "float32":
        torch.testing.assert_close(exact, wanted, atol=5e-6, rtol=0)
    else:
        assert (exact * wanted).sum(-1).min() > (narrow * wanted).sum(-1).min()
    assert torch.equal(model.embed_ids(ids).embeddings, narrow)


def test_weights_are_kept_once(default_model: EmbeddingModel) -> None:
    def size(model: nn.Module) -> int:
        tensors = [*model.parameters(), *model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    whole = size(default_model.encoder.blocks)
    for dtype, share in (("float32", 1.0), ("bfloat16", 0.5), ("int8", 0.25)):
        model = use_dtype(copy.deepcopy(default_model), dtype)
        assert size(model.encoder.blocks) < 1.04 * share * whole, dtype


def test_a_layer_by_itself_is_the_layer() -> None:
    linear, inputs = nn.Linear(100, 66), torch.randn(5, 3, 100)
    found = PackedLinear(linear, "float32", parts=3)(inputs)
    torch.testing.assert_close(found, linear(inputs))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_model_is_not_saved(
    tiny_model: EmbeddingModel, tmp_path: Path, dtype: str
) -> None:
    model = use_dtype(copy.deepcopy(tiny_model), dtype)
    with pytest.raises(CheckpointError, match=r"use_dtype.*load it in float32 and save that"):
        model.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_the_library_does_not_compute_is_not_packed(tiny_model: EmbeddingModel) -> None:
    wide = blocks_of(hidden_size=320, num_heads=2)
    assert not can_pack(wide)
    assert not can_pack([])
    assert can_pack(blocks_of())
    assert not can_pack(blocks_of(residual="delta"))
    with use_kernel("torch"), pytest.raises(ConfigError, match="int8 needs the CPU kernel"):
        use_dtype(copy.deepcopy(tiny_model), "int8")
    with pytest.raises(ConfigError, match="must be one of float32, bfloat16, int8, got 'int4'"):
        use_dtype(copy.deepcopy(tiny_model), "int4")


def test_what_computes_products_is_named(tiny_model: EmbeddingModel, products: str) -> None:
    packed, plain = use_dtype(copy.deepcopy(tiny_model), "float32"), copy.deepcopy(tiny_model)
    assert name_products(packed) == f"native ({products})"
    assert name_products(plain) == "torch"


def test_weights_may_move_in_memory_once_they_are_packed(tiny_model: EmbeddingModel) -> None:
    """The library has addresses of its own copies."""
    model = use_dtype(copy.deepcopy(tiny_model), "float32")
    ids = [[1, 2, 3] * 9, [4]]
    with torch.inference_mode():
        before = model.embed_ids(ids).embeddings
        for parameter in model.encoder.parameters():
            parameter.data = torch.full_like(parameter, 7.0)
        table = tiny_model.get_parameter("encoder.embed.weight")
        model.get_parameter("encoder.embed.weight").data = table.data.clone()
        assert torch.equal(model.embed_ids(ids).embeddings, before)
