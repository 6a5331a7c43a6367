"""The configuration of a model, stored with its weights: its encoder, and its head if it has one.

Ports, batch sizes and devices are settings of a process: see ``osa.service.settings``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from osa.model.common.field_types import check_known, check_sizes
from osa.model.common.model_files import parse_json
from osa.model.errors import ConfigError
from osa.model.options.checks import check_mixers, check_positions
from osa.model.options.head import HeadActivation as HeadActivation
from osa.model.options.head import HeadConfig as HeadConfig
from osa.model.options.rules import EncoderRules, Residual, check_rules

Scale = Literal["paper", "length"]
Positions = Literal["rotary", "learned", "alibi", "none"]
Pooling = Literal["mean", "cls", "last", "weighted"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
NormType = Literal["rms", "layer"]
NormPlace = Literal["pre", "post"]
Task = Literal["embedding", "classifier", "reranker", "sparse"]
SIZES = {
    "vocab_size": 1 << 24,
    "feature_size": 1 << 20,
    "hidden_size": 1 << 16,
    "num_layers": 1 << 12,
    "num_heads": 1 << 16,
    "ffn_size": 1 << 20,
    "embedding_size": 1 << 20,
    "max_seq_len": 1 << 30,
    "position_rows": 1 << 30,
    "local_window": 1 << 30,
    "global_every": 1 << 12,
}
"""Fields that are at least 1, and their largest values: far above any model's, so that a damaged
configuration is refused before anything is built from it."""
MOST_TAPS = 8


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(EncoderRules):
    """Shape and options of an encoder; further ones are those of ``EncoderRules``.

    Attributes:
        vocab_size: Number of token ids; None for a feature model.
        feature_size: Width of each input feature vector; None for a token model.
        hidden_size: Width D of the residual stream.
        num_layers: Number of blocks.
        num_heads: Heads per block; ``hidden_size`` must be a multiple of it.
        ffn_size: Inner width of the feed-forward layer.
        embedding_size: Width of the vectors; None means ``hidden_size``.
        matryoshka_dims: Leading widths that callers may ask for, descending, full width first.
        mixer: Name in ``osa.model.layers.mixers.MIXERS``, or one name a layer.
        local_conv: Taps of a depthwise convolution in front of every mixer [tokens]; 0 for none.
        grid_width: Patches in a row of the grid that the ``circulant`` mixer goes round; 0 for a
            circle.
        scale: ``paper`` c = alpha / sqrt(d); ``length`` c = alpha / (sqrt(d) N).
        center: Subtract each sequence's mean query and key before the scores.
        qk_norm: RMS-normalise every head's query and key.
        alpha_init: Initial value of the learnable angle of every head.
        osa_pool: OSA is completed by a pooled term: values weighted by a softmax of a learned
            query a head; see ``osa.model.functional.completion``.
        osa_taps: And by the values of so many neighbours on either side, at most ``MOST_TAPS``.
        osa_gate: And each token changes the weights of the terms.
        residual: Rule by which sub-layers change the residual stream; ``add`` or ``none`` (skips).
        norm: Normalisation of the residual stream, placed by ``norm_place``.
        norm_type: ``rms``, or ``layer`` (LayerNorm).
        norm_place: ``pre``, before each sub-layer and before pooling; or ``post``, after each sum.
        norm_eps: Epsilon of these norms.
        norm_bias: Bias of LayerNorms.
        embedding_norm: A norm after the embeddings; with ``pre`` the first mixer then has none.
        attention_bias: Biases of the projections of q, k, v and of the output.
        ffn_up_bias: Bias of the first layer of the feed-forward layer.
        ffn_down_bias: Bias of its second layer.
        ffn_gated: The first layer has two halves, f(X W_a) * X W_b (GLU).
        positions: ``rotary`` on q and k, ``learned`` at the input, ``alibi`` (arXiv:2108.12409,
            both directions alike) on the scores of softmax attention, or ``none``.
        position_rows: Learned positions; all from the last one on share its row. None for
            ``max_seq_len``, one a token.
        rope_theta: Base of the rotary wavelengths [tokens].
        rope_divisor: Positions are divided by this before they are rotated.
        position_buckets: Buckets of a learned bias by relative position on the scores of softmax
            attention, one table for all layers (T5, MPNet); 0 for none.
        position_bucket_distance: Distance from which on all share the last bucket [tokens].
        local_window: Tokens on either side that local layers attend to; None for no local layers.
        global_every: With ``local_window``, layers 0, k, 2k, ... are global, all others local.
        local_rope_theta: ``rope_theta`` of local layers; None for the same.
        token_types: Kinds of tokens with an embedding of their own: id + vocab_size * t is token
            id of type t. 0 for none.
        activation: Non-linearity of the feed-forward layer; ``gelu_tanh`` is its approximation.
        pooling: ``mean`` over tokens, the first (``cls``) or the last token, or the mean
            ``weighted`` by 1 to N.
        embedding_dense: A projection of pooled states even where ``embedding_size`` is D.
        embedding_bias: Bias of the projection.
        embedding_activation: Non-linearity after the projection.
        head: What the model computes instead of an embedding; None for an embedding.
        max_seq_len: Longest sequence that the model accepts [tokens].
    """

    vocab_size: int | None = None
    feature_size: int | None = None
    hidden_size: int = 384
    num_layers: int = 3
    num_heads: int = 12
    ffn_size: int = 1536
    embedding_size: int | None = None
    matryoshka_dims: tuple[int, ...] = ()
    mixer: str | tuple[str, ...] = "osa"
    scale: Scale = "length"
    center: bool = False
    qk_norm: bool = True
    alpha_init: float = 0.02
    osa_pool: bool = False
    osa_taps: int = 0
    osa_gate: bool = False
    residual: Residual = "add"
    norm: bool = True
    norm_type: NormType = "rms"
    norm_place: NormPlace = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = False
    embedding_norm: bool = False
    attention_bias: bool = False
    ffn_up_bias: bool = False
    ffn_down_bias: bool = False
    ffn_gated: bool = False
    positions: Positions = "rotary"
    position_rows: int | None = None
    rope_theta: float = 10000.0
    rope_divisor: float = 1.0
    position_buckets: int = 0
    position_bucket_distance: int = 128
    local_window: int | None = None
    global_every: int = 1
    local_rope_theta: float | None = None
    token_types: int = 0
    activation: Activation = "gelu"
    pooling: Pooling = "mean"
    embedding_dense: bool = False
    embedding_bias: bool = False
    embedding_activation: HeadActivation = "identity"
    head: HeadConfig | None = None
    max_seq_len: int = 32768
    local_conv: int = 0
    grid_width: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid values and combinations.

        Raises:
            ConfigError: The field, its value and what is allowed.
        """
        super().__post_init__()
        if (self.vocab_size is None) == (self.feature_size is None):
            raise ConfigError(
                "exactly one of vocab_size and feature_size must be set, got "
                f"vocab_size={self.vocab_size} and feature_size={self.feature_size}"
            )
        check_sizes(self, SIZES)
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size must be a multiple of num_heads, got {self.hidden_size} "
                f"and {self.num_heads}"
            )
        check_positions(self)
        check_mixers(self)
        check_rules(self)
        if not math.isfinite(self.alpha_init):
            raise ConfigError(f"alpha_init must be finite, got {self.alpha_init}")
        if not 0 <= self.osa_taps <= MOST_TAPS:
            raise ConfigError(f"osa_taps must be 0 to {MOST_TAPS}, got {self.osa_taps}")
        if not 0.0 <= self.norm_eps < 1.0:
            raise ConfigError(f"norm_eps must be from 0 to below 1, got {self.norm_eps}")
        if not 0 <= self.token_types <= 256 or (self.token_types and self.vocab_size is None):
            raise ConfigError(f"token_types must be 0 to 256 of token ids, got {self.token_types}")
        dims = self.matryoshka_dims
        if dims and (dims[0] != self.output_size or list(dims) != sorted(set(dims), reverse=True)):
            raise ConfigError(
                f"matryoshka_dims must descend from {self.output_size} without repeats, got {dims}"
            )
        if dims and dims[-1] < 1:
            raise ConfigError(f"matryoshka_dims must be at least 1, got {dims}")

    @property
    def task(self) -> Task:
        """What the model computes: a reranker is a classifier of one label."""
        if self.head is None:
            return "embedding"
        return "reranker" if len(self.head.labels) == 1 else self.head.kind

    @property
    def is_completed(self) -> bool:
        """Whether OSA has terms beside exp(S) V."""
        return self.osa_pool or self.osa_gate or self.osa_taps > 0

    @property
    def has_projection(self) -> bool:
        """Whether pooled states are projected."""
        return self.embedding_dense or self.embedding_size not in (None, self.hidden_size)

    def is_local(self, layer: int) -> bool:
        """Whether tokens of this layer attend to ``local_window`` neighbours alone."""
        return self.local_window is not None and layer % self.global_every != 0

    @property
    def mixers(self) -> tuple[str, ...]:
        """Name of the mixer of each layer."""
        return (self.mixer,) * self.num_layers if isinstance(self.mixer, str) else self.mixer

    @property
    def mixer_name(self) -> str:
        """The mixer's name; those of all layers where they differ."""
        return self.mixer if isinstance(self.mixer, str) else ", ".join(self.mixer)

    @property
    def num_ids(self) -> int:
        """Ids of a token model, those of all token types."""
        return (self.vocab_size or 0) * max(1, self.token_types)

    @property
    def type_stride(self) -> int:
        """What a step of the token type adds to an id; see ``TextTokenizer.encode_pairs``."""
        return (self.vocab_size or 0) if self.token_types > 1 else 0

    @property
    def head_dim(self) -> int:
        """Width d of one head."""
        return self.hidden_size // self.num_heads

    @property
    def vector_size(self) -> int:
        """Width of a vector: of a pooled state, projected and reduced."""
        return self.bottleneck_size or self.embedding_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Width of what the model computes: vectors, logits of labels, weights of ids."""
        if self.head is None:
            return self.vector_size
        return self.vocab_size or 0 if self.head.kind == "sparse" else len(self.head.labels)

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Leading widths that a caller may ask for, full width first."""
        return self.matryoshka_dims or (self.output_size,)

    def to_json(self) -> str:
        """Return the configuration as indented JSON, keys in field order."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Build a configuration from plain values.

        Raises:
            ConfigError: An unknown field, a wrong type or an invalid combination.
        """
        check_known(cls, values)
        head = values.get("head")
        if isinstance(head, dict):
            check_known(HeadConfig, head)
            try:
                values = {**values, "head": HeadConfig(**head)}
            except TypeError as error:
                raise ConfigError(f"head: {error}") from error
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> EncoderConfig:
        """Parse what ``to_json`` wrote.

        Raises:
            ConfigError: Not a JSON object, or ``from_dict`` refuses it.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise ConfigError(f"not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"must be a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)
