"""Base of token mixers: projections to heads, normalised and rotated queries and keys.

Shapes: B batch, N tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.functional.parts import SequencePart
from osa.model.functional.softmax import Bias
from osa.model.functional.tiling import by_tiles
from osa.model.kernels.native_pass import Mixing
from osa.model.layers.mixers.token_sums import TokenSums
from osa.model.layers.positions import rotate

HEAD_EPS = 1e-6
"""Epsilon of the RMS norms of queries and keys."""


class TokenContext(NamedTuple):
    """Sequences and positions of a batch's tokens; at most one of mask and cu_seqlens is set.

    Attributes:
        mask: True at real tokens of a padded batch.
        cu_seqlens: Offsets of a packed batch (then B = 1).
        rotary: Cosines and sines of each token's position, or None.
        local_rotary: Those of local layers, where they differ.
        bias: Of softmax attention's scores, or None.
    """

    mask: Bool[Tensor, "B N"] | None
    cu_seqlens: Int[Tensor, " S1"] | None
    rotary: tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]] | None
    local_rotary: tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]] | None = None
    bias: Bias | None = None


class Mixer(nn.Module, ABC):
    """Projects to heads, mixes tokens by ``mix_heads``, projects back.

    Attributes:
        calls_attention: Whether it calls ``osa::attention``, whose kernel can be chosen.
        traces_packed: Whether a packed batch is one graph for every ``cu_seqlens``; otherwise the
            offsets decide which operations run, and only padded batches can be exported.
        accepts_empty_rows: Whether a padded row without a single token gives finite states.
        has_scores: Whether it has scores of pairs of tokens, which a bias or a window can change.
    """

    calls_attention: ClassVar[bool] = False
    traces_packed: ClassVar[bool] = False
    accepts_empty_rows: ClassVar[bool] = False
    has_scores: ClassVar[bool] = False

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections; ``osa.model.layers.initialization`` sets their values.

        Args:
            config: Of the encoder.
            layer: Index of the block.
        """
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qk_norm = config.qk_norm
        self.operand_dtype: torch.dtype | None = None  # set by inference.bfloat16
        width, bias = config.hidden_size, config.attention_bias
        self.local = config.is_local(layer)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self, hidden: Float[Tensor, "B N D"], context: TokenContext, norm: nn.Module
    ) -> Float[Tensor, "B N D"]:
        """Mix tokens within each sequence, and project back.

        Args:
            hidden: States of every token.
            context: Sequences and positions of the tokens.
            norm: Applied to every token first.
        """
        joined: Tensor = self.out(self.mix(hidden, context, norm))
        return joined

    def mix(
        self, hidden: Float[Tensor, "B N D"], context: TokenContext, norm: nn.Module
    ) -> Float[Tensor, "B N D"]:
        """What ``forward`` projects back: the mixed heads, side by side.

        Args:
            hidden: States of every token.
            context: Sequences and positions of the tokens.
            norm: Applied to every token first.
        """
        rotary = (context.local_rotary if self.local else None) or context.rotary or ()
        if rotary or self.qk_norm or not isinstance(norm, nn.Identity):
            states = by_tiles(lambda part, *turn: self.project(norm(part), turn), hidden, *rotary)
        else:  # one product alone: tiles would only be put together again
            states = self.project(hidden, ())
        query, key, value = (state.transpose(1, 2) for state in states)
        return self.mix_heads(query, key, value, context).transpose(1, 2).flatten(2)

    def project(
        self, hidden: Float[Tensor, "B N D"], rotary: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, N, H, d]; normalised and rotated as configured.

        Args:
            hidden: States of every token, normalised.
            rotary: Cosines and sines of the tokens' positions [B, N, d / 2]; empty for none.
        """
        batch, length, _ = hidden.shape
        joint = self.qkv(hidden).view(batch, length, 3, self.num_heads, self.head_dim)
        if torch.is_autocast_enabled(hidden.device.type):
            joint = joint.float()
        query, key, value = joint.unbind(2)
        if self.qk_norm:
            query = F.rms_norm(query, (self.head_dim,), eps=HEAD_EPS)
            key = F.rms_norm(key, (self.head_dim,), eps=HEAD_EPS)
        if rotary:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        return query, key, value

    @classmethod
    def name_kernel(cls, device: str, dtype: torch.dtype, head_dim: int) -> str:
        """What mixes the heads in packed inference on this machine.

        Args:
            device: Type of device.
            dtype: Of the operands.
            head_dim: Width of a head.

        Raises:
            InputError: ``use_kernel`` asks for one that does not support them.
        """
        return "torch"

    def native_mixing(self) -> Mixing | None:
        """What the CPU kernel calls this mixer's work on packed batches; None where it has none."""
        return None

    def token_sums(self, dtype: torch.dtype) -> TokenSums | None:
        """Sums of no tokens, for sequences that come in chunks of states of a dtype.

        None where a token's result depends on the others through more than sums.
        """
        return None

    def mix_part(
        self,
        query: Float[Tensor, "B H N D"],
        key: Float[Tensor, "B H N D"],
        value: Float[Tensor, "B H N D"],
        part: SequencePart,
    ) -> Float[Tensor, "B H N D"]:
        """Mix the tokens of a sequence that lies on several processes; with gradients.

        Args:
            query: Queries of this process's tokens.
            key: Keys.
            value: Values.
            part: Its share.

        Raises:
            ConfigError: A token's result depends on the others through more than sums.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot mix a sequence over several processes: every token "
            "needs all others, not sums over them"
        )

    @abstractmethod
    def mix_heads(
        self,
        query: Float[Tensor, "B H N D"],
        key: Float[Tensor, "B H N D"],
        value: Float[Tensor, "B H N D"],
        context: TokenContext,
    ) -> Float[Tensor, "B H N D"]:
        """Mix the tokens of every head.

        Args:
            query: Queries.
            key: Keys.
            value: Values.
            context: Sequences and positions of the tokens.
        """
