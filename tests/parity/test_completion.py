"""Completed OSA: the formula, its torch form and the CPU kernel; padded, packed and alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.functional.attention import osa_dense
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native, native_completion, use_kernel
from osa.model.layers.initialization import initialize_mixer
from osa.model.layers.mixers import OsaMixer, TokenContext, make_mixer
from tests.instruction_sets import instruction_set as instruction_set

HEADS, WIDTH = 2, 20
D = HEADS * WIDTH
OPTIONS: dict[str, dict[str, Any]] = {
    "pool": {"osa_pool": True},
    "taps": {"osa_taps": 2},
    "gate": {"osa_gate": True},
    "all": {"osa_pool": True, "osa_taps": 3, "osa_gate": True},
}
LENGTHS = [1, 2, 5, 33, 70]
LONG = [4096, 3, 9000]


def mixer_of(options: str, **fields: Any) -> OsaMixer:
    """A mixer whose every parameter is random."""
    config = EncoderConfig(
        vocab_size=1, hidden_size=D, num_heads=HEADS, ffn_size=8, **OPTIONS[options], **fields
    )
    torch.manual_seed(0)
    mixer = make_mixer(config)
    assert isinstance(mixer, OsaMixer)
    for name, parameter in mixer.named_parameters():
        scale = 0.7 if parameter.dim() < 2 or "taps" in name else D**-0.5
        parameter.data.normal_(0.0, scale)
    return mixer


@torch.no_grad()
def truth(mixer: OsaMixer, hidden: Tensor) -> Tensor:
    """One sequence [N, D] by the formula, as a sum of matrices, in float64."""
    states = hidden.double()
    length, by = len(hidden), mixer.completion
    assert by is not None
    joint = (states @ mixer.qkv.weight.double().T).view(length, 3, HEADS, WIDTH)
    query, key, value = joint.unbind(1)
    if mixer.qk_norm:
        query, key = (
            part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() for part in (query, key)
        )
    side = torch.zeros(length, 4 * HEADS, dtype=torch.float64)
    if isinstance(mixer.side, torch.nn.Linear):
        side = states @ mixer.side.weight.double().T + mixer.side.bias.double()
    rows = []
    for head in range(HEADS):
        scores = query[:, head] @ key[:, head].T
        factor = float(mixer.alpha[head]) / (math.sqrt(WIDTH) * length)
        matrix = torch.linalg.matrix_exp(factor * (scores - scores.T))
        first = HEADS if by.pool is not None else 0
        gates = [torch.zeros(length, dtype=torch.float64)] * 3
        if by.gated:
            gates = [side[:, first + HEADS * n + head] for n in range(3 if first else 2)]
        own = by.identity[head].double() + gates[0]
        change = by.mixed[head].double() * (1 + gates[1])
        total = torch.diag(own - change) + change[:, None] * matrix
        if by.pool is not None:
            share = by.pool[head].double() * (1 + gates[2])
            total += share[:, None] * side[:, head].softmax(0)
        if by.taps is not None:
            reach = by.taps.shape[1] // 2
            offsets = [*range(-reach, 0), *range(1, reach + 1)]
            for place, offset in enumerate(offsets):
                if abs(offset) < length:
                    ones = torch.ones(length - abs(offset), dtype=torch.float64)
                    total += by.taps[head, place].double() * torch.diag(ones, -offset)
        rows.append(total @ value[:, head])
    joined: Tensor = torch.stack(rows, 1).flatten(1) @ mixer.out.weight.double().T
    return joined


def packed(mixer: OsaMixer, parts: list[Tensor]) -> list[Tensor]:
    lengths = [len(part) for part in parts]
    context = TokenContext(None, cu_seqlens_of(lengths), None)
    found: Tensor = mixer(torch.cat(parts)[None], context, torch.nn.Identity())
    return list(found[0].split(lengths))


def padded(mixer: OsaMixer, parts: list[Tensor], left: int = 0) -> list[Tensor]:
    """With padding on the right, ``left`` cells of it on the left; what is in it is no number."""
    width = left + max(map(len, parts))
    hidden = torch.full((len(parts), width, D), 3.0)
    mask = torch.zeros(len(parts), width, dtype=torch.bool)
    for row, part in enumerate(parts):
        hidden[row, left : left + len(part)] = part
        mask[row, left : left + len(part)] = True
    found: Tensor = mixer(hidden, TokenContext(mask, None, None), torch.nn.Identity())
    return [row[keep] for row, keep in zip(found, mask, strict=True)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["packed", "padded", "padded on the left", "kernel"])
def test_every_form_is_the_formula(options: str, way: str) -> None:
    if way == "kernel" and isinstance(native.library(), str):
        pytest.skip(f"the CPU kernel {native.library()}")
    mixer = mixer_of(options)
    parts = [torch.randn(length, D) for length in LENGTHS]
    if way == "kernel":
        with torch.no_grad(), use_kernel("native"):
            found = packed(mixer, parts)
    elif way == "packed":
        found = packed(mixer, parts)
    else:
        found = padded(mixer, parts, 2 if "left" in way else 0)
    for part, result in zip(parts, found, strict=True):
        torch.testing.assert_close(result.double(), truth(mixer, part), atol=2e-5, rtol=2e-5)


def test_at_the_start_it_is_osa() -> None:
    config = EncoderConfig(vocab_size=1, hidden_size=D, num_heads=HEADS, **OPTIONS["all"])
    completed = make_mixer(config)
    initialize_mixer(completed, torch.Generator().manual_seed(1))
    plain = make_mixer(EncoderConfig(vocab_size=1, hidden_size=D, num_heads=HEADS))
    plain.load_state_dict(completed.state_dict(), strict=False)
    parts = [torch.randn(9, D)]
    assert isinstance(completed, OsaMixer)
    assert isinstance(plain, OsaMixer)
    torch.testing.assert_close(packed(completed, parts), packed(plain, parts), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("form", ["packed", "padded"])
def test_gradients(options: str, form: str) -> None:
    mixer = mixer_of(options).double()
    assert mixer.completion is not None
    hidden = torch.randn(1, 6, D, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 1, 6], dtype=torch.int32)
    mask = torch.tensor([[True] * 5 + [False]])
    context = TokenContext(None, offsets, None)
    if form == "padded":
        context = TokenContext(mask, None, None)
    weights = [*mixer.completion.parameters(), mixer.alpha]

    def run(states: Tensor, *_: Tensor) -> Tensor:
        return mixer.mix(states, context, torch.nn.Identity())[:, :5]

    assert torch.autograd.gradcheck(run, (hidden, *weights), atol=1e-6, fast_mode=True)


needs_kernel = pytest.mark.skipif(
    isinstance(native.library(), str), reason=f"the CPU kernel {native.library()}"
)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_kernel_gives_what_torch_gives_on_every_instruction_set(
    instruction_set: str, dtype: torch.dtype
) -> None:
    lengths = [*LENGTHS, 5000]
    mixer, context = mixer_of("all"), TokenContext(None, cu_seqlens_of(lengths), None)
    assert mixer.completion is not None
    shape = (1, HEADS, sum(lengths), WIDTH)
    mixed, value = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    side = torch.randn(1, sum(lengths), HEADS * mixer.completion.num_sides) * 3
    with use_kernel("torch"):
        wanted = mixer.completion(mixed.clone(), value, side, context)
    with use_kernel("native"):
        found = mixer.completion(mixed.clone(), value, side, context)
    atol = 1e-5 if dtype == torch.float32 else 0.06
    torch.testing.assert_close(found, wanted, atol=atol, rtol=1e-5)


@needs_kernel
@pytest.mark.parametrize("options", OPTIONS)
@torch.inference_mode()
def test_the_bits_of_a_sequence_depend_on_nothing_else(options: str) -> None:
    mixer = mixer_of(options)
    assert mixer.completion is not None
    by, lengths = mixer.completion.weights(), [*LENGTHS, *LONG]
    mixed, value = torch.randn(2, 1, HEADS, sum(lengths), WIDTH)
    count = max(1, HEADS * mixer.completion.num_sides)
    side = torch.randn(1, sum(lengths), count)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(
                native_completion.complete_packed_(
                    mixed.clone(), value, side, by, cu_seqlens_of(lengths)
                )
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        alone = native_completion.complete_packed_(
            mixed[:, :, rows].clone(), value[:, :, rows], side[:, rows], by, cu_seqlens_of([length])
        )
        assert torch.equal(alone, results[0][:, :, rows]), length
        start += length


@needs_kernel
@torch.inference_mode()
def test_what_is_no_number_stays_in_its_sequence() -> None:
    mixer = mixer_of("all")
    parts = [torch.randn(4, D), torch.randn(40, D)]
    parts[1][7, 0] = math.nan
    first, second = packed(mixer, parts)
    assert torch.isfinite(first).all()
    assert torch.isnan(second).all()


@pytest.mark.parametrize("options", ["pool", "taps", "gate"])
def test_other_mixers_are_not_completed(options: str) -> None:
    config = EncoderConfig(vocab_size=1, mixer="softmax", **OPTIONS[options])
    with pytest.raises(ConfigError, match="complete the osa mixer, not softmax"):
        make_mixer(config)


def test_the_reach_is_bounded() -> None:
    with pytest.raises(ConfigError, match="osa_taps must be 0 to 8, got 9"):
        EncoderConfig(vocab_size=1, osa_taps=9)


def test_dense_form_is_orthogonal_and_cannot_average() -> None:
    """Why there is a completion: the nearest orthogonal matrix is far from a mean."""
    query, key = torch.randn(2, 1, 1, 30, 30, dtype=torch.float64)
    eye = torch.eye(30, dtype=torch.float64)[None, None]
    mixing = osa_dense(query, key, eye, torch.tensor([1.0], dtype=torch.float64))[0, 0]
    torch.testing.assert_close(mixing @ mixing.T, eye[0, 0])
    assert (mixing - 1 / 30).square().sum() >= 29 - 1e-9
