"""Weights as 8-bit integers: few bytes, an error that is bounded, damage that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from osa.model import CheckpointError, EmbeddingModel
from osa.model.checkpoint import WEIGHTS, write_manifest
from osa.model.stored_weights import SCALE, from_stored, quantize_rows, to_stored
from tests.conftest import make_tiny_model

SIZES = {"hidden_size": 96, "num_heads": 3, "ffn_size": 192, "matryoshka_dims": ()}
TEXTS = ["the cat sat on the mat", "a dog ran"]
SOURCE = Path("model.safetensors")


@given(st.integers(0, 2**32 - 1), st.floats(-6.0, 6.0))
def test_the_error_is_half_a_step_of_the_row(seed: int, magnitude: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 40, generator=generator) * 10.0**magnitude
    codes, scale = quantize_rows(matrix)
    error = (codes.float() * scale[:, None] - matrix).abs().amax(1)
    assert bool((error <= 0.5001 * scale).all())
    assert codes.abs().amax(1).tolist() == [127, 127, 127]


def test_rows_of_zeros_stay_zero() -> None:
    codes, scale = quantize_rows(torch.zeros(2, 5))
    assert not codes.any()
    assert not scale.any()


def test_matrices_are_integers_and_the_rest_is_float16() -> None:
    weights = {"wide": torch.randn(64, 128), "small": torch.randn(4, 4), "line": torch.randn(8192)}
    stored = to_stored(weights, torch.int8)
    types = {name: tensor.dtype for name, tensor in stored.items()}
    assert types == {
        "wide": torch.int8,
        "wide" + SCALE: torch.float32,
        "small": torch.float16,
        "line": torch.float16,
    }
    again = to_stored(from_stored(stored, SOURCE), torch.int8)
    assert all(torch.equal(again[name], stored[name]) for name in ("wide", "small", "line"))


def test_a_model_of_integers_is_small_and_near(tmp_path: Path) -> None:
    model = make_tiny_model(**SIZES)
    model.save_pretrained(tmp_path / "whole", torch.float32)
    model.save_pretrained(tmp_path / "small", torch.int8)
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.3 * sizes[0]
    loaded = EmbeddingModel.from_pretrained(tmp_path / "small")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    near = (loaded.encode(TEXTS) * model.encode(TEXTS)).sum(-1)
    assert near.min() > 0.999


def _without_scale(tensors: dict[str, Tensor], name: str) -> None:
    del tensors[name + SCALE]


def _short_scale(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name + SCALE] = tensors[name + SCALE][:-1].clone()


def _half_scale(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name + SCALE] = tensors[name + SCALE].half()


def _stray_scale(tensors: dict[str, Tensor], name: str) -> None:
    tensors["encoder.norm.weight" + SCALE] = torch.ones(3)


def _infinite_scale(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name + SCALE][0] = torch.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_scale, "has no encoder"),
        (_short_scale, "allowed is a matrix with one float32 a row"),
        (_half_scale, "allowed is a matrix with one float32 a row"),
        (_stray_scale, "is the scale of no integers"),
        (_infinite_scale, "not finite"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: object, message: str) -> None:
    make_tiny_model(**SIZES).save_pretrained(tmp_path / "small", torch.int8)
    tensors = load_file(tmp_path / "small" / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.dtype == torch.int8)
    assert callable(damage)
    damage(tensors, name)
    save_file(tensors, tmp_path / "small" / WEIGHTS)
    write_manifest(tmp_path / "small")
    with pytest.raises(CheckpointError, match=message):
        EmbeddingModel.from_pretrained(tmp_path / "small")


def test_a_value_that_is_not_finite_is_not_stored() -> None:
    matrix = torch.randn(64, 128)
    matrix[3, 5] = torch.nan
    with pytest.raises(CheckpointError, match="wide has a value that is not finite"):
        to_stored({"wide": matrix}, torch.int8)
