"""Loading by sentence-transformers: offline, from safetensors, with all of the weights."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from osa.model.errors import CheckpointError, first_line
from osa.service.engines.library_directory import TRANSFORMER, Part

LOADING = threading.Lock()
"""Held while the process is offline: engines of two models may be replaced at once, and the second
must not take the first one's setting for the process's own."""


def load_model(directory: Path, parts: Sequence[Part], device: str, dtype: str) -> Any:
    """Load what ``check_directory`` has passed; returns a ``SentenceTransformer``.

    Args:
        directory: The model.
        parts: Its modules.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``bfloat16``.

    Raises:
        CheckpointError: The library cannot load it, or its files lack some of its weights.
    """
    try:
        with _offline(), _quiet():
            from sentence_transformers import SentenceTransformer

            loaded = SentenceTransformer(
                str(directory),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, dtype)},
            )
            if parts[0].kind == TRANSFORMER:
                _check_weights(loaded[0].model, parts[0].path)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises what its own libraries raise
        raise CheckpointError(
            f"{directory}: sentence-transformers cannot load it: {first_line(error)}"
        ) from error
    return loaded


def _check_weights(model: Any, folder: Path) -> None:
    """Refuse a model some of whose weights were not in its files, and are random now.

    Names are compared first; only where one is not found does transformers load it once more, and
    tell exactly. A pooler is not used.
    """
    from safetensors import safe_open

    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            stored.update(opened.keys())
    wanted = [name for name in model.state_dict() if not _unused(name)]
    if all(_is_among(name, stored) for name in wanted):
        return
    _, told = type(model).from_pretrained(
        folder, config=model.config, local_files_only=True, use_safetensors=True,
        output_loading_info=True,
    )  # fmt: skip
    missing = sorted(name for name in told["missing_keys"] if not _unused(name))
    if missing:
        raise CheckpointError(
            f"{folder} misses the weights of {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}: copy the directory again, whole"
        )


def _unused(name: str) -> bool:
    return "pooler." in name


def _is_among(name: str, stored: set[str]) -> bool:
    """Whether a weight is stored under its name, with or without a prefix of the model's class."""
    return name in stored or any(
        other.endswith("." + name) or name.endswith("." + other) for other in stored
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Within the block Hugging Face's libraries send nothing, whatever a directory names."""
    from huggingface_hub import constants

    name = "HF_HUB_OFFLINE"
    with LOADING:
        before, flag = os.environ.get(name), constants.HF_HUB_OFFLINE
        os.environ[name], constants.HF_HUB_OFFLINE = "1", True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = flag
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the block transformers draws no bars, and logs errors alone."""
    from transformers import utils

    logging: Any = utils.logging  # partly untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
