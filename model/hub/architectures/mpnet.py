"""MPNet (arXiv:2004.09297): BERT with learned biases of the scores by relative position."""

from __future__ import annotations

from osa.model.hub.architectures.values import (
    BIASES,
    POST_NORM,
    ROBERTA_HEAD,
    ROBERTA_MLM,
    Architecture,
    Values,
)
from osa.model.hub.names import LayerNames, ModelNames

BUCKETS = 32
"""Transformers reads the table of 32 buckets, whatever ``config.json`` says."""
PADDING = 1
NAMES = ModelNames(
    LayerNames(
        prefix="encoder.layer.{}.",
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        mixer_norm="attention.LayerNorm",
        up=("intermediate.dense",),
        down="output.dense",
        feed_forward_norm="output.LayerNorm",
    ),
    positions="embeddings.position_embeddings",
    first_position=PADDING + 1,
    position_table="encoder.relative_attention_bias",
)


def mpnet(values: Values) -> Architecture:
    """MPNet."""
    values.demand("relative_attention_num_buckets", BUCKETS)
    fields = {
        **POST_NORM,
        **BIASES,
        "vocab_size": values.size("vocab_size"),
        "hidden_size": values.size("hidden_size"),
        "num_layers": values.size("num_hidden_layers"),
        "num_heads": values.size("num_attention_heads"),
        "ffn_size": values.size("intermediate_size"),
        "norm_eps": values.get("layer_norm_eps", 1e-12),
        "activation": values.activation("hidden_act", "gelu"),
        "positions": "learned",
        "position_buckets": BUCKETS,
        "max_seq_len": values.size("max_position_embeddings") - PADDING - 1,
    }
    return Architecture(fields, NAMES, ("mpnet.", ""), ROBERTA_HEAD, ROBERTA_MLM)
