"""Batches through a device pass: staged, computed as a captured graph, fetched without waiting.

A batch can be submitted while the device computes another: it is copied beside that, on a stream of
its own, and computed behind it. Vectors are fetched in the order of the computation: a few
kilobytes, and a graph's results must be read before the next graph runs.

A graph holds the whole model for one ``Shape``; it is captured when a shape comes for the second
time. All graphs share one pool of memory: they run one after the other on one stream, and what one
has computed is copied before the next runs.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from osa.model.embedding_model import EmbeddingModel
from osa.model.inference.device_copies import Uploads
from osa.model.inference.device_layout import Layout, Shape, shape_of
from osa.model.inference.device_pass import DevicePass, PassOutput
from osa.model.sequences import InputRows, check_sequences

logger = logging.getLogger(__name__)
MOST_GRAPHS = 64
"""Graphs that are kept: those that were used last."""
CAPTURE_AT = 2
"""Number of batches of a shape from which on it has a graph."""


@dataclass(frozen=True)
class DeviceOptions:
    """How a model computes on a CUDA device.

    Attributes:
        graphs: Whether to capture graphs.
        fixed_products: Whether products have bits that do not depend on the batch.
        tf32: Whether products of float32 may round to TF32.
    """

    graphs: bool = True
    fixed_products: bool = True
    tf32: bool = False


class Pending:
    """Results on their way to the host."""

    def __init__(self, results: list[Tensor], done: torch.cuda.Event | None) -> None:
        """Bind host memory, and what tells that it is filled."""
        self._results, self._done = results, done

    def is_ready(self) -> bool:
        """Whether they have arrived."""
        return self._done is None or self._done.query()

    def wait(self) -> list[np.ndarray]:
        """The results, once they have arrived; float32."""
        if self._done is not None:
            self._done.synchronize()
        return [part.numpy() for part in self._results]


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    batch: Layout
    output: PassOutput


class DeviceRunner:
    """Runs one model's batches. Used by one thread at a time."""

    def __init__(
        self, model: EmbeddingModel, dtype: torch.dtype, options: DeviceOptions | None = None
    ) -> None:
        """Prepare the pass; see ``DevicePass``.

        Args:
            model: Loaded in float32, on its device.
            dtype: Of products and attention.
            options: Graphs and products.
        """
        from osa.model.inference.compiled.cache import use_compiled_kernels

        use_compiled_kernels()
        options = options or DeviceOptions()
        self.forward = DevicePass(model, dtype, options.fixed_products)
        self._model, self._config = model, model.config
        self._device = next(model.parameters()).device
        self._uploads = Uploads(self._device, self._config.feature_size)
        self._graphs: OrderedDict[Shape, _Captured] = OrderedDict()
        self._captures = options.graphs and self._device.type == "cuda"
        self._seen: Counter[Shape] = Counter()
        self._pool: Any = None  # torch's name of the graphs' memory

    @property
    def num_graphs(self) -> int:
        """How many graphs are kept."""
        return len(self._graphs)

    def submit(self, sequences: InputRows, with_states: bool = False) -> Pending:
        """Start to compute a batch; the host waits for nothing.

        Args:
            sequences: Ids or features of each.
            with_states: Whether something of each token is wanted too, third in the results: its
                vector, or its state where the projection is not linear.

        Raises:
            InputError: Ids or features that do not fit the model.
        """
        from osa.model.kernels.gpu.short import SHORT_TOKENS

        check_sequences(self._config, sequences)
        shape = shape_of([len(row) for row in sequences], SHORT_TOKENS)
        staged = Layout.empty(shape, self._config.feature_size, torch.device("cpu"))
        staged.fill(sequences, self._config.vocab_size)
        output = self._compute(staged)
        found = [output.embeddings[: len(sequences)], output.norms[: len(sequences)]]
        if with_states:
            states = output.hidden[: sum(map(len, sequences))]
            linear = self._config.embedding_activation == "identity"
            found.append(self._model.project(states) if linear else states)
        return self._fetch(found)

    def _fetch(self, found: list[Tensor]) -> Pending:
        if self._device.type != "cuda":
            return Pending([part.float() for part in found], None)
        results = []
        for part in found:
            host = torch.empty(part.shape, dtype=torch.float32, pin_memory=True)
            results.append(host.copy_(part, non_blocking=True))
        done = torch.cuda.Event()
        done.record()
        return Pending(results, done)

    def _compute(self, staged: Layout) -> PassOutput:
        batch = self._uploads.send(staged)
        captured = self._graphs.get(staged.shape)
        if captured is not None:
            self._graphs.move_to_end(staged.shape)
            captured.batch.copy_from(batch)  # the graph may have been reading its own until now
            captured.graph.replay()
            return captured.output
        self._seen[staged.shape] += 1
        if self._captures and self._seen[staged.shape] >= CAPTURE_AT:
            return self._capture(batch)
        return self.forward.run(batch)

    def _capture(self, batch: Layout) -> PassOutput:
        """Compute a batch by a new graph, whose memory it becomes."""
        while len(self._graphs) >= MOST_GRAPHS:
            self._graphs.popitem(last=False)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = self.forward.run(batch)
        except torch.OutOfMemoryError:
            self._seen[batch.shape] = 0  # tried again later
            raise
        except RuntimeError as error:
            self._captures = False
            facts = {"reason": str(error).partition("\n")[0]}
            logger.warning("no graph can be captured: kernels are launched one by one", extra=facts)
            return self.forward.run(batch)
        self._pool = graph.pool()
        self._graphs[batch.shape] = _Captured(graph, batch, output)
        graph.replay()
        return output
