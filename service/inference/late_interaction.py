"""Late interaction: relevance from the vectors of tokens, by the rule MaxSim.

The score of a text is the sum over the query's tokens of the largest cosine with a token of the
text. Source: Khattab and Zaharia, "ColBERT", arXiv:2004.12832.

Shapes: q tokens of the query, n of a text, E width.
"""

from __future__ import annotations

import numpy as np

from osa.service.batching.item import ItemResult
from osa.service.inference.request import unit

QUERY = 0
"""Place of the query among the inputs of a request."""


def maxsim(query: np.ndarray, text: np.ndarray) -> float:
    """The score of a text [n, E] for a query [q, E], both with unit rows; at most q."""
    return float((query @ text.T).max(axis=1).sum())


class MaxSim:
    """Scores the texts of one request as their token vectors come, and keeps only the scores.

    The query is queued before the texts. Vectors of texts that come before those of the query are
    kept until then.
    """

    def __init__(self, texts: int) -> None:
        """Score this many texts, the inputs after the query."""
        self.scores = np.zeros(texts, np.float32)
        self._query: np.ndarray | None = None
        self._waiting: dict[int, np.ndarray] = {}

    def take(self, place: int, result: ItemResult) -> ItemResult:
        """Score an input's token vectors, and return the result without them. One thread at a time.

        Args:
            place: Of the input; ``QUERY``, or one more than the text's index.
            result: With token vectors.
        """
        assert result.token_vectors is not None  # they were requested
        tokens = unit(result.token_vectors)
        if place == QUERY:
            self._query = tokens
            for early, vectors in self._waiting.items():
                self._score(early, tokens, vectors)
            self._waiting.clear()
        elif self._query is None:
            self._waiting[place] = tokens
        else:
            self._score(place, self._query, tokens)
        return result._replace(token_vectors=None)

    def _score(self, place: int, query: np.ndarray, text: np.ndarray) -> None:
        self.scores[place - 1] = maxsim(query, text)
