"""MiniLM in plain transformers, as in its model card: mean pooling, unit vectors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

MAX_TOKENS = 256
"""Longest input; longer texts are truncated."""


class MiniLM:
    """Encoder of padded batches, with less overhead than sentence-transformers' ``encode``."""

    def __init__(self, path: str, dtype: str) -> None:
        """Load the model from ``path``; ``dtype`` is ``float32`` or ``bfloat16``."""
        load: Any = AutoModel.from_pretrained
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model = load(path, attn_implementation="sdpa").to(getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float32 [n, 384]."""
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        hidden = self._model(**batch).last_hidden_state.float()
        weights = batch["attention_mask"].unsqueeze(-1).float()
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        vectors: np.ndarray = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return vectors


def read_options() -> argparse.Namespace:
    """Options of every program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder of MiniLM's files")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that run the model")
    parser.add_argument("--batch", type=int, default=32, help="largest batch [texts]")
    parser.add_argument("--wait-ms", type=int, default=5, help="longest wait for a batch to fill")
    return parser.parse_args()
