"""The model through ``torch.compile``: one graph with dynamic sizes, compiled when it warms up."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from osa.export.graph import LEAST, trace
from osa.export.graph_inputs import dummy_lengths
from osa.export.torch_program.compiler_cache import cache_directory, with_cache
from osa.model.common.requirements import has_compiler
from osa.model.errors import ConfigError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.inference.bfloat16 import use_bfloat16
from osa.model.layers.mixers import MIXERS, kinds_of
from osa.model.sequences import InputRows
from osa.service.engines.base import Details, EngineOutput, run_warm_up, with_details
from osa.service.engines.eager import EagerEngine


class CompiledEngine(EagerEngine):
    """Runs the packed graph of ``EmbeddingModel``, compiled by inductor."""

    backend = "compile"
    _has_float16 = False

    def _set_dtype(self, dtype: str) -> None:
        """Make the model compute in a dtype, by operators that the compiler knows.

        Raises:
            ConfigError: It is int8.
        """
        if dtype in ("int8", "float16"):
            raise ConfigError("model.engine is compile, which computes in float32 and bfloat16")
        if dtype == "bfloat16":
            use_bfloat16(self._model)

    def _prepare(self) -> None:
        """Trace the model; ``warm_up`` compiles it.

        Raises:
            ConfigError: There is no compiler, or the mixer has no packed graph.
        """
        if not all(kind.traces_packed for kind in kinds_of(self._model.config)):
            able = ", ".join(name for name, mixer in MIXERS.items() if mixer.traces_packed)
            raise ConfigError(f"model.engine is compile, which takes models of the mixer {able}")
        if not has_compiler():
            raise ConfigError(
                "model.engine is compile, but there is no C++ compiler: install one, use eager, or "
                "serve an aoti artifact, which was compiled elsewhere"
            )
        self._streams = False  # chunks are no part of the graph
        cache_directory()
        self._trace()

    def _trace(self) -> None:
        with _quiet():
            self._program = torch.compile(trace(self._model, "packed").module(), dynamic=True)

    def warm_up(self) -> None:
        """Compile, and run both regimes of the operator once, alone and in a batch.

        Raises:
            ConfigError: The compiler's cache cannot be written.
        """
        fresh = True

        def compile_it() -> None:
            nonlocal fresh
            if not fresh:
                self._trace()
            fresh = False
            run_warm_up(self)

        with_cache(compile_it)

    @torch.inference_mode()
    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Embed one packed batch, with the dummies that ``dummy_lengths`` asks for.

        Raises:
            InputError: Ids or features that do not fit the model.
        """
        if exact:
            return super().embed(sequences, details, exact)
        packed, _ = self._model.pack(sequences)
        lengths = [len(row) for row in sequences]
        dummies = dummy_lengths(lengths, LEAST, LEAST)
        inputs = torch.cat([packed[0], packed.new_zeros(sum(dummies), *packed.shape[2:])])
        offsets = cu_seqlens_of([*lengths, *dummies], inputs.device)
        with self._chosen(), _quiet():
            embeddings, norms, states = self._program(inputs, offsets)
        count, stops = len(sequences), np.cumsum([*lengths, *dummies]).tolist()
        output = EngineOutput(embeddings[:count].cpu().numpy(), norms[:count].cpu().numpy())
        if details is None:
            return output
        parts = np.split(states.cpu().numpy(), stops[:-1])[:count]
        return with_details(output, parts, details, self._model.config.pooling)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the compiler's warnings about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
