"""The range of a model's vectors, for one byte a dimension: measured once, stored with the model.

All dimensions share one range [-c, c], so that products and cosines of the bytes are those of the
vectors: a range of its own for each would weigh the dimensions anew (measured: 1.0 points of STS;
one range, none). Shorter vectors are normalised again and have larger values, so c is measured at
each width that callers may ask for. ``int8`` is round(127 v / c), cut to [-127, 127]; ``uint8`` is
the same plus 128.

Shapes: n vectors, E width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osa.model.errors import ConfigError

CALIBRATION = "calibration.json"
STEPS = 127
LEAST_TEXTS = 100
QUANTILE = 0.9999
"""Share of values within the range: a few outliers would widen every step."""


@dataclass(frozen=True)
class Calibration:
    """Ranges by width.

    Attributes:
        bounds: By width, the c of [-c, c].
        texts: How many texts it was measured on.
    """

    bounds: Mapping[int, float]
    texts: int

    @classmethod
    def measure(cls, vectors: np.ndarray, widths: Sequence[int]) -> Calibration:
        """Range of unit vectors [n, E] at each width.

        Raises:
            ConfigError: Too few vectors to tell.
        """
        check_count(len(vectors))
        bounds = {}
        for width in widths:
            part = vectors[:, :width].astype(np.float32)
            part = part / np.linalg.norm(part, axis=1, keepdims=True)
            bounds[width] = float(f"{np.quantile(np.abs(part), QUANTILE):.6g}")
        return cls(bounds, len(vectors))

    def quantize(self, vectors: np.ndarray, signed: bool) -> np.ndarray:
        """Unit vectors [n, E] in int8, or in uint8.

        Raises:
            ConfigError: No range was measured at this width.
        """
        bound = self.bounds.get(vectors.shape[1])
        if bound is None:
            raise ConfigError(f"no calibration for {vectors.shape[1]} dimensions")
        steps = np.rint(vectors * np.float32(STEPS / bound)).clip(-STEPS, STEPS)
        quantized: np.ndarray = steps.astype(np.int8) if signed else (steps + 128).astype(np.uint8)
        return quantized

    def to_json(self) -> str:
        """The stored form."""
        bounds = {str(width): bound for width, bound in self.bounds.items()}
        return json.dumps({"texts": self.texts, "bounds": bounds}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read the stored form.

        Raises:
            ConfigError: It is none.
        """
        try:
            values = json.loads(text)
            bounds = {int(width): float(bound) for width, bound in values["bounds"].items()}
            if not bounds or not all(0 < bound < math.inf for bound in bounds.values()):
                raise ValueError("bounds must be positive")
            return cls(bounds, int(values["texts"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"not a calibration: {error}") from error

    @classmethod
    def find(cls, directory: Path) -> Calibration | None:
        """That of a model's directory, or of a directory of its forms; None where there is none.

        Raises:
            ConfigError: The file is damaged.
        """
        for file in (directory / CALIBRATION, *sorted(directory.glob(f"*/{CALIBRATION}"))):
            if file.is_file():
                return cls.from_json(file.read_text(encoding="utf-8"))
        return None


def check_count(texts: int) -> None:
    """Refuse so many texts before they are embedded.

    Raises:
        ConfigError: There are too few to tell.
    """
    if texts < LEAST_TEXTS:
        raise ConfigError(f"calibration takes at least {LEAST_TEXTS} texts, got {texts}")
