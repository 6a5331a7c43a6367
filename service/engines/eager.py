"""The model as it is, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from osa.model import EmbeddingModel, kernels
from osa.model.errors import ConfigError
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import EngineInfo, EngineOutput

WARM_UP_LENGTHS = (3, 24, 64, 65, 200, 512)


class EagerEngine:
    """Runs ``EmbeddingModel`` eagerly on CPU or CUDA."""

    def __init__(self, path: Path | None = None, device: str = "auto") -> None:
        """Load a checkpoint, by default the packaged one.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            ConfigError: The device is not there, or the model takes no token ids.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("model.device is cuda, but torch finds no CUDA device")
        self._model = EmbeddingModel.from_pretrained(path).to(device)
        if self._model.tokenizer is None:
            raise ConfigError("the server embeds text: this checkpoint has no tokenizer")
        self._device = device

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""
        config = self._model.config
        return EngineInfo(
            backend="eager",
            device=self._device,
            dtype="float32",
            kernel=self._kernel(),
            mixer=config.mixer,
            pooling=config.pooling,
            vocab_size=config.vocab_size,
            max_input_length=config.max_seq_len,
            dimensions=config.allowed_dimensions,
            model_sha256=self._model.checkpoint_sha256,
        )

    def _kernel(self) -> str:
        config = self._model.config
        if config.mixer != "osa":
            return "torch"
        return kernels.describe(self._device, torch.float32, config.head_dim)

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer."""
        return self._model.tokenizer

    def warm_up(self) -> None:
        """Run both regimes of the operator once, alone and in a batch."""
        for length in WARM_UP_LENGTHS:
            self.embed([[1] * min(length, self.info.max_input_length)])
        self.embed([[1] * min(length, self.info.max_input_length) for length in WARM_UP_LENGTHS])

    @torch.inference_mode()
    def embed(self, sequences: Sequence[Sequence[int]]) -> EngineOutput:
        """Embed one packed batch.

        Raises:
            InputError: Ids that do not fit the model.
        """
        output = self._model.embed_ids(sequences)
        return EngineOutput(output.embeddings.cpu().numpy(), output.norms.cpu().numpy())
