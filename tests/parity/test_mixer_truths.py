"""Each mixer's fast form against its equations, written out token by token in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.layers.mixers import MIXERS, make_mixer
from osa.model.layers.mixers.chela import ChelaMixer
from osa.model.layers.mixers.pdssm import PdssmMixer
from osa.model.layers.mixers.prism import PrismMixer
from osa.model.layers.mixers.rectangle import RESULT_EPS, RectangleMixer

HEADS, WIDTH = 2, 6
States = tuple[Tensor, ...]


def make(name: str) -> RectangleMixer:
    """A mixer in float64 whose own weights are away from their simple start."""
    config = EncoderConfig(
        vocab_size=5, hidden_size=HEADS * WIDTH, num_heads=HEADS, mixer=name, num_layers=1
    )
    mixer = make_mixer(config).double()
    assert isinstance(mixer, RectangleMixer)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    return mixer


def states_of(mixer: RectangleMixer, length: int) -> States:
    widths = [WIDTH] * mixer.parts + [mixer.scalars] * bool(mixer.scalars)
    return tuple(torch.randn(1, HEADS, length, width, dtype=torch.float64) for width in widths)


def rms(row: Tensor) -> Tensor:
    return row / (row.square().mean() + RESULT_EPS).sqrt()


def tssa(mixer: RectangleMixer, states: States) -> Tensor:
    tokens = states[0]
    temperature = mixer.get_parameter("temperature")
    heads, length = tokens.shape[1], tokens.shape[2]
    membership = torch.empty(heads, length, dtype=torch.float64)
    for token in range(length):
        scores = []
        for head in range(heads):
            share = [tokens[0, head, token, p] ** 2 / tokens[0, head, :, p].square().sum()
                     for p in range(WIDTH)]  # fmt: skip
            scores.append(temperature[head] * sum(share))
        membership[:, token] = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    result = torch.empty_like(tokens)
    for head in range(heads):
        own = membership[head]
        moment = sum(own[t] * tokens[0, head, t] ** 2 for t in range(length)) / own.sum()
        for token in range(length):
            result[0, head, token] = -tokens[0, head, token] * own[token] / (1 + moment)
    return result


def hla2(mixer: RectangleMixer, states: States) -> Tensor:
    query, key, value = states
    scores = query @ key.transpose(-1, -2) / query.shape[2]
    return apply_rows(scores @ scores.transpose(-1, -2) @ value)


def ahla(mixer: RectangleMixer, states: States) -> Tensor:
    query, key, value = states
    scores = query @ key.transpose(-1, -2) / query.shape[2]
    return apply_rows(scores @ scores @ value)


def apply_rows(rows: Tensor) -> Tensor:
    return torch.stack([rms(row) for row in rows.flatten(0, 2)]).view_as(rows)


def toeplitz(mixer: RectangleMixer, states: States) -> Tensor:
    query, key, value, gate = states
    length = query.shape[2]
    result = torch.zeros_like(value)
    for head in range(HEADS):
        scores = {}
        for offset in range(-length + 1, length):
            pairs = [(i, i + offset) for i in range(length) if 0 <= i + offset < length]
            products = [query[0, head, i] @ key[0, head, j] for i, j in pairs]
            scores[offset] = torch.stack(products).mean() / math.sqrt(WIDTH)
        weights = dict(zip(scores, torch.stack([*scores.values()]).softmax(0), strict=True))
        for i in range(length):
            for offset, weight in weights.items():
                if 0 <= i + offset < length:
                    result[0, head, i] += weight * value[0, head, i + offset]
    return result * F.silu(gate)


def circulant(mixer: RectangleMixer, states: States) -> Tensor:
    query, key, value, gate = states
    length = query.shape[2]
    result = torch.zeros_like(value)
    for head in range(HEADS):
        scores = []
        for offset in range(length):
            products = [
                query[0, head, i] @ key[0, head, (i + offset) % length] for i in range(length)
            ]
            scores.append(torch.stack(products).mean() / math.sqrt(WIDTH))
        weights = torch.stack(scores).softmax(0)
        for i in range(length):
            for offset in range(length):
                result[0, head, i] += weights[offset] * value[0, head, (i + offset) % length]
    return result * F.silu(gate)


def chela(mixer: RectangleMixer, states: States) -> Tensor:
    assert isinstance(mixer, ChelaMixer)
    start, value, gate = states
    length = start.shape[2]

    def kernel(offset: int) -> Tensor:
        if offset == 0:
            return mixer.here
        side = mixer.long[0] if offset < 0 else mixer.long[1]
        decay = [torch.exp(-mixer.rates[m].exp() * abs(offset)) for m in range(len(side))]
        return sum(side[m] * decay[m] for m in range(len(side)))  # type: ignore[return-value]

    def read(rows: Tensor, weight: Callable[[int], Tensor], reach: int) -> Tensor:
        mixed = torch.zeros_like(rows)
        for i in range(length):
            for j in range(max(0, i - reach), min(length, i + reach + 1)):
                mixed[0, :, i] += weight(j - i) * rows[0, :, j]
        return mixed

    short = F.silu(read(start, lambda offset: mixer.short[offset + 1], 1))
    long = read(short, kernel, length)
    query, key = (
        apply_rows(long * scale[:, None] + shift[:, None])
        for scale, shift in zip(mixer.scales, mixer.shifts, strict=True)
    )
    scores = query @ key.transpose(-1, -2) / length
    return apply_rows(scores @ value) * F.silu(gate)


def both_passes(states: States, one_pass: Callable[[States, int], Tensor]) -> Tensor:
    forwards = one_pass(states, 0)
    backwards = one_pass(tuple(state.flip(2) for state in states), 1).flip(2)
    return apply_rows(forwards + backwards)


def prism(mixer: RectangleMixer, states: States) -> Tensor:
    assert isinstance(mixer, PrismMixer)

    def one_pass(states: States, _: int) -> Tensor:
        query, value, first, second, numbers = (state[0] for state in states)
        result = torch.empty_like(value)
        for head in range(HEADS):
            memory = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
            for token in range(value.shape[1]):
                keep, rate, other_rate, gain, other_gain = numbers[head, token]
                answer = torch.zeros(WIDTH, dtype=torch.float64)
                for back in range(1, 4):
                    if token >= back:
                        answer = answer + mixer.earlier[3 - back, head] * value[head, token - back]
                left = value[head, token] - answer
                keys = [key[head, token] / key[head, token].norm() for key in (first, second)]
                wanted = []
                for number in (gain, other_gain):
                    wanted.append(F.gelu(2 * torch.sigmoid(number) * left))
                    left = left - wanted[-1]
                rates = [torch.sigmoid(rate), torch.sigmoid(other_rate)]
                forget = torch.eye(WIDTH) - rates[0] * torch.outer(keys[0], keys[0])
                memory = torch.sigmoid(keep + mixer.keeping[head]) * memory @ forget
                for b, delta, k in zip(rates, wanted, keys, strict=True):
                    memory = memory + b * torch.outer(delta, k)
                asked = query[head, token] / query[head, token].norm()
                result[head, token] = memory @ asked
        return result[None]

    return both_passes(states, one_pass)


def pdssm(mixer: RectangleMixer, states: States) -> Tensor:
    """With the softmax of the columns in place of the choice wherever a gradient is taken."""
    assert isinstance(mixer, PdssmMixer)

    def one_pass(states: States, way: int) -> Tensor:
        real, imaginary, modulus, angle, weights = (state[0] for state in states)
        heads = []
        for head in range(HEADS):
            state, rows = torch.zeros(WIDTH, dtype=torch.complex128), []
            for token in range(real.shape[1]):
                mixture = sum(
                    weight * matrix
                    for weight, matrix in zip(
                        weights[head, token].softmax(0), mixer.dictionary[head], strict=True
                    )
                )
                columns = mixture.T
                hard = F.one_hot(columns.argmax(0), WIDTH).T.double()
                soft = columns.softmax(0)
                choice = hard + soft - soft.detach()
                size = torch.sigmoid(modulus[head, token] + mixer.moduli[head])
                diagonal = torch.polar(size, angle[head, token] * mixer.angles[head])
                state = choice.to(state.dtype) @ (diagonal * state)
                state = state + torch.complex(real[head, token], imaginary[head, token])
                read = mixer.reads[way]
                rows.append(read[0, head] * state.real - read[1, head] * state.imag)
            heads.append(torch.stack(rows))
        return torch.stack(heads)[None]

    return both_passes(states, one_pass)


TRUTHS = {
    "tssa": tssa,
    "hla2": hla2,
    "ahla": ahla,
    "toeplitz": toeplitz,
    "circulant": circulant,
    "chela": chela,
    "prism": prism,
    "pdssm": pdssm,
}


def test_every_new_mixer_has_a_truth() -> None:
    assert set(TRUTHS) == {
        name for name, kind in MIXERS.items() if issubclass(kind, RectangleMixer)
    }


@pytest.mark.parametrize("length", [1, 2, 9, 70])
@pytest.mark.parametrize("name", TRUTHS)
def test_values_and_gradients_are_those_of_the_equations(name: str, length: int) -> None:
    if length > 9 and name in ("tssa", "toeplitz", "circulant", "chela"):
        length = 66  # beyond what is computed without FFTs, in quadratic time here
    mixer = make(name)
    states = tuple(state.requires_grad_() for state in states_of(mixer, length))
    with torch.no_grad():
        truth = TRUTHS[name](mixer, states)
        torch.testing.assert_close(mixer.mix_rectangle(states, None), truth, rtol=1e-9, atol=1e-10)
    if length > 9:
        return
    wanted = [parameter for key, parameter in mixer.named_parameters() if "." not in key]
    weights = torch.randn(truth.shape, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((result * weights).sum(), [*states, *wanted], allow_unused=True)
        for result in (mixer.mix_rectangle(states, None), TRUTHS[name](mixer, states))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        if ours is None or theirs is None:  # as transitions, where there is one token
            assert not any(found is not None and found.any() for found in (ours, theirs))
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
