"""What a model takes, id sequences or feature sequences: checked, and features packed.

Shapes: S sequences, n rows of one sequence, T rows of all, F feature width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.errors import InputError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.tokenization import id_out_of_range

InputRows = Sequence[Sequence[int] | np.ndarray]
"""The sequences of a batch: token ids of each, or features of each, float32 [n, F]."""


def check_sequences(config: EncoderConfig, sequences: InputRows) -> None:
    """``check_ids`` or ``check_features``, whichever a model of this configuration takes.

    Raises:
        InputError: As they say.
    """
    if config.feature_size is None:
        check_ids(config, cast("Sequence[Sequence[int]]", sequences))
    else:
        check_features(config, cast("Sequence[np.ndarray]", sequences))


def check_ids(config: EncoderConfig, sequences: Sequence[Sequence[int]]) -> None:
    """Refuse id sequences that do not fit a model of this configuration.

    Raises:
        InputError: An empty batch or sequence, one that is too long, or an id out of range.
    """
    if config.vocab_size is None:
        raise InputError("this model takes feature vectors, not token ids")
    if not sequences:
        raise InputError("at least one sequence is needed, got none")
    for row, ids in enumerate(sequences):
        if not 1 <= len(ids) <= config.max_seq_len:
            raise InputError(
                f"sequence {row} has {len(ids)} tokens, allowed are 1 to {config.max_seq_len}"
            )
        wrong = id_out_of_range(ids, config.num_ids)
        if wrong is not None:
            raise InputError(
                f"sequence {row} holds id {wrong}, allowed are 0 to {config.num_ids - 1}"
            )


def non_finite_place(features: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the first number of ``features`` [n, F] that is not finite, from 0."""
    finite = np.isfinite(features)
    if finite.all():
        return None
    row, column = np.argwhere(~finite)[0]
    return int(row), int(column)


def check_features(config: EncoderConfig, sequences: Sequence[np.ndarray]) -> None:
    """Refuse feature sequences that do not fit a model of this configuration.

    Raises:
        InputError: An empty batch or sequence, one that is too long, rows of another width, or a
            number that is not finite.
    """
    width = config.feature_size
    if width is None:
        raise InputError("this model takes token ids, not feature vectors")
    if not len(sequences):
        raise InputError("at least one sequence is needed, got none")
    for place, sequence in enumerate(sequences):
        shape = np.shape(sequence)
        if len(shape) != 2 or shape[1] != width:
            raise InputError(
                f"sequence {place} has shape {list(shape)}, this model takes rows of {width} "
                f"numbers: [n, {width}]"
            )
        if not 1 <= shape[0] <= config.max_seq_len:
            raise InputError(
                f"sequence {place} has {shape[0]} rows, allowed are 1 to {config.max_seq_len}"
            )
        wrong = non_finite_place(sequence)
        if wrong is not None:
            raise InputError(
                f"sequence {place} must hold finite float32 numbers: row {wrong[0]}, column "
                f"{wrong[1]} is not"
            )


def pack_ids(
    config: EncoderConfig, sequences: Sequence[Sequence[int]], device: torch.device
) -> tuple[Int[Tensor, "1 T"], Int[Tensor, " S1"]]:
    """Id sequences as one packed batch, and its offsets, on the host.

    Raises:
        InputError: As ``check_ids``.
    """
    check_ids(config, sequences)
    lengths = [len(ids) for ids in sequences]
    chained = itertools.chain.from_iterable(sequences)
    packed = torch.from_numpy(np.fromiter(chained, dtype=np.int64, count=sum(lengths)))
    return _to_device(packed, device)[None], cu_seqlens_of(lengths)


def _to_device(packed: Tensor, device: torch.device) -> Tensor:
    """Where it is to be; the host does not wait for a copy to a GPU."""
    if device.type == "cuda":
        packed = packed.pin_memory()
    return packed.to(device, non_blocking=True)


def pack_features(
    config: EncoderConfig, sequences: Sequence[np.ndarray], device: torch.device
) -> tuple[Float[Tensor, "1 T F"], Int[Tensor, " S1"]]:
    """Feature sequences as one packed batch, and its offsets, on the host.

    Raises:
        InputError: As ``check_features``.
    """
    check_features(config, sequences)
    packed = np.concatenate([np.asarray(rows, dtype=np.float32) for rows in sequences])
    offsets = cu_seqlens_of([len(rows) for rows in sequences])
    return _to_device(torch.from_numpy(packed), device)[None], offsets
