"""Exported artifacts: ONNX Runtime, AOTInductor and plain ``torch.export`` programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from osa.export.formats import FORMATS
from osa.export.manifest import load_artifact
from osa.export.runner import embed_sequences, open_runner
from osa.model.errors import ConfigError, InputError
from osa.model.sequences import InputRows, check_sequences
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import (
    Details,
    EngineInfo,
    EngineOutput,
    run_warm_up,
    with_details,
)
from osa.service.model_settings import ModelSettings

INSIDE = (
    "vectors of chunks are pooled before the model's non-linear projection, which its graph has "
    "inside: serve the checkpoint"
)


class ArtifactEngine:
    """Runs an artifact, whose hashes are verified before it is loaded."""

    def __init__(self, path: Path, device: str = "auto", kernel: str = "auto") -> None:
        """Verify and load an artifact.

        Args:
            path: Artifact directory.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: Of ONNX models: ``native``, the function ``body``, or ``auto``.

        Raises:
            ExportError: The artifact is damaged, or this machine cannot run it.
            ConfigError: The format has no such kernel, or a token model has no tokenizer.
        """
        self._artifact = load_artifact(path)
        manifest = self._artifact.manifest
        allowed = FORMATS[manifest.kind].kernels
        if kernel not in allowed:
            raise ConfigError(
                f"model.kernel is {kernel}, but {manifest.kind} artifacts take {', '.join(allowed)}"
            )
        if self._artifact.tokenizer is None and self._artifact.config.feature_size is None:
            raise ConfigError("the server embeds text: this artifact has no tokenizer")
        self._runner = open_runner(self._artifact, device, kernel)
        linear = self._artifact.config.embedding_activation == "identity"
        self._info = EngineInfo.of(
            self._artifact.config,
            backend=FORMATS[manifest.kind].engine,
            device=self._runner.device,
            dtype=manifest.dtype,
            kernel=self._runner.kernel,
            model_sha256=self._artifact.sha256,
            source_sha256=manifest.source_sha256,
            calibration=self._artifact.calibration,
            manifest=manifest.to_dict(),
            packed=manifest.layout == "packed",
            prompts=self._artifact.prompts,
            default_prompt_name=self._artifact.default_prompt_name,
            no_spans="" if linear else INSIDE,
        )

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> ArtifactEngine:
        """Verify and load the artifact of ``path``; see ``__init__``."""
        assert path is not None  # the packaged model is a checkpoint
        return cls(path, settings.device, settings.kernel)

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""
        return self._info

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer; None for a feature model."""
        return self._artifact.tokenizer

    def warm_up(self) -> None:
        """Run both regimes of the operator once, alone and in a batch."""
        run_warm_up(self)

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Embed one batch, always in the type that the graph was exported for.

        Raises:
            InputError: Ids or features that do not fit the model.
            ExportError: The runtime failed.
        """
        check_sequences(self._artifact.config, sequences)
        kind = np.int64 if self._artifact.config.feature_size is None else np.float32
        rows = [np.asarray(sequence, dtype=kind) for sequence in sequences]
        embeddings, norms, states = embed_sequences(
            self._runner, self._artifact.manifest, rows, tokens=details is not None
        )
        output = EngineOutput(embeddings, norms)
        if details is None:
            return output
        if details.spans and self._info.no_spans:
            raise InputError(self._info.no_spans)
        return with_details(output, states, details, self._artifact.config.pooling)
