"""An encoder over one sequence in chunks: a pass over the tokens a layer, and one before.

A pass reads the hidden states of a chunk, makes queries, keys and values of them, applies what the
layer's sums have become, goes on to the next layer's queries, keys and values, adds those to its
sums, and writes the hidden states back. What is held is one chunk and the sums of two layers.
The first pass reads the input, the last one pools.

Shapes: n tokens of a chunk, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.errors import ConfigError, InputError
from osa.model.kernels.native_stream import SUM_TILE
from osa.model.layers.chunks import (
    ChunkBlocks,
    chunk_blocks,
    chunk_rotary,
    heads_of,
    new_sums,
)
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers.sums.token_sums import ChunkStates, Exchange, TokenSums, alone
from osa.model.streaming.pooling import SparsePool, StreamedPool, StreamedSpans
from osa.model.streaming.spill import SpillFile

CHUNK = 1024
"""Tokens of a chunk where the caller has no wish of its own [tokens]."""


@dataclass(frozen=True)
class StreamOptions:
    """How a sequence is taken.

    Attributes:
        chunk: Asked before every chunk for its tokens; rounded to whole tiles of sums.
        directory: Of files between layers; None for the system's temporary directory.
        keep_states: Write queries, keys and values between layers too, instead of making them
            again: a fifth less work, for 2.5 to 4 times the disk.
        exchange: With other processes that have other parts of the sequence.
        first: Place of the first token of this process's part.
        count: Tokens of all parts, where they are known; None for those that come.
    """

    chunk: Callable[[], int] = lambda: CHUNK
    directory: Path | None = None
    keep_states: bool = True
    exchange: Exchange = alone
    first: int = 0
    count: int | None = None


class Progress(NamedTuple):
    """What a step has done.

    Attributes:
        tokens: Tokens of the step's chunk.
        done: Chunks' tokens over all passes so far.
        passes: Passes in all; a text that needs more rounds of sums has more.
        spans: Places and pooled states of the spans that ended in this chunk.
    """

    tokens: int
    done: int
    passes: int
    spans: Sequence[tuple[int, Float[Tensor, " D"]]] = ()


class Streamed(NamedTuple):
    """What a sequence has become.

    Attributes:
        pooled: Its state, pooled as the model pools; weights of ids of a sparse head.
        length: Its tokens.
    """

    pooled: Float[Tensor, "1 D"]
    length: int


@dataclass
class _Run:
    """One sequence on its way."""

    encoder: Encoder
    blocks: ChunkBlocks
    options: StreamOptions
    device: torch.device
    hidden: SpillFile
    states: SpillFile | None
    length: int = 0
    done: int = 0
    passes: int = field(default=0)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First token and number of tokens of each chunk of a pass."""
        first = 0
        while first < self.length:
            count = min(_whole_tiles(self.options.chunk()), self.length - first)
            yield first, count
            first += count

    def load(self, layer: int, first: int, count: int, reuse: bool = True) -> tuple[Tensor, Tensor]:
        """Hidden states and queries, keys and values of a chunk before a block.

        Args:
            layer: Index of the block.
            first: First token.
            count: How many.
            reuse: In memory that the next chunk uses again.
        """
        hidden = self.hidden.read(first, count, reuse).to(self.device)
        if self.states is not None:
            return hidden, self.states.read(first, count, reuse).to(self.device)
        return hidden, self.blocks.project(layer, hidden, self.rotary(first, count))

    def store(self, first: int, hidden: Tensor, states: Tensor | None) -> None:
        """Keep what the next pass loads."""
        self.hidden.write(first, hidden)
        if self.states is not None and states is not None:
            self.states.write(first, states)

    def rotary(self, first: int, count: int) -> tuple[Tensor, Tensor] | None:
        return chunk_rotary(self.encoder.config, self.options.first + first, count, self.device)

    def around(
        self, layer: int, chunk: ChunkStates, first: int, halo: int, before: Tensor | None
    ) -> ChunkStates:
        """A chunk with the values of up to ``halo`` tokens on either side of it.

        Args:
            layer: Index of the block.
            chunk: Of the tokens from ``first`` on.
            first: First token.
            halo: How many.
            before: Those before it.
        """
        end = first + len(chunk.value)
        count = min(halo, self.length - end)
        after = None
        if count:
            _, found = self.load(layer, end, count, reuse=False)
            after = heads_of(found, self.encoder.config).value
        return chunk._replace(before=before, after=after)

    def step(self, count: int, spans: Sequence[tuple[int, Tensor]] = ()) -> Progress:
        self.done += count
        return Progress(count, self.done, self.passes, spans)


