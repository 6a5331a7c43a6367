"""Documents of any length to vectors: what ``EmbeddingModel`` offers beside batches.

Shapes: E embedding width, D hidden.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError, InputError
from osa.model.layers.chunks import chunk_blocks
from osa.model.layers.encoder import Encoder
from osa.model.layers.heads import ClassifierHead, SparseHead
from osa.model.layers.pooling import EmbeddingOutput, as_they_are, normalize
from osa.model.streaming.passes import Progress, StreamOptions, stream
from osa.model.streaming.pooling import SparsePool, StreamedPool, StreamedSpans
from osa.model.streaming.source import Pieces, pieces_of
from osa.model.tokenization import TextTokenizer

STREAMED_FROM = 32_768
"""``encode`` takes longer texts in chunks, where the model allows such lengths [tokens]."""


class Document(NamedTuple):
    """A document's vector.

    Attributes:
        output: As of a batch of one.
        length: Its tokens, special ones included.
    """

    output: EmbeddingOutput
    length: int


class StreamedEncoding(nn.Module):
    """Base of models that encode a document chunk by chunk."""

    config: EncoderConfig
    tokenizer: TextTokenizer | None
    encoder: Encoder
    head: ClassifierHead | SparseHead | None

    def project(self, states: Float[Tensor, "n D"]) -> Float[Tensor, "n E"]:
        """Pooled states as vectors."""
        raise NotImplementedError

    def finish_pooled(self, pooled: Float[Tensor, "S D"]) -> EmbeddingOutput:
        """From pooled states to vectors, or to what the head computes."""
        vectors = self.project(pooled)
        return normalize(vectors) if self.head is None else as_they_are(self.head(vectors))

    @property
    def streams(self) -> bool:
        """Whether documents can be taken in chunks: tokens need each other by sums alone."""
        try:
            chunk_blocks(self.encoder)
        except ConfigError:
            return False
        return True

    def stream(
        self,
        source: Pieces | Iterator[np.ndarray],
        spans: Sequence[tuple[int, int]] = (),
        options: StreamOptions | None = None,
    ) -> Generator[Progress, None, Document]:
        """Encode one document, one chunk of a layer each step; the generator returns its vector.

        ``max_seq_len`` does not limit it, but for learned positions.

        Args:
            source: A text, or pieces of one; ids, or pieces of ids; pieces of features [n, F].
            spans: Ranges [start, stop) of tokens, special tokens counted, whose vectors come with
                the steps in which they end, pooled as the model pools and not normalised.
            options: Chunks, disk and other processes.

        Raises:
            ConfigError: The mixer cannot take a sequence in chunks, naming it; or no directory can
                be written.
            InputError: What is no text, or does not fit the model.
            SpillError: The disk is full, or fails.
        """
        chunk_blocks(self.encoder)  # refuses before anything is read
        config, device = self.config, next(self.parameters()).device
        pool: StreamedPool | SparsePool = StreamedPool(config.pooling, config.hidden_size, device)
        if isinstance(self.head, SparseHead):
            pool = SparsePool(self.head)
        late = StreamedSpans(spans, config.pooling, config.hidden_size) if spans else None
        pieces = pieces_of(source, config, self.tokenizer)
        steps = stream(self.encoder, pieces, pool, late, options)
        try:
            while True:
                step = next(steps)
                yield step._replace(spans=self._vectors(step.spans)) if step.spans else step
        except StopIteration as end:
            pooled, length = end.value
        finally:
            steps.close()
        if isinstance(self.head, SparseHead):
            return Document(as_they_are(pooled), length)
        with torch.no_grad():
            return Document(self.finish_pooled(pooled), length)

    def _vectors(
        self, spans: Sequence[tuple[int, Float[Tensor, " D"]]]
    ) -> list[tuple[int, Float[Tensor, " E"]]]:
        device = next(self.parameters()).device
        with torch.no_grad():
            states = torch.stack([state for _, state in spans]).to(device)
            vectors = self.project(states).float().cpu()
        return [(place, vector) for (place, _), vector in zip(spans, vectors, strict=True)]

    def encode_stream(
        self,
        source: Pieces,
        *,
        normalize: bool = True,
        options: StreamOptions | None = None,
    ) -> Float[Tensor, " E"]:
        """Embed one document of any length, in memory that does not depend on its length.

        The same vector as of the whole document at once, but for rounding; the same bits whatever
        the chunks.

        Args:
            source: As for ``stream``.
            normalize: A unit vector; otherwise the pooled one as it is.
            options: As for ``stream``.

        Raises:
            OsaError: As ``stream``.
        """
        steps = self.stream(source, options=options)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            document: Document = end.value
        scale = 1.0 if normalize else document.output.norms
        vector: Tensor = (document.output.embeddings[0] * scale).float().cpu()
        return vector

    def encode_chunks(
        self,
        source: Pieces,
        spans: Sequence[tuple[int, int]],
        *,
        options: StreamOptions | None = None,
    ) -> Iterator[tuple[int, Float[Tensor, " E"]]]:
        """Late chunking of one document of any length: unit vectors of spans, each as it ends.

        Args:
            source: As for ``stream``.
            spans: As for ``stream``.
            options: As for ``stream``.

        Returns:
            Place of a span, and its vector.

        Raises:
            InputError: A span without a token; or as ``stream``.
            OsaError: As ``stream``.
        """
        for start, stop in spans:
            if not 0 <= start < stop:
                raise InputError(
                    f"spans must be [start, stop) of at least a token, got {start, stop}"
                )
        for step in self.stream(source, spans, options):
            for place, vector in step.spans:
                yield place, vector / vector.norm().clamp(min=1e-12)
