"""The blocks of an encoder on chunks of one sequence, a step at a time.

Shapes: n tokens of a chunk, D hidden, W width of its rows here (D, or more where padded), H heads,
d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.functional.tiling import missing_rows
from osa.model.layers.block import Block
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers.base import Mixer
from osa.model.layers.mixers.sums.token_sums import ChunkStates, TokenSums
from osa.model.layers.positions import rotary_table
from osa.model.layers.residual import state_channels

Rotary = tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]
EXACT_POSITIONS = 1 << 24
"""Positions from here on are no float32 numbers: their angles are computed in double."""


@runtime_checkable
class ChunkBlocks(Protocol):
    """What blocks offer for chunks; a row's bits depend on that row alone.

    Attributes:
        count: Number of blocks.
        width: Of rows of hidden states, W.
        parts: States of a token, P: queries, keys and values; the side, where mixers have one.
        dtype: Of queries, keys, values and mixed heads.
    """

    count: int
    width: int
    parts: int
    dtype: torch.dtype

    @property
    def mixers(self) -> Sequence[Mixer]:
        """Of each block."""

    def project(
        self, layer: int, hidden: Float[Tensor, "n W"], rotary: Rotary | None
    ) -> Float[Tensor, "n P W"]:
        """Queries, keys and values of a block, each of heads side by side; see ``with_side``."""

    def advance(
        self,
        layer: int,
        hidden: Float[Tensor, "n W"],
        mixed: Float[Tensor, "n H d"],
        rotary: Rotary | None,
    ) -> Float[Tensor, "n P W"] | None:
        """Change ``hidden`` in place to what a block gives; what ``project`` gives for the next.

        Args:
            layer: Index of the block.
            hidden: States before it; afterwards those behind it.
            mixed: What its mixer gave.
            rotary: As for ``project``.

        Returns:
            None after the last block.
        """

    def leave(self, hidden: Float[Tensor, "n W"]) -> Float[Tensor, "n D"]:
        """What the encoder gives: states behind the last block, normalised."""


@runtime_checkable
class HasChunks(Protocol):
    """Blocks that were replaced for inference, and have their own way with chunks."""

    def in_chunks(self) -> ChunkBlocks:
        """The same blocks, for chunks."""


class TorchBlocks:
    """Plain blocks, by torch; see ``ChunkBlocks``."""

    def __init__(self, encoder: Encoder) -> None:
        """Use the blocks and the last norm of an encoder."""
        self._blocks = [block for block in encoder.blocks if isinstance(block, Block)]
        self._norm = encoder.norm
        self.count, self.width = len(self._blocks), encoder.config.hidden_size
        self.mixers = [block.mixer for block in self._blocks]
        self.parts = 3 + (side_width(encoder.config) > 0)
        weight = next(encoder.parameters()).dtype
        self.dtype = self.mixers[0].operand_dtype or weight if self.mixers else weight

    def project(self, layer: int, hidden: Tensor, rotary: Rotary | None) -> Tensor:
        """See ``ChunkBlocks``."""
        block = self._blocks[layer]
        rows = _filled(hidden)
        norm = nn.Identity() if block.post else block.mixer_norm
        turn = () if rotary is None else tuple(_filled(part)[None] for part in rotary)
        found = block.mixer.project(norm(rows)[None], turn)
        states = torch.stack([part[0].flatten(1) for part in found[:3]], dim=1)
        states = states[: len(hidden)].to(self.dtype)
        if self.parts == 3:
            return states
        return with_side(states, found[3][0, : len(hidden)].float())

    def advance(
        self, layer: int, hidden: Tensor, mixed: Tensor, rotary: Rotary | None
    ) -> Tensor | None:
        """See ``ChunkBlocks``."""
        block = self._blocks[layer]
        joined = block.mixer.out(_filled(mixed.flatten(1)))
        hidden.copy_(block.transform(_filled(hidden)[None], joined[None])[0, : len(hidden)])
        return self.project(layer + 1, hidden, rotary) if layer + 1 < self.count else None

    def leave(self, hidden: Tensor) -> Tensor:
        """See ``ChunkBlocks``."""
        normalised: Tensor = self._norm(hidden)
        return normalised


def _filled(rows: Tensor) -> Tensor:
    """Rows with zeros after them, for products of fixed bits: see ``missing_rows``."""
    missing = missing_rows(len(rows), rows)
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def chunk_blocks(encoder: Encoder) -> ChunkBlocks:
    """The blocks of an encoder for sequences in chunks.

    Raises:
        ConfigError: Naming the mixer or option that cannot take a sequence in chunks.
    """
    config = encoder.config
    options = {
        "local_conv": config.local_conv > 0,
        f"residual {config.residual}": state_channels(config) > 1,
        "gates of heads below 8 features": side_width(config) > 0 and config.head_dim < 8,
    }
    for name, used in options.items():
        if used:
            raise ConfigError(f"models with {name} cannot take a text in chunks yet")
    replaced = encoder.blocks[0] if len(encoder.blocks) else None
    blocks = replaced.in_chunks() if isinstance(replaced, HasChunks) else TorchBlocks(encoder)
    if any(mixer.token_sums(blocks.dtype) is None for mixer in blocks.mixers):
        raise ConfigError(
            f"the {encoder.config.mixer} mixer cannot take a text in chunks: every token needs all "
            "others, not sums over them. Models of the osa mixer can"
        )
    return blocks


def new_sums(blocks: ChunkBlocks, layer: int) -> TokenSums:
    """Sums of a block over no tokens; raises nothing for blocks of ``chunk_blocks``."""
    sums = blocks.mixers[layer].token_sums(blocks.dtype)
    assert sums is not None  # chunk_blocks has asked
    return sums


def side_width(config: EncoderConfig) -> int:
    """Numbers K that a token says of its own mixing."""
    return config.num_heads * (config.osa_pool + config.osa_gate * (2 + config.osa_pool))


def with_side(states: Float[Tensor, "n 3 W"], side: Float[Tensor, "n K"]) -> Tensor:
    """States with one more part [n, 4, W], which holds float32 numbers bit by bit."""
    bits = side.contiguous().view(states.dtype)
    filled = F.pad(bits, (0, states.shape[2] - bits.shape[1]))
    return torch.cat([states, filled[:, None]], dim=1)


def heads_of(states: Float[Tensor, "n P W"], config: EncoderConfig) -> ChunkStates:
    """States of a block as its mixer takes them: views, but for the side."""
    query, key, value = (
        states[:, :3, : config.hidden_size].unflatten(2, (config.num_heads, -1)).unbind(1)
    )
    if states.shape[1] == 3:
        return ChunkStates(query, key, value)
    size = side_width(config) * (torch.float32.itemsize // states.dtype.itemsize)
    side = states[:, 3, :size].contiguous().view(torch.float32)
    return ChunkStates(query, key, value, side=side)


def chunk_rotary(
    config: EncoderConfig, first: int, count: int, device: torch.device
) -> Rotary | None:
    """Cosines and sines of positions ``first`` to ``first + count``; None without rotary ones.

    The same numbers as those of a whole sequence; beyond ``EXACT_POSITIONS``, where those would be
    wrong, angles are the same frequencies' in double.

    Args:
        config: Of the encoder.
        first: First position.
        count: How many.
        device: Of the result.
    """
    if config.positions != "rotary":
        return None
    places: Int[Tensor, " n"] = torch.arange(first, first + count, device=device)
    if first + count <= EXACT_POSITIONS:
        cosine, sine = rotary_table(
            places[None], config.head_dim, config.rope_theta, config.rope_divisor
        )
        return cosine[0], sine[0]
    exponents = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)
    frequencies = (config.rope_theta ** (-exponents / config.head_dim)) / config.rope_divisor
    angles = places[:, None].double() * frequencies.double()
    return angles.cos().float(), angles.sin().float()
