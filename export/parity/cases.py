"""Cases of the parity grid: lengths 1 to 8192, batches, masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from osa.export.graph import Layout
from osa.model.config import EncoderConfig
from osa.model.layers.mixers import kinds_of

LENGTHS = (1, 2, 3, 7, 16, 31, 32, 63, 64, 65, 127, 128, 129, 200, 255, 256, 257, 511, 512, 513,
           1024, 2048, 4096, 8192)  # fmt: skip
BATCHES = ((1, 1), (2, 1, 3), (63, 64, 65), (128, 1, 129, 40), (513, 8, 300, 8, 1, 77), (24,) * 16)


@dataclass(frozen=True)
class Case:
    """One case of the grid.

    Attributes:
        name: Description, for reports.
        inputs: Ids or features, in the layout of the graph.
        places: ``cu_seqlens`` or ``attention_mask``.
    """

    name: str
    inputs: np.ndarray
    places: np.ndarray


def grid(config: EncoderConfig, layout: Layout) -> Iterator[Case]:
    """The cases that fit a model, the same in every run."""
    generator = np.random.default_rng(20260205)

    def draw(*shape: int) -> np.ndarray:
        if config.vocab_size is not None:
            return generator.integers(0, config.num_ids, shape)
        assert config.feature_size is not None  # checked by EncoderConfig
        features = generator.standard_normal((*shape, config.feature_size))
        return features.astype(np.float32)

    limit = config.max_seq_len
    batches: list[tuple[int, ...]] = [(length,) for length in LENGTHS if length <= limit]
    batches += [batch for batch in BATCHES if max(batch) <= limit]
    for batch in batches:
        name = "lengths " + ", ".join(map(str, batch[:6])) + (", ..." if len(batch) > 6 else "")
        if layout == "packed":
            yield Case(name, draw(sum(batch)), np.cumsum([0, *batch], dtype=np.int32))
            continue
        width = max(batch)
        mask = (np.arange(width) < np.array(batch)[:, None]).astype(np.int64)
        yield Case(f"{name}, padded right", draw(len(batch), width), mask)
    if layout == "padded":
        width = min(80, limit)
        mask = (np.arange(width) >= np.array([[0], [width // 2], [width - 1]])).astype(np.int64)
        yield Case("padded left", draw(3, width), mask)
        holes = (generator.random((4, width)) < 0.7).astype(np.int64)
        holes[:, 0] = 1
        yield Case("masks with holes", draw(4, width), holes)
        if all(kind.accepts_empty_rows for kind in kinds_of(config)):
            none = np.ones((3, width), dtype=np.int64)
            none[1] = 0
            yield Case("a row of padding alone", draw(3, width), none)
