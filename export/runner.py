"""Runners of artifacts: the protocol, and embedding of sequences by a runner.

A runner maps the inputs of its graph to its outputs, all numpy. ``embed_sequences`` lays a list of
sequences out for a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from osa.export.errors import ArtifactError
from osa.export.formats import FORMATS
from osa.export.graph_inputs import lay_out
from osa.export.manifest import Artifact
from osa.export.manifest_values import Manifest


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


def open_runner(
    artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
) -> Runner:
    """The runner of an artifact.

    Args:
        artifact: The artifact.
        device: ``auto``, ``cpu`` or ``cuda``.
        kernel: One of its format's ``kernels``.
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
    inputs = lay_out(sequences, manifest)
    outputs = runner.run(*inputs)
    _check_outputs(outputs, manifest, inputs)
    count, lengths = len(sequences), [len(row) for row in sequences]
    if manifest.layout == "packed":
        tokens = np.split(outputs.token_embeddings[: sum(lengths)], np.cumsum(lengths)[:-1])
    else:
        rows = outputs.token_embeddings[:count]
        tokens = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return outputs.embeddings[:count], outputs.norms[:count], tokens


def _check_outputs(
    outputs: GraphOutputs, manifest: Manifest, inputs: tuple[np.ndarray, np.ndarray]
) -> None:
    """Refuse outputs of other sizes than the manifest says, such as those in another order."""
    packed = manifest.layout == "packed"
    tokens = inputs[0].shape[: 1 if packed else 2]
    rows = len(inputs[1]) - 1 if packed else tokens[0]
    width, states = manifest.outputs[0].shape[-1], manifest.outputs[2].shape[-1]
    wanted = ((rows, width), (rows,), (*tokens, states))
    found = tuple(part.shape for part in outputs)
    if found != wanted:
        raise ArtifactError(
            f"the graph gives outputs of the sizes {found}, the manifest says {wanted} for "
            f"{', '.join(spec.name for spec in manifest.outputs)}: export the model again"
        )
