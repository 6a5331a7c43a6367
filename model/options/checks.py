"""Checks of an encoder's configuration that concern several fields at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.model.config import EncoderConfig

MOST_TAPS = 64
"""Largest ``local_conv`` [tokens]."""


def check_positions(config: EncoderConfig) -> None:
    """Refuse positions that cannot be computed.

    Raises:
        ConfigError: The field, its value and what is allowed.
    """
    if config.position_rows is not None and config.positions != "learned":
        raise ConfigError(
            f"position_rows are those of learned positions, got positions {config.positions}"
        )
    if config.positions == "rotary" and config.head_dim % 2:
        raise ConfigError(f"rotary positions need an even head_dim, got {config.head_dim}")
    for name in ("rope_theta", "local_rope_theta"):
        theta = getattr(config, name)
        if theta is not None and not 1.0 < theta < math.inf:
            raise ConfigError(f"{name} must be above 1 and finite, got {theta}")
    if not 0.0 < config.rope_divisor < math.inf:
        raise ConfigError(f"rope_divisor must be positive and finite, got {config.rope_divisor}")
    buckets, distance = config.position_buckets, config.position_bucket_distance
    if buckets > 1 << 16:
        raise ConfigError(f"position_buckets must be at most {1 << 16}, got {buckets}")
    if buckets and (buckets < 4 or buckets % 2 or distance <= buckets // 4):
        raise ConfigError(
            "position_buckets must be even and at least 4, position_bucket_distance above a "
            f"quarter of it, got {buckets} and {distance}"
        )


def check_mixers(config: EncoderConfig) -> None:
    """Refuse lists of mixers that do not name one a layer, and widths that cannot be.

    Which names there are is known to ``osa.model.layers.mixers``, which builds them.

    Raises:
        ConfigError: The field, its value and what is allowed.
    """
    if not isinstance(config.mixer, str) and len(config.mixer) != config.num_layers:
        raise ConfigError(
            f"mixer must be one name, or one for each of the {config.num_layers} layers, got "
            f"{len(config.mixer)}: {list(config.mixer)}"
        )
    if not 0 <= config.local_conv <= MOST_TAPS:
        raise ConfigError(f"local_conv must be 0 to {MOST_TAPS} tokens, got {config.local_conv}")
    if not 0 <= config.grid_width <= config.max_seq_len:
        raise ConfigError(
            f"grid_width must be 0 to max_seq_len, {config.max_seq_len}, got {config.grid_width}"
        )
