"""The model in eager torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch

from osa.model import EmbeddingModel
from osa.model.errors import ConfigError, InputError
from osa.model.inference.cuda_device import cuda_problem
from osa.model.inference.device_graphs import DeviceOptions, DeviceRunner, Pending
from osa.model.inference.device_pass import unfit
from osa.model.inference.precision import in_float32, name_products, use_dtype
from osa.model.kernels import use_kernel
from osa.model.layers.mixers import kinds_of
from osa.model.layers.pooling import EmbeddingOutput
from osa.model.processor import has_fast_bfloat16
from osa.model.sequences import InputRows
from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import (
    Details,
    EngineInfo,
    EngineOutput,
    Spans,
    run_warm_up,
    with_details,
)
from osa.service.engines.streaming import Begun, in_pieces
from osa.service.model_settings import ModelSettings

OPERANDS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.bfloat16,
}
"""Types of the attention's operands by dtype."""


@dataclass(frozen=True)
class _BegunBatch:
    """See ``Begun``."""

    is_ready: Callable[[], bool]
    wait: Callable[[], EngineOutput]


class EagerEngine:
    """Runs ``EmbeddingModel`` eagerly: on CUDA by a ``DeviceRunner`` where the model fits one."""

    backend = "eager"
    _has_float16 = True

    def __init__(
        self,
        path: Path | None = None,
        device: str = "auto",
        kernel: str = "auto",
        dtype: str = "float32",
        options: DeviceOptions | None = None,
    ) -> None:
        """Load a checkpoint, by default the packaged one.

        Args:
            path: Checkpoint directory.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: Name of an implementation of the attention, or ``auto``.
            dtype: ``float32``, ``bfloat16``, ``int8`` (CPUs), ``float16`` (CUDA), or ``auto``:
                bfloat16 where that is fast, and float16 on other CUDA devices.
            options: Of CUDA devices.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            ConfigError: The device does not exist, it cannot run this model with that kernel or
                dtype, or a token model has no tokenizer.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and (problem := cuda_problem()) is not None:
            raise ConfigError(f"model.device is cuda, but {problem}")
        self._model = EmbeddingModel.from_pretrained(path).to(device)
        if self._model.tokenizer is None and self._model.config.feature_size is None:
            raise ConfigError("the server embeds text: this checkpoint has no tokenizer")
        if dtype == "auto":
            dtype = "bfloat16" if has_fast_bfloat16(device) else self._otherwise(device, kernel)
        self._options = options or DeviceOptions()
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = self._options.tf32
        self._device, self._asked, self._dtype = device, kernel, dtype
        self._runner: DeviceRunner | None = None
        self._kernel = self._name_kernel()  # refuses a kernel that does not run here
        with self._chosen():
            self._set_dtype(dtype)
        self._streams = self._model.streams
        self._prepare()

    def _otherwise(self, device: str, kernel: str) -> str:
        """The dtype where bfloat16 is not fast: float16 on CUDA, if the model can."""
        if device != "cuda" or not self._has_float16 or kernel not in ("auto", "triton"):
            return "float32"
        return "float32" if unfit(self._model, torch.float16) else "float16"

    def _set_dtype(self, dtype: str) -> None:
        """Make the loaded model compute in a dtype.

        Raises:
            ConfigError: It cannot, on this device.
        """
        operands = OPERANDS[dtype]
        problem = "runs on a CPU" if self._device == "cpu" else unfit(self._model, operands)
        if problem is None and dtype != "int8":
            self._runner = DeviceRunner(self._model.requires_grad_(False), operands, self._options)
        elif dtype == "float16":
            raise ConfigError(f"model.dtype is float16, but this model {problem}")
        else:
            use_dtype(self._model, dtype)

    def _prepare(self) -> None:
        """Called once the model is loaded."""

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> Self:
        """Load the checkpoint of ``path``; see ``__init__``."""
        options = DeviceOptions(settings.cuda_graphs, settings.fixed_products, settings.tf32)
        return cls(path, settings.device, settings.kernel, settings.dtype, options)

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""
        return EngineInfo.of(
            self._model.config,
            backend=self.backend,
            device=self._device,
            dtype=self._dtype,
            kernel=self._kernel,
            products=self._runner.forward.products if self._runner else name_products(self._model),
            model_sha256=self._model.checkpoint_sha256,
            source_sha256=self._model.checkpoint_sha256,
            calibration=self._model.calibration,
            prompts=self._model.prompts,
            default_prompt_name=self._model.default_prompt_name,
            streams=self._streams,
        )

    def _name_kernel(self) -> str:
        config = self._model.config
        try:
            with self._chosen():
                dtype, width = OPERANDS[self._dtype], config.head_dim
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
        if self._runner is not None and not exact:
            return self.begin(sequences, details).wait()
        with self._chosen(), in_float32(self._model) if exact else contextlib.nullcontext():
            packed, offsets = self._model.pack(sequences)
            if details is None:
                return _to_numpy(self._model(packed, cu_seqlens=offsets))
            output, states, project = self._embed_tokens(packed, offsets)
        rows = np.split(states.cpu().numpy(), offsets[1:-1].tolist())
        return with_details(_to_numpy(output), rows, details, self._model.config.pooling, project)

    @property
    def stages_ahead(self) -> bool:
        """Whether batches run on a device, which computes while the host does other work."""
        return self._runner is not None

    @torch.inference_mode()
    def begin(self, sequences: InputRows, details: Details | None = None) -> Begun:
        """Start a packed batch on the device, behind those before; needs ``stages_ahead``.

        Args:
            sequences: Ids or features.
            details: What to return beside the sequences' vectors.

        Raises:
            InputError: Ids or features that do not fit the model.
        """
        assert self._runner is not None  # stages_ahead said so
        with self._chosen():
            pending = self._runner.submit(sequences, with_states=details is not None)
        end = partial(self._end, pending, [len(row) for row in sequences], details)
        return _BegunBatch(pending.is_ready, end)

    @torch.inference_mode()
    def _end(self, pending: Pending, lengths: list[int], details: Details | None) -> EngineOutput:
        embeddings, norms, *more = pending.wait()
        output = EngineOutput(embeddings, norms)
        if details is None:
            return output
        (states,) = more
        rows = np.split(states, np.cumsum(lengths)[:-1])
        config = self._model.config
        project = None if config.embedding_activation == "identity" else self._project
        return with_details(output, rows, details, config.pooling, project)

    def _project(self, states: np.ndarray) -> np.ndarray:
        """Vectors of pooled states, or of tokens."""
        projected = self._model.project(torch.from_numpy(states).to(self._device))
        vectors: np.ndarray = projected.cpu().numpy()
        return vectors

    def stream(
        self, ids: Sequence[int] | np.ndarray, spans: Spans, options: StreamOptions
    ) -> Generator[Progress, None, Document]:
        """Compute one input of any length, a chunk of a layer each step."""
        steps = self._model.stream(in_pieces(ids), spans, options)
        try:
            while True:
                try:
                    with self._chosen():  # between two steps the thread does other work
                        step = next(steps)
                except StopIteration as end:
                    document: Document = end.value
                    return document
                yield step
        finally:
            steps.close()

    def _embed_tokens(
        self, packed: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[EmbeddingOutput, torch.Tensor, Callable[[np.ndarray], np.ndarray] | None]:
        """Vectors, states of the tokens, and what makes vectors of pooled states, if anything."""
        if self._model.config.embedding_activation == "identity":
            output, states = self._model.embed_tokens(packed, cu_seqlens=offsets)
            return output, states[0], None
        hidden = self._model.encoder(packed, None, offsets)  # pooled before the non-linearity
        return self._model.finish(hidden, None, offsets), hidden[0], self._project


def _to_numpy(output: EmbeddingOutput) -> EngineOutput:
    return EngineOutput(output.embeddings.cpu().numpy(), output.norms.cpu().numpy())
