"""Documents to a few vectors each: what ``EmbeddingModel.encode_documents`` does.

A document is encoded whole, and its chunks are pooled from its tokens (late chunking): in batches
with others, alone in chunks of the stream where it is long, or in windows of whole chunks where
the mixer needs all pairs of tokens. Which of these depends on its own length alone.

Shapes: n chunks, E width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args, overload

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from osa.model.common.inputs import Texts, read_texts
from osa.model.common.widths import width_problem
from osa.model.documents.chunk_ranges import Chunk, Splitting, split
from osa.model.documents.document_vectors import DocumentVectors, group_chunks
from osa.model.documents.limits import CHUNK_TOKENS, MOST_VECTORS, VECTORS
from osa.model.errors import InputError
from osa.model.functional.varlen import batches_by_length, cu_seqlens_of
from osa.model.layers.pooling import EmbeddingOutput
from osa.model.streaming.encoding import STREAMED_FROM, StreamedEncoding
from osa.model.streaming.passes import StreamOptions
from osa.model.tokenization import TextTokenizer


@dataclass(frozen=True)
class DocumentOptions:
    """What becomes of documents.

    Attributes:
        vectors: Most vectors of a document.
        chunk_tokens: Most tokens of a chunk.
        split_by: Where chunks end.
        dimensions: Leading dimensions, in which chunks are grouped too; None for all.
        batch_tokens: Largest batch [tokens].
        stream: How a long document is taken.
    """

    vectors: int = VECTORS
    chunk_tokens: int = CHUNK_TOKENS
    split_by: Splitting = "tokens"
    dimensions: int | None = None
    batch_tokens: int = 8192
    stream: StreamOptions | None = None

    def check(self, widths: Sequence[int]) -> None:
        """Refuse what cannot be.

        Args:
            widths: Allowed dimensions of the model, full width first.

        Raises:
            InputError: Naming the argument, what came and what is allowed.
        """
        for name, most in (("vectors", MOST_VECTORS), ("chunk_tokens", None)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < 1 or (most is not None and value > most):
                allowed = "at least 1" if most is None else f"1 to {most}"
                raise InputError(f"{name} must be {allowed}, got {value}")
        if self.split_by not in get_args(Splitting):
            allowed = " or ".join(get_args(Splitting))
            raise InputError(f"split_by must be {allowed}, got {self.split_by!r}")
        if self.dimensions is not None:
            problem = width_problem(self.dimensions, widths)
            if problem is not None:
                raise InputError(f"dimensions {problem}")


@dataclass(frozen=True)
class _Tokens:
    """A document's ids, special tokens left out, and its chunks."""

    ids: np.ndarray
    chunks: list[Chunk]


@dataclass(frozen=True)
class _Window:
    """Chunks [first, stop) of a document, which are computed as one sequence."""

    document: int
    first: int
    stop: int
    length: int


class DocumentEncoding(StreamedEncoding):
    """Base of models that give a document several vectors."""

    def pack_ids(
        self, sequences: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "1 T"], Int[Tensor, " S1"]]:
        """Id sequences as one packed batch and its offsets."""
        raise NotImplementedError

    def embed_spans(self, inputs: Tensor, cu_seqlens: Tensor, spans: Tensor) -> EmbeddingOutput:
        """One vector per span of tokens, each computed within its whole sequence."""
        raise NotImplementedError

    @overload
    def encode_documents(  # type: ignore[overload-overlap]  # a string is an iterable of them too
        self,
        texts: str,
        vectors: int = VECTORS,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
        split_by: Splitting = "tokens",
        dimensions: int | None = None,
        batch_tokens: int = 8192,
        options: StreamOptions | None = None,
    ) -> DocumentVectors: ...

    @overload
    def encode_documents(
        self,
        texts: Iterable[str],
        vectors: int = VECTORS,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
        split_by: Splitting = "tokens",
        dimensions: int | None = None,
        batch_tokens: int = 8192,
        options: StreamOptions | None = None,
    ) -> list[DocumentVectors]: ...

    @torch.no_grad()
    def encode_documents(
        self,
        texts: Texts,
        vectors: int = VECTORS,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
        split_by: Splitting = "tokens",
        dimensions: int | None = None,
        batch_tokens: int = 8192,
        options: StreamOptions | None = None,
    ) -> list[DocumentVectors] | DocumentVectors:
        """Up to ``vectors`` unit vectors for every document: its chunks' vectors, in groups.

        A document has the same vectors alone and beside any others. Its time is linear in its
        length, which is not limited; where the mixer cannot take a sequence in chunks, documents
        of more than ``max_seq_len`` tokens are encoded in windows of that length.

        Args:
            texts: Documents; a single string gives one ``DocumentVectors``.
            vectors: Most vectors of a document; one of fewer chunks has as many as these.
            chunk_tokens: Most tokens of a chunk.
            split_by: Windows of ``tokens``, or whole ``sentences`` up to that size.
            dimensions: Leading dimensions to keep, in which chunks are grouped too; None for all.
            batch_tokens: Largest batch of documents that are not long [tokens].
            options: How long documents are taken.

        Raises:
            InputError: The model has a head or no tokenizer; options that cannot be; or a text
                that is empty, not valid Unicode or no text.
            OsaError: As ``stream``.
        """
        most, size = (int(n) if isinstance(n, np.integer) else n for n in (vectors, chunk_tokens))
        asked = DocumentOptions(most, size, split_by, dimensions, batch_tokens, options)
        asked.check(self.config.allowed_dimensions)
        if isinstance(texts, str):
            return _encode(self, read_texts([texts], "texts"), asked)[0]
        return _encode(self, read_texts(texts, "texts"), asked)


