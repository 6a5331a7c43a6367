"""Circulant Attention on a grid of patches against its sums, written out offset by offset."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.layers.mixers.circulant import CirculantMixer

HEADS, WIDTH = 2, 6
States = tuple[Tensor, ...]


def make(columns: int) -> CirculantMixer:
    sizes = {"vocab_size": 5, "hidden_size": HEADS * WIDTH, "num_heads": HEADS, "num_layers": 1}
    config = EncoderConfig.from_dict({**sizes, "mixer": "circulant", "grid_width": columns})
    return CirculantMixer(config).double()


def states_of(length: int) -> States:
    return tuple(torch.randn(1, HEADS, length, WIDTH, dtype=torch.float64) for _ in range(4))


def circulant_grid(states: States, columns: int) -> Tensor:
    query, key, value, gate = states
    length = query.shape[2]
    rows = -(-length // columns)
    result = torch.zeros_like(value)

    def to(i: int, down: int, right: int) -> int:
        row, column = divmod(i, columns)
        return (row + down) % rows * columns + (column + right) % columns

    around = [(down, right) for down in range(rows) for right in range(columns)]
    for head in range(HEADS):
        scores = []
        for offset in around:  # patches that are not there are zero
            pairs = [(i, to(i, *offset)) for i in range(length) if to(i, *offset) < length]
            products = [query[0, head, i] @ key[0, head, j] for i, j in pairs]
            total = torch.stack(products).sum() if products else torch.tensor(0.0).double()
            scores.append(total / (rows * columns * math.sqrt(WIDTH)))
        weights = torch.stack(scores).softmax(0)
        for i in range(length):
            for weight, offset in zip(weights, around, strict=True):
                if to(i, *offset) < length:
                    result[0, head, i] += weight * value[0, head, to(i, *offset)]
    return result * F.silu(gate)


@pytest.mark.parametrize(
    ("length", "columns"), [(1, 4), (3, 4), (12, 4), (12, 1), (11, 4), (5, 5), (66, 6), (67, 6)]
)
def test_a_grid_goes_round_in_both_directions(length: int, columns: int) -> None:
    mixer = make(columns)
    states = states_of(length)
    truth = circulant_grid(states, columns)
    torch.testing.assert_close(mixer.mix_rectangle(states, None), truth, rtol=1e-9, atol=1e-10)
    wide = tuple(F.pad(state, (0, 0, 0, 9), value=3.0) for state in states)
    mask = (torch.arange(length + 9) < length)[None]
    found = mixer.mix_rectangle(wide, mask)[:, :, :length]
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)


def test_a_grid_of_one_row_is_a_circle() -> None:
    circle, row = make(0), make(9)
    states = states_of(9)
    found = row.mix_rectangle(states, None)
    torch.testing.assert_close(found, circle.mix_rectangle(states, None), rtol=1e-9, atol=1e-10)
