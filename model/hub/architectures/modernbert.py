"""ModernBERT (arXiv:2412.13663): pre-norm, rotary, gated, local layers between global ones."""

from __future__ import annotations

from osa.model.hub.architectures.values import Architecture, HeadNames, Values, rope
from osa.model.hub.names import LayerNames, ModelNames

NAMES = ModelNames(
    LayerNames(
        prefix="layers.{}.",
        qkv=("attn.Wqkv",),
        out="attn.Wo",
        mixer_norm="attn_norm",
        up=("mlp.Wi",),
        down="mlp.Wo",
        feed_forward_norm="mlp_norm",
    ),
    embed="embeddings.tok_embeddings",
    embedding_norm="embeddings.norm",
    final_norm="final_norm",
)
GLOBAL_THETA, LOCAL_THETA = 160_000.0, 10_000.0
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def modernbert(values: Values) -> Architecture:
    """ModernBERT."""
    layers = values.size("num_hidden_layers")
    parameters = values.mapping("rope_parameters")
    wide, near = (
        values.within(parameters.get(kind) or {}).get("rope_theta", values.get(name, default))
        for kind, name, default in (
            (GLOBAL, "global_rope_theta", GLOBAL_THETA),
            (LOCAL, "local_rope_theta", LOCAL_THETA),
        )
    )
    stretched = any(
        rope(values.within({"rope_parameters": parameters.get(kind) or {}}), theta)
        != {"rope_theta": theta, "rope_divisor": 1.0}
        for kind, theta in ((GLOBAL, wide), (LOCAL, near))
    )
    if stretched or values.mapping("rope_scaling"):
        values.unsupported("scaled rotary positions of ModernBERT")
    biased = values.get("mlp_bias", False)
    fields = {
        "mixer": "softmax",
        "qk_norm": False,
        "norm_type": "layer",
        "embedding_norm": True,
        "norm_bias": values.get("norm_bias", False),
        "norm_eps": values.get("norm_eps", 1e-5),
        "vocab_size": values.size("vocab_size"),
        "hidden_size": values.size("hidden_size"),
        "num_layers": layers,
        "num_heads": values.size("num_attention_heads"),
        "ffn_size": values.size("intermediate_size"),
        "ffn_gated": True,
        "attention_bias": values.get("attention_bias", False),
        "ffn_up_bias": biased,
        "ffn_down_bias": biased,
        "activation": values.activation("hidden_activation", "gelu"),
        "positions": "rotary",
        "rope_theta": wide,
        "local_rope_theta": near,
        "local_window": values.get("local_attention", 128) // 2,
        "global_every": _global_every(values, layers),
        "max_seq_len": values.size("max_position_embeddings"),
    }
    activation = values.activation("classifier_activation", "gelu")
    head = HeadNames("head.dense", "classifier", activation, "head.norm")
    sparse = head._replace(out="", bias="decoder.bias")
    pooling = values.get("classifier_pooling", "cls")
    return Architecture(fields, NAMES, ("model.", ""), head, sparse, 0, pooling)


def _global_every(values: Values, layers: int) -> int:
    """Distance of global layers, the first of which is layer 0.

    Raises:
        UnsupportedModelError: They do not come at equal distances.
    """
    kinds = values.strings("layer_types")
    if not kinds:
        return values.get("global_attn_every_n_layers", 3)
    places = [place for place, kind in enumerate(kinds) if kind == GLOBAL]
    every = places[1] if len(places) > 1 else layers
    wanted = [GLOBAL if layer % every == 0 else LOCAL for layer in range(layers)]
    if not every or kinds != wanted:
        values.unsupported(f"global layers at {places} of {layers}")
    return every
