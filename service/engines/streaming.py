"""The contract of engines that compute an input of any length, in chunks."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.engines.base import Spans

PIECE = 8192
"""Tokens of a document that are converted and checked at once: all of them would take too long."""


def in_pieces(ids: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Ids or features of a document, some at a time."""
    for first in range(0, len(ids), PIECE):
        yield np.asarray(ids[first : first + PIECE])


@runtime_checkable
class StreamingEngine(Protocol):
    """What engines have whose ``info.streams``."""

    def stream(
        self, ids: Sequence[int] | np.ndarray, spans: Spans, options: StreamOptions
    ) -> Generator[Progress, None, Document]:
        """Compute one input of any length, a chunk of a layer each step.

        Args:
            ids: Token ids, or features, float32 [n, F].
            spans: As of ``StreamedEncoding.stream``.
            options: As there.

        Raises:
            OsaError: It cannot be computed.
        """
