"""Protocols of formats and of runners, and embedding of sequences by a runner.

A runner maps the inputs of its graph to its outputs, all numpy. ``embed_sequences`` lays a list of
sequences out for a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from osa.export.formats import FORMATS
from osa.export.graph_inputs import lay_out
from osa.export.manifest import Artifact, Manifest

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.model import EmbeddingModel


class GraphOutputs(NamedTuple):
    """Outputs of a graph, see ``osa.export.graph``."""

    embeddings: np.ndarray
    norms: np.ndarray
    token_embeddings: np.ndarray


class Runner(Protocol):
    """Runs one graph. Not thread-safe."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu`` or ``cuda``."""

    @property
    def kernel(self) -> str:
        """What computes the attention."""

    def run(self, inputs: np.ndarray, places: np.ndarray) -> GraphOutputs:
        """Run the graph on inputs of its layout and sizes.

        Raises:
            ExportError: The runtime failed.
        """


class FormatModule(Protocol):
    """Functions of a format's module. Importing it imports neither torch nor a runtime."""

    def check_tools(self) -> None:
        """Refuse to build where a package or a tool is missing.

        Raises:
            ConfigError: What is missing, and how to install it.
        """

    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Write the graph of ``model``, which is on the device to build for.

        Args:
            model: The source.
            layout: Inputs of the graph.
            dtype: One of the format's.
            path: File to write.

        Raises:
            ExportError: The graph cannot be built.
        """

    def open_runner(self, artifact: Artifact, device: str, kernel: str, threads: int) -> Runner:
        """A runner of an artifact of this format.

        Args:
            artifact: The artifact.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: One of the format's kernels.
            threads: Threads of an operator; 0 leaves it to the runtime.

        Raises:
            ExportError: Why this machine cannot run it, and what to do.
        """

    def execution_paths(self, artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
        """Openers of runners by execution path: every way to run the artifact on this machine."""

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Number of uses of each operator in the graph; custom operators with their domain."""

    def advice(self, artifact: Artifact) -> str:
        """Advice on how to run it faster on this machine; empty where there is none."""


def open_runner(
    artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
) -> Runner:
    """The runner of an artifact.

    Args:
        artifact: The artifact.
        device: ``auto``, ``cpu`` or ``cuda``.
        kernel: One of its format's kernels.
        threads: Threads of an operator; 0 leaves it to the runtime.

    Raises:
        ExportError: Why this machine cannot run it, and what to do.
    """
    return FORMATS[artifact.manifest.kind].load().open_runner(artifact, device, kernel, threads)


def embed_sequences(
    runner: Runner, manifest: Manifest, sequences: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Unit vectors [S, E], their lengths [S], and every sequence's token vectors [n, E].

    Raises:
        ExportError: The runtime failed.
    """
    outputs = runner.run(*lay_out(sequences, manifest))
    count, lengths = len(sequences), [len(row) for row in sequences]
    if manifest.layout == "packed":
        tokens = np.split(outputs.token_embeddings[: sum(lengths)], np.cumsum(lengths)[:-1])
    else:
        rows = outputs.token_embeddings[:count]
        tokens = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return outputs.embeddings[:count], outputs.norms[:count], tokens
