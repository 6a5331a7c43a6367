"""Texts of exact lengths, and the vectors that a server must return for them.

Texts are random words of the vocabulary that are one token each: their lengths are known, they all
differ, and no server has cached them. The meaning of a text does not change its cost.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.common.machine import ROOT
from benchmarks.common.report import progress
from benchmarks.serving.harness.models import minilm_tokenizer
from benchmarks.serving.peers.base import Family
from osa.model import EmbeddingModel

SPECIAL_TOKENS = 2
"""[CLS] and [SEP] around every text."""
MIXED = 0
"""Key of the corpus of mixed lengths; other keys are the length of the texts [tokens]."""
KEPT = Path("build/serving-vectors")
"""Folder of the reference vectors of earlier runs."""


@dataclass(frozen=True)
class Mixture:
    """Distribution of lengths: queries, passages and pages, each log-normal.

    Attributes:
        parts: Share, median [tokens] and standard deviation of the logarithm, of each part.
        least: Shortest text [tokens], with special tokens.
        most: Longest text [tokens], the limit of MiniLM.
    """

    parts: tuple[tuple[float, float, float], ...] = (
        (0.6, 14.0, 0.5),
        (0.3, 80.0, 0.5),
        (0.1, 200.0, 0.3),
    )
    least: int = 4
    most: int = 256

    def sample(self, count: int, generator: np.random.Generator) -> list[int]:
        """Random lengths [tokens]."""
        shares, medians, spreads = (np.array(column) for column in zip(*self.parts, strict=True))
        kinds = generator.choice(len(self.parts), count, p=shares / shares.sum())
        lengths = medians[kinds] * np.exp(spreads[kinds] * generator.standard_normal(count))
        return [int(length) for length in np.clip(np.rint(lengths), self.least, self.most)]


def plain_words(tokenizer: Tokenizer) -> list[str]:
    """Lower-case words of the vocabulary that are one token each, in a fixed order."""
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
        ValueError: A length is too short for a word.
    """
    if short := [length for length in lengths if length <= SPECIAL_TOKENS]:
        raise ValueError(f"a text needs more than {SPECIAL_TOKENS} tokens, got {short[0]}")
    generator = np.random.default_rng(seed)
    return [
        " ".join(words[index] for index in generator.integers(0, len(words), length - 2))
        for length in lengths
    ]


@dataclass(frozen=True)
class Corpus:
    """Texts and their reference vectors.

    Attributes:
        texts: The texts.
        lengths: Their lengths [tokens].
        vectors: Expected unit vectors, float32 [n, E].
    """

    texts: list[str]
    lengths: list[int]
    vectors: np.ndarray

    @property
    def separation(self) -> float:
        """Smallest distance of two vectors, as the largest difference of an entry.

        A tolerance far below it distinguishes the vector of each text from all others.
        """
        nearest = np.inf
        for row in range(len(self.texts) - 1):
            apart = np.abs(self.vectors[row + 1 :] - self.vectors[row]).max(axis=1)
            nearest = min(nearest, float(apart.min()))
        return nearest


def make_corpora(
    family: Family, model: Path, lengths: Sequence[int], count: int
) -> dict[int, Corpus]:
    """Corpora of each length and of mixed lengths, with reference vectors.

    Args:
        family: Encoder of the vectors: MiniLM by sentence-transformers or OSA, both in float32.
        model: Folder of the encoder.
        lengths: Fixed lengths [tokens].
        count: Number of texts in each corpus.
    """
    words = plain_words(minilm_tokenizer())
    mixture = Mixture().sample(count, np.random.default_rng(0))
    wanted = {MIXED: mixture, **{length: [length] * count for length in lengths}}
    found = {}
    for seed, (key, sizes) in enumerate(wanted.items()):
        texts = make_texts(words, sizes, seed)
        what = f"{count} texts of {key} tokens" if key else f"{count} texts of mixed lengths"
        vectors = _kept(f"reference vectors of {family}: {what}", family, model, texts)
        found[key] = Corpus(texts, list(sizes), vectors)
    return found


def _kept(what: str, family: Family, model: Path, texts: list[str]) -> np.ndarray:
    """``_reference``, from an earlier run's file where the model and its code are the same."""
    facts = [family, torch.__version__, *texts]
    for file in sorted([*model.rglob("*"), *(ROOT / "model").rglob("*.py")]):
        facts.append(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}")
    entry = KEPT / f"{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:32]}.npy"
    try:
        vectors: np.ndarray = np.load(entry, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        progress(what)
        vectors = _reference(family, model, texts)
        KEPT.mkdir(parents=True, exist_ok=True)
        part = entry.with_suffix(f".{os.getpid()}.npy")
        np.save(part, vectors)
        part.replace(entry)
    else:
        progress(f"{what}, from {entry}")
    return vectors


def _reference(family: Family, model: Path, texts: list[str]) -> np.ndarray:
    if family == "osa":
        checkpoint = EmbeddingModel.from_pretrained(model / "checkpoint")
        return checkpoint.encode(texts).numpy()
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu")
    vectors: np.ndarray = encoder.encode(texts, normalize_embeddings=True, convert_to_numpy=True)
    return vectors.astype(np.float32)
