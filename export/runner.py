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
    """Outputs of a graph, see ``osa.export.graph``; of tokens only where they were asked for."""

    embeddings: np.ndarray
    norms: np.ndarray
    token_embeddings: np.ndarray | None


class Runner(Protocol):
    """Runs one graph. Not thread-safe."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu`` or ``cuda``."""

    @property
    def kernel(self) -> str:
        """What computes the attention."""

    def run(self, inputs: np.ndarray, places: np.ndarray, tokens: bool = True) -> GraphOutputs:
        """Run the graph on inputs of its layout and sizes.

        Args:
            inputs: Ids or features.
            places: ``cu_seqlens`` or ``attention_mask``.
            tokens: Whether the states of tokens are wanted; otherwise they stay where they are.

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
    runner: Runner, manifest: Manifest, sequences: Sequence[np.ndarray], tokens: bool = True
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Unit vectors [S, E], their lengths [S], and every sequence's token vectors [n, E].

    Args:
        runner: Of the artifact.
        manifest: Its manifest.
        sequences: Ids or features of each; at least one.
        tokens: Whether the token vectors are wanted; none otherwise.

    Raises:
        ExportError: The runtime failed.
    """
    inputs = lay_out(sequences, manifest)
    outputs = runner.run(*inputs, tokens)
    _check_outputs(outputs, manifest, inputs)
    count, lengths = len(sequences), [len(row) for row in sequences]
    states, rows = outputs.token_embeddings, list[np.ndarray]()
    if states is not None and manifest.layout == "packed":
        rows = np.split(states[: sum(lengths)], np.cumsum(lengths)[:-1])
    elif states is not None:
        rows = [row[:length] for row, length in zip(states[:count], lengths, strict=True)]
    return outputs.embeddings[:count], outputs.norms[:count], rows


def _check_outputs(
    outputs: GraphOutputs, manifest: Manifest, inputs: tuple[np.ndarray, np.ndarray]
) -> None:
    """Refuse outputs of other sizes than the manifest says, such as those in another order."""
    packed = manifest.layout == "packed"
    tokens = inputs[0].shape[: 1 if packed else 2]
    rows = len(inputs[1]) - 1 if packed else tokens[0]
    width, states = manifest.outputs[0].shape[-1], manifest.outputs[2].shape[-1]
    found = tuple(part.shape for part in outputs if part is not None)
    wanted = ((rows, width), (rows,), (*tokens, states))[: len(found)]
    if found != wanted:
        raise ArtifactError(
            f"the graph gives outputs of the sizes {found}, the manifest says {wanted} for "
            f"{', '.join(spec.name for spec in manifest.outputs)}: export the model again"
        )
