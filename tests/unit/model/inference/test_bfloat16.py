"""bfloat16: close to float32, the same bits in any batch, and float32 on request."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from osa.model import CheckpointError, EmbeddingModel
from osa.model.inference.bfloat16 import use_bfloat16
from osa.model.inference.bfloat16_linear import SUM_WIDTH, Bfloat16Linear
from osa.model.inference.precision import in_float32
from osa.model.processor import has_fast_bfloat16

TEXTS = ["The cat sat.", "A longer sentence about linear attention, and what it costs.", "x" * 400]


def bfloat16_copy(model: EmbeddingModel, keep_float32: bool = True) -> EmbeddingModel:
    return use_bfloat16(copy.deepcopy(model), keep_float32)


@pytest.mark.parametrize("width", [16, SUM_WIDTH, SUM_WIDTH + 1, 1536])
def test_a_bfloat16_layer_rounds_its_operands_and_sums_in_float32(width: int) -> None:
    linear = nn.Linear(width, 8, bias=False)
    inputs = torch.randn(5, width)
    found = Bfloat16Linear(linear, keep_float32=True)(inputs)
    operands = inputs.bfloat16().double(), linear.weight.detach().bfloat16().double()
    expected = operands[0] @ operands[1].T
    assert found.dtype == torch.float32
    scale = (operands[0].abs() @ operands[1].abs().T).max().item()
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), atol=scale * 2**-9)


def test_vectors_are_near_those_of_float32(default_model: EmbeddingModel) -> None:
    exact = default_model.encode(TEXTS)
    found = bfloat16_copy(default_model).encode(TEXTS)
    assert found.dtype == torch.float32
    assert ((exact * found).sum(-1) > 0.9998).all()
    assert not torch.equal(exact, found), "nothing was rounded"


def test_float32_is_still_there(default_model: EmbeddingModel) -> None:
    model = bfloat16_copy(default_model)
    narrow = model.encode(TEXTS)
    with in_float32(model):
        exact = model.encode(TEXTS)
    torch.testing.assert_close(exact, default_model.encode(TEXTS), atol=5e-6, rtol=0)
    assert torch.equal(model.encode(TEXTS), narrow)


@pytest.mark.skipif(
    not has_fast_bfloat16("cpu"), reason="the order of sums is known for AMX products"
)
@torch.no_grad()
def test_the_bits_do_not_depend_on_the_batch(default_model: EmbeddingModel) -> None:
    model = bfloat16_copy(default_model, keep_float32=False)
    generator = np.random.default_rng(0)
    lengths = [1, 2, 31, 32, 33, 64, 100, 129, 257, 300, 600, 1100]
    rows = [generator.integers(0, 30_000, length).tolist() for length in lengths]
    together = model.embed_ids(rows).embeddings
    for row, ids in enumerate(rows):
        assert torch.equal(model.embed_ids([ids]).embeddings[0], together[row]), len(ids)


def test_a_model_without_its_float32_weights_is_not_saved(
    tiny_model: EmbeddingModel, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"use_dtype.*load it in float32 and save that"):
        bfloat16_copy(tiny_model, keep_float32=False).save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
