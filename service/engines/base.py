"""The contract of an engine, and what engines share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from osa.model.calibration import Calibration
from osa.model.config import EncoderConfig, Task
from osa.model.sequences import InputRows
from osa.model.tokenization import TextTokenizer

if TYPE_CHECKING:
    from osa.service.model_settings import ModelSettings


Spans = Sequence[tuple[int, int]]
"""Token ranges [start, stop) of one sequence, each pooled to a vector of its own."""


@dataclass(frozen=True)
class Details:
    """Vectors to return beside those of the sequences.

    Attributes:
        token_vectors: Whether to return the vector of every token.
        spans: Spans of each sequence whose vectors to return, pooled as the model pools.
    """

    token_vectors: bool = False
    spans: Sequence[Spans | None] | None = None


class EngineOutput(NamedTuple):
    """Vectors of a batch.

    Attributes:
        embeddings: Unit vectors, float32 [S, E]; of a model with a head what that computes: logits
            of labels [S, K], or weights of token ids [S, V].
        norms: Lengths of the vectors before normalisation, float32 [S]; 1 for a model with a head.
        token_vectors: Vectors of each sequence's tokens, float32 [n, E], if requested.
        span_vectors: Vectors of each sequence's spans, float32 [m, E], if requested; [0, E] for a
            sequence without spans.
    """

    embeddings: np.ndarray
    norms: np.ndarray
    token_vectors: list[np.ndarray] | None = None
    span_vectors: list[np.ndarray] | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What an engine runs.

    Attributes:
        backend: Name of the engine.
        device: Where it computes.
        dtype: What it computes in.
        kernel: Implementation of the attention operator.
        mixer: Token mixer of the model.
        pooling: How tokens become one vector.
        vocab_size: Number of ids; None for a feature model.
        max_input_length: Longest input of the model [tokens].
        dimensions: Widths that it was trained for, full width first.
        model_sha256: Identity of the checkpoint or artifact.
        source_sha256: Identity of the checkpoint that it is or was made from.
        calibration: Ranges of the vectors, for int8 and uint8; None if none were measured.
        manifest: Of the artifact; None for a checkpoint.
        task: What the model computes.
        labels: Of a classifier; a reranker has one.
        score: From a classifier's logits to scores: ``sigmoid`` or ``softmax``.
        type_stride: As for ``TextTokenizer.encode_pairs``.
        prompts: Texts by name that the model wants before inputs.
        default_prompt_name: Of inputs for which none is named.
        feature_size: Width F of the feature vectors that it takes; None for a token model.
        packed: Whether a batch is computed end to end, without padding.
        claims_invariance: Whether vectors are meant not to depend on their batch; then it is tried.
        products: What computes products with weights; empty where that is the backend itself.
        streams: Whether inputs of any length are computed in chunks.
        no_spans: Why ranges of tokens have no vectors; empty where they have.
    """

    backend: str
    device: str
    dtype: str
    kernel: str
    mixer: str
    pooling: str
    vocab_size: int | None
    max_input_length: int
    dimensions: tuple[int, ...]
    model_sha256: str
    source_sha256: str
    calibration: Calibration | None = None
    manifest: Mapping[str, object] | None = None
    task: Task = "embedding"
    labels: tuple[str, ...] = ()
    score: str = "sigmoid"
    type_stride: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    feature_size: int | None = None
    packed: bool = True
    claims_invariance: bool = True
    products: str = ""
    streams: bool = False
    no_spans: str = ""

    @classmethod
    def of(cls, config: EncoderConfig, **facts: Any) -> EngineInfo:
        """The facts of a model with this configuration, and ``facts`` of the engine."""
        return cls(
            mixer=config.mixer_name,
            pooling=config.pooling,
            vocab_size=config.vocab_size,
            feature_size=config.feature_size,
            max_input_length=config.max_seq_len,
            dimensions=config.allowed_dimensions,
            task=config.task,
            labels=() if config.head is None else config.head.labels,
            score="sigmoid" if config.head is None else config.head.score,
            type_stride=config.type_stride,
            **facts,
        )

    def limit_input(self, limit: int | None) -> int:
        """Longest input where ``limit`` is the setting's, if any [tokens].

        A limit above the model's own counts where inputs are computed in chunks.
        """
        if self.streams and limit:
            return limit
        return min(limit or self.max_input_length, self.max_input_length)


