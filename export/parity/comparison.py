"""Comparison of an artifact with its source in float64 on the parity grid.

Inputs and the source's results (``osa.export.parity.reference``) are in the artifact, so that
``osa verify`` needs nothing else. ``compare`` runs the artifact on them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from osa.export.errors import ArtifactError, ParityError
from osa.export.graph_inputs import fill
from osa.export.manifest import Artifact
from osa.export.manifest_values import REFERENCE
from osa.export.runner import Runner
from osa.model.common.model_files import parse_json

TOKEN_ROWS_UP_TO = 130
"""Cases of at most so many tokens store their token embeddings too."""
PARTS = ("inputs", "places", "embeddings", "norms", "token_embeddings")


@dataclass(frozen=True)
class Deviation:
    """Deviation of an artifact's result for one case from float64.

    Attributes:
        case: Name of the case.
        max_abs: Largest difference of an entry of a unit vector; of a model with a head, of a value
            that it computes, relative to the case's largest where that is above 1.
        max_rel: Largest difference of a vector's length, relative to it.
        min_cosine: Least cosine of a vector and the source's; None for a model with a head.
        tokens_max_rel: Largest difference of a token's state, relative to the largest entry;
            None where the case stores none.
    """

    case: str
    max_abs: float
    max_rel: float
    min_cosine: float | None
    tokens_max_rel: float | None


def compare(
    runner: Runner, artifact: Artifact, progress: Callable[[str], None] = lambda step: None
) -> list[Deviation]:
    """Run the whole grid.

    Args:
        runner: Runner of the artifact.
        artifact: The artifact with the inputs and the source's results.
        progress: Called with a line before every case.

    Raises:
        ArtifactError: The reference cannot be read.
        ExportError: The runtime failed.
    """
    tensors, names = _read_reference(artifact)
    deviations = []
    for place, name in enumerate(names):
        progress(f"case {place + 1} of {len(names)}: {name}")
        deviations.append(_compare_case(runner, artifact, tensors, place, name))
    return deviations


def _read_reference(artifact: Artifact) -> tuple[dict[str, np.ndarray], list[str]]:
    """Inputs and results by case and part, and the names of the cases."""
    content = artifact.read(REFERENCE)
    try:
        tensors = load(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
        names = parse_json(header["__metadata__"]["cases"])
        for place in range(len(names)):
            _ = [tensors[f"{place}.{part}"] for part in PARTS[:4]]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        where = artifact.path / REFERENCE
        raise ArtifactError(f"{where} is not a parity reference: {error}") from error
    return tensors, list(map(str, names))


def _compare_case(
    runner: Runner, artifact: Artifact, tensors: dict[str, np.ndarray], place: int, name: str
) -> Deviation:
    inputs, places, embeddings, norms = (tensors[f"{place}.{part}"] for part in PARTS[:4])
    expected_tokens = tensors.get(f"{place}.token_embeddings")
    count = len(embeddings)
    asked = expected_tokens is not None
    outputs = runner.run(*fill(inputs, places, artifact.manifest), asked)
    found = outputs.embeddings[:count].astype(np.float64)
    lengths = np.maximum(norms, 1e-12)
    real = norms > 0
    cosines = (found * embeddings).sum(1)[real]
    least = float(cosines.min()) if len(cosines) else 1.0
    embeds = artifact.config.head is None
    scale = 1.0 if embeds else max(1.0, _largest(embeddings))
    tokens = None
    if expected_tokens is not None and outputs.token_embeddings is not None:
        states = outputs.token_embeddings[: len(expected_tokens)]
        tokens = float(np.abs(states - expected_tokens).max() / np.abs(expected_tokens).max())
    return Deviation(
        name,
        _largest(found - embeddings) / scale,
        _largest((outputs.norms[:count] - norms) / lengths),
        least if embeds else None,
        tokens,
    )


def _largest(differences: np.ndarray) -> float:
    """Largest magnitude; infinite where an entry is not finite."""
    if not np.isfinite(differences).all():
        return float("inf")
    return float(np.abs(differences).max())


def least_cosine(deviations: Sequence[Deviation]) -> float | None:
    """Least cosine of all cases; None where they have none."""
    cosines = [each.min_cosine for each in deviations if each.min_cosine is not None]
    return min(cosines, default=None)


def check_deviations(deviations: Sequence[Deviation], tolerance: float, what: str) -> None:
    """Raise unless every case is within the tolerance.

    Raises:
        ParityError: The worst case exceeds it.
    """
    worst = max(deviations, key=lambda deviation: deviation.max_abs)
    if not worst.max_abs <= tolerance:
        raise ParityError(
            f"{what} gives other values than its source: {worst.case}: off by "
            f"{worst.max_abs:.3g}, allowed is {tolerance:.3g}"
        )


def report(results: dict[str, list[Deviation]], tolerance: float) -> str:
    """``parity.json``: deviations by execution path."""
    values = {
        "tolerance": tolerance,
        "against": "the source in float64, eager",
        "runs": {
            what: {
                "max_abs": max(deviation.max_abs for deviation in deviations),
                "min_cosine": least_cosine(deviations),
                "cases": [dataclasses.asdict(deviation) for deviation in deviations],
            }
            for what, deviations in results.items()
        },
    }
    return json.dumps(values, indent=2) + "\n"
