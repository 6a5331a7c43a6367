"""Texts of exact lengths, and the vectors that a server must give for them.

Texts are random words of the vocabulary that are one token each: their length is known, no two are
alike, and no server can know them from before. What they say does not change what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

SPECIAL_TOKENS = 2
"""[CLS] and [SEP] around every text."""


@dataclass(frozen=True)
class Mixture:
    """Lengths as a service sees them: queries, passages and pages, each log-normal.

    Attributes:
        parts: Share, median [tokens] and spread (standard deviation of the logarithm) of each.
        least: Shortest text [tokens], special tokens included.
        most: Longest text [tokens]; what the smallest peer model takes.
    """

    parts: tuple[tuple[float, float, float], ...] = (
        (0.6, 14.0, 0.5),
        (0.3, 80.0, 0.5),
        (0.1, 200.0, 0.3),
    )
    least: int = 4
    most: int = 256

    def sample(self, count: int, generator: np.random.Generator) -> list[int]:
        """So many lengths [tokens]."""
        shares, medians, spreads = (np.array(column) for column in zip(*self.parts, strict=True))
        kinds = generator.choice(len(self.parts), count, p=shares / shares.sum())
        lengths = medians[kinds] * np.exp(spreads[kinds] * generator.standard_normal(count))
        return [int(length) for length in np.clip(np.rint(lengths), self.least, self.most)]


def plain_words(tokenizer: Tokenizer) -> list[str]:
    """Words of the vocabulary that stand alone and are one token each, in a fixed order."""
    words = sorted(
        word
        for word in tokenizer.get_vocab(with_added_tokens=False)
        if word.isascii() and word.isalpha() and word.islower() and len(word) > 2
    )
    encodings = tokenizer.encode_batch(words, add_special_tokens=False)
    return [word for word, one in zip(words, encodings, strict=True) if len(one) == 1]


def make_texts(words: Sequence[str], lengths: Sequence[int], seed: int) -> list[str]:
    """One text of each length [tokens], special tokens included.

    Raises:
        ValueError: A length that leaves no room for a word.
    """
    if short := [length for length in lengths if length <= SPECIAL_TOKENS]:
        raise ValueError(f"a text needs more than {SPECIAL_TOKENS} tokens, got {short[0]}")
    generator = np.random.default_rng(seed)
    return [
        " ".join(words[place] for place in generator.integers(0, len(words), length - 2))
        for length in lengths
    ]


@dataclass(frozen=True)
class Corpus:
    """Texts and their true vectors.

    Attributes:
        texts: What is sent.
        lengths: Their lengths [tokens].
        vectors: What must come back, float32 [n, E], unit length.
    """

    texts: list[str]
    lengths: list[int]
    vectors: np.ndarray

    @property
    def separation(self) -> float:
        """Smallest distance between the vectors of two texts (largest difference of an entry).

        A tolerance far below it tells a text's vector from that of every other text.
        """
        nearest = np.inf
        for row in range(len(self.texts) - 1):
            apart = np.abs(self.vectors[row + 1 :] - self.vectors[row]).max(axis=1)
            nearest = min(nearest, float(apart.min()))
        return nearest
