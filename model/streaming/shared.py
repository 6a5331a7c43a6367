"""Long documents that process 0 has, computed by all processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from osa.model.streaming.encoding import Document
from osa.model.streaming.parallel import SequenceGroup
from osa.model.streaming.passes import Progress, StreamOptions

Stream = Callable[[np.ndarray, StreamOptions], Generator[Progress, None, Document]]
"""From the ids of this process's part of a document to its steps."""
END = -1
PATIENCE = timedelta(days=30)
"""How long the others wait for the next document."""


class SharedDocuments:
    """Process 0 leads, the others follow until it ends; all have the same model."""

    def __init__(self, stream: Stream, group: SequenceGroup | None = None) -> None:
        """Share documents among all processes that have joined, or compute them alone."""
        self._stream, self.group = stream, group or SequenceGroup()
        self._patient: dist.ProcessGroup | None = None
        if self.group.size > 1:
            self._patient = dist.new_group(timeout=PATIENCE, backend="gloo")

    def lead(self, ids: np.ndarray) -> Document:
        """The vector of a document; features stay on this process.

        Raises:
            OsaError: It cannot be computed.
        """
        if self.group.size == 1 or ids.ndim > 1:
            return finish(self._stream(ids, StreamOptions()))
        self._tell(len(ids))
        whole = torch.from_numpy(ids.astype(np.int64))
        dist.broadcast(whole, 0, self._patient)
        return self._share(whole)

    def follow(self) -> int:
        """Compute this process's parts until process 0 ends; returns how many documents."""
        count = 0
        while (length := self._tell(0)) != END:
            whole = torch.empty(length, dtype=torch.int64)
            dist.broadcast(whole, 0, self._patient)
            self._share(whole)
            count += 1
        return count

    def end(self) -> None:
        """Let the others go."""
        if self.group.size > 1:
            self._tell(END)

    def _tell(self, length: int) -> int:
        """What process 0 says: the length of the next document, or ``END``."""
        said = torch.tensor([length], dtype=torch.int64)
        dist.broadcast(said, 0, self._patient)
        return int(said)

    def _share(self, ids: torch.Tensor) -> Document:
        first, stop = self.group.part(len(ids))
        options = self.group.options(first, len(ids))
        return finish(self._stream(ids[first:stop].numpy(), options))


def finish(steps: Generator[Progress, None, Document]) -> Document:
    """What steps return, all of them taken."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        document: Document = end.value
        return document
