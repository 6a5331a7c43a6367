"""Inputs of a graph from sequences, padded to its least sizes and to fixed row multiples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from osa.export.formats import FORMATS
from osa.export.manifest import Manifest
from osa.model.functional.tiling import ROW_MULTIPLE


def dummy_lengths(lengths: Sequence[int], min_sequences: int, min_tokens: int) -> list[int]:
    """Lengths of the sequences to add to a packed batch of these ``lengths`` [tokens].

    Numbers of tokens and sequences become multiples of ``ROW_MULTIPLE``, so that torch's float32
    products sum a row in one order in every batch (decision 23).

    Args:
        lengths: Lengths of the sequences; at least one.
        min_sequences: Least number of sequences that the graph takes.
        min_tokens: Least number of tokens that the graph takes.
    """
    count, tokens = len(lengths), sum(lengths)
    wanted = _round_up(max(count, min_sequences)) - count
    if not wanted and tokens % ROW_MULTIPLE == 0:
        return []
    added = _round_up(max(tokens + wanted, min_tokens)) - tokens
    if added > 2 * wanted:
        wanted += ROW_MULTIPLE
        added = _round_up(max(tokens + wanted, min_tokens)) - tokens
    twos = added - wanted  # at most 2 tokens each: the model may have a small max_seq_len
    return [2] * twos + [1] * (wanted - twos)


def _round_up(count: int) -> int:
    return -(-count // ROW_MULTIPLE) * ROW_MULTIPLE


def lay_out(sequences: Sequence[np.ndarray], manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a graph for these sequences, followed by dummy sequences.

    Args:
        sequences: Ids [tokens] or features [tokens, F] of each; at least one.
        manifest: Manifest of the artifact.
    """
    first = manifest.inputs[0]
    rows = [np.asarray(row, dtype=first.dtype) for row in sequences]
    shape = rows[0].shape[1:]
    if manifest.layout == "packed" and FORMATS[manifest.kind].fills_rows:
        lengths = [len(row) for row in rows]
        for length in dummy_lengths(lengths, manifest.min_sequences, manifest.min_tokens):
            rows.append(np.zeros((length, *shape), dtype=first.dtype))
    dummy = np.zeros((manifest.min_tokens, *shape), dtype=first.dtype)
    while len(rows) < manifest.min_sequences or sum(map(len, rows)) < manifest.min_tokens:
        rows.append(dummy)
    lengths = [len(row) for row in rows]
    if manifest.layout == "packed":
        return np.concatenate(rows), np.cumsum([0, *lengths], dtype=np.int32)
    width = max(*lengths, manifest.min_tokens)
    inputs = np.zeros((len(rows), width, *shape), dtype=first.dtype)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        inputs[place, : len(row)], mask[place, : len(row)] = row, 1
    return inputs, mask