class Engine(Protocol):
    """Runs one model on packed batches of ids or features. Used by one thread at a time."""

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> Self:
        """Load a model.

        Args:
            path: Checkpoint or artifact; None is the packaged checkpoint.
            settings: Device, kernel and dtype; its own ``path`` is not used.

        Raises:
            OsaError: The model cannot be loaded or run here.
        """

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer; thread-safe."""

    def warm_up(self) -> None:
        """Run one-time work (compilation, caches) before the first request."""

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Embed one packed batch.

        Args:
            sequences: Ids of each input, or features of each, float32 [n, F].
            details: What to return beside the sequences' vectors.
            exact: Compute in float32 where the engine can; requested after a result that was not
                finite.

        Raises:
            OsaError: The batch cannot be computed.
        """


def with_details(
    output: EngineOutput,
    rows: Sequence[np.ndarray],
    details: Details,
    pooling: str,
    project: Callable[[np.ndarray], np.ndarray] | None = None,
) -> EngineOutput:
    """``output`` with the token and span vectors that were requested.

    Args:
        output: Vectors of the sequences.
        rows: Vectors of each sequence's tokens, float32 [n, E]; where ``project`` is given, their
            states [n, D].
        details: What was requested.
        pooling: The model's, as ``EncoderConfig.pooling``.
        project: From pooled states to vectors, where the order of the two matters.
    """
    tokens = None
    if details.token_vectors:
        tokens = list(rows) if project is None else [project(row) for row in rows]
    if details.spans is None:
        return output._replace(token_vectors=tokens)
    pooled = [
        pool_spans(row, spans or (), pooling)
        for row, spans in zip(rows, details.spans, strict=True)
    ]
    if project is not None:
        pooled = [project(states) for states in pooled]
    return output._replace(token_vectors=tokens, span_vectors=pooled)


BLOCK = 128
"""Tokens whose sum long spans share."""


def pool_spans(tokens: np.ndarray, spans: Spans, pooling: str) -> np.ndarray:
    """Vectors [m, E] of token ranges, pooled as the model pools.

    Spans of more than four blocks are summed from sums of whole blocks, so that the cost of a span
    hardly grows with its length. A span's bits do not depend on the other spans.

    Args:
        tokens: Vectors of the sequence's tokens, float32 [n, E].
        spans: Ranges [start, stop), each of at least one token; may overlap.
        pooling: As ``EncoderConfig.pooling``.
    """
    if not spans:
        return tokens[:0].copy()
    if pooling == "cls":
        return tokens[[start for start, _ in spans]].copy()
    if pooling == "last":
        return tokens[[stop - 1 for _, stop in spans]].copy()
    if pooling == "weighted":
        return np.stack([_weighted(tokens[start:stop]) for start, stop in spans])
    whole = len(tokens) // BLOCK * BLOCK
    longest = max(stop - start for start, stop in spans)
    blocks = tokens[: whole if longest > 4 * BLOCK else 0].reshape(-1, BLOCK, tokens.shape[1])
    sums = blocks.sum(axis=1)

    def mean(start: int, stop: int) -> np.ndarray:
        if stop - start <= 4 * BLOCK:
            direct: np.ndarray = tokens[start:stop].mean(axis=0)
            return direct
        first, last = -(-start // BLOCK), stop // BLOCK
        ends = tokens[start : first * BLOCK].sum(axis=0) + tokens[last * BLOCK : stop].sum(axis=0)
        total: np.ndarray = sums[first:last].sum(axis=0) + ends
        return total / np.float32(stop - start)

    return np.stack([mean(start, stop) for start, stop in spans])


def _weighted(tokens: np.ndarray) -> np.ndarray:
    """Mean of tokens [n, E] weighted by their places, 1 to n."""
    places = np.arange(1, len(tokens) + 1, dtype=np.float32)
    pooled: np.ndarray = (tokens * places[:, None]).sum(axis=0) / places.sum()
    return pooled


WARM_UP_LENGTHS = (3, 24, 64, 65, 200, 512)


def trial_batch(info: EngineInfo, lengths: Sequence[int]) -> InputRows:
    """Valid sequences of these lengths, no longer than the model takes; the same at every call.

    Ids are 1; features are ones too.
    """
    cut = [min(length, info.max_input_length) for length in lengths]
    width = info.feature_size
    if width is None:
        return [[1] * length for length in cut]
    return [np.ones((length, width), dtype=np.float32) for length in cut]


def warm_up_batch(info: EngineInfo) -> InputRows:
    """Sequences of lengths from both regimes of the operator."""
    return trial_batch(info, WARM_UP_LENGTHS)


def run_warm_up(engine: Engine) -> None:
    """Embed the sequences of ``warm_up_batch``, alone and in one batch."""
    batch = warm_up_batch(engine.info)
    for place in range(len(batch)):
        engine.embed(batch[place : place + 1])
    engine.embed(batch)
