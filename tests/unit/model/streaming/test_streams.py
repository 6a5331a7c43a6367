"""Sequences in chunks: the vector of the whole, on CPUs bit for bit, with every option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from osa.model import ConfigError, EmbeddingModel, InputError
from osa.model.config import EncoderConfig, HeadConfig
from osa.model.errors import SpillError
from osa.model.inference.precision import use_dtype
from osa.model.kernels import native_block, use_kernel
from osa.model.kernels.packed_weights import DTYPES
from osa.model.layers.mixers import MIXERS
from osa.model.layers.mixers.osa import OsaMixer
from osa.model.layers.mixers.sums import osa_sums
from osa.model.layers.mixers.sums.token_sums import ChunkStates, Exchange, TokenSums
from osa.model.streaming.passes import StreamOptions
from osa.service.engines.base import pool_spans

native = pytest.mark.skipif(not native_block.is_available(), reason="needs the CPU kernel")
LENGTH = 9001
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "centred": {"center": True},
    "large angles": {"scale": "paper", "alpha_init": 0.02},
    "small angles of the paper": {"scale": "paper", "alpha_init": 1e-6},
    "post": {"norm_place": "post", "norm_type": "layer", "attention_bias": True},
    "gated": {"ffn_gated": True, "activation": "silu"},
    "without skips": {"residual": False, "norm": False, "ffn_size": 128},
    "first token": {"pooling": "cls", "embedding_norm": True},
    "last token": {"pooling": "last", "positions": "none"},
    "weighted": {"pooling": "weighted", "rope_divisor": 2.0},
    "projected": {"embedding_size": 24, "embedding_activation": "tanh"},
    "types of tokens": {"token_types": 2},
    "learned": {"positions": "learned"},
    "classifier": {"head": HeadConfig(kind="classifier", labels=("a", "b"))},
    "sparse": {"head": HeadConfig(kind="sparse")},
    "completed": {
        "osa_pool": True,
        "osa_taps": 3,
        "osa_gate": True,
        "positions": "learned",
        "position_rows": 100,
    },
    "neighbours alone": {"osa_taps": 1},
    "narrow": {"hidden_size": 60, "num_heads": 3, "ffn_size": 50},
}


def make_model(**options: Any) -> EmbeddingModel:
    sizes: dict[str, Any] = {"hidden_size": 64, "num_heads": 2, "ffn_size": 96, "vocab_size": 50}
    config = EncoderConfig(
        **{**sizes, "num_layers": 2, "max_seq_len": 1 << 20, "alpha_init": 0.5, **options}
    )
    random = torch.Generator().manual_seed(0)
    model = EmbeddingModel(config, generator=random).eval()
    for name, parameter in model.named_parameters():
        if ".completion." in name or ".side." in name:  # which change nothing at the start
            parameter.data.normal_(0.0, 0.5, generator=random)
    return model


def ids_of(length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 50, length)


def in_chunks(tokens: int, **options: Any) -> StreamOptions:
    return StreamOptions(chunk=lambda: tokens, **options)


def whole_of(model: EmbeddingModel, ids: np.ndarray) -> Tensor:
    with torch.inference_mode():
        return model.embed_ids([ids.tolist()]).embeddings[0]


@native
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1500, LENGTH])
def test_chunks_give_the_bits_of_the_whole(dtype: str, length: int) -> None:
    model, ids = use_dtype(make_model(), dtype), ids_of(length)
    whole = whole_of(model, ids)
    for chunk, keeps in ((256, True), (1024, False), (1 << 20, True)):
        found = model.encode_stream([ids], options=in_chunks(chunk, keep_states=keeps))
        assert torch.equal(found, whole), (chunk, keeps)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_every_option_streams(options: dict[str, Any], kernel: str) -> None:
    if kernel == "native" and not native_block.is_available():
        pytest.skip("needs the CPU kernel")
    model, ids = make_model(**options), ids_of(1300)
    with use_kernel(kernel):
        whole = whole_of(model, ids)
        found = model.encode_stream([ids], options=in_chunks(512))
        again = model.encode_stream(iter(ids.tolist()), options=in_chunks(256, keep_states=False))
    assert torch.allclose(found, whole, atol=1e-5)
    assert torch.equal(found, again)


@native
def test_large_angles_are_summed_again_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    closed = osa_sums._NativeSums.close

    def count(sums: Any, tokens: int) -> bool:
        rounds.append(closed(sums, tokens))
        return rounds[-1]

    monkeypatch.setattr(osa_sums._NativeSums, "close", count)
    model, ids = use_dtype(make_model(scale="paper", alpha_init=0.02), "float32"), ids_of()
    found = model.encode_stream([ids], options=in_chunks(2048))
    assert rounds == [False, True, False, True]
    assert torch.equal(found, whole_of(model, ids))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "weighted"])
def test_spans_come_when_they_end(pooling: str) -> None:
    model, ids = make_model(pooling=pooling), ids_of(1700)
    spans = [(5, 9), (0, 1700), (600, 1200), (100, 900), (1699, 1700), (255, 257), (5, 9)]
    with torch.inference_mode():
        _, tokens = model.embed_tokens(torch.tensor(ids)[None])
    wanted = pool_spans(tokens[0].numpy(), spans, pooling)
    steps = model.stream([ids], spans, in_chunks(512))
    came: list[int] = []
    done = 0
    for step in steps:
        done = step.done
        for place, vector in step.spans:
            came.append(place)
            assert spans[place][1] <= done - 2 * len(ids)
            assert np.allclose(vector, wanted[place], atol=1e-5)
    assert done == 3 * len(ids)
    assert sorted(came) == list(range(len(spans)))
    assert [spans[place][1] for place in came] == sorted(spans[place][1] for place in came)
    units = dict(model.encode_chunks([ids], spans))
    assert np.allclose(np.linalg.norm(np.stack(list(units.values())), axis=1), 1.0, atol=1e-6)


def test_features_stream() -> None:
    model = make_model(vocab_size=None, feature_size=5)
    rows = np.random.default_rng(0).standard_normal((777, 5)).astype(np.float32)
    whole = model.encode_features([rows])[0]
    found = model.encode_stream(iter(np.array_split(rows, 9)), options=in_chunks(256))
    assert torch.allclose(found, whole, atol=5e-6)
    with pytest.raises(InputError, match=r"\[n, 5\]"):
        model.encode_stream([rows[:, :4]])


def test_encode_takes_long_texts_in_chunks(
    default_model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a man plays a guitar. " * 60
    whole = default_model.encode([text, "short"])
    monkeypatch.setattr("osa.model.embedding_model.STREAMED_FROM", 100)
    used = []
    stream = default_model.stream

    def count(*given: Any, **named: Any) -> Any:
        used.append(given)
        return stream(*given, **named)

    monkeypatch.setattr(default_model, "stream", count)
    assert torch.allclose(default_model.encode([text, "short"], batch_tokens=99), whole, atol=5e-6)
    assert len(used) == 1
    pieces = (text[place : place + 7] for place in range(0, len(text), 7))
    assert torch.allclose(default_model.encode_stream(pieces), whole[0], atol=5e-6)


def test_mixers_that_need_all_pairs_are_refused_by_name() -> None:
    model = make_model(mixer="softmax")
    assert not model.streams
    with pytest.raises(ConfigError, match="the softmax mixer cannot take a text in chunks"):
        model.encode_stream([ids_of(10)])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "at least one token"),
        ([[]], "at least one token"),
        ([3, 99], "id 99, allowed are 0 to 49"),
        ([[1, -4]], "id -4"),
        ([[0.5]], "ids must be integers"),
        (["text"], "no tokenizer"),
        ([[1], "text"], "must hold ids, got str"),
    ],
)
def test_what_does_not_fit_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_model().encode_stream(source)


def test_learned_positions_end() -> None:
    with pytest.raises(InputError, match="learned positions for 300 tokens"):
        make_model(positions="learned", max_seq_len=300).encode_stream([ids_of(301)])


def test_a_full_disk_is_an_error_of_its_own(limit_files: Callable[[int], None]) -> None:
    limit_files(100_000)
    with pytest.raises(SpillError, match="cannot be written"):
        make_model().encode_stream([ids_of(2000)])


def test_what_is_not_wanted_any_more_leaves_nothing(open_files: Callable[[], int]) -> None:
    before = open_files()
    steps = make_model().stream([ids_of()], options=in_chunks(256))
    next(steps)
    assert open_files() == before + 2
    steps.close()
    assert open_files() == before


def test_positions_beyond_float32_go_on() -> None:
    from osa.model.layers.chunks import EXACT_POSITIONS, chunk_rotary

    config = make_model().config
    device = torch.device("cpu")
    near = chunk_rotary(config, EXACT_POSITIONS - 4, 4, device)
    far = chunk_rotary(config, EXACT_POSITIONS - 3, 9, device)
    assert near is not None
    assert far is not None
    assert torch.allclose(near[0][1:, 0], far[0][:3, 0], atol=1e-4)  # the frequency of 1 is exact
    turns = far[0][:, 0] * far[0][0, 0] + far[1][:, 0] * far[1][0, 0]
    assert torch.allclose(turns, torch.arange(9.0).cos(), atol=1e-6)


class NeighbourSums(TokenSums):
    """The mean of the values, and the neighbours' values."""

    halo = 2

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0

    def add(self, chunk: ChunkStates) -> None:
        self._sum = self._sum + chunk.value.double().sum(0)

    def exchange(self, exchange: Exchange) -> None:
        """One process."""

    def close(self, count: int) -> bool:
        self._sum = self._sum / count
        return True

    def apply(self, chunk: ChunkStates) -> Tensor:
        parts = [part for part in (chunk.before, chunk.value, chunk.after) if part is not None]
        around = torch.cat(parts)
        first = 0 if chunk.before is None else len(chunk.before)
        count = len(chunk.value)
        mixed = chunk.value + self._sum.float()  # type: ignore[union-attr]  # closed before
        for shift in (-2, 2):
            places = torch.arange(count) + first + shift
            there = (places >= 0) & (places < len(around))
            mixed[there] += shift * around[places[there]]
        return mixed

    @property
    def exchanged(self) -> int:
        return 0


def test_mixers_may_look_at_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Neighbours(OsaMixer):
        def token_sums(self, dtype: torch.dtype) -> TokenSums:
            return NeighbourSums()

    monkeypatch.setitem(MIXERS, "osa", Neighbours)
    model, ids = make_model(), ids_of(1300)
    whole = model.encode_stream([ids], options=in_chunks(1 << 20))
    for keeps in (True, False):
        found = model.encode_stream([ids], options=in_chunks(256, keep_states=keeps))
        assert torch.allclose(found, whole, atol=1e-6)
