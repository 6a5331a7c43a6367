"""Higher-order Linear Attention (arXiv:2510.27258) without a causal mask.

The paper's mixers are causal and stream prefix moments; an encoder has the whole sequence, so that
each prefix sum is a sum over all tokens and the causal corrections fall away. Queries and keys are
RMS-normalised as ``qk_norm`` says. Every moment is divided by the number of tokens, and the head's
result is RMS-normalised: products of two moments have no scale of their own. There is no ratio
normaliser, which could vanish, as the kernel is not positive.

Shapes: S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.functional.alignment import zero_padding
from osa.model.functional.tiling import TOKEN_TILE, head_by_head
from osa.model.layers.mixers.rectangle import RectangleMixer, count_tokens, normalize_heads


def second_order(
    query: Float[Tensor, "S H L D"],
    key: Float[Tensor, "S H L D"],
    value: Float[Tensor, "S H L D"],
    mask: Bool[Tensor, "S L"] | None,
) -> Float[Tensor, "S H L D"]:
    """Q (K^T K / N) (Q^T V / N): the symmetric form, A A^T V with A = Q K^T.

    Args:
        query: Q.
        key: K.
        value: V.
        mask: True at real tokens; None for all.
    """
    count = count_tokens(query, mask)
    key, read = zero_padding(key, mask), zero_padding(query, mask)
    keys = key.transpose(-1, -2) @ key / count
    values = read.transpose(-1, -2) @ value / count
    return query @ (keys @ values)


def asymmetric(
    query: Float[Tensor, "S H L D"],
    key: Float[Tensor, "S H L D"],
    value: Float[Tensor, "S H L D"],
    mask: Bool[Tensor, "S L"] | None,
) -> Float[Tensor, "S H L D"]:
    """Q (K^T Q / N) (K^T V / N): A A V with A = Q K^T.

    Args:
        query: Q.
        key: K.
        value: V.
        mask: True at real tokens; None for all.
    """
    count = count_tokens(query, mask)
    key = zero_padding(key, mask).transpose(-1, -2)
    return query @ ((key @ query / count) @ (key @ value / count))


class Hla2Mixer(RectangleMixer):
    """``second_order``, each head normalised."""

    follows_order = False

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Of queries, keys and values."""
        return head_by_head(
            lambda q, k, v: normalize_heads(second_order(q, k, v, mask)), *states, least=TOKEN_TILE
        )


class AhlaMixer(RectangleMixer):
    """``asymmetric``, each head normalised."""

    follows_order = False

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Of queries, keys and values."""
        return head_by_head(
            lambda q, k, v: normalize_heads(asymmetric(q, k, v, mask)), *states, least=TOKEN_TILE
        )
