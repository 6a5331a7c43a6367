"""A running server with the texts for it: what every measure is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.serving.connection import Request
from benchmarks.serving.corpus import Corpus, Mixture, make_texts, plain_words
from benchmarks.serving.load import Target
from benchmarks.serving.models import minilm_tokenizer
from benchmarks.serving.peers.base import Family, Peer
from benchmarks.serving.running import RunningServer
from osa.model import EmbeddingModel

TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2, "auto": 1e-2}
"""Largest difference of an entry of a unit vector from the float32 truth."""
MIXED = 0
"""Key of the corpus of mixed lengths; the others' keys are their length [tokens]."""


class UntellableTexts(Exception):
    """The texts' vectors are too alike for a wrong answer to be seen."""


class Checker:
    """Whether an answer is its own text's vector, within a tolerance; remembers the worst.

    Attributes:
        worst: Largest difference of an entry of a right answer from the truth.
    """

    def __init__(self, peer: Peer, corpus: Corpus, tolerance: float | None) -> None:
        """Compare answers of ``peer`` with the vectors of ``corpus``; None: their shape alone.

        Raises:
            UntellableTexts: Another text's vector could pass.
        """
        if tolerance is not None and corpus.separation < 2 * tolerance:
            raise UntellableTexts(
                f"two texts are {corpus.separation:.1e} apart, which a tolerance of "
                f"{tolerance:.1e} cannot tell"
            )
        self._peer, self._vectors, self._tolerance = peer, corpus.vectors, tolerance
        self.worst = 0.0

    def __call__(self, text: int, body: bytes) -> bool:
        """Whether ``body`` holds the vector of the text at that place."""
        try:
            vector = self._peer.read(body)
        except (ValueError, KeyError, IndexError, TypeError):
            return False
        truth = self._vectors[text]
        if vector.shape != truth.shape or not np.isfinite(vector).all():
            return False
        if self._tolerance is None:
            return True
        off = float(np.abs(vector - truth).max())
        if off > self._tolerance:
            return False
        self.worst = max(self.worst, off)
        return True


@dataclass
class Subject:
    """A server under test.

    Attributes:
        server: The running server.
        corpora: Texts by length; ``MIXED`` for the mixture.
        checked: Whether vectors are compared with the truth; otherwise their shape alone.
        idle: Share of a core that the server uses when nobody asks, once it was measured.
    """

    server: RunningServer
    corpora: dict[int, Corpus]
    checked: bool = True
    idle: float = 0.0
    _checkers: dict[int, Checker] = field(default_factory=dict)
    _targets: dict[tuple[int, float | None], Target] = field(default_factory=dict)

    def target(self, key: int, deadline_s: float | None = None) -> Target:
        """Where the load of one corpus goes; servers that can are told the clients' deadline."""
        if (key, deadline_s) not in self._targets:
            peer, corpus = self.server.peer, self.corpora[key]
            tolerance = TOLERANCES[peer.dtype] if self.checked else None
            checker = Checker(peer, corpus, tolerance)
            requests: Sequence[Request] = [peer.request(text) for text in corpus.texts]
            if deadline_s is not None and peer.deadline_header:
                header = (peer.deadline_header, str(round(1000 * deadline_s)))
                requests = [replace(one, headers=(*one.headers, header)) for one in requests]
            checker = self._checkers.setdefault(key, checker)
            target = Target(self.server.port, requests.__getitem__, checker)
            self._targets[key, deadline_s] = target
        return self._targets[key, deadline_s]

    def rest(self) -> None:
        """Wait until the server does no more than when nobody asks.

        Raises:
            TimeoutError: It kept working.
        """
        self.server.tree.wait_until_quiet(self.idle)

    def texts(self, key: int) -> range:
        """Places of a corpus's texts."""
        return range(len(self.corpora[key].texts))

    @property
    def worst(self) -> float:
        """Largest difference of an entry from the truth, over all right answers so far."""
        return max((checker.worst for checker in self._checkers.values()), default=0.0)


def make_corpora(
    family: Family, model: Path, lengths: Sequence[int], count: int
) -> dict[int, Corpus]:
    """Texts of each length and of the mixture, with the family's float32 vectors.

    Args:
        family: Which encoder tells the truth: sentence-transformers' MiniLM, or ours in torch.
        model: Its folder.
        lengths: Fixed lengths [tokens].
        count: Texts of each kind.
    """
    words = plain_words(minilm_tokenizer())
    mixture = Mixture().sample(count, np.random.default_rng(0))
    wanted = {MIXED: mixture, **{length: [length] * count for length in lengths}}
    found = {}
    for seed, (key, sizes) in enumerate(wanted.items()):
        texts = make_texts(words, sizes, seed)
        found[key] = Corpus(texts, list(sizes), _truth(family, model, texts))
    return found


def _truth(family: Family, model: Path, texts: list[str]) -> np.ndarray:
    if family == "osa":
        checkpoint = EmbeddingModel.from_pretrained(model / "checkpoint")
        return checkpoint.encode(texts).numpy()
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu")
    vectors: np.ndarray = encoder.encode(texts, normalize_embeddings=True, convert_to_numpy=True)
    return vectors.astype(np.float32)
