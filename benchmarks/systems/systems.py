"""The systems that are compared: one encoder, in each of which one part is another.

Mixers are those of the registry, so that a new one is compared without a change here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from osa.model import EmbeddingModel, EncoderConfig
from osa.model.layers.initialization import shapes_alone
from osa.model.layers.mixers import MIXERS

PLAIN = "osa"
"""The system that sets the number of updates, and that costs are compared with."""
SIZES: dict[str, Any] = {"hidden_size": 384, "num_layers": 3, "num_heads": 12, "ffn_size": 1536}
SMOKE_SIZES: dict[str, Any] = {
    "hidden_size": 384,
    "num_layers": 1,
    "num_heads": 12,
    "ffn_size": 768,
}
"""As wide as the teacher's token embeddings, and as small as can be besides, also without skips."""
RULES: dict[str, dict[str, Any]] = {
    "circulant grid": {"mixer": "circulant", "grid_width": 4},
    "osa pool": {"osa_pool": True},
    "osa taps": {"osa_taps": 3},
    "osa completed": {"osa_pool": True, "osa_taps": 3, "osa_gate": True},
    "osa completed residual none": {"osa_pool": True, "osa_taps": 3, "osa_gate": True,
                                     "residual": "none"},
    "residual none": {"residual": "none"},
    "residual delta": {"residual": "delta"},
    "residual delta4": {"residual": "delta4"},
    "residual write_only": {"residual": "write_only"},
    "linear monarch": {"linear": "monarch"},
    "vo none": {"vo": "none"},
    "ffn none": {"ffn": "none"},
    "softmax share_qk": {"mixer": "softmax", "share_qk": True},
    "softmax minimal": {"mixer": "softmax", "share_qk": True, "vo": "none", "ffn": "none"},
    "bottleneck 64": {"bottleneck": "rank_reduction", "bottleneck_size": 64,
                      "matryoshka_dims": [64]},
}  # fmt: skip


@dataclass(frozen=True)
class System:
    """One encoder of the comparison.

    Attributes:
        name: For tables.
        changes: Fields of ``EncoderConfig`` that differ from those of the plain encoder.
    """

    name: str
    changes: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name in file names."""
        return self.name.replace(" ", "-")

    def fields(self, sizes: dict[str, Any]) -> dict[str, Any]:
        """All fields of the model but for its inputs."""
        return {**sizes, **self.changes}

    def config(self, sizes: dict[str, Any], **inputs: Any) -> EncoderConfig:
        """Its configuration; ``inputs`` are ``vocab_size`` or ``feature_size``, and others."""
        return EncoderConfig.from_dict({**self.fields(sizes), **inputs})

    def parameters(self, sizes: dict[str, Any]) -> int:
        """Parameters of its blocks."""
        with shapes_alone():
            model = EmbeddingModel(self.config(sizes, vocab_size=8))
        return sum(part.numel() for part in model.encoder.blocks.parameters())

    def key(self, sizes: dict[str, Any]) -> str:
        """What decides its results, as one line."""
        return json.dumps(self.fields(sizes), sort_keys=True)


def all_systems() -> list[System]:
    """The plain encoder, every other mixer, then every rule."""
    names = [PLAIN, *(name for name in MIXERS if name != PLAIN)]
    mixers = [System(name, {"mixer": name}) for name in names]
    return [*mixers, *(System(name, changes) for name, changes in RULES.items())]
