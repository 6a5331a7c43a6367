"""Any embedding model that sentence-transformers loads, for what the native encoder does not run.

Batches are split into padded ones of similar lengths under a budget of tokens, padding counted.
Neither packing nor batch invariance is claimed: a product over padded rows is the library's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from osa.model.common.requirements import require
from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError
from osa.model.inference.cuda_device import cuda_problem
from osa.model.processor import has_fast_bfloat16
from osa.model.sequences import InputRows, check_ids
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import (
    Details,
    EngineInfo,
    EngineOutput,
    Spans,
    run_warm_up,
)
from osa.service.engines.library_directory import check_directory, directory_sha256, read_prompts
from osa.service.engines.library_model import LibraryModel
from osa.service.engines.registry import LIBRARY
from osa.service.model_settings import ModelSettings

PADDED_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Largest batch that the library computes at once, padding counted [tokens]: one whose activations
fit a CPU's caches (measured), one that fills a GPU."""
LEAST_SHARE = 0.75
"""A sequence shorter than this share of its batch's longest begins the next batch."""


class SentenceTransformersEngine:
    """Runs a model directory by sentence-transformers on CPU or CUDA."""

    def __init__(self, path: Path, device: str = "auto", dtype: str = "float32") -> None:
        """Check and load a directory; no code of the directory is run, nothing is downloaded.

        Args:
            path: A directory of sentence-transformers or transformers, with safetensors.
            device: ``auto``, ``cpu`` or ``cuda``.
            dtype: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where it is fast (tiles, GPUs)
                and the library's code for this model runs in it.

        Raises:
            ConfigError: The library is not installed, or there is no such device or dtype for it.
            CheckpointError: The directory may not or cannot be loaded, and what to do.
        """
        parts = check_directory(path)  # what is refused needs no package
        require(f"model.engine {LIBRARY}", "hf", "sentence_transformers")
        if dtype in ("int8", "float16"):
            raise ConfigError(
                f"model.dtype is {dtype}, which {LIBRARY} does not compute in: take bfloat16"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and (problem := cuda_problem()) is not None:
            raise ConfigError(f"model.device is cuda, but {problem}")
        self._budget = PADDED_TOKENS[device]
        prompts = read_prompts(path)
        narrow = dtype == "bfloat16" or (dtype == "auto" and has_fast_bfloat16(device))
        self._model = LibraryModel(path, parts, device, "bfloat16" if narrow else "float32")
        try:
            width = self._width()
        except RuntimeError as error:
            if not narrow:
                raise CheckpointError(f"{path}: the model cannot be run: {error}") from error
            if dtype == "bfloat16":
                raise ConfigError(
                    f"model.dtype is bfloat16, but transformers does not run {path} in it: take "
                    "float32"
                ) from error
            self._model = LibraryModel(path, parts, device, "float32")
            width = self._width()
        self._limits = EncoderConfig(
            vocab_size=self._model.vocab_size, max_seq_len=self._model.max_length
        )
        sha256 = directory_sha256(path, parts)
        self._info = EngineInfo(
            backend=LIBRARY,
            device=device,
            dtype=self._model.dtype,
            kernel=self._model.attention,
            mixer=self._model.architecture,
            pooling=self._model.pooling,
            vocab_size=self._model.vocab_size,
            max_input_length=self._model.max_length,
            dimensions=(width,),
            model_sha256=sha256,
            source_sha256=sha256,
            packed=False,
            claims_invariance=False,
            prompts=prompts.texts,
            default_prompt_name=prompts.default,
        )

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> SentenceTransformersEngine:
        """Load the directory of ``path``; see ``__init__``.

        Raises:
            ConfigError: A kernel is asked for: the library's own attention is all there is.
        """
        assert path is not None  # the packaged model is a checkpoint
        if settings.kernel != "auto":
            raise ConfigError(f"model.kernel is {settings.kernel}, but {LIBRARY} takes auto")
        return cls(path, settings.device, settings.dtype)

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""
        return self._info

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer."""
        return self._model.tokenizer

    def warm_up(self) -> None:
        """Run short and long sequences once, alone and in a batch."""
        run_warm_up(self)

    @torch.inference_mode()
    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Embed one batch, in the order of its sequences.

        Raises:
            InputError: Ids that do not fit the model.
        """
        rows = cast("Sequence[Sequence[int]]", sequences)  # no model of features comes here
        check_ids(self._limits, rows)
        with self._model.in_float32() if exact else contextlib.nullcontext():
            return self._embed(rows, details)

    @torch.inference_mode()
    def _width(self) -> int:
        """Width of the vectors, by a first run."""
        return int(self._embed([[0]], None).embeddings.shape[1])

    def _embed(self, sequences: Sequence[Sequence[int]], details: Details | None) -> EngineOutput:
        vectors: list[Tensor | None] = [None] * len(sequences)
        tokens: list[np.ndarray] = [np.empty(0)] * len(sequences)
        spans: list[np.ndarray] = [np.empty(0)] * len(sequences)
        for rows in padded_batches([len(ids) for ids in sequences], self._budget):
            hidden, mask, made = self._model.tokens([sequences[row] for row in rows])
            for row, vector in zip(rows, self._model.pool(hidden, mask, made), strict=True):
                vectors[row] = vector
            if details is None:
                continue
            for place, row in enumerate(rows):
                length = len(sequences[row])
                if details.token_vectors:
                    single = [(at, at + 1) for at in range(length)]
                    tokens[row] = self._pool_spans(hidden[place], single)
                if details.spans is not None:
                    spans[row] = self._pool_spans(hidden[place], details.spans[row] or ())
        pooled = torch.stack([vector for vector in vectors if vector is not None])
        norms = torch.linalg.vector_norm(pooled, dim=1)
        embeddings = pooled / norms.clamp(min=1e-12)[:, None]
        return EngineOutput(
            embeddings.cpu().numpy(),
            norms.cpu().numpy(),
            tokens if details is not None and details.token_vectors else None,
            spans if details is not None and details.spans is not None else None,
        )

    def _pool_spans(self, hidden: Tensor, spans: Spans) -> np.ndarray:
        """Vectors [m, E] of ranges of tokens, pooled as the model pools a whole text."""
        if not spans:
            return np.empty((0, self._info.dimensions[0]), dtype=np.float32)
        found: list[Tensor | None] = [None] * len(spans)
        for rows in padded_batches([stop - start for start, stop in spans], self._budget):
            starts = torch.tensor([spans[row][0] for row in rows], device=hidden.device)
            lengths = torch.tensor([spans[row][1] for row in rows], device=hidden.device) - starts
            steps = torch.arange(int(lengths.max()), device=hidden.device)
            places = (starts[:, None] + steps).clamp(max=len(hidden) - 1)
            mask = (steps < lengths[:, None]).to(torch.int64)
            for row, vector in zip(rows, self._model.pool(hidden[places], mask), strict=True):
                found[row] = vector
        return torch.stack([vector for vector in found if vector is not None]).cpu().numpy()


def padded_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences in padded batches of similar lengths, longest first.

    Args:
        lengths: Tokens of each sequence.
        max_tokens: Most tokens of a batch, its padding counted; a longer sequence is alone.
    """
    batch: list[int] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        full = longest * (len(batch) + 1) > max_tokens
        if batch and (full or lengths[row] < LEAST_SHARE * longest):
            yield batch
            batch = []
        if not batch:
            longest = lengths[row]
        batch.append(row)
    if batch:
        yield batch
