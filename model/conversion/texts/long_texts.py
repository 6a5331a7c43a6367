"""Texts that are longer than a teacher reads, and what a student learns on them.

The teacher reads a text's segments one by one. The student reads the whole text: the mean of its
states over a segment is to give the teacher's vector of that segment, so that chunks of long texts
are found, and its vector of the whole the direction of the segments' mean, weighted by their
tokens.

Shapes: T tokens of all texts, S texts, P segments of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.common.progress import Progress
from osa.model.conversion.matching import Batch
from osa.model.conversion.outputs import vector_loss
from osa.model.embedding_model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.tokenization import TextTokenizer
from osa.model.training.objectives.segments import segment_texts

BUDGETS = (64, 128, 256, 512)
"""Longest segments that texts are cut to, at random [tokens]."""
CHARACTERS = 3
"""Texts of fewer characters a token than this are not tried."""
MOST_TOKENS = 4096
"""Of one text at most, also where the student reads more; what is beyond is not read."""
TEXTS_A_BLOCK = 256
Segments = list[np.ndarray]
"""Of one text: ids, special tokens left out."""


class Lengths(NamedTuple):
    """Longest texts, special tokens included [tokens].

    Attributes:
        teacher: That the teacher reads.
        student: That the student reads.
    """

    teacher: int
    student: int


class LongBatch(NamedTuple):
    """Long texts end to end, and their segments.

    Attributes:
        texts: The texts.
        spans: Offsets [K + 1] of all spans of tokens: special tokens, and segments.
        inner: Which of the spans are segments [P].
        owners: The text of each segment [P].
        tokens: Tokens of each segment [P].
        segments: The segments with special tokens, as the teacher reads them.
    """

    texts: Batch
    spans: Tensor
    inner: Tensor
    owners: Tensor
    tokens: Tensor
    segments: Batch


class LongTexts:
    """Texts of more tokens than a teacher reads.

    Attributes:
        held_out: Those that are not trained on.
        sha256: Digest of the ids of the others.
    """

    def __init__(
        self,
        kept: Sequence[str],
        held_out: Sequence[str],
        tokenizer: TextTokenizer,
        lengths: Lengths,
        seed: int,
        progress: bool,
    ) -> None:
        """Cut and tokenise what is long enough.

        Args:
            kept: Texts to train on, short ones too.
            held_out: Others.
            tokenizer: The teacher's.
            lengths: What both read.
            seed: Of the lengths of segments, and of batches.
            progress: Whether progress is shown.
        """
        self._tokenizer, self._lengths, self._seed = tokenizer, lengths, seed
        with Progress("cutting long texts", "texts", len(kept), enabled=progress) as bar:
            self._texts = self._cut(kept, bar)
        with Progress("held out", "texts", len(held_out), enabled=False) as bar:
            self.held_out = self._cut(held_out, bar)
        digest = hashlib.sha256()
        for part in (part for text in self._texts for part in text):
            digest.update(part.tobytes())
        self.sha256 = digest.hexdigest() if self._texts else ""

    def __len__(self) -> int:
        """Number of texts to train on."""
        return len(self._texts)

    def batch(self, number: int, tokens: int, device: torch.device) -> LongBatch:
        """One text or more, of about so many tokens; the same for the same number.

        Args:
            number: Of the batch, over all processes.
            tokens: Of the batch.
            device: Of the tensors.
        """
        generator = np.random.default_rng([self._seed, number, len(self._texts)])
        chosen: list[Segments] = []
        count = 0
        while count < tokens:
            chosen.append(self._texts[int(generator.integers(len(self._texts)))])
            count += sum(map(len, chosen[-1]))
        return self.join(chosen, device)

    def join(self, texts: Sequence[Segments], device: torch.device) -> LongBatch:
        """Texts as one batch."""
        frame = self._tokenizer.prefix, self._tokenizer.suffix
        prefix, suffix = (np.array(ids, dtype=np.int64) for ids in frame)
        rows = [np.concatenate([prefix, *text, suffix]) for text in texts]
        spans: list[int] = []
        inner: list[int] = []
        for text in texts:
            inner += range(len(spans) + 1, len(spans) + 1 + len(text))
            spans += [len(prefix), *map(len, text), len(suffix)]
        parts = [part for text in texts for part in text]
        alone = [np.concatenate([prefix, part, suffix]) for part in parts]
        owners = [place for place, text in enumerate(texts) for _ in text]
        return LongBatch(
            _packed(rows, device),
            cu_seqlens_of(spans, device),
            torch.tensor(inner, device=device),
            torch.tensor(owners, device=device),
            torch.tensor([len(part) for part in parts], device=device),
            _packed(alone, device),
        )

    def _cut(self, texts: Sequence[str], bar: Progress) -> list[Segments]:
        special = self._tokenizer.num_special_tokens
        longest, most = self._lengths.teacher, min(self._lengths.student, MOST_TOKENS)
        room = longest - special
        generator = np.random.default_rng(self._seed)
        found: list[Segments] = []
        for start in range(0, len(texts), TEXTS_A_BLOCK):
            block = texts[start : start + TEXTS_A_BLOCK]
            long = [text for text in block if len(text) > CHARACTERS * longest]
            for text in long:
                budget = min(room, int(generator.choice(BUDGETS)))
                (parts,) = segment_texts(self._tokenizer, [text], budget)
                items = self._tokenizer.encode(parts, longest)
                bodies = [body for item in items if len(body := self._body(item.ids))]
                bodies = _first(bodies, most - special)
                if sum(map(len, bodies)) > room:
                    found.append(bodies)
            bar.update(len(block))
        return found

    def _body(self, ids: Sequence[int]) -> np.ndarray:
        stop = len(ids) - len(self._tokenizer.suffix)
        return np.array(ids[len(self._tokenizer.prefix) : stop], dtype=np.int64)


def _first(bodies: Segments, most: int) -> Segments:
    """The first segments, of at most so many tokens in all."""
    kept, count = [], 0
    for body in bodies:
        count += len(body)
        if count > most:
            break
        kept.append(body)
    return kept


def _packed(rows: Sequence[np.ndarray], device: torch.device) -> Batch:
    ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))[None]
    return Batch(ids.to(device), cu_seqlens_of([len(row) for row in rows], device))


@torch.no_grad()
def long_targets(
    teacher: EmbeddingModel, batch: LongBatch
) -> tuple[Float[Tensor, "P E"], Float[Tensor, "S E"]]:
    """Unit vectors of the segments, and of the texts: the direction of their weighted sum."""
    ids, offsets = batch.segments
    parts: Tensor = teacher(ids, cu_seqlens=offsets).embeddings.float()
    count = len(batch.texts.cu_seqlens) - 1
    sums = parts.new_zeros(count, parts.shape[1])
    sums.index_add_(0, batch.owners, parts * batch.tokens[:, None])
    return parts, F.normalize(sums, dim=-1)


def long_vectors(
    student: EmbeddingModel, batch: LongBatch
) -> tuple[Float[Tensor, "P E"], Float[Tensor, "S E"]]:
    """The student's vectors of the segments within their texts, and of the texts."""
    hidden = student.encoder(batch.texts.ids, None, batch.texts.cu_seqlens)
    spans = student.finish(hidden, None, batch.spans).embeddings.float()
    whole = student.finish(hidden, None, batch.texts.cu_seqlens).embeddings.float()
    return spans[batch.inner], whole


def long_gradients(student: EmbeddingModel, teacher: EmbeddingModel, batch: LongBatch) -> float:
    """Add the gradients of stage three; returns the mean cosine of segments and texts."""
    wanted_parts, wanted = long_targets(teacher, batch)
    parts, whole = long_vectors(student, batch)
    loss, cosine = vector_loss(parts, wanted_parts)
    of_texts = (whole * wanted).sum(-1).mean()
    (loss + 1.0 - of_texts).backward()
    return float(0.5 * (cosine + of_texts.detach()))
