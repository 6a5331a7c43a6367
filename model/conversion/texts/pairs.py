"""Pairs of texts, as rerankers and classifiers of pairs read them: of files, or made of texts.

A pair that is made is a sentence of a text with the rest of that text, with the rest of the next
one, or with that of any other, in turns: right, near and wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from osa.model.common.progress import Progress
from osa.model.common.sentences import sentence_ends
from osa.model.config import EncoderConfig
from osa.model.conversion.request import Request, pair_fields
from osa.model.conversion.texts.files import BUDGETS, read_distinct
from osa.model.errors import ConfigError
from osa.model.tokenization import TextTokenizer

SHORTEST_PART = 5
"""Words of a sentence that stands for its text."""
PAIRS_A_BLOCK = 1024
Pair = tuple[str, str]


class Pairing(NamedTuple):
    """How a model reads pairs.

    Attributes:
        stride: What a step of the token type adds to an id.
        pairs: Of files; none to make them of texts.
    """

    stride: int
    pairs: tuple[Pair, ...] = ()


def pairing_of(request: Request, config: EncoderConfig) -> Pairing | None:
    """How a teacher reads what it is to teach on; None if it reads texts alone.

    Raises:
        ConfigError: ``--pair-column`` for a model that reads no pairs, or there are none.
        DataError: A file cannot be read.
    """
    if config.head is None or config.head.kind != "classifier":
        if request.pair_column:
            raise ConfigError(
                f"--pair-column is of rerankers and classifiers, this is a model of {config.task}"
            )
        return None
    if not request.pair_column and config.task != "reranker":
        return None
    if not request.pair_column:
        return Pairing(config.type_stride)
    fields = pair_fields(request.column, request.pair_column)
    found = read_distinct(request.texts, fields, "pair")
    return Pairing(config.type_stride, tuple((first, second) for first, second in found))


def parts_and_rests(texts: Sequence[str], most: int | None = None) -> tuple[list[str], list[str]]:
    """One sentence of each text of at least four, and the text without it; at most so many."""
    parts: list[str] = []
    rests: list[str] = []
    for text in map(str.strip, texts):
        ends = sentence_ends(text)
        if len(ends) < 3:
            continue
        place = len(ends) // 2
        start, stop = ends[place - 1], ends[place]
        part = text[start:stop].strip()
        if len(part.split()) >= SHORTEST_PART:
            parts.append(part)
            rests.append(f"{text[:start]}{text[stop:]}")
        if most is not None and len(parts) >= most:
            break
    return parts, rests


def make_pairs(texts: Sequence[str], seed: int) -> list[Pair]:
    """A pair of each text: of at least four sentences as above; of a shorter one, its two halves.

    Texts of one sentence are left out, unless there are no others: then they have neighbours.

    Args:
        texts: The texts.
        seed: Of the other texts.
    """
    halves = [half for text in texts if (half := _halves(text)) is not None]
    halves = halves or list(zip(texts, [*texts[1:], *texts[:1]], strict=True))
    others = np.random.default_rng(seed).permutation(len(halves)).tolist()
    count = len(halves)
    found = []
    for place, (first, _) in enumerate(halves):
        choices = (place, (place + 1) % count, others[place])
        found.append((first, halves[choices[place % 3]][1]))
    return found


def _halves(text: str) -> Pair | None:
    """A sentence of a text and the rest; None of a text of one sentence."""
    parts, rests = parts_and_rests([text])
    if parts:
        return parts[0], rests[0]
    text = text.strip()
    inner = [end for end in sentence_ends(text) if end < len(text)]
    return (text[: inner[0]].strip(), text[inner[0] :]) if inner else None


def cut_pairs(
    pairs: Sequence[Pair],
    tokenizer: TextTokenizer,
    max_tokens: int,
    stride: int,
    seed: int,
    bar: Progress,
) -> list[np.ndarray]:
    """Ids of pairs, cut to many lengths; the longer text is cut first.

    Args:
        pairs: The pairs.
        tokenizer: The teacher's.
        max_tokens: Longest pair, special tokens included.
        stride: What a step of the token type adds to an id.
        seed: Of the lengths that pairs are cut to.
        bar: Counts the pairs.

    Raises:
        InputError: ``max_tokens`` leaves no room for two texts.
    """
    budgets = np.random.default_rng(seed).choice(BUDGETS, size=len(pairs)).clip(max=max_tokens)
    found: list[np.ndarray] = []
    for start in range(0, len(pairs), PAIRS_A_BLOCK):
        block, wanted = pairs[start : start + PAIRS_A_BLOCK], budgets[start : start + PAIRS_A_BLOCK]
        for budget in np.unique(wanted).tolist():
            chosen = [pair for pair, size in zip(block, wanted, strict=True) if size == budget]
            items = tokenizer.encode_pairs(chosen, budget, type_stride=stride)
            found += [np.array(item.ids, dtype=np.int32) for item in items]
        bar.update(len(block))
    return found
