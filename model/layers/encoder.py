"""The encoder: tokens or features in, one hidden state a token out.

Shapes: B batch, N tokens, D hidden, F feature width. A packed batch has B = 1 and ``cu_seqlens``
[S + 1]; a padded one has ``mask`` [B, N].
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.errors import InputError
from osa.model.functional.tiling import missing_rows
from osa.model.functional.varlen import check_cu_seqlens
from osa.model.layers.block import Block, make_norm
from osa.model.layers.initialization import initialize, orthonormal
from osa.model.layers.mixers import TokenContext
from osa.model.layers.positions import look_up_rotary, rotary_table, token_positions
from osa.model.layers.residual import make_read, state_channels
from osa.model.layers.score_bias import PassBias, ScoreBias, needs_bias


class Encoder(nn.Module):
    """A stack of blocks over token ids or feature vectors.

    Attributes:
        adds_fillers: Whether packed batches get ``missing_rows``, for products that need them.
    """

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
        self.adds_fillers = True
        if config.vocab_size is not None:
            self.embed: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        else:
            assert config.feature_size is not None  # checked by EncoderConfig
            self.embed = nn.Linear(config.feature_size, config.hidden_size, bias=False)
        learned = config.positions == "learned"
        width, kinds = config.hidden_size, config.token_types
        rows = config.position_rows or config.max_seq_len
        self.positions = nn.Embedding(rows, width) if learned else None
        self.token_types = nn.Embedding(kinds, width) if kinds else None
        self.embedding_norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.score_bias = ScoreBias(config) if needs_bias(config) else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.read = make_read(config)
        self.norm = nn.Identity() if config.norm_place == "post" else make_norm(config)
        initialize(self, config, generator)
        if isinstance(self.embed, nn.Linear):
            rows, columns = self.embed.weight.shape
            weight = orthonormal(rows, columns, generator)
            self.embed.weight.data.copy_(weight)

    def forward(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Return the last hidden states; rows of padding are meaningless.

        Args:
            inputs: Token ids or features.
            mask: True at real tokens of a padded batch, bool [B, N].
            cu_seqlens: Offsets of a packed batch, integers [S + 1]; on the host, nothing waits for
                a device.

        Raises:
            InputError: Masks or offsets that do not fit, or sequences that are too long.
        """
        longest = self._check(inputs, mask, cu_seqlens)
        fillers = 0
        if cu_seqlens is not None and self.adds_fillers:
            fillers = missing_rows(inputs.shape[1], inputs)
        if cu_seqlens is not None and fillers:
            inputs, cu_seqlens = _with_fillers(inputs, cu_seqlens, fillers)
        hidden, context = self._start(inputs, mask, cu_seqlens, longest)
        for block in self.blocks:
            hidden = block(hidden, context)
        normalised: Tensor = self.norm(self.read(hidden))
        return normalised[:, :-fillers] if fillers else normalised

    def start(
        self, inputs: Tensor, mask: Tensor | None = None, cu_seqlens: Tensor | None = None
    ) -> tuple[Float[Tensor, "B N D"], TokenContext]:
        """States before the first block, and what the blocks are told of the batch.

        Args:
            inputs: As for ``forward``.
            mask: As for ``forward``.
            cu_seqlens: As for ``forward``.

        Raises:
            InputError: As ``forward``.
        """
        return self._start(inputs, mask, cu_seqlens, self._check(inputs, mask, cu_seqlens))

    def _start(
        self, inputs: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None, longest: int | None
    ) -> tuple[Tensor, TokenContext]:
        on_host = cu_seqlens
        if cu_seqlens is not None and cu_seqlens.device != inputs.device:
            cu_seqlens = cu_seqlens.to(inputs.device, non_blocking=True)
        config = self.config
        places = token_positions(inputs.shape[1], mask, cu_seqlens, inputs.device)
        hidden = self.begin(inputs, places)
        rotary = local_rotary = None
        if config.positions == "rotary":
            make = rotary_table if longest is None else partial(look_up_rotary, longest=longest)
            table = partial(make, places, head_dim=config.head_dim, divisor=config.rope_divisor)
            rotary = table(theta=config.rope_theta)
            if config.local_window is not None and config.local_rope_theta is not None:
                local_rotary = table(theta=config.local_rope_theta)
        bias = None if self.score_bias is None else PassBias(self.score_bias, hidden.device)
        if (channels := state_channels(config)) > 1:
            hidden = hidden.repeat(1, 1, channels)
        return hidden, TokenContext(mask, cu_seqlens, rotary, local_rotary, bias, offsets=on_host)

    def begin(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        places: Int[Tensor, "#B N"],
    ) -> Float[Tensor, "B N D"]:
        """States of tokens or features before the first block.

        Args:
            inputs: Token ids or features.
            places: Of each in its own sequence.
        """
        kinds, size = None, self.config.vocab_size
        if self.token_types is not None and size is not None:
            kinds, inputs = inputs // size, inputs % size
        hidden: Tensor = self.embed(inputs)
        if kinds is not None and self.token_types is not None:
            hidden = hidden + self.token_types(kinds)
        if self.positions is not None:
            if self.config.position_rows is not None:
                places = places.clamp(max=self.config.position_rows - 1)
            hidden = hidden + self.positions(places)
        normalised: Tensor = self.embedding_norm(hidden)
        return normalised

    def _check(self, inputs: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None) -> int | None:
        """Tokens of the longest sequence; None where that is not known yet, in a trace."""
        batch, longest = inputs.shape[:2]
        if cu_seqlens is not None:
            if mask is not None or batch != 1:
                raise InputError(
                    f"packed inputs have batch size 1 and no mask, got batch size {batch}"
                    + ("" if mask is None else " and a mask")
                )
            if torch.compiler.is_compiling():
                return None
            offsets = check_cu_seqlens(cu_seqlens, longest)
            longest = max((b - a for a, b in itertools.pairwise(offsets)), default=0)
        elif mask is not None and (mask.dtype != torch.bool or mask.shape != (batch, longest)):
            raise InputError(
                f"mask must be bool [{batch}, {longest}], got {mask.dtype} of shape "
                f"{tuple(mask.shape)}"
            )
        if longest > self.config.max_seq_len:
            raise InputError(
                f"a sequence has {longest} tokens, allowed are up to {self.config.max_seq_len}"
            )
        return None if torch.compiler.is_compiling() else longest


def _with_fillers(inputs: Tensor, cu_seqlens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A packed batch with ``count`` sequences of one token added, see ``missing_rows``."""
    length = inputs.shape[1]
    filled = F.pad(inputs, (0, 0) * (inputs.dim() - 2) + (0, count))
    ends = torch.arange(
        length + 1, length + count + 1, dtype=cu_seqlens.dtype, device=cu_seqlens.device
    )
    return filled, torch.cat([cu_seqlens, ends])
