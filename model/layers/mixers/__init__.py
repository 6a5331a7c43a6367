"""Token mixers: one module each, and the registry that ``EncoderConfig.mixer`` names."""

from __future__ import annotations

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.mixers.base import Mixer, TokenContext
from osa.model.layers.mixers.osa import OsaMixer
from osa.model.layers.mixers.softmax import SoftmaxMixer

MIXERS: dict[str, type[Mixer]] = {"osa": OsaMixer, "softmax": SoftmaxMixer}

__all__ = ["MIXERS", "Mixer", "OsaMixer", "SoftmaxMixer", "TokenContext", "make_mixer"]


def make_mixer(config: EncoderConfig) -> Mixer:
    """Build the mixer that ``config`` names.

    Raises:
        ConfigError: The name is not registered.
    """
    if config.mixer not in MIXERS:
        raise ConfigError(f"mixer must be one of {', '.join(MIXERS)}, got {config.mixer!r}")
    return MIXERS[config.mixer](config)
