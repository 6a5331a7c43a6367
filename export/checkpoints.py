"""``osa verify`` and ``osa inspect`` of checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from osa.export.errors import ExportError
from osa.export.layouts import describe_head
from osa.model import EmbeddingModel
from osa.model.checkpoint import load_checkpoint
from osa.model.common.directories import kind_of
from osa.model.common.model_files import read_json
from osa.model.errors import CheckpointError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.hub import read_model

LENGTHS = (3, 17, 64, 65, 200)
"""Lengths of the test sequences, from both regimes of the operator [tokens]."""
TOLERANCE = 1e-4
"""Largest difference of a vector's length from 1."""
RECORD = "training.json"


def verify_checkpoint(
    directory: Path, progress: Callable[[str], None] = lambda step: None
) -> list[str]:
    """Check hashes, load strictly, and embed.

    Args:
        directory: A checkpoint.
        progress: Called with a line for every step.

    Returns:
        Lines of a report.

    Raises:
        CheckpointError: A file that is missing or changed, or a tensor that does not fit.
        ExportError: Its vectors are not finite or not of unit length.
    """
    model = EmbeddingModel.from_pretrained(directory)
    progress("every file matches its sha256; every tensor fits the configuration")
    lengths = sorted({min(length, model.config.max_seq_len) for length in LENGTHS})
    inputs, offsets = _inputs(model, lengths)
    with torch.inference_mode():
        embeddings = model(inputs, cu_seqlens=offsets).embeddings
    if not bool(torch.isfinite(embeddings).all()):
        raise ExportError(f"{directory} embeds to vectors that are not finite")
    if model.head is not None:
        return [
            f"{directory} is a {model.config.task} of {_count(model)} parameters, sha256 "
            f"{model.checkpoint_sha256}",
            f"sequences of {lengths[0]} to {lengths[-1]} tokens give finite values",
        ]
    off = float((torch.linalg.vector_norm(embeddings, dim=-1) - 1).abs().max())
    if off > TOLERANCE:
        raise ExportError(f"{directory} embeds to vectors whose length is off from one by {off:g}")
    return [
        f"{directory} is a checkpoint of {_count(model)} parameters, "
        f"sha256 {model.checkpoint_sha256}",
        f"sequences of {lengths[0]} to {lengths[-1]} tokens embed to finite unit vectors",
    ]


def _count(model: EmbeddingModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _inputs(model: EmbeddingModel, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed ids or features of sequences of these lengths, the same at every call."""
    config, total = model.config, sum(lengths)
    offsets = cu_seqlens_of(lengths, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    if config.vocab_size is not None:
        return torch.randint(0, config.num_ids, (1, total), generator=generator), offsets
    assert config.feature_size is not None  # checked by EncoderConfig
    return torch.randn(1, total, config.feature_size, generator=generator), offsets


def describe_checkpoint(directory: Path) -> dict[str, Any]:
    """Description of a checkpoint: configuration, limits, sizes, and its training.

    Raises:
        CheckpointError: It is damaged.
    """
    kind = kind_of(directory)
    checkpoint = (read_model if kind == "transformer" else load_checkpoint)(directory)
    config = checkpoint.config
    return {
        "format": kind,
        "task": config.task,
        **describe_head(config),
        "config": dataclasses.asdict(config),
        "dimensions": list(config.allowed_dimensions),
        "limits": {"longest sequence": config.max_seq_len},
        "parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "stored in": sorted({str(tensor.dtype) for tensor in checkpoint.weights.values()}),
        "vocabulary": checkpoint.tokenizer.vocab_size if checkpoint.tokenizer else None,
        "sha256": checkpoint.sha256,
        "bytes": {
            str(file.relative_to(directory)): file.stat().st_size
            for file in sorted(directory.rglob("*"))
            if file.is_file()
        },
        "trained": _training(directory),
        "runs here": "by eager, or compile (osa serve --set model.engine=compile)",
    }


def _training(directory: Path) -> dict[str, Any] | None:
    """Summary of the training record; None where there is none.

    Raises:
        CheckpointError: The file is not a training record.
    """
    if not (directory / RECORD).is_file():
        return None
    try:
        record = read_json(directory / RECORD)
        names = ("updates", "tokens", "held_out", "versions")
        return {name: record[name] for name in names if name in record}
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{directory / RECORD} is not a record of a training") from error
