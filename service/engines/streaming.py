"""The contracts of engines that compute inputs of any length, or begin batches ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from osa.model.sequences import InputRows
from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.engines.base import Details, EngineOutput, Spans

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


class Begun(Protocol):
    """A batch that an engine has begun."""

    def is_ready(self) -> bool:
        """Whether ``wait`` would return at once."""

    def wait(self) -> EngineOutput:
        """The result, once it is there; raises what ``Engine.embed`` does."""


@runtime_checkable
class StagingEngine(Protocol):
    """An engine whose device computes one batch while the host prepares the next.

    Attributes:
        stages_ahead: Whether it does so with this model, here.
    """

    @property
    def stages_ahead(self) -> bool:
        """See the class."""

    def begin(self, sequences: InputRows, details: Details | None = None) -> Begun:
        """Start to compute a packed batch, behind those that were begun before.

        Args:
            sequences: As for ``Engine.embed``.
            details: As for ``Engine.embed``.

        Raises:
            OsaError: The batch cannot be computed.
        """
