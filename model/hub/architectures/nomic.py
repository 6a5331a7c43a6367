"""Nomic's BERT (arXiv:2402.01613): BERT with rotary positions and a gated layer without biases."""

from __future__ import annotations

from osa.model.hub.architectures.values import POOLER, POST_NORM, Architecture, Values, rope
from osa.model.hub.names import LayerNames, ModelNames

HUB = ModelNames(
    LayerNames(
        prefix="encoder.layers.{}.",
        qkv=("attn.Wqkv",),
        out="attn.out_proj",
        mixer_norm="norm1",
        up=("mlp.fc12", "mlp.fc11"),
        down="mlp.fc2",
        feed_forward_norm="norm2",
    ),
    embedding_norm="emb_ln",
    token_types="embeddings.token_type_embeddings",
)
THETA, TRAINED_LENGTH = 1000.0, 2048


def nomic(values: Values) -> Architecture:
    """Nomic's BERT, by the fields of its own code or of transformers'."""
    for name in ("prenorm", "parallel_block", "rotary_emb_interleaved", "use_rms_norm"):
        values.demand(name, False)
    values.demand("rotary_emb_fraction", 1.0)
    values.demand("activation_function", "swiglu")
    if values.get("moe_every_n_layers num_experts", 0):
        values.unsupported("mixture of experts")
    longest = values.get("n_positions max_position_embeddings", TRAINED_LENGTH)
    if values.get("rotary_scaling_factor", 0.0):  # by length: the same up to this one
        longest = min(longest, values.get("max_trained_positions", TRAINED_LENGTH))
    heads = values.size("n_head num_attention_heads")
    width = values.size("n_embd hidden_size")
    values.demand("head_dim", width // heads)
    fields = {
        **POST_NORM,
        **rope(values, THETA),
        "vocab_size": values.size("vocab_size"),
        "hidden_size": width,
        "num_layers": values.size("n_layer num_hidden_layers"),
        "num_heads": heads,
        "ffn_size": values.size("n_inner intermediate_size"),
        "ffn_gated": True,
        "attention_bias": values.get("qkv_proj_bias", False),
        "ffn_up_bias": values.get("mlp_fc1_bias", False),
        "ffn_down_bias": values.get("mlp_fc2_bias", False),
        "norm_eps": values.get("layer_norm_epsilon layer_norm_eps", 1e-12),
        "activation": values.activation("hidden_act", "silu"),
        "positions": "rotary",
        "max_seq_len": longest,
    }
    types = values.get("type_vocab_size", 2)
    return Architecture(fields, HUB, ("nomic_bert.", "bert.", ""), POOLER, None, types)
