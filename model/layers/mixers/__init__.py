"""Token mixers: one module each, and the registry that ``EncoderConfig.mixer`` names."""

from __future__ import annotations

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.mixers.base import Mixer, TokenContext
from osa.model.layers.mixers.chela import ChelaMixer
from osa.model.layers.mixers.circulant import CirculantMixer
from osa.model.layers.mixers.hla import AhlaMixer, Hla2Mixer
from osa.model.layers.mixers.osa import OsaMixer
from osa.model.layers.mixers.pdssm import PdssmMixer
from osa.model.layers.mixers.prism import PrismMixer
from osa.model.layers.mixers.softmax import SoftmaxMixer
from osa.model.layers.mixers.toeplitz import ToeplitzMixer
from osa.model.layers.mixers.tssa import TssaMixer
from osa.model.layers.score_bias import needs_bias

MIXERS: dict[str, type[Mixer]] = {
    "osa": OsaMixer,
    "softmax": SoftmaxMixer,
    "tssa": TssaMixer,
    "hla2": Hla2Mixer,
    "ahla": AhlaMixer,
    "toeplitz": ToeplitzMixer,
    "circulant": CirculantMixer,
    "chela": ChelaMixer,
    "prism": PrismMixer,
    "pdssm": PdssmMixer,
}

__all__ = [
    "MIXERS",
    "Mixer",
    "OsaMixer",
    "SoftmaxMixer",
    "TokenContext",
    "kinds_of",
    "make_mixer",
]


def kinds_of(config: EncoderConfig) -> list[type[Mixer]]:
    """The kinds of mixers that an encoder has, each once.

    Raises:
        ConfigError: A name is not registered.
    """
    names = list(dict.fromkeys(config.mixers))
    for name in names:
        if name not in MIXERS:
            raise ConfigError(f"mixer must be one of {', '.join(MIXERS)}, got {name[:100]!r}")
    return [MIXERS[name] for name in names]


def make_mixer(config: EncoderConfig, layer: int = 0) -> Mixer:
    """Build the mixer of block ``layer`` that ``config`` names.

    Raises:
        ConfigError: A name is not registered, or the mixer has no scores to change by position.
    """
    kinds_of(config)
    name = config.mixers[layer]
    kind = MIXERS[name]
    if not kind.has_scores and (needs_bias(config) or config.local_window is not None):
        raise ConfigError(
            f"positions alibi, position_buckets and local_window change scores of pairs of tokens, "
            f"which the {name} mixer does not have"
        )
    if config.is_completed and not any(
        other in MIXERS and MIXERS[other].has_completion for other in config.mixers
    ):
        raise ConfigError(f"osa_pool, osa_taps and osa_gate complete the osa mixer, not {name}")
    if config.grid_width and "circulant" not in config.mixers:
        raise ConfigError(f"grid_width is of the circulant mixer, not of {config.mixer_name}")
    if config.share_qk and kind.unshared:
        able = ", ".join(own for own, other in MIXERS.items() if not other.unshared)
        raise ConfigError(f"share_qk: the {name} mixer {kind.unshared}; {able} can")
    if config.vo == "none" and not kind.drops_vo:
        able = ", ".join(own for own, other in MIXERS.items() if other.drops_vo)
        raise ConfigError(f"vo none: the {name} mixer needs its projections; {able} do not")
    return kind(config, layer)
