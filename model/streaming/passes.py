"""An encoder over one sequence in chunks: a pass over the tokens a layer, and one before.

A pass reads the hidden states of a chunk, makes queries, keys and values of them, applies what the
layer's sums have become, goes on to the next layer's queries, keys and values, adds those to its
sums, and writes the hidden states back. What is held is a few chunks and the sums of two layers.
The first pass reads the input, the last one pools. States are written and read by a thread of
their own.

Shapes: n tokens of a chunk, D hidden.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native_stream import SUM_TILE
from osa.model.layers.chunks import chunk_blocks, heads_of, new_sums
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers.sums.token_sums import TokenSums
from osa.model.streaming.pooling import SparsePool, StreamedPool, StreamedSpans
from osa.model.streaming.spill_thread import SpillThread
from osa.model.streaming.steps import Progress as Progress
from osa.model.streaming.steps import Streamed as Streamed
from osa.model.streaming.steps import StreamOptions as StreamOptions
from osa.model.streaming.tiles import in_tiles
from osa.model.streaming.walk import Pass, Run


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
    kinds: list[tuple[tuple[int, ...], torch.dtype]] = [((blocks.width,), torch.float32)]
    if options.keep_states:
        kinds.append(((blocks.parts, blocks.width), blocks.dtype))
    disk = SpillThread(kinds, options.directory, options.wake)
    try:
        run = Run(encoder, blocks, options, disk)
        sums = yield from _begin(run, source)
        if not run.length and options.count is None:
            raise InputError("a text or sequence must have at least one token, got none")
        count = run.length if options.count is None else options.count
        for layer in range(blocks.count):
            sums.exchange(options.exchange)
            while not sums.close(count):
                run.passes += 1
                walk = Pass(run, layer)
                while walk.left:
                    yield from run.settled(1)
                    chunk = walk.next()
                    sums.add(heads_of(chunk.states, config))
                    walk.done(chunk)
                    yield run.step(chunk.tokens)
                sums.exchange(options.exchange)
            following = new_sums(blocks, layer + 1) if layer + 1 < blocks.count else None
            walk = Pass(run, layer, sums.halo)
            while walk.left:
                yield from run.settled(2 if sums.halo else 1)
                chunk = walk.next()
                mixed = sums.apply(walk.with_neighbours(chunk))
                rotary = run.rotary(chunk.first, chunk.tokens)
                found_next = blocks.advance(layer, chunk.hidden, mixed, rotary)
                ended: Sequence[tuple[int, Tensor]] = ()
                if following is not None and found_next is not None:
                    following.add(heads_of(found_next, config))
                    walk.done(chunk, found_next)
                else:
                    final, place = blocks.leave(chunk.hidden), options.first + chunk.first
                    pool.add(final, place)
                    ended = spans.add(final, place) if spans else ()
                    walk.done(chunk)
                yield run.step(chunk.tokens, ended)
            if following is not None:
                sums = following
        pool.exchange(options.exchange, options.first + run.length == count)
        return Streamed(pool.close(count), count)
    finally:
        disk.close()


def _begin(run: Run, source: Iterator[np.ndarray]) -> Generator[Progress, None, TokenSums]:
    """The first pass: from the input to the first block's queries, keys and values, and sums."""
    encoder, blocks, config = run.encoder, run.blocks, run.encoder.config
    sums = new_sums(blocks, 0)
    for piece in in_tiles(source, run.options.chunk):
        yield from run.settled(0)
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
