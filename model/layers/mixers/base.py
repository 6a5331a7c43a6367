"""Base of token mixers: projections to heads, the first of them normalised and rotated.

Shapes: B batch, N tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

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
from osa.model.layers.mixers.sums.token_sums import TokenSums
from osa.model.layers.monarch import make_linear
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
        side: What each token says of its own mixing, by the layer ``Mixer.side``; or None.
        offsets: ``cu_seqlens`` as they came, on the host if that has them.
    """

    mask: Bool[Tensor, "B N"] | None
    cu_seqlens: Int[Tensor, " S1"] | None
    rotary: tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]] | None
    local_rotary: tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]] | None = None
    bias: Bias | None = None
    side: Float[Tensor, "B N K"] | None = None
    offsets: Int[Tensor, " S1"] | None = None


class Mixer(nn.Module, ABC):
    """Projects to heads, mixes tokens by ``mix_states``, projects back.

    Attributes:
        parts: States of width D that a token is projected to, each of heads side by side.
        turned: How many of them, from the first, are normalised and rotated as configured.
        scalars: Further numbers of each head that a token is projected to.
        qkv: Joint projection to heads; ``nn.Linear``, ``MonarchLinear``, or those of inference.
        out: Projection back, likewise; ``nn.Identity`` where the configuration has none.
        calls_attention: Whether it calls ``osa::attention``, whose kernel can be chosen.
        traces_packed: Whether a packed batch is one graph for every ``cu_seqlens``; otherwise the
            offsets decide which operations run, and only padded batches can be exported.
        accepts_empty_rows: Whether a padded row without a single token gives finite states.
        has_scores: Whether it has scores of pairs of tokens, which a bias or a window can change.
        has_completion: Whether ``osa_pool``, ``osa_taps`` and ``osa_gate`` are options of it.
        side: A layer of its own on what queries are made of, for ``TokenContext.side``; or None.
        unshared: Why queries and keys cannot be the same; empty where they can.
        drops_vo: Whether it works without projections of values and of the output.
    """

    parts: ClassVar[int] = 3
    turned: ClassVar[int] = 2
    scalars: ClassVar[int] = 0
    calls_attention: ClassVar[bool] = False
    traces_packed: ClassVar[bool] = False
    accepts_empty_rows: ClassVar[bool] = False
    has_scores: ClassVar[bool] = False
    has_completion: ClassVar[bool] = False
    side: nn.Module | None
    unshared: ClassVar[str] = "has no queries and keys to share"
    drops_vo: ClassVar[bool] = False

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections; ``osa.model.layers.initialization`` sets their values.

        Args:
            config: Of the encoder.
            layer: Index of the block.

        Raises:
            ConfigError: Heads that are narrower than the numbers of a head.
        """
        super().__init__()
        if self.scalars > config.head_dim:
            raise ConfigError(
                f"the {config.mixers[layer]} mixer needs heads of at least {self.scalars} "
                f"features, got {config.head_dim}"
            )
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qk_norm = config.qk_norm
        self.operand_dtype: torch.dtype | None = None  # set by inference.bfloat16
        width, bias = config.hidden_size, config.attention_bias
        self.local = config.is_local(layer)
        self.shares_qk, self.has_values = config.share_qk, config.vo == "full"
        stored = self.stored_parts
        self.qkv: Any
        if self.scalars:  # not of one width: dense
            self.qkv = nn.Linear(width, stored * width + self.num_heads * self.scalars, bias=bias)
        else:
            self.qkv = make_linear(config, width, stored * width, bias, stored, self.head_dim)
        has_out = config.vo == "full"
        last = make_linear(config, width, width, bias, unit=self.head_dim) if has_out else None
        self.out: Any = last or nn.Identity()
        self.side = None

    @property
    def stored_parts(self) -> int:
        """States that ``qkv`` gives: without shared keys, and values that are not projected."""
        return self.parts - self.shares_qk - (not self.has_values)

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
        heads = tuple(state.transpose(1, 2) for state in states[: self.native_parts])
        if self.side is not None:
            context = context._replace(side=states[-1])
        return self.mix_states(heads, context).transpose(1, 2).flatten(2)

    def project(
        self, hidden: Float[Tensor, "B N D"], rotary: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The states [B, N, H, d], the first normalised and rotated; then numbers [B, N, H, n].

        Last what the layer ``side`` gives [B, N, K], where there is one.

        Args:
            hidden: States of every token, normalised.
            rotary: Cosines and sines of the tokens' positions [B, N, d / 2]; empty for none.
        """
        joint = self.qkv(hidden)
        if torch.is_autocast_enabled(hidden.device.type):
            joint = joint.float()
        size, stored = self.num_heads * self.head_dim, self.stored_parts
        whole = joint[..., : stored * size] if self.scalars else joint
        states = [*whole.unflatten(-1, (stored, self.num_heads, self.head_dim)).unbind(2)]
        if self.shares_qk:
            states.insert(1, states[0])
        if not self.has_values:
            own = hidden.unflatten(2, (self.num_heads, self.head_dim))
            states.append(own.to(joint.dtype))
        for place in range(self.turned):
            if self.qk_norm:
                states[place] = F.rms_norm(states[place], (self.head_dim,), eps=HEAD_EPS)
            if rotary:
                states[place] = rotate(states[place], *rotary)
        if self.scalars:
            numbers = joint.narrow(-1, stored * size, self.num_heads * self.scalars)
            states.append(numbers.unflatten(-1, (self.num_heads, self.scalars)))
        if self.side is not None:
            side: Tensor = self.side(hidden)
            states.append(side.float() if side.dtype == torch.bfloat16 else side)
        return tuple(states)

    @property
    def native_parts(self) -> int:
        """States of width D that the CPU kernel's projection gives: numbers of heads fill one."""
        return self.parts + bool(self.scalars)

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
        side: Float[Tensor, "B N K"] | None = None,
    ) -> Float[Tensor, "B H N D"]:
        """Mix the tokens of a sequence that lies on several processes; with gradients.

        Args:
            query: Queries of this process's tokens.
            key: Keys.
            value: Values.
            part: Its share.
            side: What the tokens say of their own mixing, by the layer ``side``.

        Raises:
            ConfigError: A token's result depends on the others through more than sums.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot mix a sequence over several processes: every token "
            "needs all others, not sums over them"
        )

    def initialize_own(self, generator: torch.Generator | None = None) -> None:
        """Set random weights beside the projections; those that are not random are set before."""
        del generator

    @abstractmethod
    def mix_states(
        self, states: tuple[Float[Tensor, "B H N _"], ...], context: TokenContext
    ) -> Float[Tensor, "B H N D"]:
        """Mix the tokens of every head.

        Args:
            states: As many as ``parts``, then ``scalars`` numbers a head where there are any.
            context: Sequences and positions of the tokens.
        """


class AttentionMixer(Mixer):
    """A mixer of queries, keys and values."""

    def mix_states(
        self, states: tuple[Float[Tensor, "B H N _"], ...], context: TokenContext
    ) -> Float[Tensor, "B H N D"]:
        """``mix_heads`` of the three."""
        query, key, value = states
        return self.mix_heads(query, key, value, context)

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
