"""A model of sentence-transformers, run on ids: its modules one by one, without its tokenising.

Shapes: B rows of a padded batch, N tokens of the longest, H width of tokens, E of vectors.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from osa.model.errors import CheckpointError
from osa.model.tokenization import TextTokenizer
from osa.service.engines.library_directory import NORMALIZE, POOLING, STATIC, Part
from osa.service.engines.library_loading import load_model

UNSTATED_LENGTH = 512
"""Longest input of a model that states none [tokens]."""
STATIC_LENGTH = 32768
"""Longest input of a model without attention [tokens]."""
POOLINGS = {"lasttoken": "last", "weightedmean": "weighted"}
"""Our names of poolings, where they are not the library's."""
PROBES = ("A cat sat on the mat.", "Größe 12 — 日本語 ÉCOLE", "x")
"""Texts on which the tokenizer is compared with the model's own."""


class LibraryModel:
    """Loaded modules; used by one thread at a time.

    Attributes:
        tokenizer: A copy of the model's own.
        vocab_size: Number of ids.
        max_length: Longest input [tokens].
        pooling: How tokens become one vector.
        dtype: What it computes in; a static model has sums alone, in float32.
        architecture: ``model_type`` of transformers, or ``static``.
        attention: What computes the attention: sdpa, eager, or none.
    """

    def __init__(self, directory: Path, parts: Sequence[Part], device: str, dtype: str) -> None:
        """Load what ``check_directory`` has passed, from local files alone.

        Args:
            directory: The model.
            parts: Its modules.
            device: ``cpu`` or ``cuda``.
            dtype: ``float32`` or ``bfloat16``.

        Raises:
            CheckpointError: The library cannot load it, its weights do not fit, or its tokenizer
                gives other ids than the library's.
        """
        self._device = device
        loaded = load_model(directory, parts, device, dtype)
        self._modules = [module.eval().requires_grad_(False) for module in loaded]
        kinds = [part.kind for part in parts]
        while kinds[-1] == NORMALIZE:  # norms are those before it
            kinds.pop()
        self._modules = self._modules[: len(kinds)]
        self._static = kinds[0] == STATIC
        first = self._modules[0]
        self._pool_at = 0 if self._static else kinds.index(POOLING)
        self.tokenizer = _tokenizer(first, self._static)
        _compare_ids(self.tokenizer, loaded, directory)
        self.attention = "none"
        self.dtype = "float32" if self._static else dtype
        if self._static:
            self.vocab_size, self.max_length = first.num_embeddings, STATIC_LENGTH
            self.pooling, self.architecture, self._pad = "mean", "static", 0
            return
        config = first.model.config
        self.vocab_size = first.model.get_input_embeddings().num_embeddings
        self.max_length = _longest(first.model, loaded.max_seq_length)
        modes = self._modules[self._pool_at].pooling_mode
        names = (modes,) if isinstance(modes, str) else tuple(modes)
        self.pooling = "+".join(POOLINGS.get(name, name) for name in names)
        self.architecture = config.model_type
        self.attention = getattr(config, "_attn_implementation", None) or "eager"
        self._pad = first.tokenizer.pad_token_id or 0
        self._types = _token_types(first, self.tokenizer)

    def tokens(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Vectors of the tokens [B, N, H], the mask [B, N], and what the modules made besides.

        Rows are padded on the right: positions then begin at the first token, as they do for a
        text alone, and causal attention sees no padding.
        """
        lengths = np.array([len(row) for row in rows])
        ids = np.full((len(rows), int(lengths.max())), self._pad, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        present = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
        mask = present.to(torch.int64).to(self._device)
        moved = torch.from_numpy(ids).to(self._device)
        if self._static:
            return F.embedding(moved, self._modules[0].embedding.weight), mask, {}
        features: dict[str, Any] = {"input_ids": moved, "attention_mask": mask, "modality": "text"}
        if self._types is not None:
            types = self._types.rows(rows, ids.shape[1])
            features["token_type_ids"] = torch.from_numpy(types).to(self._device)
        for module in self._modules[: self._pool_at]:
            features = module(features)
        return features["token_embeddings"], mask, features

    def pool(self, tokens: Tensor, mask: Tensor, made: dict[str, Any] | None = None) -> Tensor:
        """Vectors [B, E], float32, not normalised, by what follows the tokens' vectors.

        Args:
            tokens: Vectors of the tokens [B, N, H].
            mask: One at the tokens to pool, zero elsewhere [B, N].
            made: What ``tokens`` returned besides, for whole sequences.
        """
        features: dict[str, Any] = {
            **(made or {}),
            "token_embeddings": tokens,
            "attention_mask": mask,
        }
        if self._static:
            weights = mask[..., None].to(tokens.dtype)
            features["sentence_embedding"] = (tokens * weights).sum(1) / weights.sum(1)
        for module in self._modules[self._pool_at + self._static :]:
            features = module(features)
        vectors: Tensor = features["sentence_embedding"]
        return vectors.float()

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Within the block all products are in float32; the weights are those of before."""
        narrow = [
            (parameter, parameter.data)
            for module in self._modules
            for parameter in module.parameters()
            if parameter.dtype == torch.bfloat16
        ]
        for parameter, data in narrow:
            parameter.data = data.float()
        try:
            yield
        finally:
            for parameter, data in narrow:
                parameter.data = data


class TokenTypes(NamedTuple):
    """Types of tokens of a single text, for models where they are not all zero.

    Attributes:
        prefix: Of the special tokens before a text.
        text: Of the text's tokens.
        suffix: Of the special tokens after it.
        frame: Tells those special tokens.
    """

    prefix: list[int]
    text: int
    suffix: list[int]
    frame: TextTokenizer

    def rows(self, rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
        """Types [B, N]; special tokens are found by their ids at the ends."""
        types = np.full((len(rows), width), self.text, dtype=np.int64)
        before, after = self.frame.prefix, self.frame.suffix
        for place, row in enumerate(rows):
            ids = list(row)
            if before and ids[: len(before)] == before:
                types[place, : len(before)] = self.prefix
            if after and ids[-len(after) :] == after:
                types[place, len(ids) - len(after) : len(ids)] = self.suffix
        return types


def _tokenizer(first: Any, static: bool) -> TextTokenizer:
    """A copy of the model's tokenizer, with what the library changed in it."""
    if not static:
        return TextTokenizer.from_json(first.tokenizer.backend_tokenizer.to_str().encode())
    content = json.loads(first.tokenizer.to_str())
    return TextTokenizer.from_json(json.dumps({**content, "post_processor": None}).encode())


def _compare_ids(tokenizer: TextTokenizer, loaded: Any, directory: Path) -> None:
    """Refuse a model whose texts the library turns into other ids (by a chat template, say)."""
    for text in PROBES:
        own = np.ravel(loaded.preprocess([text])["input_ids"]).tolist()
        found = tokenizer.encode([text])[0].ids
        if own != found:
            raise CheckpointError(
                f"{directory}: sentence-transformers turns {text!r} into other ids ({own}) than "
                f"its tokenizer ({found}): this engine serves models whose texts are tokenised as "
                "they are"
            )


def _longest(model: nn.Module, stated: float | None) -> int:
    """Longest input [tokens]: as stated, and within the table of positions."""
    limits = [] if stated is None or stated > 1e9 else [int(stated)]
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):  # some count positions from after the padding's
        offset = 0 if table.padding_idx is None else table.padding_idx + 1
        limits.append(table.num_embeddings - offset)
    return min(limits, default=UNSTATED_LENGTH)


def _token_types(first: Any, frame: TextTokenizer) -> TokenTypes | None:
    """Types of tokens; None where they are all zero, which is every model's default."""
    types = first.preprocess(["x"]).get("token_type_ids")
    if types is None or not types.any():
        return None
    row = types[0].tolist()
    before, after = len(frame.prefix), len(frame.suffix)
    return TokenTypes(row[:before], row[before], row[len(row) - after :], frame)
