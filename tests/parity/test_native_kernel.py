"""The CPU kernel: the operator on every instruction set of this machine, and stable bits."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from osa.model import kernels
from osa.model.errors import InputError
from osa.model.functional.attention import osa_dense, osa_gram
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native
from osa.model.ops import attention
from tests.instruction_sets import instruction_set as instruction_set

pytestmark = pytest.mark.skipif(
    isinstance(native.library(), str), reason=f"the CPU kernel {native.library()}"
)

HEADS = 2
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 1e-3}
LENGTHS = [1, 2, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 513, 4097]
WIDTHS = [1, 3, 16, 20, 32, 64, 80, 128]
WAYS = [("length", 0.3, False), ("length", 3.0, True), ("paper", 0.01, False)]
"""Scale, alpha, and whether centred."""
ALPHA = torch.tensor([0.3, -0.15])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(
    length: int, width: int, dtype: torch.dtype = torch.float32, batch: int = 1
) -> list[Tensor]:
    """Queries, keys and values as the encoder has them: heads are views of token-major memory."""
    return list(torch.randn(3, batch, length, HEADS, width).to(dtype).transpose(2, 3))


def run(
    states: list[Tensor],
    alpha: Tensor = ALPHA,
    mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    scale: str = "length",
    center: bool = False,
) -> Tensor:
    with kernels.use_kernel("native"):
        query, key, value = states
        mixed: Tensor = attention(query, key, value, alpha, mask, cu_seqlens, scale, center)
        return mixed


def truth(states: list[Tensor], alpha: Tensor, scale: str, center: bool) -> Tensor:
    form = osa_dense if states[0].shape[2] <= 65 else osa_gram
    query, key, value = (part.double() for part in states)
    return form(query, key, value, alpha.double(), scale=scale, center=center)


def error(result: Tensor, expected: Tensor) -> float:
    return float((result.double() - expected).abs().max() / expected.abs().max())


@functools.cache
def cell(
    length: int, width: int, dtype: torch.dtype, scale: str, alpha: float, center: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Operands, angles and the reference; cached for the next instruction set."""
    states, angles = draw(length, width, dtype), torch.tensor([alpha, -0.5 * alpha])
    return states, angles, truth(states, angles, scale, center)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_the_operator(instruction_set: str, width: int, dtype: torch.dtype) -> None:
    """Each length of each width in three ways, one a type."""
    shift = WIDTHS.index(width) + list(TOLERANCE).index(dtype)
    for place, length in enumerate(LENGTHS):
        if length > 600 and (width not in (32, 64) or instruction_set == "baseline"):
            continue
        scale, alpha, center = WAYS[(place + shift) % len(WAYS)]
        states, angles, expected = cell(length, width, dtype, scale, alpha, center)
        result = run(states, angles, scale=scale, center=center)
        assert result.dtype == dtype
        assert error(result, expected) <= TOLERANCE[dtype], (length, scale, alpha, center)


@pytest.mark.parametrize("length", [5, 40, 64, 65, 200])
@pytest.mark.parametrize("angle", [1e-3, 0.5, 1.9, 2.1, 4.0, 8.0])
def test_angles_to_8_rad_keep_single_precision(
    instruction_set: str, length: int, angle: float
) -> None:
    states = draw(length, 32)
    unit = torch.ones(HEADS, dtype=torch.float64)
    query, key, _ = (part.double() for part in states)
    scores = query @ key.mT - key @ query.mT
    largest = torch.linalg.matrix_norm(scores, 2)[0] / (32**0.5 * length)
    alpha = (angle * unit / largest).float()
    assert error(run(states, alpha), truth(states, alpha, "length", False)) <= 2e-6


@pytest.mark.parametrize("length", [5, 64, 100, 5000])
@pytest.mark.parametrize("mean", [3.0, 30.0])
def test_correlated_tokens_do_not_cancel(length: int, mean: float) -> None:
    """Beyond 8 rad of ||c G J|| feature space turns to float64."""
    states = draw(length, 16)
    for part in states[:2]:
        part += mean * states[1][:, :, :1].clone()
    alpha = torch.tensor([0.05, 0.02])
    expected = truth(states, alpha, "paper", False)
    largest = 1.0 + 30 * (mean == 30.0)
    assert error(run(states, alpha, scale="paper"), expected) <= 2e-6 * largest


