"""Heads of models that do not embed: labels of a text or a pair, weights of token ids.

Shapes: B batch, N tokens, T packed tokens, S sequences, D hidden, E pooled width, K labels,
V token ids.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig, HeadConfig
from osa.model.functional.tiling import project_rows
from osa.model.functional.varlen import segment_ids
from osa.model.layers.block import ACTIVATIONS

HEAD_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **ACTIVATIONS,
    "tanh": torch.tanh,
    "identity": lambda states: states,
}
SPARSE_CELLS, SPARSE_ROWS = 16_000_000, 64
"""Logits over the vocabulary that are held at once, and the least number of tokens of them."""


class HeadTransform(nn.Module):
    """A dense layer, a non-linearity and a LayerNorm, each where the configuration has it."""

    def __init__(self, head: HeadConfig, width: int) -> None:
        """Create the layers for states of ``width``."""
        super().__init__()
        self.dense = nn.Linear(width, width, bias=head.dense_bias) if head.dense else None
        self.activation = HEAD_ACTIVATIONS[head.activation]
        norm = nn.LayerNorm(width, eps=head.norm_eps, bias=head.norm_bias)
        self.norm = norm if head.norm else nn.Identity()

    def forward(self, rows: Float[Tensor, "n E"]) -> Float[Tensor, "n E"]:
        """Transform every row by itself."""
        if self.dense is not None:
            rows = self.activation(project_rows(self.dense, rows))
        normalised: Tensor = self.norm(rows)
        return normalised


class ClassifierHead(nn.Module):
    """One logit a label from each pooled state."""

    def __init__(self, config: EncoderConfig, head: HeadConfig) -> None:
        """Create the layers."""
        super().__init__()
        self.transform = HeadTransform(head, config.vector_size)
        self.out = nn.Linear(config.vector_size, len(head.labels))

    def forward(self, pooled: Float[Tensor, "S E"]) -> Float[Tensor, "S K"]:
        """Logits, in float32 at least."""
        logits = project_rows(self.out, self.transform(pooled))
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


class SparseHead(nn.Module):
    """One weight a token id: the largest over the tokens of log(1 + relu(logit)) (SPLADE).

    Source: Formal et al., arXiv:2109.10086.
    """

    def __init__(self, config: EncoderConfig, head: HeadConfig) -> None:
        """Create the layers."""
        super().__init__()
        assert config.vocab_size is not None  # a head over token ids
        self.transform = HeadTransform(head, config.hidden_size)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(
        self,
        hidden: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None,
        cu_seqlens: Int[Tensor, " S1"] | None,
    ) -> Float[Tensor, "S V"]:
        """Weights of each sequence; of an empty one zeros.

        Args:
            hidden: States of every token.
            mask: True at real tokens of a padded batch, or None.
            cu_seqlens: Offsets of a packed batch (then B = 1), or None.
        """
        if cu_seqlens is None:
            batch, length = hidden.shape[:2]
            logits = self._logits(hidden.flatten(0, 1)).view(batch, length, -1)
            if mask is not None:
                logits = logits.masked_fill(~mask[..., None], 0.0)
            return torch.log1p(logits.relu().amax(1))
        if cu_seqlens.device != hidden.device:
            cu_seqlens = cu_seqlens.to(hidden.device, non_blocking=True)
        count = cu_seqlens.shape[0] - 1
        segments = segment_ids(cu_seqlens, hidden.shape[1])
        largest = hidden.new_zeros(count, self.decoder.out_features)
        parts = [(hidden[0], segments)]
        if not torch.compiler.is_compiling():  # a number of steps is fixed in traces
            step = max(SPARSE_ROWS, SPARSE_CELLS // self.decoder.out_features)
            steps = hidden[0].split(step), segments.split(step)
            parts = list(zip(*steps, strict=True))
        for rows, owners in parts:
            logits = self._logits(rows).relu()
            index = owners[:, None].expand_as(logits)
            largest = largest.scatter_reduce(0, index, logits.to(largest.dtype), "amax")
        return torch.log1p(largest)

    def _logits(self, rows: Float[Tensor, "T D"]) -> Float[Tensor, "T V"]:
        return project_rows(self.decoder, self.transform(rows))


def make_head(config: EncoderConfig) -> ClassifierHead | SparseHead | None:
    """The head that a configuration asks for; None for an embedding model."""
    if config.head is None:
        return None
    kind = SparseHead if config.head.kind == "sparse" else ClassifierHead
    return kind(config, config.head)
