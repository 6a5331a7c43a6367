"""EncoderConfig: a JSON round trip, and clear errors for invalid values."""

from __future__ import annotations

import pytest

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.encoder import Encoder


def test_json_round_trip_keeps_every_field() -> None:
    config = EncoderConfig(vocab_size=10, matryoshka_dims=(384, 64), alpha_init=1)
    assert EncoderConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "exactly one of vocab_size and feature_size"),
        ({"vocab_size": 5, "feature_size": 5}, "exactly one of"),
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"vocab_size": 5, "hidden_size": 10, "num_heads": 3}, "multiple of num_heads"),
        ({"vocab_size": 5, "hidden_size": 9, "num_heads": 3}, "even head_dim, got 3"),
        ({"vocab_size": "5"}, "vocab_size must be int \\| None, got '5'"),
        ({"vocab_size": True}, "vocab_size must be int"),
        ({"vocab_size": 5, "residual": 1}, "residual must be one of add, none, .*, got 1"),
        ({"vocab_size": 5, "scale": "width"}, "scale must be one of paper, length, got 'width'"),
        ({"vocab_size": 5, "rope_theta": 0.5}, "rope_theta must be above 1"),
        ({"vocab_size": 5, "alpha_init": float("nan")}, "alpha_init must be finite"),
        ({"vocab_size": 5, "matryoshka_dims": [64, 32]}, "must descend from 384"),
        ({"vocab_size": 5, "matryoshka_dims": [384, 400]}, "must descend from 384"),
        ({"vocab_size": 5, "matryoshka_dims": [384, 0]}, "at least 1"),
        ({"vocab_size": 5, "residual": "delta", "norm_place": "post"}, "norm_place to pre"),
        ({"vocab_size": 5, "residual": False, "ffn_gated": True}, "a gated layer is no isometry"),
        (
            {"vocab_size": 5, "bottleneck": "rank_reduction"},
            "go together, got rank_reduction and N",
        ),
        ({"vocab_size": 5, "bottleneck_size": 8}, "go together, got none and 8"),
        (
            {
                "vocab_size": 5,
                "bottleneck": "rank_reduction",
                "bottleneck_size": 99,
                "embedding_size": 64,
            },
            "bottleneck_size must be 1 to 64",
        ),
        (
            {
                "vocab_size": 5,
                "bottleneck": "rank_reduction",
                "bottleneck_size": 9,
                "head": {"kind": "sparse"},
            },
            "a sparse head has no pooled vectors",
        ),
        (
            {
                "vocab_size": 5,
                "bottleneck": "rank_reduction",
                "bottleneck_size": 9,
                "matryoshka_dims": [384],
            },
            "must descend from 9",
        ),
        ({"vocab_size": 5, "attention": "osa"}, "unknown field attention; known are"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_dict(changes)


@pytest.mark.parametrize(("before", "now"), [(True, "add"), (False, "none")])
def test_residual_may_be_a_boolean_as_in_older_files(before: bool, now: str) -> None:
    config = EncoderConfig.from_json(f'{{"vocab_size": 5, "residual": {str(before).lower()}}}')
    assert config.residual == now
    assert f'"residual": "{now}"' in config.to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share_qk": True}, r"share_qk: the osa mixer has scores .* which are 0 .*softmax can"),
        ({"grid_width": 4}, "grid_width is of the circulant mixer, not of osa"),
        ({"grid_width": 9, "mixer": "circulant", "max_seq_len": 8}, "0 to max_seq_len, 8, got 9"),
        ({"linear": "monarch", "hidden_size": 9, "num_heads": 1, "positions": "none",
          "ffn_size": 32}, "9 inputs and 32 outputs into equal blocks"),
    ],
)  # fmt: skip
def test_encoders_that_cannot_be_built_say_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Encoder(EncoderConfig.from_dict({"vocab_size": 5, **changes}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="JSON"):
        EncoderConfig.from_json(text)


def test_an_unknown_mixer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"mixer must be one of osa, softmax, .*, got 'rnn'"):
        Encoder(EncoderConfig(vocab_size=5, mixer="rnn"))


def test_a_narrow_skipless_feed_forward_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 768"):
        Encoder(EncoderConfig(vocab_size=5, residual="none", ffn_size=384))
