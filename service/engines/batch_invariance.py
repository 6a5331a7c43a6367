"""A test of batch invariance: does a sequence get the same bits alone and in any batch?"""

from __future__ import annotations

from typing import Any

import numpy as np

from osa.service.engines.base import Engine
from osa.service.engines.trial import random_sequence

LENGTHS = (1, 2, 3, 5, 8, 12, 15, 16, 17, 24, 31, 33, 48, 64, 65, 100, 129, 200, 257, 520)
BATCHES = 6


def is_batch_invariant(engine: Engine, batches: int = BATCHES, seed: int = 0) -> bool:
    """Embed sequences alone and in random batches, and compare every bit.

    Args:
        engine: Warmed up.
        batches: Random compositions to try.
        seed: Of ids or features, and of compositions.
    """
    generator = np.random.default_rng(seed)
    info = engine.info
    lengths = [length for length in LENGTHS if length <= info.max_input_length]
    sequences: list[Any] = [random_sequence(generator, info, length) for length in lengths]
    alone = [engine.embed([sequence]) for sequence in sequences]
    for _ in range(batches):
        size = int(generator.integers(min(2, len(sequences)), len(sequences) + 1))
        rows = generator.permutation(len(sequences))[:size]
        found = engine.embed([sequences[row] for row in rows])
        for place, row in enumerate(rows):
            same_vector = np.array_equal(found.embeddings[place], alone[row].embeddings[0])
            if not same_vector or found.norms[place] != alone[row].norms[0]:
                return False
    return True
