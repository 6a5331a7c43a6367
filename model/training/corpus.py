"""Text corpora: plain files, one text a line, visited in a deterministic shuffled order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osa.model.errors import ConfigError


@dataclass(frozen=True)
class Corpus:
    """Texts in file order.

    Attributes:
        texts: One entry a non-empty line.
        sha256: Digest of the texts, in order.
    """

    texts: tuple[str, ...]
    sha256: str

    @classmethod
    def read(cls, files: Sequence[Path], limit: int | None = None) -> Corpus:
        """Read at most ``limit`` texts.

        Raises:
            ConfigError: A file that cannot be read, or no text at all.
        """
        texts: list[str] = []
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read {file}: {error}") from error
            texts += [line.strip() for line in lines if line.strip()]
        texts = texts[:limit]
        if not texts:
            raise ConfigError(f"no text in {', '.join(map(str, files)) or 'an empty file list'}")
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        return cls(tuple(texts), digest)


def batch_rows(step: int, batch_size: int, size: int, seed: int) -> np.ndarray:
    """Rows of the batch of ``step``: a fresh permutation an epoch, a function of its arguments.

    The last incomplete batch of an epoch is left out, so every batch is full (or the whole
    corpus, where that is smaller).
    """
    batch_size = min(batch_size, size)
    epoch, place = divmod(step, size // batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(size)
    return order[place * batch_size : (place + 1) * batch_size]
