"""Trial vectors: what is served, or put in the place of another model, has computed some first.

Ids are drawn from the whole vocabulary and texts go through the tokenizer, because a damaged table
of embeddings may still have a few good rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from osa.model.errors import ConfigError
from osa.service.engines.base import Engine, EngineInfo, EngineOutput

LENGTHS = (1, 2, 3, 17, 64, 65, 200, 512)
"""Of the sequences, from both regimes of the operator [tokens]."""
TEXTS = ("a", "The quick brown fox jumps over the lazy dog, 3 times.", "多言語 naïve — ₂")
TOLERANCE = 1e-2
"""Largest difference of a vector's length from 1; float16 and bfloat16 are off by some 0.004."""


def try_engine(engine: Engine, seed: int = 0) -> None:
    """Compute trial inputs of several lengths, alone and in one batch.

    Rows that are not finite are computed in float32 once more, as in service.

    Args:
        engine: Warmed up.
        seed: Of ids or features.

    Raises:
        ConfigError: A value is not finite, or an embedding is not of unit length.
        OsaError: The engine cannot compute them.
    """
    info = engine.info
    generator = np.random.default_rng(seed)
    lengths = [length for length in LENGTHS if length <= info.max_input_length]
    inputs: list[Any] = [random_sequence(generator, info, length) for length in lengths]
    if engine.tokenizer is not None:
        room = max(info.max_input_length, engine.tokenizer.num_special_tokens + 1)
        encoded = engine.tokenizer.encode(TEXTS, room)
        inputs += [text.ids for text in encoded if 0 < len(text.ids) <= info.max_input_length]
    for batch in (inputs, inputs[-1:]):
        found = engine.embed(batch)
        _check_sizes(found, len(batch), info)
        finite = np.isfinite(found.embeddings).all(axis=1) & np.isfinite(found.norms)
        for row in np.flatnonzero(~finite):
            found = _replaced(found, int(row), engine.embed([batch[row]], exact=True))
        _check_values(found, [len(row) for row in batch], info)


def random_sequence(generator: np.random.Generator, info: EngineInfo, length: int) -> Any:
    """Ids of the model's vocabulary, or standard normal features [length, F]."""
    if info.feature_size is None:
        return generator.integers(0, info.vocab_size or 1, length).tolist()
    return generator.standard_normal((length, info.feature_size), dtype=np.float32)


def _replaced(found: EngineOutput, row: int, exact: EngineOutput) -> EngineOutput:
    embeddings, norms = found.embeddings.copy(), found.norms.copy()
    embeddings[row], norms[row] = exact.embeddings[0], exact.norms[0]
    return EngineOutput(embeddings, norms)


def _check_sizes(found: EngineOutput, count: int, info: EngineInfo) -> None:
    wanted = (count, info.dimensions[0])
    if found.embeddings.shape != wanted or found.norms.shape != (count,):
        raise ConfigError(
            f"the model computes values of shape {found.embeddings.shape} for {count} trial "
            f"inputs, not {wanted}: its files do not belong together"
        )


def _check_values(found: EngineOutput, lengths: list[int], info: EngineInfo) -> None:
    bad = ~(np.isfinite(found.embeddings).all(axis=1) & np.isfinite(found.norms))
    what = "gives no finite value"
    if info.task == "embedding" and not bad.any():
        bad = np.abs(np.linalg.norm(found.embeddings, axis=1) - 1) > TOLERANCE
        what = "gives vectors that are not of unit length"
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        share = "any trial input" if bad.all() else f"{int(bad.sum())} of {len(bad)} trial inputs"
        raise ConfigError(
            f"the model {what} for {share}, such as one of {lengths[place]} tokens: it is damaged, "
            "or diverged in training"
        )
