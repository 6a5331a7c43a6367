"""DistilBERT (arXiv:1910.01108): BERT without token types."""

from __future__ import annotations

from osa.model.hub.architectures.values import BIASES, POST_NORM, Architecture, HeadNames, Values
from osa.model.hub.names import LayerNames, ModelNames

NAMES = ModelNames(
    LayerNames(
        prefix="transformer.layer.{}.",
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        mixer_norm="sa_layer_norm",
        up=("ffn.lin1",),
        down="ffn.lin2",
        feed_forward_norm="output_layer_norm",
    ),
    positions="embeddings.position_embeddings",
)
CLASSIFIER = HeadNames("pre_classifier", "classifier", "relu")
MLM = HeadNames("vocab_transform", "", "gelu", "vocab_layer_norm", "vocab_projector.bias")


def distilbert(values: Values) -> Architecture:
    """DistilBERT."""
    activation = values.activation("activation", "gelu")
    fields = {
        **POST_NORM,
        **BIASES,
        "vocab_size": values.size("vocab_size"),
        "hidden_size": values.size("dim hidden_size"),
        "num_layers": values.size("n_layers num_hidden_layers"),
        "num_heads": values.size("n_heads num_attention_heads"),
        "ffn_size": values.size("hidden_dim intermediate_size"),
        "norm_eps": 1e-12,
        "activation": activation,
        "positions": "learned",
        "max_seq_len": values.size("max_position_embeddings"),
    }
    mlm = MLM._replace(activation=activation)
    return Architecture(fields, NAMES, ("distilbert.", ""), CLASSIFIER, mlm)
