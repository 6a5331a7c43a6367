"""Texts that a student learns on: cut at ends of sentences to many lengths.

Half of every batch are tokens of short pieces, half those of long ones, where there are both: an
encoder that was matched on short texts alone is worse on long ones.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from osa.model.common.progress import Progress
from osa.model.conversion.matching import Batch
from osa.model.conversion.request import Request, text_field
from osa.model.conversion.texts.files import BUDGETS, read_distinct
from osa.model.conversion.texts.long_texts import Lengths, LongTexts
from osa.model.conversion.texts.pairs import Pair, Pairing, cut_pairs, make_pairs
from osa.model.errors import ConfigError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.tokenization import TextTokenizer
from osa.model.training.objectives.segments import segment_texts

PACKAGED = Path(__file__).parent / "texts.jsonl.gz"
SHORT = 64
"""Pieces of fewer tokens are short."""
HELD_OUT = 20
"""One text in so many is not trained on."""
TEXTS_A_BLOCK = 1024
Item = TypeVar("Item", str, Pair)


def read_texts(request: Request) -> list[str]:
    """The texts of a request's files, or the packaged ones, distinct and in their order.

    Raises:
        ConfigError: There are none.
        DataError: A file cannot be read.
    """
    if not request.texts:
        with gzip.open(PACKAGED, "rt", encoding="utf-8") as lines:
            return list(dict.fromkeys(json.loads(line) for line in lines))
    found = read_distinct(request.texts, (text_field(request.column),), "text")
    return [text for (text,) in found]


class TrainingTexts:
    """Pieces of texts, or pairs, as ids, and batches of them.

    Attributes:
        held_out: Texts that are not trained on.
        held_out_pairs: Pairs that are not.
        held_out_pieces: Pieces of these texts, or these pairs, ids.
        long: Those of them that are longer than the teacher reads; none if the student reads no
            more.
        longest: What the teacher reads, at most what was asked for [tokens].
        sha256: Digest of the ids of all pieces.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: TextTokenizer,
        max_tokens: int,
        seed: int,
        progress: bool,
        reads: int = 0,
        pairing: Pairing | None = None,
    ) -> None:
        """Cut and tokenise texts, or pairs.

        Args:
            texts: All of them; some are held out.
            tokenizer: The teacher's.
            max_tokens: Longest piece, special tokens included.
            seed: Of the lengths that texts are cut to.
            progress: Whether progress is shown.
            reads: Longest text that the student reads, where that is more [tokens].
            pairing: How the teacher reads pairs, if it reads them.

        Raises:
            ConfigError: No text has a token.
        """
        self.held_out, kept = _hold_out(texts)
        self.held_out_pairs: list[Pair] = []
        if pairing is None:
            with Progress("tokenising", "texts", len(texts), enabled=progress) as bar:
                pieces = cut(kept, tokenizer, max_tokens, seed, bar)
                self.held_out_pieces = cut(self.held_out, tokenizer, max_tokens, seed, bar)
        else:
            self.held_out_pairs, pairs = _hold_out(pairing.pairs)
            if not pairing.pairs:
                self.held_out_pairs = make_pairs(self.held_out, seed)
                pairs = make_pairs(kept, seed)
            count = len(pairs) + len(self.held_out_pairs)
            with Progress("tokenising", "pairs", count, enabled=progress) as bar:
                pieces, self.held_out_pieces = (
                    cut_pairs(some, tokenizer, max_tokens, pairing.stride, seed, bar)
                    for some in (pairs, self.held_out_pairs)
                )
        if not pieces:
            raise ConfigError("the texts have no tokens but special ones")
        lengths = np.array([len(piece) for piece in pieces])
        self._pieces = pieces
        self._short, self._long = np.flatnonzero(lengths < SHORT), np.flatnonzero(lengths >= SHORT)
        self._seed = seed
        self.longest = max_tokens
        found, others = (kept, self.held_out) if reads > max_tokens else ([], [])
        both = Lengths(max_tokens, reads)
        self.long = LongTexts(found, others, tokenizer, both, seed, progress)
        self.sha256 = hashlib.sha256(b"".join(piece.tobytes() for piece in pieces)).hexdigest()

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self._pieces)

    def sample(self, count: int) -> list[list[int]]:
        """Some of the pieces to train on, the same for the same seed."""
        order = np.random.default_rng(self._seed).permutation(len(self._pieces))
        return [self._pieces[place].tolist() for place in order[:count]]

    def batch(self, number: int, tokens: int, device: torch.device) -> Batch:
        """A batch of about so many tokens; the same for the same number.

        Args:
            number: Of the batch, over all stages and processes.
            tokens: Of the batch.
            device: Of the tensors.
        """
        generator = np.random.default_rng([self._seed, number])
        rows: list[np.ndarray] = []
        count = 0
        groups = [group for group in (self._long, self._short) if len(group)]
        for place, group in enumerate(groups, start=1):
            while count < tokens * place / len(groups):
                piece = self._pieces[int(group[generator.integers(len(group))])]
                rows.append(piece)
                count += len(piece)
        ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))[None]
        return Batch(ids.to(device), cu_seqlens_of([len(row) for row in rows], device))


def _hold_out(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Those that are not trained on, and the others."""
    held_out = list(items[::HELD_OUT]) if len(items) >= 2 * HELD_OUT else []
    held = set(held_out)
    return held_out, [item for item in items if item not in held]


def cut(
    texts: Sequence[str], tokenizer: TextTokenizer, max_tokens: int, seed: int, bar: Progress
) -> list[np.ndarray]:
    """Ids of the pieces of texts.

    Args:
        texts: The texts.
        tokenizer: The teacher's.
        max_tokens: Longest piece, special tokens included.
        seed: Of the lengths that texts are cut to.
        bar: Counts the texts.
    """
    room = max(1, max_tokens - tokenizer.num_special_tokens)
    budgets = np.random.default_rng(seed).choice(BUDGETS, size=len(texts))
    pieces: list[np.ndarray] = []
    for start in range(0, len(texts), TEXTS_A_BLOCK):
        block = texts[start : start + TEXTS_A_BLOCK]
        wanted = budgets[start : start + TEXTS_A_BLOCK]
        pieces += _pieces(block, wanted, tokenizer, room, max_tokens)
        bar.update(len(block))
    return pieces


def _pieces(
    texts: Sequence[str],
    budgets: np.ndarray,
    tokenizer: TextTokenizer,
    room: int,
    max_tokens: int,
) -> Iterator[np.ndarray]:
    """Ids of the pieces of some texts, in their order by budget.

    Args:
        texts: The texts.
        budgets: Longest piece of each [tokens].
        tokenizer: The teacher's.
        room: Largest budget [tokens].
        max_tokens: Longest piece, special tokens included.
    """
    for budget in BUDGETS:
        chosen = [text for text, wanted in zip(texts, budgets, strict=True) if wanted == budget]
        if not chosen:
            continue
        parts = segment_texts(tokenizer, chosen, min(budget, room))
        for item in tokenizer.encode([part for found in parts for part in found], max_tokens):
            if len(item.ids) > tokenizer.num_special_tokens:
                yield np.array(item.ids, dtype=np.int32)
