"""Completed OSA: the formula, its torch form and the CPU kernel; padded, packed and alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from osa.model import ops
from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError, InputError
from osa.model.functional.attention import osa_dense
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native, use_kernel
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


def states_of(mixer: OsaMixer, rows: int, length: int, dtype: torch.dtype) -> list[Tensor | None]:
    """Random queries, keys, values and what tokens say, if they say anything."""
    assert mixer.completion is not None
    states = [torch.randn(rows, HEADS, length, WIDTH).to(dtype) for _ in range(3)]
    count = HEADS * mixer.completion.num_sides
    return [*states, torch.randn(rows, length, count) * 3 if count else None]


def complete(mixer: OsaMixer, states: list[Tensor | None], context: TokenContext) -> Tensor:
    query, key, value, side = states
    assert query is not None
    assert key is not None
    assert value is not None
    return mixer.mix_heads(query, key, value, context._replace(side=side))


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_kernel_gives_what_torch_gives_on_every_instruction_set(
    instruction_set: str, dtype: torch.dtype
) -> None:
    lengths = [*LENGTHS, 5000]
    mixer, context = mixer_of("all"), TokenContext(None, cu_seqlens_of(lengths), None)
    states = states_of(mixer, 1, sum(lengths), dtype)
    with use_kernel("torch"):
        wanted = complete(mixer, states, context)
    with use_kernel("native"):
        found = complete(mixer, states, context)
    atol = 1e-5 if dtype == torch.float32 else 0.06
    torch.testing.assert_close(found, wanted, atol=atol, rtol=1e-5)


@needs_kernel
@pytest.mark.parametrize("options", OPTIONS)
@torch.inference_mode()
def test_the_kernel_completes_padded_batches_wherever_padding_lies(options: str) -> None:
    mixer = mixer_of(options)
    mask = torch.rand(5, 4200) < 0.5
    mask[0], mask[1], mask[2, :9], mask[3, 20:] = True, False, False, False
    states = states_of(mixer, mask.shape[0], mask.shape[1], torch.float32)
    results = []
    for kernel in ("torch", "native"):
        with use_kernel(kernel):
            results.append(complete(mixer, states, TokenContext(mask, None, None)).transpose(1, 2))
    torch.testing.assert_close(results[0][mask], results[1][mask], atol=2e-5, rtol=1e-5)
    assert not results[1][~mask].any()
    row = mask[4].nonzero()[:, 0]  # its tokens side by side have the same bits
    alone = [part[4:, :, row] for part in states[:3] if part is not None]
    side = None if states[3] is None else states[3][4:, row]
    with use_kernel("native"):
        packed = complete(
            mixer, [*alone, side], TokenContext(None, cu_seqlens_of([len(row)]), None)
        )
    assert torch.equal(packed.transpose(1, 2)[0], results[1][4, row])


@needs_kernel
@pytest.mark.parametrize("options", OPTIONS)
@torch.inference_mode()
def test_the_bits_of_a_sequence_depend_on_nothing_else(options: str) -> None:
    mixer, lengths = mixer_of(options), [*LENGTHS, *LONG]
    *states, said = states_of(mixer, 1, sum(lengths), torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            context = TokenContext(None, cu_seqlens_of(lengths), None)
            results.append(complete(mixer, [*states, said], context))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        own = [part[:, :, rows] for part in states if part is not None]
        context = TokenContext(None, cu_seqlens_of([length]), None)
        alone = complete(mixer, [*own, None if said is None else said[:, rows]], context)
        assert torch.equal(alone, results[0][:, :, rows]), length
        start += length


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": (1, 5, 3)}, r"side must be \[1, 5, 8\], got \(1, 5, 3\)"),
        ({"side": None}, r"side must be \[1, 5, 8\], got None"),
        ({"pool": (3,)}, r"pool must be \[2\], one a head, got \(3,\)"),
        ({"taps": (2, 5)}, r"taps must be \[2, 2 R\], got \(2, 5\)"),
    ],
)
def test_terms_that_do_not_fit_are_refused(
    change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    shapes = {"identity": (2,), "mixed": (2,), "pool": (2,), "taps": (2, 6), "side": (1, 5, 8)}
    parts = [None if shape is None else torch.ones(shape) for shape in (shapes | change).values()]
    states = [torch.ones(1, 2, 5, 4)] * 3
    with pytest.raises(InputError, match=message):
        ops.completed_attention(*states, torch.ones(2), *parts, gated=True)


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
