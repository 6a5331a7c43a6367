"""Token mixers: one module each, and the registry that ``EncoderConfig.mixer`` names."""

from __future__ import annotations

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.mixers.base import Mixer, TokenContext
from osa.model.layers.mixers.osa import OsaMixer
from osa.model.layers.mixers.softmax import SoftmaxMixer
from osa.model.layers.score_bias import needs_bias

MIXERS: dict[str, type[Mixer]] = {"osa": OsaMixer, "softmax": SoftmaxMixer}

__all__ = ["MIXERS", "Mixer", "OsaMixer", "SoftmaxMixer", "TokenContext", "make_mixer"]


def make_mixer(config: EncoderConfig, layer: int = 0) -> Mixer:
    """Build the mixer of block ``layer`` that ``config`` names.

    Raises:
        ConfigError: The name is not registered, or the mixer has no scores to change by position.
    """
    if config.mixer not in MIXERS:
        raise ConfigError(f"mixer must be one of {', '.join(MIXERS)}, got {config.mixer!r}")
    kind = MIXERS[config.mixer]
    if not kind.has_scores and (needs_bias(config) or config.local_window is not None):
        raise ConfigError(
            f"positions alibi, position_buckets and local_window change scores of pairs of tokens, "
            f"which the {config.mixer} mixer does not have"
        )
    if config.share_qk and kind.unshared:
        able = ", ".join(name for name, other in MIXERS.items() if not other.unshared)
        raise ConfigError(f"share_qk: the {config.mixer} mixer {kind.unshared}; {able} can")
    if config.vo == "none" and not kind.drops_vo:
        able = ", ".join(name for name, other in MIXERS.items() if other.drops_vo)
        raise ConfigError(f"vo none: the {config.mixer} mixer needs its projections; {able} do not")
    return kind(config, layer)