def _encode(
    model: DocumentEncoding, texts: Sequence[str], options: DocumentOptions
) -> list[DocumentVectors]:
    config, tokenizer = model.config, model.tokenizer
    if tokenizer is None:
        raise InputError("this model has no tokenizer: documents are cut as texts")
    if model.head is not None:
        raise InputError(f"this model has a head ({config.task}), and no vectors of texts")
    frame = len(tokenizer.prefix) + len(tokenizer.suffix)
    longest = config.max_seq_len - frame
    limited = model.encoder.positions is not None and config.position_rows is None
    streams = model.streams and not limited
    size = options.chunk_tokens if streams else min(longest, options.chunk_tokens)
    documents = [_tokenize(tokenizer, text, options.split_by, size) for text in texts]
    width = options.dimensions or config.output_size
    vectors = [np.zeros((len(one.chunks), width), np.float32) for one in documents]
    windows: list[_Window] = []
    for place, document in enumerate(documents):
        if streams and len(document.ids) > min(longest, STREAMED_FROM - frame):
            for chunk, vector in _stream(model, tokenizer, document, options.stream):
                vectors[place][chunk] = _cut(vector[None], width)[0]
        else:
            windows += _windows(place, document, longest)
    lengths = [window.length + frame for window in windows]
    for rows in batches_by_length(lengths, options.batch_tokens):
        batch = [windows[row] for row in rows]
        for window, found in zip(batch, _embed(model, tokenizer, documents, batch), strict=True):
            vectors[window.document][window.first : window.stop] = _cut(found, width)
    return [
        group_chunks(rows, one.chunks, options.vectors)
        for rows, one in zip(vectors, documents, strict=True)
    ]


def _tokenize(tokenizer: TextTokenizer, text: str, by: Splitting, size: int) -> _Tokens:
    """A document's ids and chunks; the characters of its tokens are dropped."""
    parts = list(_parts(tokenizer, text))
    if not parts:
        return _Tokens(np.zeros(0, np.int64), [])
    ids, offsets = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Tokens(ids, split(text, offsets, by, size))


def _parts(tokenizer: TextTokenizer, text: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for ids, offsets in tokenizer.stream([text], offsets=True):
        if ids:
            yield np.array(ids, np.int64), np.array(offsets, np.int64)


def _windows(place: int, document: _Tokens, longest: int) -> Iterator[_Window]:
    """Whole chunks, as many as a sequence of ``longest`` tokens holds."""
    chunks = document.chunks
    first = 0
    for number, chunk in enumerate(chunks):
        if chunk.stop - chunks[first].first > longest:
            yield _Window(place, first, number, chunks[number - 1].stop - chunks[first].first)
            first = number
    if chunks:
        yield _Window(place, first, len(chunks), chunks[-1].stop - chunks[first].first)


def _stream(
    model: DocumentEncoding,
    tokenizer: TextTokenizer,
    document: _Tokens,
    options: StreamOptions | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Places and unit vectors [E] of the chunks of a long document, as they end."""
    before = len(tokenizer.prefix)
    ids = [tokenizer.prefix, document.ids, tokenizer.suffix]
    pieces = [np.array(part, np.int64) for part in ids]
    spans = [(before + chunk.first, before + chunk.stop) for chunk in document.chunks]
    for place, vector in model.encode_chunks(pieces, spans, options=options):
        yield place, vector.numpy()


def _embed(
    model: DocumentEncoding,
    tokenizer: TextTokenizer,
    documents: Sequence[_Tokens],
    windows: Sequence[_Window],
) -> list[np.ndarray]:
    """Unit vectors of the chunks of every window [n, E], all computed in one packed batch."""
    prefix, suffix = tokenizer.prefix, tokenizer.suffix
    sequences: list[list[int]] = []
    spans: list[int] = []
    kept: list[range] = []
    for window in windows:
        document = documents[window.document]
        chunks = document.chunks[window.first : window.stop]
        ids = document.ids[chunks[0].first : chunks[-1].stop].tolist()
        sequences.append([*prefix, *ids, *suffix])
        kept.append(range(len(spans) + 1, len(spans) + 1 + len(chunks)))
        spans += [len(prefix), *(chunk.tokens for chunk in chunks), len(suffix)]
    packed, offsets = model.pack_ids(sequences)
    found = model.embed_spans(packed, offsets, cu_seqlens_of(spans, packed.device))
    rows = found.embeddings.float().cpu().numpy()
    return [rows[places.start : places.stop] for places in kept]


def _cut(vectors: np.ndarray, width: int) -> np.ndarray:
    """Unit vectors [n, E] in their leading dimensions, of unit length again."""
    if width == vectors.shape[1]:
        return vectors
    short = vectors[:, :width]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    found: np.ndarray = short / np.maximum(lengths, 1e-12)
    return found
