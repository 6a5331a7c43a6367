"""The range of a model's vectors for int8 and uint8: measured once, stored with the model.

All dimensions share one range [-c, c], so that products and cosines of the bytes approximate those
of the vectors; one range per dimension would change the weights of the dimensions. Shorter vectors
are normalised again and have larger values, so c is measured at each width that callers may ask
for. ``int8`` is round(127 v / c), clipped to [-127, 127]; ``uint8`` is the same plus 128.

Shapes: n vectors, E width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osa.model.common.model_files import parse_json, read_file
from osa.model.errors import ConfigError

CALIBRATION = "calibration.json"
STEPS = 127
LEAST_TEXTS = 100
QUANTILE = 0.9999
"""Share of values within the range, so that outliers do not coarsen the steps."""


@dataclass(frozen=True)
class Calibration:
    """Ranges of a model's vectors by width.

    Attributes:
        bounds: c by width.
        texts: Number of texts that it was measured on.
    """

    bounds: Mapping[int, float]
    texts: int

    @classmethod
    def measure(cls, vectors: np.ndarray, widths: Sequence[int]) -> Calibration:
        """Range of unit vectors [n, E] at each width.

        Raises:
            ConfigError: Fewer than ``LEAST_TEXTS`` vectors.
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
        """The content of ``calibration.json``."""
        bounds = {str(width): bound for width, bound in self.bounds.items()}
        return json.dumps({"texts": self.texts, "bounds": bounds}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what ``to_json`` wrote.

        Raises:
            ConfigError: It is not a calibration.
        """
        try:
            values = parse_json(text)
            bounds = {int(width): float(bound) for width, bound in values["bounds"].items()}
            if not bounds or not all(0 < bound < math.inf for bound in bounds.values()):
                raise ValueError("bounds must be positive")
            return cls(bounds, int(values["texts"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"not a calibration: {error}") from error

    @classmethod
    def find(cls, directory: Path) -> Calibration | None:
        """Read that of a model or of a collection, unverified; None where there is none.

        Raises:
            ConfigError: The file is damaged.
        """
        for file in (directory / CALIBRATION, *sorted(directory.glob(f"*/{CALIBRATION}"))):
            if file.is_file():
                try:
                    return cls.from_json(read_file(file).decode("utf-8"))
                except (OSError, ValueError) as error:
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise ConfigError(f"cannot read {file}: {reason}") from error
        return None


def check_count(texts: int) -> None:
    """Refuse a number of texts that is too small, before they are embedded.

    Raises:
        ConfigError: Fewer than ``LEAST_TEXTS``.
    """
    if texts < LEAST_TEXTS:
        raise ConfigError(f"calibration takes at least {LEAST_TEXTS} texts, got {texts}")
