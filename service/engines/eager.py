"""The model in eager torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch

from osa.model import EmbeddingModel
from osa.model.errors import ConfigError, InputError
from osa.model.inference.bfloat16 import has_fast_bfloat16
from osa.model.inference.precision import in_float32, name_products, use_dtype
from osa.model.kernels import use_kernel
from osa.model.kernels.native_block import STATES
from osa.model.layers.mixers import kinds_of
from osa.model.layers.pooling import EmbeddingOutput
from osa.model.sequences import InputRows
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import (
    Details,
    EngineInfo,
    EngineOutput,
    run_warm_up,
    with_details,
)
from osa.service.model_settings import ModelSettings


class EagerEngine:
    """Runs ``EmbeddingModel`` eagerly on CPU or CUDA."""

    backend = "eager"

    def __init__(
        self,
        path: Path | None = None,
        device: str = "auto",
        kernel: str = "auto",
        dtype: str = "float32",
    ) -> None:
        """Load a checkpoint, by default the packaged one.

        Args:
            path: Checkpoint directory.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: Name of an implementation of the attention, or ``auto``.
            dtype: ``float32``, ``bfloat16``, ``int8`` (CPUs), or ``auto``: bfloat16 where that is
                fast.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            ConfigError: The device does not exist, it cannot run this model with that kernel or
                dtype, or a token model has no tokenizer.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("model.device is cuda, but torch finds no CUDA device")
        self._model = EmbeddingModel.from_pretrained(path).to(device)
        if self._model.tokenizer is None and self._model.config.feature_size is None:
            raise ConfigError("the server embeds text: this checkpoint has no tokenizer")
        if dtype == "auto":
            dtype = "bfloat16" if has_fast_bfloat16(device) else "float32"
        self._device, self._asked, self._dtype = device, kernel, dtype
        self._kernel = self._name_kernel()  # refuses a kernel that does not run here
        with self._chosen():
            self._set_dtype(dtype)
        self._prepare()

    def _set_dtype(self, dtype: str) -> None:
        """Make the loaded model compute in a dtype.

        Raises:
            ConfigError: It cannot, on this device.
        """
        use_dtype(self._model, dtype)

    def _prepare(self) -> None:
        """Called once the model is loaded."""

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> Self:
        """Load the checkpoint of ``path``; see ``__init__``."""
        return cls(path, settings.device, settings.kernel, settings.dtype)

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""
        return EngineInfo.of(
            self._model.config,
            backend=self.backend,
            device=self._device,
            dtype=self._dtype,
            kernel=self._kernel,
            products=name_products(self._model),
            model_sha256=self._model.checkpoint_sha256,
            source_sha256=self._model.checkpoint_sha256,
            calibration=self._model.calibration,
            prompts=self._model.prompts,
            default_prompt_name=self._model.default_prompt_name,
        )

    def _name_kernel(self) -> str:
        config = self._model.config
        try:
            with self._chosen():
                dtype, width = STATES[self._dtype], config.head_dim
                names = [kind.name_kernel(self._device, dtype, width) for kind in kinds_of(config)]
                return ", ".join(dict.fromkeys(names))
        except InputError as error:
            raise ConfigError(f"model.kernel is {self._asked}, but {error}") from error

    def _chosen(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the configured kernel is used."""
        return contextlib.nullcontext() if self._asked == "auto" else use_kernel(self._asked)

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer; None for a feature model."""
        return self._model.tokenizer

    def warm_up(self) -> None:
        """Run both regimes of the operator once, alone and in a batch."""
        run_warm_up(self)

    @torch.inference_mode()
    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Embed one packed batch.

        Raises:
            InputError: Ids or features that do not fit the model.
        """
        with self._chosen(), in_float32(self._model) if exact else contextlib.nullcontext():
            packed, offsets = self._model.pack(sequences)
            if details is None:
                return _to_numpy(self._model(packed, cu_seqlens=offsets))
            output, states, project = self._embed_tokens(packed, offsets)
        rows = np.split(states.cpu().numpy(), offsets[1:-1].tolist())
        return with_details(_to_numpy(output), rows, details, self._model.config.pooling, project)

    def _embed_tokens(
        self, packed: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[EmbeddingOutput, torch.Tensor, Callable[[np.ndarray], np.ndarray] | None]:
        """Vectors, states of the tokens, and what makes vectors of pooled states, if anything."""
        if self._model.config.embedding_activation == "identity":
            output, states = self._model.embed_tokens(packed, cu_seqlens=offsets)
            return output, states[0], None
        hidden = self._model.encoder(packed, None, offsets)  # pooled before the non-linearity

        def project(states: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                projected = self._model.project(torch.from_numpy(states).to(self._device))
            vectors: np.ndarray = projected.cpu().numpy()
            return vectors

        return self._model.finish(hidden, None, offsets), hidden[0], project


def _to_numpy(output: EmbeddingOutput) -> EngineOutput:
    return EngineOutput(output.embeddings.cpu().numpy(), output.norms.cpu().numpy())
