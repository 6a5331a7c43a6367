"""Names of an architecture's tensors, and their translation to those of ``EmbeddingModel``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from osa.model.errors import CheckpointError

Parts = tuple[str, ...]
"""Layers whose outputs lie side by side in one of ours; '' stands for one without a tensor."""


class LayerNames(NamedTuple):
    """Names within one layer, without ``.weight`` and ``.bias``.

    Attributes:
        prefix: Of layer ``{}``.
        qkv: Queries, keys, values: three layers, or one.
        out: Output of the attention.
        mixer_norm: Norm of the attention.
        up: First layer of the feed-forward layer; where it is gated, the activated half first.
        down: Its second layer.
        feed_forward_norm: Norm of the feed-forward layer.
        swap_up: Whether ``up`` is one layer whose halves lie the other way round.
    """

    prefix: str
    qkv: Parts
    out: str
    mixer_norm: str
    up: Parts
    down: str
    feed_forward_norm: str
    swap_up: bool = False


class ModelNames(NamedTuple):
    """Names of an architecture's tensors.

    Attributes:
        layer: Those of each layer.
        embed: Token embeddings.
        embedding_norm: Norm after the embeddings; '' for none.
        positions: Learned positions; '' for none.
        first_position: Row of the first token's position.
        token_types: Embeddings of token types; '' for none.
        position_table: Bias by relative position; '' for none.
        final_norm: Norm after the last layer; '' for none.
        unused: Prefixes of tensors that an encoder does not need.
    """

    layer: LayerNames
    embed: str = "embeddings.word_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    positions: str = ""
    first_position: int = 0
    token_types: str = ""
    position_table: str = ""
    final_norm: str = ""
    unused: Parts = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")


class Source:
    """Tensors of a directory, each taken once."""

    def __init__(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Take over tensors; ``where`` names them in messages."""
        self._left = {_modern(name): tensor for name, tensor in weights.items()}
        self._where = where

    def strip(self, prefix: str) -> None:
        """Remove ``prefix`` from the names that begin with it."""
        self._left = {name.removeprefix(prefix): tensor for name, tensor in self._left.items()}

    def has(self, name: str) -> bool:
        """Whether a tensor has not been taken yet."""
        return name in self._left

    def take(self, name: str) -> Tensor:
        """The tensor of a name.

        Raises:
            CheckpointError: There is none.
        """
        if name not in self._left:
            raise CheckpointError(f"{self._where} misses tensor {name}")
        return self._left.pop(name)

    def layer(self, ours: str, names: Sequence[str]) -> dict[str, Tensor]:
        """Weight and, if there is one, bias of layers whose outputs are put side by side."""
        weights = {f"{ours}.weight": torch.cat([self.take(f"{name}.weight") for name in names])}
        if self.has(f"{names[0]}.bias"):
            weights[f"{ours}.bias"] = torch.cat([self.take(f"{name}.bias") for name in names])
        return weights

    def check_rest(self, unused: Sequence[str]) -> None:
        """Refuse tensors that were not taken and are not known to be unused.

        Raises:
            CheckpointError: Naming the first.
        """
        for name in sorted(self._left):
            if not name.startswith(tuple(unused)):
                raise CheckpointError(f"{self._where} holds the unknown tensor {name}")


def take_encoder(source: Source, names: ModelNames, layers: int) -> dict[str, Tensor]:
    """Weights of an ``Encoder``, by its names.

    Args:
        source: Tensors of a directory.
        names: Of the architecture.
        layers: Number of layers.

    Raises:
        CheckpointError: A tensor is missing.
    """
    found = {"embed.weight": source.take(f"{names.embed}.weight")}
    if names.embedding_norm:
        found |= source.layer("embedding_norm", [names.embedding_norm])
    if names.positions:
        table = source.take(f"{names.positions}.weight")
        found["positions.weight"] = table[names.first_position :]
    if names.token_types:
        found["token_types.weight"] = source.take(f"{names.token_types}.weight")
    if names.position_table:
        found["score_bias.table"] = source.take(f"{names.position_table}.weight")
    if names.final_norm:
        found |= source.layer("norm", [names.final_norm])
    for number in range(layers):
        found |= _take_layer(source, names, number)
    return found


def _take_layer(source: Source, names: ModelNames, number: int) -> dict[str, Tensor]:
    layer, ours = names.layer, f"blocks.{number}"
    theirs = layer.prefix.format(number)
    found: dict[str, Tensor] = {}
    for place, parts in (
        ("mixer.qkv", layer.qkv),
        ("mixer.out", (layer.out,)),
        ("feed_forward.up", layer.up),
        ("feed_forward.down", (layer.down,)),
        ("feed_forward_norm", (layer.feed_forward_norm,)),
    ):
        found |= source.layer(f"{ours}.{place}", [theirs + part for part in parts])
    norm = theirs + layer.mixer_norm
    if number or source.has(f"{norm}.weight"):  # the first layer may go without
        found |= source.layer(f"{ours}.mixer_norm", [norm])
    if layer.swap_up:
        for kind in ("weight", "bias"):
            whole = found.get(f"{ours}.feed_forward.up.{kind}")
            if whole is not None:
                found[f"{ours}.feed_forward.up.{kind}"] = torch.cat(whole.chunk(2)[::-1])
    return found


def fold_token_types(weights: dict[str, Tensor]) -> None:
    """Add the embedding of token type 0 to every token's, where all tokens are of type 0.

    Args:
        weights: Of an ``Encoder``; changed in place.
    """
    types = weights.pop("token_types.weight", None)
    if types is not None and len(types):
        weights["embed.weight"] = weights["embed.weight"].float() + types[0].float()


def _modern(name: str) -> str:
    """Names of LayerNorms as torch has them; old TensorFlow models have others."""
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")
