"""Mixers whose tokens follow one another, by the CPU kernel on every instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.errors import InputError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native, native_recurrence, use_kernel
from osa.model.kernels.native_recurrence import KINDS, mix_packed
from osa.model.layers.mixers import make_mixer
from osa.model.layers.mixers.rectangle import RecurrentMixer

pytestmark = pytest.mark.skipif(
    isinstance(native.library(), str), reason=f"the CPU kernel {native.library()}"
)
HEADS = 3
SIZES = [1, 2, 0, 3, 70, 17]
OFFSETS = cu_seqlens_of(SIZES)
WIDTHS = [6, 32, 48]
"""Of heads: less than a vector, whole vectors, an odd number of them."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def make(kind: str, width: int) -> RecurrentMixer:
    """A mixer whose own weights are away from their simple start."""
    config = EncoderConfig(
        vocab_size=5, hidden_size=HEADS * width, num_heads=HEADS, mixer=kind, num_layers=1
    )
    mixer = make_mixer(config)
    assert isinstance(mixer, RecurrentMixer)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    return mixer


def states_of(mixer: RecurrentMixer, total: int) -> tuple[Tensor, ...]:
    """As a joint projection gives them: side by side for every token."""
    widths = [mixer.head_dim] * mixer.parts + [mixer.scalars] * bool(mixer.scalars)
    joint = torch.randn(total, HEADS * sum(widths))
    return tuple(
        part.unflatten(-1, (HEADS, -1)).transpose(0, 1)[None]
        for part in joint.split([HEADS * width for width in widths], -1)
    )


def by_equations(mixer: RecurrentMixer, states: tuple[Tensor, ...]) -> Tensor:
    """Sequence by sequence in torch, in float64."""
    exact = mixer.double()
    parts = [
        exact.mix_rectangle(tuple(part.double() for part in sequence), None)
        for sequence in zip(*(state.split(SIZES, 2) for state in states), strict=True)
        if sequence[0].shape[2]
    ]
    mixer.float()
    return torch.cat(parts, 2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_torch(
    kind: native_recurrence.Kind, width: int, instruction_set: str
) -> None:
    mixer = make(kind, width)
    states = states_of(mixer, sum(SIZES))
    found = mix_packed(kind, states, mixer.native_weights(), OFFSETS)
    expected = by_equations(mixer, states)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_read_and_written(kind: native_recurrence.Kind, instruction_set: str) -> None:
    mixer = make(kind, 32)
    states = tuple(state.bfloat16() for state in states_of(mixer, sum(SIZES)))
    found = mix_packed(kind, states, mixer.native_weights(), OFFSETS)
    assert found.dtype == torch.bfloat16
    wide = tuple(state.float() for state in states)
    expected = mix_packed(kind, wide, mixer.native_weights(), OFFSETS)
    assert torch.equal(found, expected.bfloat16())


@pytest.mark.parametrize("kind", KINDS)
def test_bits_are_those_of_a_sequence_alone_on_any_number_of_threads(
    kind: native_recurrence.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = make(kind, 32)
    states, weights = states_of(mixer, sum(SIZES)), mixer.native_weights()
    together = mix_packed(kind, states, weights, OFFSETS)
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        assert torch.equal(mix_packed(kind, states, weights, OFFSETS), together)
    for start, size in zip(OFFSETS.tolist(), SIZES, strict=False):
        alone = tuple(state[:, :, start : start + size].contiguous() for state in states)
        found = mix_packed(kind, alone, weights, cu_seqlens_of([size]))
        assert torch.equal(found, together[:, :, start : start + size]), size


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_number_stays_in_its_sequence(kind: native_recurrence.Kind) -> None:
    mixer = make(kind, 32)
    states = states_of(mixer, sum(SIZES))
    expected = mix_packed(kind, states, mixer.native_weights(), OFFSETS)
    first = sum(SIZES[:4])
    for state in states:
        wrong = state.clone()
        wrong[:, :, first + 3] = torch.nan
        spoilt = tuple(wrong if part is state else part for part in states)
        found = mix_packed(kind, spoilt, mixer.native_weights(), OFFSETS)
        chooses = kind == "pdssm" and state is states[-1]  # a choice among rows alone
        assert chooses or bool(found[:, :, first : first + SIZES[4]].isnan().any())
        assert torch.equal(found[:, :, :first], expected[:, :, :first])
        assert torch.equal(found[:, :, first + SIZES[4] :], expected[:, :, first + SIZES[4] :])


def test_what_it_does_not_take() -> None:
    states = torch.zeros(1, 2, 3, 8)
    assert native_recurrence.supports(states)
    assert not native_recurrence.supports(states.double())
    assert not native_recurrence.supports(torch.zeros(1, 2, 3, 129))
    with torch.enable_grad():
        assert not native_recurrence.supports(states)
    with use_kernel("torch"):
        assert not native_recurrence.supports(states)
    mixer = make("prism", 6)
    with pytest.raises(InputError, match="must rise from 0 to the 4 packed tokens"):
        mix_packed("prism", states_of(mixer, 4), mixer.native_weights(), cu_seqlens_of([3]))


def test_its_name_is_that_of_the_kernel() -> None:
    kind = type(make("prism", 6))
    assert kind.name_kernel("cpu", torch.float32, 32) == f"native ({native.instruction_set()})"
    assert kind.name_kernel("cpu", torch.float64, 32) == "torch"
    assert kind.name_kernel("cuda", torch.float32, 32) == "torch"
