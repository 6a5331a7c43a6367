"""MiniLM in plain transformers, as in its model card, and what other runtimes share with it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

MAX_TOKENS = 256
"""Longest input; longer texts are truncated."""


RUNTIMES = {
    "torch": ("minilm", "MiniLM"),
    "onnx": ("minilm_onnx", "OnnxMiniLM"),
    "openvino": ("minilm_openvino", "OpenVinoMiniLM"),
}
"""Module and class of MiniLM in each runtime; the class takes a path and a dtype."""


class Encoder(Protocol):
    """MiniLM in some runtime."""

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Unit vectors, float32 [n, 384], of a padded batch: ``INPUTS``, int64 [n, length]."""
        ...


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def load_encoder(runtime: str, path: str, dtype: str) -> Encoder:
    """MiniLM of the folder ``path`` in one of ``RUNTIMES``."""
    module, name = RUNTIMES[runtime]
    made = getattr(importlib.import_module(f"benchmarks.serving.programs.{module}"), name)
    encoder: Encoder = made(path, dtype)
    return encoder


class TextEncoder:
    """Texts to unit vectors in some runtime."""

    def __init__(self, runtime: str, path: str, dtype: str) -> None:
        """Load tokenizer and model from the folder ``path``."""
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._encoder = load_encoder(runtime, path, dtype)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float32 [n, 384]."""
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np"
        )
        return self._encoder.run({name: batch[name] for name in INPUTS})


def pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 384] of states [n, length, 384]: the mean of real tokens."""
    weights = mask[..., None].astype(np.float32)
    pooled = (hidden * weights).sum(1) / weights.sum(1)
    vectors: np.ndarray = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return vectors


class MiniLM:
    """In torch, with less overhead than sentence-transformers' ``encode``."""

    def __init__(self, path: str, dtype: str) -> None:
        """Load the model from ``path``; ``dtype`` is ``float32`` or ``bfloat16``."""
        load: Any = AutoModel.from_pretrained
        self._model = load(path, attn_implementation="sdpa").to(getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """See ``Encoder``."""
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        hidden = self._model(**tensors).last_hidden_state.float()
        return pool(hidden.numpy(), batch["attention_mask"])


def read_options() -> argparse.Namespace:
    """Options of every program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder of MiniLM's files")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "int8"), default="float32")
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), default="torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that run the model")
    parser.add_argument("--batch", type=int, default=32, help="largest batch [texts]")
    parser.add_argument("--wait-ms", type=int, default=5, help="longest wait for a batch to fill")
    return parser.parse_args()
