"""Inputs of a graph from sequences, padded to its least sizes and to fixed row multiples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from osa.export.formats import FORMATS
from osa.export.manifest_values import Manifest
from osa.model.functional.tiling import ROW_MULTIPLE


def dummy_lengths(
    lengths: Sequence[int], min_sequences: int, min_tokens: int, multiple: int = ROW_MULTIPLE
) -> list[int]:
    """Lengths of the sequences to add to a packed batch of these ``lengths`` [tokens].

    Args:
        lengths: Lengths of the sequences; at least one.
        min_sequences: Least number of sequences that the graph takes.
        min_tokens: Least number of tokens that the graph takes.
        multiple: Of which the numbers of tokens and sequences become multiples, so that torch's
            float32 products sum a row in one order in every batch (decision 23).
    """

    def round_up(count: int) -> int:
        return -(-count // multiple) * multiple

    count, tokens = len(lengths), sum(lengths)
    wanted = round_up(max(count, min_sequences)) - count
    if not wanted and tokens % multiple == 0 and tokens >= min_tokens:
        return []
    added = round_up(max(tokens + wanted, min_tokens)) - tokens
    if added > 2 * wanted:
        wanted += multiple
        added = round_up(max(tokens + wanted, min_tokens)) - tokens
    twos = added - wanted  # at most 2 tokens each: the model may have a small max_seq_len
    return [2] * twos + [1] * (wanted - twos)


def lay_out(sequences: Sequence[np.ndarray], manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a graph for these sequences, followed by dummy sequences.

    Args:
        sequences: Ids [tokens] or features [tokens, F] of each; at least one.
        manifest: Manifest of the artifact.
    """
    rows = [np.asarray(row, dtype=manifest.inputs[0].dtype) for row in sequences]
    lengths = [len(row) for row in rows]
    if manifest.layout == "packed":
        return fill(np.concatenate(rows), np.cumsum([0, *lengths], dtype=np.int32), manifest)
    inputs = np.zeros((len(rows), max(lengths), *rows[0].shape[1:]), dtype=rows[0].dtype)
    mask = np.zeros(inputs.shape[:2], dtype=np.int64)
    for place, row in enumerate(rows):
        inputs[place, : len(row)], mask[place, : len(row)] = row, 1
    return fill(inputs, mask, manifest)


def fill(
    inputs: np.ndarray, places: np.ndarray, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a graph, with the dummy sequences that it needs appended.

    Args:
        inputs: Ids or features, packed [tokens, ...] or padded [batch, length, ...].
        places: ``cu_seqlens`` or ``attention_mask``.
        manifest: Manifest of the artifact.
    """
    least = manifest.min_sequences, manifest.min_tokens
    if manifest.layout == "packed":
        multiple = ROW_MULTIPLE if FORMATS[manifest.kind].fills_rows else 1
        added = dummy_lengths(np.diff(places).tolist(), *least, multiple)
        dummies = np.zeros((sum(added), *inputs.shape[1:]), dtype=inputs.dtype)
        ends = places[-1] + np.cumsum(added, dtype=places.dtype)
        return np.concatenate([inputs, dummies]), np.concatenate([places, ends])
    missing = [(0, max(0, size - had)) for size, had in zip(least, places.shape, strict=True)]
    rest = [(0, 0)] * (inputs.ndim - 2)
    return np.pad(inputs, [*missing, *rest]), np.pad(places, missing)
