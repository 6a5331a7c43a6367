"""The system under test: a running server with its texts and the check of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.serving.harness.connection import Request
from benchmarks.serving.harness.corpus import Corpus
from benchmarks.serving.harness.launcher import RunningServer
from benchmarks.serving.harness.load_generator import Target
from benchmarks.serving.peers.base import Peer

TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2, "int8": 3.5e-2, "auto": 1e-2}
"""Largest difference of an entry of a unit vector from the float32 reference, by data type."""


class IndistinguishableTexts(Exception):
    """The vectors of the texts are too similar to detect a wrong answer."""


class AnswerChecker:
    """Checks whether an answer is the vector of its text, within a tolerance.

    Attributes:
        largest_error: Largest difference of an entry from the reference, over right answers.
    """

    def __init__(self, peer: Peer, corpus: Corpus, tolerance: float | None) -> None:
        """Compare answers of ``peer`` with ``corpus``; without a tolerance, only their shapes.

        Raises:
            IndistinguishableTexts: The vector of another text could pass.
        """
        if tolerance is not None and corpus.separation < 2 * tolerance:
            raise IndistinguishableTexts(
                f"two texts are {corpus.separation:.1e} apart, which a tolerance of "
                f"{tolerance:.1e} cannot distinguish"
            )
        self._peer, self._vectors, self._tolerance = peer, corpus.vectors, tolerance
        self.largest_error = 0.0

    def __call__(self, text: int, body: bytes) -> bool:
        """Whether ``body`` contains the vector of the text with index ``text``."""
        try:
            vector = self._peer.read(body)
        except (ValueError, KeyError, IndexError, TypeError):
            return False
        reference = self._vectors[text]
        if vector.shape != reference.shape or not np.isfinite(vector).all():
            return False
        if self._tolerance is None:
            return True
        error = float(np.abs(vector - reference).max())
        if error > self._tolerance:
            return False
        self.largest_error = max(self.largest_error, error)
        return True


@dataclass
class SystemUnderTest:
    """A running server with its texts.

    Attributes:
        server: The running server.
        corpora: Texts by length [tokens]; ``MIXED`` for mixed lengths.
        checked: Whether vectors are compared with the reference; otherwise only their shapes.
        idle_share: Share of a core that the idle server uses; 0 until measured.
    """

    server: RunningServer
    corpora: dict[int, Corpus]
    checked: bool = True
    idle_share: float = 0.0
    _checkers: dict[int, AnswerChecker] = field(default_factory=dict)
    _targets: dict[tuple[int, float | None], Target] = field(default_factory=dict)

    def target(self, key: int, deadline_s: float | None = None) -> Target:
        """Destination of the load of one corpus.

        Args:
            key: Key of the corpus.
            deadline_s: Deadline of the clients [s], sent to servers that support a header for it.
        """
        if (key, deadline_s) not in self._targets:
            peer, corpus = self.server.peer, self.corpora[key]
            tolerance = TOLERANCES[peer.dtype] if self.checked else None
            checker = AnswerChecker(peer, corpus, tolerance)
            requests: Sequence[Request] = [peer.request(text) for text in corpus.texts]
            if deadline_s is not None and peer.deadline_header:
                header = (peer.deadline_header, str(round(1000 * deadline_s)))
                requests = [replace(one, headers=(*one.headers, header)) for one in requests]
            checker = self._checkers.setdefault(key, checker)
            target = Target(self.server.port, requests.__getitem__, checker)
            self._targets[key, deadline_s] = target
        return self._targets[key, deadline_s]

    def wait_until_idle(self) -> None:
        """Wait until the server is idle.

        Raises:
            TimeoutError: It stayed busy.
        """
        self.server.tree.wait_until_idle(self.idle_share)

    def texts(self, key: int) -> range:
        """Indexes of the texts of a corpus."""
        return range(len(self.corpora[key].texts))

    @property
    def largest_error(self) -> float:
        """Largest difference of an entry from the reference, over all right answers so far."""
        return max((checker.largest_error for checker in self._checkers.values()), default=0.0)
