"""Vectors of long documents: whole, and by chunks that are seen in their document or alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model import EmbeddingModel
from osa.model.errors import InputError
from osa.model.functional.varlen import cu_seqlens_of

Encode = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Vectors:
    """Unit vectors of documents [D, E] and of all their chunks in a row [C, E].

    Attributes:
        way: How they came about.
        chunks: None where a document has no vectors of chunks.
        documents: None where a document is found by its best chunk.
    """

    way: str
    documents: Tensor | None
    chunks: Tensor | None


def model_ways(model: EmbeddingModel, documents: Sequence[Sequence[str]]) -> Iterator[Vectors]:
    """Whole documents, chunks within them (late), and chunks alone."""
    late = [late_chunks(model, chunks) for chunks in documents]
    yield Vectors("whole document", torch.stack([whole for whole, _ in late]), None)
    yield Vectors("late chunks", None, torch.cat([chunks for _, chunks in late]))
    alone = model.encode([chunk for chunks in documents for chunk in chunks])
    yield Vectors("chunks alone", None, alone)


def teacher_ways(encode: Encode, documents: Sequence[Sequence[str]]) -> Iterator[Vectors]:
    """Documents as far as the teacher reads them, and chunks alone."""
    first = encode([" ".join(chunks) for chunks in documents])
    yield Vectors("its first 256 tokens", F.normalize(first, dim=-1), None)
    alone = encode([chunk for chunks in documents for chunk in chunks])
    yield Vectors("chunks alone", None, F.normalize(alone, dim=-1))


@torch.inference_mode()
def late_chunks(model: EmbeddingModel, chunks: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The unit vector of a document, and of every chunk by its tokens in the whole document.

    A document of more tokens than the model takes is read in several windows of whole chunks.

    Raises:
        InputError: The model has no tokenizer, or does not average over tokens.
    """
    tokenizer = model.tokenizer
    if tokenizer is None or model.config.pooling != "mean":
        raise InputError("late chunks need a tokenizer and mean pooling")
    device = next(model.parameters()).device
    total = torch.zeros(model.config.output_size)
    vectors = []
    frame = [tokenizer.prefix, tokenizer.suffix]
    room = model.config.max_seq_len - tokenizer.num_special_tokens
    for window in _windows(tokenizer.encode_parts(chunks), room):
        parts = [frame[0], *window, frame[1]]
        ids = torch.tensor([[token for part in parts for token in part]], device=device)
        lengths = [len(part) for part in parts]
        output = model.embed_spans(
            ids, cu_seqlens_of([ids.shape[1]], device), cu_seqlens_of(lengths, device)
        )
        weights = output.norms.float().cpu() * torch.tensor(lengths)
        embeddings = output.embeddings.float().cpu()
        total += weights @ embeddings  # the mean over tokens is linear
        vectors.append(embeddings[1:-1])
    return F.normalize(total, dim=-1), torch.cat(vectors)


def _windows(parts: Sequence[list[int]], room: int) -> Iterator[list[list[int]]]:
    window: list[list[int]] = []
    size = 0
    for part in parts:
        part = part[:room]
        if window and size + len(part) > room:
            yield window
            window, size = [], 0
        window.append(part)
        size += len(part)
    yield window
