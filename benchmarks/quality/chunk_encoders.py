"""Vectors of long documents: whole, of chunks, late or encoded alone, and of groups of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model import EmbeddingModel
from osa.model.documents.document_vectors import group_vectors
from osa.model.errors import InputError
from osa.model.functional.varlen import cu_seqlens_of

Encode = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Vectors:
    """Unit vectors of documents and of their chunks, computed by one strategy.

    Attributes:
        strategy: Name of the strategy.
        documents: [D, E]; None if a document's score is that of its best chunk.
        chunks: The chunks of all documents in order [C, E]; None if there are none.
        groups: A few vectors of each document, of groups of its chunks; empty if there are none.
    """

    strategy: str
    documents: Tensor | None
    chunks: Tensor | None
    groups: Sequence[Tensor] = ()


def model_strategies(
    model: EmbeddingModel, documents: Sequence[Sequence[str]], few: Sequence[int] = ()
) -> Iterator[Vectors]:
    """Vectors of whole documents, of late chunks, and of chunks encoded alone.

    Of chunks also a few vectors a document, for each of the numbers in ``few``.
    """
    late = [late_chunks(model, chunks) for chunks in documents]
    yield Vectors("whole document", torch.stack([whole for whole, _ in late]), None)
    yield from of_chunks("late chunks", [chunks for _, chunks in late], few)
    alone = model.encode([chunk for chunks in documents for chunk in chunks])
    yield from of_chunks("chunks alone", alone.split([len(chunks) for chunks in documents]), few)


def teacher_strategies(
    encode: Encode, documents: Sequence[Sequence[str]], few: Sequence[int] = ()
) -> Iterator[Vectors]:
    """Vectors of documents truncated to the teacher's 256 tokens, and of chunks encoded alone.

    Of chunks also a few vectors a document, for each of the numbers in ``few``.
    """
    first = encode([" ".join(chunks) for chunks in documents])
    yield Vectors("its first 256 tokens", F.normalize(first, dim=-1), None)
    alone = F.normalize(encode([chunk for chunks in documents for chunk in chunks]), dim=-1)
    yield from of_chunks("chunks alone", alone.split([len(chunks) for chunks in documents]), few)


def of_chunks(strategy: str, chunks: Sequence[Tensor], few: Sequence[int]) -> Iterator[Vectors]:
    """All chunks of every document [n, E], and for each number of ``few`` so many vectors."""
    yield Vectors(strategy, None, torch.cat(list(chunks)))
    for most in few:
        groups = [group_vectors(rows.numpy(), most)[0] for rows in chunks]
        name = f"{most} vectors a document, of {strategy}"
        yield Vectors(name, None, None, [torch.from_numpy(rows) for rows in groups])


@torch.inference_mode()
def late_chunks(model: EmbeddingModel, chunks: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Late chunking: encode a document, then average the token vectors of each chunk.

    A document longer than the model's limit is encoded in several windows of whole chunks.

    Returns:
        Unit vectors of the document [E] and of its chunks [C, E].

    Raises:
        InputError: The model has no tokenizer, or its pooling is not ``mean``.
    """
    tokenizer = model.tokenizer
    if tokenizer is None or model.config.pooling != "mean":
        raise InputError("late chunks need a tokenizer and mean pooling")
    device = next(model.parameters()).device
    total = torch.zeros(model.config.output_size)
    vectors = []
    room = model.config.max_seq_len - tokenizer.num_special_tokens
    for window in _windows(tokenizer.encode_parts(chunks), room):
        parts = [tokenizer.prefix, *window, tokenizer.suffix]
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
