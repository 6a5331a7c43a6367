"""GTE's BERT (arXiv:2407.19669): BERT with rotary positions and a gated layer."""

from __future__ import annotations

from osa.model.hub.architectures.values import (
    BIASES,
    POOLER,
    POST_NORM,
    Architecture,
    Values,
    rope,
)
from osa.model.hub.names import LayerNames, ModelNames

THETA = 10_000.0
NATIVE_THETA = 160_000.0


def gte(values: Values) -> Architecture:
    """GTE's BERT, by the fields of its own code (model type ``new``) or of transformers'."""
    own = values.get("model_type", "new") == "new"
    values.demand("position_embedding_type", "rope")
    values.demand("layer_norm_type", "layer_norm")
    values.demand("logn_attention_scale", False)
    values.demand("pack_qkv", True)
    types = values.get("type_vocab_size", 0 if own else 1)
    names = ModelNames(
        LayerNames(
            prefix="encoder.layer.{}.",
            qkv=("attention.qkv_proj",),
            out="attention.o_proj",
            mixer_norm="attn_ln",
            up=("mlp.up_gate_proj",),
            down="mlp.down_proj",
            feed_forward_norm="mlp_ln",
            swap_up=True,
        ),
        token_types="embeddings.token_type_embeddings" if types else "",
    )
    fields = {
        **POST_NORM,
        **BIASES,
        **rope(values, THETA if own else NATIVE_THETA),
        "vocab_size": values.size("vocab_size"),
        "hidden_size": values.size("hidden_size"),
        "num_layers": values.size("num_hidden_layers"),
        "num_heads": values.size("num_attention_heads"),
        "ffn_size": values.size("intermediate_size"),
        "ffn_gated": True,
        "ffn_up_bias": False,
        "norm_eps": values.get("layer_norm_eps", 1e-12),
        "activation": values.activation("hidden_act", "gelu"),
        "positions": "rotary",
        "max_seq_len": values.size("max_position_embeddings"),
    }
    return Architecture(fields, names, ("new.", "gte.", ""), POOLER, None, types)
