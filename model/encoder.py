"""The encoder: tokens or features in, one hidden state a token out.

Shapes: B batch, N tokens, D hidden, F feature width. A packed batch has B = 1 and ``cu_seqlens``
[S + 1]; a padded one has ``mask`` [B, N].
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.initialization import initialize, orthonormal
from osa.model.layers import Block, make_norm, rotary_table, token_positions
from osa.model.mixers import TokenContext


class Encoder(nn.Module):
    """A stack of blocks over token ids or feature vectors."""

    def __init__(self, config: EncoderConfig, generator: torch.Generator | None = None) -> None:
        """Create and initialise the weights.

        Args:
            config: Shape and rules.
            generator: Source of the random start; default is torch's global one.

        Raises:
            ConfigError: The configuration cannot be built.
        """
        super().__init__()
        self.config = config
        if config.vocab_size is not None:
            self.embed: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        else:
            assert config.feature_size is not None  # EncoderConfig has made sure
            self.embed = nn.Linear(config.feature_size, config.hidden_size, bias=False)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_seq_len, config.hidden_size) if learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = make_norm(config)
        initialize(self, config, generator)
        if isinstance(self.embed, nn.Linear):
            rows, columns = self.embed.weight.shape
            weight = orthonormal(rows, columns, generator)
            self.embed.weight.data.copy_(weight)

    def forward(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Bool[Tensor, "B N"] | None = None,
        cu_seqlens: Int[Tensor, S1] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Return the last hidden states; rows of padding are meaningless."""
        hidden: Tensor = self.embed(inputs)
        places = token_positions(hidden.shape[1], mask, cu_seqlens, hidden.device)
        rotary = None
        if self.positions is not None:
            hidden = hidden + self.positions(places)
        if self.config.positions == "rotary":
            rotary = rotary_table(places, self.config.head_dim, self.config.rope_theta)
        context = TokenContext(mask, cu_seqlens, rotary)
        for block in self.blocks:
            hidden = block(hidden, context)
        normalised: Tensor = self.norm(hidden)
        return normalised
