"""What holds for every mixer: batches, gradients, order, types, lengths, the CPU kernel."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from osa.model import EmbeddingModel
from osa.model.diagnostics import jacobian_condition
from osa.model.functional import offsets
from osa.model.functional.tiling import TOKEN_TILE
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.inference.packed_blocks import PackedBlocks
from osa.model.inference.precision import use_dtype
from osa.model.layers.mixers import MIXERS, TokenContext
from osa.model.layers.mixers.rectangle import RectangleMixer
from tests.conftest import make_tiny_model

NEW = [name for name, kind in MIXERS.items() if issubclass(kind, RectangleMixer)]
SIZES = [3, 11, 1, 33, 100, 40, 70]
EQUIVARIANT = ("tssa", "hla2", "ahla")
FORMS = [{"mixer": name} for name in NEW] + [
    {"mixer": "circulant", "grid_width": 5},
    {"mixer": "osa", "local_conv": 3},
    {"mixer": ("tssa", "softmax"), "local_conv": 4},
    {"mixer": ("prism", "osa"), "norm_place": "post", "norm_type": "layer"},
]


def ids_of(size: int) -> list[int]:
    return [(7 * place * place + size) % 12 for place in range(size)]


def model_of(**changes: object) -> EmbeddingModel:
    """A model whose convolutions are not zero."""
    model = make_tiny_model(**changes)
    for name, parameter in model.named_parameters():
        if "local_conv" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.5)
    return model


@pytest.mark.parametrize("changes", FORMS, ids=str)
def test_alone_padded_with_holes_and_packed_are_the_same(changes: dict[str, object]) -> None:
    model = model_of(**changes).double()
    sequences = [ids_of(size) for size in SIZES]
    alone = torch.cat([model(torch.tensor([ids])).embeddings for ids in sequences])
    width = max(SIZES) + 9
    padded, mask = torch.ones(len(SIZES) + 1, width, dtype=torch.int64), []
    for row, ids in enumerate(sequences):
        places = torch.randperm(width)[: len(ids)].sort().values
        padded[row, places] = torch.tensor(ids)
        mask.append(torch.zeros(width, dtype=torch.bool).index_fill(0, places, True))
    masks = torch.stack([*mask, torch.zeros(width, dtype=torch.bool)])
    packed = torch.tensor([list(itertools.chain(*sequences))])
    first, second = model(padded, mask=masks), model(packed, cu_seqlens=cu_seqlens_of(SIZES))
    torch.testing.assert_close(first.embeddings[:-1], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(second.embeddings, alone, rtol=0, atol=1e-12)
    assert bool(torch.isfinite(first.embeddings[-1]).all()), "a row of padding alone"


@pytest.mark.parametrize("changes", FORMS, ids=str)
@torch.inference_mode()
def test_the_cpu_kernel_gives_the_same_bits_in_every_batch(changes: dict[str, object]) -> None:
    plain = model_of(**changes)
    model = use_dtype(copy.deepcopy(plain), "float32")
    assert isinstance(model.encoder.blocks[0], PackedBlocks)
    sequences = [ids_of(size) for size in SIZES]
    together = model.embed_ids(sequences).embeddings
    torch.testing.assert_close(together, plain.embed_ids(sequences).embeddings, atol=5e-6, rtol=0)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for row, ids in enumerate(sequences):
                assert torch.equal(model.embed_ids([ids]).embeddings[0], together[row]), len(ids)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@torch.inference_mode()
def test_narrow_products_stay_near(name: str, dtype: str) -> None:
    plain = make_tiny_model(mixer=name)
    sequences = [ids_of(size) for size in (30, 80)]
    found = use_dtype(copy.deepcopy(plain), dtype).embed_ids(sequences).embeddings
    assert (found * plain.embed_ids(sequences).embeddings).sum(-1).min() > 0.97


@pytest.mark.parametrize("changes", FORMS, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_every_weight(changes: dict[str, object], autocast: bool) -> None:
    model = model_of(**changes).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(torch.tensor([ids_of(90)]), cu_seqlens=cu_seqlens_of([20, 70]))
    (output.embeddings * torch.randn_like(output.embeddings)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), f"{name} has no gradient"


@pytest.mark.parametrize("name", NEW)
def test_gradients_are_those_of_differences(name: str) -> None:
    mixer = make_tiny_model(mixer=name, num_layers=1).double().encoder.blocks[0].mixer
    assert isinstance(mixer, RectangleMixer)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    widths = [mixer.head_dim] * mixer.parts + [mixer.scalars] * bool(mixer.scalars)
    states = [0.7 * torch.randn(2, 2, 5, width, dtype=torch.float64) for width in widths]
    smooth = states[:-1] if name == "pdssm" else states  # its last state makes a choice
    for state in smooth:
        state.requires_grad_()

    def run(*given: Tensor) -> Tensor:
        rest = states[len(given) :]
        mixed: Tensor = mixer.mix_rectangle((*given, *rest), mask)
        return mixed[mask[:, None].expand(2, 2, 5)]

    assert torch.autograd.gradcheck(run, smooth, fast_mode=True)


@pytest.mark.parametrize("name", NEW)
def test_who_is_moved_by_permutations(name: str) -> None:
    (block, _) = make_tiny_model(mixer=name, positions="none").double().encoder.blocks
    mixer = block.mixer
    assert isinstance(mixer, RectangleMixer)
    hidden, context = torch.randn(1, 12, 16, dtype=torch.float64), TokenContext(None, None, None)
    norm = torch.nn.Identity()

    def moves_along(order: Tensor) -> bool:
        moved = mixer(hidden[:, order], context, norm)
        return torch.allclose(moved, mixer(hidden, context, norm)[:, order], atol=1e-10)

    assert moves_along(torch.randperm(12)) == (name in EQUIVARIANT)
    around = torch.arange(12).roll(5)
    assert moves_along(around) == (name in (*EQUIVARIANT, "circulant"))


def test_a_grid_is_moved_by_turning_its_rows_and_its_columns() -> None:
    model = make_tiny_model(mixer="circulant", grid_width=4, positions="none").double()
    (block, _) = model.encoder.blocks
    mixer = block.mixer
    assert isinstance(mixer, RectangleMixer)
    hidden, context = torch.randn(1, 12, 16, dtype=torch.float64), TokenContext(None, None, None)

    def turned(states: Tensor, axes: tuple[int, ...]) -> Tensor:
        rows: Tensor = states.unflatten(1, (3, 4)).roll((1,) * len(axes), axes)
        return rows.flatten(1, 2)

    mixed = mixer(hidden, context, torch.nn.Identity())
    for axes in ((1,), (2,), (1, 2)):
        moved = mixer(turned(hidden, axes), context, torch.nn.Identity())
        torch.testing.assert_close(moved, turned(mixed, axes), rtol=0, atol=1e-12)
    around = mixer(hidden.roll(1, 1), context, torch.nn.Identity())
    assert not torch.allclose(around, mixed.roll(1, 1), atol=1e-6)  # one line does not go round


@pytest.mark.parametrize("name", NEW)
@torch.inference_mode()
def test_empty_batches_one_token_and_32k_tokens(name: str) -> None:
    model = make_tiny_model(mixer=name, num_layers=1, max_seq_len=32768)
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    assert model(nothing, cu_seqlens=torch.tensor([0])).embeddings.shape == (0, 16)
    assert model(nothing[:0]).embeddings.shape == (0, 16)
    gaps = model(torch.tensor([[1, 2]]), cu_seqlens=torch.tensor([0, 0, 1, 1, 2])).embeddings
    assert torch.equal(gaps[[0, 2]], torch.zeros(2, 16))
    long = model(torch.randint(12, (1, 32768)), cu_seqlens=cu_seqlens_of([32768]))
    assert bool(torch.isfinite(long.embeddings).all())
    torch.testing.assert_close(long.embeddings.norm(dim=-1), torch.ones(1))


@pytest.mark.parametrize("name", ["tssa", "hla2", "ahla", "toeplitz", "circulant", "chela"])
def test_tiles_and_heads_of_a_long_sequence_give_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "AT_ONCE", 3 * 5000)  # transforms of some channels
    mixer = make_tiny_model(mixer=name, num_layers=1).double().encoder.blocks[0].mixer
    assert isinstance(mixer, RectangleMixer)
    length = 2 * TOKEN_TILE + 100
    mask = torch.arange(length) < torch.tensor([[length], [TOKEN_TILE + 7]])
    states = tuple(
        torch.randn(2, 2, length, mixer.head_dim, dtype=torch.float64) for _ in range(mixer.parts)
    )
    whole = mixer.mix_rectangle(states, mask)
    with torch.inference_mode():
        found = mixer.mix_rectangle(states, mask)
    real = mask[:, None].expand(2, 2, length)
    torch.testing.assert_close(found[real], whole[real], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NEW)
def test_the_jacobian_at_the_start_is_well_conditioned(name: str) -> None:
    model = make_tiny_model(mixer=name)
    condition = jacobian_condition(model.encoder, torch.tensor([ids_of(12)]))
    assert condition < 1e4
