"""BERT, RoBERTa, XLM-RoBERTa, CamemBERT, and Jina's BERT with ALiBi and a gated layer.

Sources: arXiv:1810.04805, arXiv:1907.11692, arXiv:2310.19923.
"""

from __future__ import annotations

from osa.model.hub.architectures.values import (
    BIASES,
    POOLER,
    POST_NORM,
    ROBERTA_HEAD,
    ROBERTA_MLM,
    Architecture,
    HeadNames,
    Values,
)
from osa.model.hub.names import LayerNames, ModelNames

LAYER = LayerNames(
    prefix="encoder.layer.{}.",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    mixer_norm="attention.output.LayerNorm",
    up=("intermediate.dense",),
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)


def bert(values: Values) -> Architecture:
    """BERT; where ``position_embedding_type`` is ``alibi``, Jina's."""
    values.demand("is_decoder", False)
    if values.get("position_embedding_type", "absolute") == "alibi":
        return _jina(values)
    prefix = "cls.predictions"
    activation = values.activation("hidden_act", "gelu")
    sparse = HeadNames(
        f"{prefix}.transform.dense",
        "",
        activation,
        f"{prefix}.transform.LayerNorm",
        f"{prefix}.bias",
    )
    return _absolute(values, 0, ("bert.", ""), POOLER, sparse)


def roberta(values: Values) -> Architecture:
    """RoBERTa and its kin: positions begin behind that of padding."""
    values.demand("is_decoder", False)
    first = values.get("pad_token_id", 1) + 1
    return _absolute(values, first, ("roberta.", ""), ROBERTA_HEAD, ROBERTA_MLM)


def _sizes(values: Values) -> dict[str, object]:
    return {
        "vocab_size": values.size("vocab_size"),
        "hidden_size": values.size("hidden_size"),
        "num_layers": values.size("num_hidden_layers"),
        "num_heads": values.size("num_attention_heads"),
        "ffn_size": values.size("intermediate_size"),
        "norm_eps": values.get("layer_norm_eps", 1e-12),
        "activation": values.activation("hidden_act", "gelu"),
    }


def _absolute(
    values: Values,
    first_position: int,
    prefixes: tuple[str, ...],
    classifier: HeadNames,
    sparse: HeadNames,
) -> Architecture:
    """With learned absolute positions.

    Args:
        values: Of the file.
        first_position: Row of the first token's position.
        prefixes: Of the names of tensors.
        classifier: Head of the sequence classification.
        sparse: Head of the masked language model.
    """
    values.demand("position_embedding_type", "absolute")
    names = ModelNames(
        LAYER,
        positions="embeddings.position_embeddings",
        first_position=first_position,
        token_types="embeddings.token_type_embeddings",
    )
    fields = {
        **POST_NORM,
        **BIASES,
        **_sizes(values),
        "positions": "learned",
        "max_seq_len": values.size("max_position_embeddings") - first_position,
    }
    types = values.get("type_vocab_size", 2)
    return Architecture(fields, names, prefixes, classifier, sparse, types)


def _jina(values: Values) -> Architecture:
    values.demand("feed_forward_type", "geglu")
    layer = LAYER._replace(
        up=("mlp.gated_layers",), down="mlp.wo", feed_forward_norm="mlp.layernorm"
    )
    names = ModelNames(layer, token_types="embeddings.token_type_embeddings")
    fields = {
        **POST_NORM,
        **BIASES,
        **_sizes(values),
        "ffn_up_bias": False,
        "ffn_gated": True,
        "positions": "alibi",
        "max_seq_len": values.size("max_position_embeddings"),
    }
    types = values.get("type_vocab_size", 2)
    return Architecture(fields, names, ("bert.", ""), POOLER, None, types)
