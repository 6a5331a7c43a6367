"""One sequence on its way through an encoder, and a pass over its chunks.

Shapes: n tokens of a chunk, W width of its rows here, P states of a token, h tokens beside a chunk,
H heads, d head width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.parts import edges_of, rows_beside
from osa.model.layers.chunks import ChunkBlocks, chunk_rotary, heads_of
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers.sums.token_sums import ChunkStates
from osa.model.streaming.spill_thread import Rows, SpillThread
from osa.model.streaming.steps import Progress, StreamOptions
from osa.model.streaming.tiles import whole_tiles

AHEAD = 2
"""Chunks that are read before they are needed."""


@dataclass
class Run:
    """One sequence on its way.

    Attributes:
        encoder: In evaluation mode.
        blocks: Of it.
        options: How the sequence is taken.
        disk: Hidden states, and queries, keys and values where they are kept, between two passes.
        length: Tokens of this process so far.
        done: Tokens of all passes so far.
        passes: Passes in all, as far as it is known.
    """

    encoder: Encoder
    blocks: ChunkBlocks
    options: StreamOptions
    disk: SpillThread
    length: int = 0
    done: int = 0
    passes: int = field(default=0)

    def __post_init__(self) -> None:
        """A pass a block, and one before."""
        self.passes = self.blocks.count + 1
        self.device = next(self.encoder.parameters()).device

    def settled(self, reads: int) -> Generator[Progress, None, None]:
        """Steps that do nothing until so many reads are done and the disk is not behind."""
        if self.options.wake is None:
            self.disk.wait(reads)
            return
        while not self.disk.can_go_on(reads):
            yield Progress(0, self.done, self.passes, waits=lambda: not self.disk.can_go_on(reads))

    def load(self, layer: int, first: int, rows: Rows) -> tuple[Tensor, Tensor]:
        """Hidden states [n, W] and states [n, P, W] of a chunk before a block.

        Args:
            layer: Index of the block.
            first: First token.
            rows: What was read of it.
        """
        hidden = rows[0].to(self.device)
        if len(rows) > 1:
            return hidden, rows[1].to(self.device)
        return hidden, self.blocks.project(layer, hidden, self.rotary(first, len(hidden)))

    def store(self, first: int, hidden: Tensor, states: Tensor) -> None:
        """Keep what the next pass loads; both are given away."""
        self.disk.write(first, (hidden, states) if self.options.keep_states else (hidden,))

    def rotary(self, first: int, count: int) -> tuple[Tensor, Tensor] | None:
        """Of a chunk's positions, as of ``chunk_rotary``."""
        return chunk_rotary(self.encoder.config, self.options.first + first, count, self.device)

    def values(self, layer: int, first: int, rows: Rows) -> Float[Tensor, "n H d"]:
        """Values of a chunk before a block; as ``load``."""
        return heads_of(self.load(layer, first, rows)[1], self.encoder.config).value

    def step(self, count: int, spans: Sequence[tuple[int, Tensor]] = ()) -> Progress:
        """Count a chunk."""
        self.done += count
        return Progress(count, self.done, self.passes, spans)


class Chunk(NamedTuple):
    """A chunk before a block.

    Attributes:
        first: First token.
        tokens: How many.
        hidden: Hidden states [n, W].
        states: Queries, keys and values [n, P, W].
        memory: What was read.
    """

    first: int
    tokens: int
    hidden: Tensor
    states: Tensor
    memory: Rows


class Pass:
    """The chunks of a sequence in order, each read before it is needed."""

    def __init__(self, run: Run, layer: int, halo: int = 0) -> None:
        """Begin to read.

        Args:
            run: The sequence.
            layer: Index of the block that they come to.
            halo: Tokens on either side of a chunk whose values are needed.
        """
        self._run, self._layer, self._halo = run, layer, halo
        self._coming: deque[tuple[int, int]] = deque()
        self._asked = self._taken = 0
        self._before: Tensor | None = None
        self._behind: Tensor | None = None
        if halo and run.options.parts > 1:
            self._before, self._behind = self._of_other_parts()
        for _ in range(AHEAD):
            self._ask()

    @property
    def left(self) -> bool:
        """Whether a chunk is to come."""
        return self._taken < self._run.length

    def next(self) -> Chunk:
        """The next chunk; waits for the disk."""
        first, count = self._coming.popleft()
        rows = self._run.disk.take()
        self._taken += count
        self._ask()
        hidden, states = self._run.load(self._layer, first, rows)
        return Chunk(first, count, hidden, states, rows)

    def with_neighbours(self, chunk: Chunk) -> ChunkStates:
        """What a mixer takes of a chunk, with values on either side where it needs them."""
        found = heads_of(chunk.states, self._run.encoder.config)
        if not self._halo:
            return found
        before, after = self._before, self._behind
        if self._coming:
            first, count = self._coming[0]
            rows = tuple(part[: self._halo] for part in self._run.disk.peek())
            near = self._run.values(self._layer, first, rows)
            after = near if after is None or count >= self._halo else torch.cat([near, after])
        self._before = found.value[-self._halo :].clone()
        return found._replace(before=before, after=after)

    def done(self, chunk: Chunk, following: Tensor | None = None) -> None:
        """Give up a chunk, or keep it for the next pass with the states of the next block."""
        hidden: Tensor | None = chunk.memory[0]
        if following is not None:
            self._run.store(chunk.first, chunk.hidden, following)
            hidden = None if chunk.hidden is hidden else hidden
        self._run.disk.release(hidden, *chunk.memory[1:])

    def _ask(self) -> None:
        run, first = self._run, self._asked
        if first < run.length:
            count = min(whole_tiles(run.options.chunk()), run.length - first)
            run.disk.ask(first, count)
            self._coming.append((first, count))
            self._asked += count

    def _of_other_parts(self) -> tuple[Tensor | None, Tensor | None]:
        """Values before this process's tokens and after them, which others have."""
        run, config, options = self._run, self._run.encoder.config, self._run.options
        shape = (config.num_heads, config.hidden_size // config.num_heads)
        ends = [torch.empty(0, *shape, dtype=run.blocks.dtype, device=run.device)]
        kept = min(self._halo, run.length)
        for first in (0, run.length - kept) if run.length > kept else (0,):
            if kept:
                run.disk.ask(first, kept)
                ends.append(run.values(self._layer, first, run.disk.take()))
        rows = torch.cat(ends)
        edges = edges_of(rows.flatten(1).double(), self._halo, options.part, options.parts)
        options.exchange(edges, "sum")
        beside = rows_beside(edges, options.part)
        before, after = (part.to(rows.dtype).unflatten(1, shape) for part in beside)
        return before if len(before) else None, after if len(after) else None