def test_rank_deficient_queries_and_keys() -> None:
    for length in (9, 100):
        states = draw(length, 32)
        states[0][..., 3:] = 0
        states[1][..., :] = states[1][..., :1]
        assert error(run(states), truth(states, ALPHA, "length", False)) <= 2e-6
    same = draw(80, 32)
    torch.testing.assert_close(run([same[0], same[0], same[2]]), same[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [20, 32])
def test_padding_is_left_out(instruction_set: str, width: int, dtype: torch.dtype) -> None:
    """Masked rows may have any values, give zeros, and do not change the bits of other rows."""
    length = 150
    mask = torch.ones(5, length, dtype=torch.bool)
    mask[1, 100:] = False  # right padding
    mask[2, :30] = False  # left padding
    mask[3] = torch.rand(length) < 0.5
    mask[4] = False
    for center in (False, True):
        states = draw(length, width, dtype, batch=5)
        for part in states:
            part.masked_fill_(~mask[:, None, :, None], torch.nan)
        result = run(states, mask=mask, center=center)
        for row in range(5):
            real = mask[row]
            assert not bool(result[row][:, ~real].any())
            if real.any():
                alone = run([part[row : row + 1][:, :, real] for part in states], center=center)
                assert torch.equal(result[row][:, real], alone[0])


def test_the_same_bits_in_every_batch_and_on_any_number_of_threads(threads: None) -> None:
    """100 random compositions in each type."""
    chooser = random.Random(0)
    sizes = [1, 2, 3, 8, 17, 30, 63, 64, 65, 70, 129, 300, 700, 2100]
    for dtype in (torch.float32, torch.bfloat16):
        pool = [draw(size, 32, dtype) for size in sizes]
        torch.set_num_threads(1)
        alone = [run(states) for states in pool]
        for composition in range(100):
            torch.set_num_threads(1 + composition % 2)
            chosen = chooser.choices(range(len(sizes)), k=chooser.randint(1, 12))
            packed = [torch.cat([pool[i][part] for i in chosen], dim=2) for part in range(3)]
            offsets = cu_seqlens_of([sizes[i] for i in chosen])
            parts = run(packed, cu_seqlens=offsets).split([sizes[i] for i in chosen], dim=2)
            for i, part in zip(chosen, parts, strict=True):
                assert torch.equal(part, alone[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("center", [False, True])
def test_long_sequences_are_cut_at_fixed_places(
    threads: None, dtype: torch.dtype, center: bool
) -> None:
    """Longer than a chunk: chunks are spread over threads, their sums added in order."""
    states = draw(9001, 32, dtype)
    expected = truth(states, ALPHA, "length", center)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(run(states, center=center))
    assert error(results[0], expected) <= TOLERANCE[dtype]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    packed = [torch.cat([part[:, :, :17], part], dim=2) for part in states]
    beside = run(packed, cu_seqlens=cu_seqlens_of([17, 9001]), center=center)
    assert torch.equal(beside[:, :, 17:], results[0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_what_is_no_number_stays_in_its_sequence(
    instruction_set: str, bad: float, part: int
) -> None:
    sizes = [40, 100, 5, 64, 300, 4500]
    for dtype in (torch.float32, torch.bfloat16):
        states = draw(sum(sizes), 32, dtype)
        offsets = cu_seqlens_of(sizes)
        expected = run(states, cu_seqlens=offsets).split(sizes, dim=2)
        for sick in (0, 1, 5):
            poisoned = [state.clone() for state in states]
            poisoned[part][0, 0, int(offsets[sick]) + 3] = bad
            result = run(poisoned, cu_seqlens=offsets).split(sizes, dim=2)
            for place in range(len(sizes)):
                if place == sick:
                    assert not bool(torch.isfinite(result[place][0, 0]).all())
                else:
                    assert torch.equal(result[place], expected[place])
            assert torch.equal(result[sick][:, 1], expected[sick][:, 1])  # the other head


def test_views_are_read_where_they_lie() -> None:
    joint = torch.randn(2, 70, 3, HEADS, 32)
    query, key, value = (part.transpose(1, 2) for part in joint.unbind(2))
    copies = [part.contiguous() for part in (query, key, value)]
    result = run([query, key, value])
    assert torch.equal(result, run(copies))
    assert result.transpose(1, 2).is_contiguous()
    every_second = [torch.randn(1, HEADS, 70, 64)[..., ::2] for _ in range(3)]
    assert torch.equal(run(every_second), run([part.contiguous() for part in every_second]))


def test_gradients_follow_the_kernel() -> None:
    """The gradient is plain torch's: it must be that of what the kernel computes."""
    for length in (9, 200):
        states = [part.requires_grad_() for part in draw(length, 32)]
        alpha = ALPHA.clone().requires_grad_()
        weight = torch.randn_like(states[0])
        (run(states, alpha) * weight).sum().backward()
        precise = [part.detach().double().requires_grad_() for part in states]
        precise_alpha = ALPHA.double().requires_grad_()
        query, key, value = precise
        (osa_gram(query, key, value, precise_alpha, scale="length") * weight).sum().backward()
        for rough, exact in zip([*states, alpha], [*precise, precise_alpha], strict=True):
            assert rough.grad is not None
            assert exact.grad is not None
            assert error(rough.grad, exact.grad) <= 1e-5


def test_empty_sequences_and_empty_batches() -> None:
    states = draw(7, 32)
    result = run(states, cu_seqlens=cu_seqlens_of([0, 3, 0, 0, 4, 0]))
    assert torch.equal(result[:, :, 3:], run([part[:, :, 3:] for part in states]))
    for shape in ((0, HEADS, 3, 32), (2, HEADS, 0, 32)):
        assert run([torch.zeros(shape)] * 3).shape == shape
    padding = run(states, mask=torch.zeros(1, 7, dtype=torch.bool))
    assert torch.equal(padding, torch.zeros_like(padding))


def test_offsets_that_are_none_are_refused() -> None:
    states = draw(7, 32)
    for offsets in ([0, 3], [1, 7], [0, 5, 3, 7]):
        with pytest.raises(InputError, match="cu_seqlens must rise"):
            run(states, cu_seqlens=torch.tensor(offsets, dtype=torch.int32))
    with pytest.raises(InputError, match="cu_seqlens must rise"):
        run(draw(0, 32), cu_seqlens=cu_seqlens_of([3]))
    with pytest.raises(InputError, match="integer tensor"):
        run(states, cu_seqlens=torch.tensor([0.0, 7.0]))


def test_unknown_instruction_sets_are_refused() -> None:
    with pytest.raises(InputError, match=r"must be one of .*baseline, got 'abacus'"):
        native.use_instruction_set("abacus")
