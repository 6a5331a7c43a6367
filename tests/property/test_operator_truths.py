"""Properties of orthogonal self-attention, for every form of it. arXiv:2602.05996."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from osa.model.functional.attention import (
    angle_factor,
    mask_and_center,
    osa_dense,
    osa_gram,
    osa_qr,
    skew_scores,
)
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.ops import attention

HEADS, WIDTH = 2, 4
Form = Callable[..., Tensor]
lengths = st.integers(min_value=1, max_value=21)
seeds = st.integers(min_value=0, max_value=2**31)
angles = st.sampled_from([0.0, 0.02, 0.7, -1.3, 4.0])
scales = st.sampled_from(["paper", "length"])
profile = settings(max_examples=40, deadline=None)


def token_space(query: Tensor, key: Tensor, value: Tensor, alpha: Tensor, **options: Any) -> Tensor:
    return osa_gram(query, key, value, alpha, regime="token", **options)


def feature_space(
    query: Tensor, key: Tensor, value: Tensor, alpha: Tensor, **options: Any
) -> Tensor:
    return osa_gram(query, key, value, alpha, regime="feature", **options)


FORMS = [osa_dense, osa_qr, token_space, feature_space]
forms = st.sampled_from(FORMS)


def draw(length: int, seed: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, batch, HEADS, length, WIDTH)
    query, key, value = torch.randn(shape, dtype=torch.float64, generator=generator)
    return query, key, value


def angle(alpha: float) -> Tensor:
    return torch.tensor([alpha, 0.5 * alpha], dtype=torch.float64)


def close(left: Tensor, right: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance)


def attention_matrix(form: Form, query: Tensor, key: Tensor, alpha: Tensor) -> Tensor:
    """A itself, column block by column block: the form applied to the identity."""
    length = query.shape[-2]
    columns = []
    identity = torch.eye(length, dtype=query.dtype)
    for start in range(0, length, WIDTH):
        block = torch.zeros_like(query)
        part = identity[:, start : start + WIDTH]
        block[..., : part.shape[1]] = part
        columns.append(form(query, key, block, alpha)[..., : part.shape[1]])
    return torch.cat(columns, dim=-1)


@profile
@given(form=forms, length=lengths, seed=seeds, alpha=angles)
def test_the_attention_matrix_is_a_rotation(
    form: Form, length: int, seed: int, alpha: float
) -> None:
    query, key, _ = draw(length, seed)
    matrix = attention_matrix(form, query, key, angle(alpha))
    close(matrix.mT @ matrix, torch.eye(length, dtype=matrix.dtype).expand_as(matrix), 1e-9)
    close(torch.linalg.det(matrix), torch.ones(1, HEADS, dtype=matrix.dtype), 1e-9)


@profile
@given(form=forms, length=lengths, seed=seeds)
def test_angle_zero_is_the_identity(form: Form, length: int, seed: int) -> None:
    query, key, value = draw(length, seed)
    close(form(query, key, value, angle(0.0)), value, 0.0)


@profile
@given(form=forms, length=lengths, seed=seeds, alpha=angles)
def test_norms_of_value_columns_are_kept(form: Form, length: int, seed: int, alpha: float) -> None:
    query, key, value = draw(length, seed)
    close(form(query, key, value, angle(alpha)).norm(dim=-2), value.norm(dim=-2))


@profile
@given(form=forms, length=lengths, seed=seeds, alpha=angles, scale=scales, center=st.booleans())
def test_permuting_tokens_permutes_the_result(
    form: Form, length: int, seed: int, alpha: float, scale: str, center: bool
) -> None:
    operands = draw(length, seed)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    permuted = form(*(part[:, :, order] for part in operands), angle(alpha),
                    scale=scale, center=center)  # fmt: skip
    close(permuted, form(*operands, angle(alpha), scale=scale, center=center)[:, :, order])


@profile
@given(length=lengths, seed=seeds, alpha=angles, scale=scales, center=st.booleans())
def test_all_forms_agree(length: int, seed: int, alpha: float, scale: str, center: bool) -> None:
    operands = draw(length, seed)
    options: dict[str, Any] = {"scale": scale, "center": center}
    query, key, value = operands
    truth = osa_dense(query, key, value, angle(alpha), **options)
    for form in FORMS[1:]:
        close(form(*operands, angle(alpha), **options), truth)


@profile
@given(length=lengths, seed=seeds, rank=st.integers(0, 3))
def test_all_forms_agree_when_queries_and_keys_lose_rank(length: int, seed: int, rank: int) -> None:
    query, key, value = draw(length, seed)
    query[..., rank:] = 0.0
    key[..., rank:] = key[..., :1]
    truth = osa_dense(query, key, value, angle(1.0))
    for form in FORMS[1:]:
        close(form(query, key, value, angle(1.0)), truth)


@profile
@given(form=forms, length=lengths, padding=st.integers(0, 12), seed=seeds, scale=scales,
       center=st.booleans())  # fmt: skip
def test_padding_changes_nothing(
    form: Form, length: int, padding: int, seed: int, scale: str, center: bool
) -> None:
    operands = draw(length + padding, seed)
    mask = (torch.arange(length + padding) < length)[None]
    options: dict[str, Any] = {"scale": scale, "center": center}
    padded = form(*operands, angle(1.0), mask=mask, **options)
    alone = form(*(part[:, :, :length] for part in operands), angle(1.0), **options)
    close(padded[:, :, :length], alone)
    close(padded[:, :, length:], torch.zeros_like(padded[:, :, length:]), 0.0)


@profile
@given(sizes=st.lists(st.integers(0, 21), min_size=1, max_size=7), seed=seeds, scale=scales,
       center=st.booleans())  # fmt: skip
def test_packing_changes_nothing(sizes: list[int], seed: int, scale: str, center: bool) -> None:
    operands = draw(sum(sizes), seed)
    packed = attention(*operands, angle(1.0), None, cu_seqlens_of(sizes), scale, center)
    parts = zip(*(part.split(sizes, dim=2) for part in operands), strict=True)
    options: dict[str, Any] = {"scale": scale, "center": center}
    alone = [
        osa_dense(part[0], part[1], part[2], angle(1.0), **options)
        for part in parts
        if part[0].shape[2]
    ]
    close(packed, torch.cat(alone, dim=2) if alone else packed)


@pytest.mark.parametrize("form", FORMS)
def test_a_sequence_of_padding_alone_is_zero(form: Form) -> None:
    operands = draw(9, 0)
    result = form(*operands, angle(1.0), mask=torch.zeros(1, 9, dtype=torch.bool))
    assert torch.equal(result, torch.zeros_like(result))


def test_equal_queries_and_keys_attend_to_nothing_but_themselves() -> None:
    query, _, value = draw(9, 0)
    close(osa_gram(query, query, value, angle(2.0)), value, 1e-12)


def test_scores_are_skew_and_length_scale_divides_by_real_tokens() -> None:
    query, key, _ = draw(6, 0)
    mask = torch.tensor([[True, True, True, False, False, False]])
    factor = angle_factor(query, angle(3.0), mask, "length")
    close(factor, angle(3.0)[None] / (WIDTH**0.5 * 3))
    scores = skew_scores(query, key, factor)
    close(scores, -scores.mT, 0.0)


def test_centering_removes_the_mean_of_real_tokens_only() -> None:
    query, _, _ = draw(5, 0)
    mask = torch.tensor([[True, True, True, False, False]])
    centered = mask_and_center(query, mask, True)
    close(centered.sum(2), torch.zeros_like(centered[:, :, 0]), 1e-12)
    close(centered[:, :, 3:], torch.zeros_like(centered[:, :, 3:]), 0.0)


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("length", [5, 8, 9, 100])
@pytest.mark.parametrize("alpha", [0.02, 1.0])
def test_float32_follows_float64_for_correlated_tokens(
    mean: float, length: int, alpha: float
) -> None:
    """Feature space in float32 loses digits where ||c G J|| is far above the angle."""
    query, key, value = draw(length, 0)
    query, key = query + mean * key[:, :, :1], key + mean * key[:, :, :1]
    truth = osa_dense(query, key, value, angle(alpha))
    result = osa_gram(query.float(), key.float(), value.float(), angle(alpha).float())
    largest = float(
        torch.linalg.matrix_norm(skew_scores(query, key, angle(alpha)[None] / 2), 2).max()
    )
    close(result.double(), truth, 3e-6 * (1 + largest))


@pytest.mark.parametrize("shape", [(0, HEADS, 3, WIDTH), (2, HEADS, 0, WIDTH)])
def test_nothing_in_nothing_out(shape: tuple[int, ...]) -> None:
    empty = torch.zeros(shape, requires_grad=True)
    result = attention(empty, empty, empty, angle(1.0).float())
    assert result.shape == shape
    result.sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == shape