@torch.no_grad()
def stream(
    encoder: Encoder,
    source: Iterator[np.ndarray],
    pool: StreamedPool | SparsePool,
    spans: StreamedSpans | None = None,
    options: StreamOptions | None = None,
) -> Generator[Progress, None, Streamed]:
    """Encode one sequence, a chunk of a layer each step; returns the pooled state.

    Closing the generator gives its memory and disk back.

    Args:
        encoder: In evaluation mode.
        source: The sequence in pieces of any size: ids, or features [n, F].
        pool: Takes the final states.
        spans: Takes them too.
        options: How.

    Raises:
        ConfigError: The mixer cannot take a sequence in chunks, or nothing can be written.
        InputError: The sequence is empty, or longer than learned positions are.
        SpillError: The disk is full, or fails.
    """
    options = options or StreamOptions()
    blocks, config = chunk_blocks(encoder), encoder.config
    device = next(encoder.parameters()).device
    hidden = SpillFile((blocks.width,), torch.float32, options.directory)
    states = None
    try:
        if options.keep_states:
            states = SpillFile((blocks.parts, blocks.width), blocks.dtype, options.directory)
        run = _Run(encoder, blocks, options, device, hidden, states, passes=blocks.count + 1)
        sums = yield from _begin(run, source)
        if sums.halo and options.count is not None:
            raise ConfigError("completed OSA cannot take a text over several processes yet")
        if not run.length and options.count is None:
            raise InputError("a text or sequence must have at least one token, got none")
        count = run.length if options.count is None else options.count
        for layer in range(blocks.count):
            sums.exchange(options.exchange)
            while not sums.close(count):
                run.passes += 1
                for first, size in run.chunks():
                    _, found = run.load(layer, first, size)
                    sums.add(heads_of(found, config))
                    yield run.step(size)
                sums.exchange(options.exchange)
            following = new_sums(blocks, layer + 1) if layer + 1 < blocks.count else None
            before: Tensor | None = None
            for first, size in run.chunks():
                rows, found = run.load(layer, first, size)
                chunk = heads_of(found, config)
                if sums.halo:
                    chunk = run.around(layer, chunk, first, sums.halo, before)
                    before = chunk.value[-sums.halo :].clone()
                mixed = sums.apply(chunk)
                found_next = blocks.advance(layer, rows, mixed, run.rotary(first, size))
                ended: Sequence[tuple[int, Tensor]] = ()
                if following is not None and found_next is not None:
                    following.add(heads_of(found_next, config))
                    run.store(first, rows, found_next)
                else:
                    final = blocks.leave(rows)
                    pool.add(final, options.first + first)
                    ended = spans.add(final, options.first + first) if spans else ()
                yield run.step(size, ended)
            if following is not None:
                sums = following
        pool.exchange(options.exchange, options.first + run.length == count)
        return Streamed(pool.close(count), count)
    finally:
        hidden.close()
        if states is not None:
            states.close()


def _begin(run: _Run, source: Iterator[np.ndarray]) -> Generator[Progress, None, TokenSums]:
    """The first pass: from the input to the first block's queries, keys and values, and sums."""
    encoder, blocks, config = run.encoder, run.blocks, run.encoder.config
    sums = new_sums(blocks, 0)
    for piece in in_tiles(source, run.options.chunk):
        first = run.length
        run.length = first + len(piece)
        _check_length(encoder, run.options.first + run.length)
        places = torch.arange(first, run.length, device=run.device) + run.options.first
        inputs = torch.from_numpy(piece).to(run.device)
        rows = encoder.begin(_filled(inputs)[None], _filled(places)[None])[0, : len(piece)].float()
        missing = blocks.width - rows.shape[1]
        rows = F.pad(rows, (0, missing)) if missing else rows.contiguous()
        found = blocks.project(0, rows, run.rotary(first, len(piece)))
        sums.add(heads_of(found, config))
        run.store(first, rows, found)
        yield run.step(len(piece))
    return sums


def _check_length(encoder: Encoder, length: int) -> None:
    limited = encoder.positions is not None and encoder.config.position_rows is None
    if limited and length > encoder.config.max_seq_len:
        raise InputError(
            f"this model has learned positions for {encoder.config.max_seq_len} tokens, the text "
            "has more: no chunks make it longer"
        )


def _filled(rows: Tensor) -> Tensor:
    """Rows up to a whole tile: a product of features has fixed bits then."""
    missing = -len(rows) % SUM_TILE
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def in_tiles(source: Iterator[np.ndarray], chunk: Callable[[], int]) -> Iterator[np.ndarray]:
    """Pieces of any size as chunks of whole tiles, but for the last one."""
    held: list[np.ndarray] = []
    size, wanted = 0, _whole_tiles(chunk())
    for piece in source:
        held.append(piece)
        size += len(piece)
        if size < wanted:
            continue
        joined = np.concatenate(held)
        while len(joined) >= wanted:
            yield joined[:wanted]
            joined, wanted = joined[wanted:], _whole_tiles(chunk())
        held, size = [joined.copy()], len(joined)
    if size:
        yield np.concatenate(held)


def _whole_tiles(tokens: int) -> int:
    return max(1, tokens // SUM_TILE) * SUM_TILE
