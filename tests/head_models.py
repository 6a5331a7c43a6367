"""Small random models with heads, over the tokenizer of ``tests.conftest``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import make_tiny_model

LABELS = ("sad", "glad", "neither")
HEADS: dict[str, dict[str, Any]] = {
    "reranker": {"kind": "classifier", "labels": ("relevant",), "dense": False},
    "classifier": {"kind": "classifier", "labels": LABELS, "dense": False, "score": "softmax"},
    "sparse": {"kind": "sparse", "dense": False},
}
"""Heads by the task of the model."""


def make_head_model(directory: Path, task: str) -> Path:
    """Write a model of this task, and return where it is; rerankers have types of tokens."""
    changes: dict[str, Any] = {"token_types": 2} if task == "reranker" else {}
    model = make_tiny_model(head=HEADS[task], matryoshka_dims=(), **changes)
    model.save_pretrained(directory / task)
    return directory / task


def make_head_models(directory: Path) -> str:
    """Write a model of every task, and return the setting that serves them beside the default."""
    return ",".join(f"{task}={make_head_model(directory, task)}" for task in HEADS)
