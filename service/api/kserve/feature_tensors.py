"""Feature sequences as tensors of the Open Inference Protocol. Pure functions.

``features`` (FP32) is [N, F], the rows of all sequences end to end, with ``lengths`` (INT64, [S])
where there are several; or [S, N, F], with ``lengths`` where rows at the end are padding.
"""

from __future__ import annotations

import numpy as np

from osa.service.errors import EmptyInputError, ValidationError

FEATURES, LENGTHS = "features", "lengths"


def split_features(features: np.ndarray, lengths: np.ndarray | None) -> list[np.ndarray]:
    """The sequences of a request, float32 [n, F].

    Args:
        features: float32 [N, F] or [S, N, F].
        lengths: Rows of each sequence, int64 [S], if given.

    Raises:
        EmptyInputError: A length of zero.
        ValidationError: Lengths that do not fit.
    """
    if lengths is None:
        return [features] if features.ndim == 2 else list(features)
    if (lengths == 0).any():
        raise EmptyInputError(f"{LENGTHS}[{int(np.argmin(lengths != 0))}] is 0", param=LENGTHS)
    if (lengths < 0).any():
        raise ValidationError(
            f"{LENGTHS}[{int(np.argmax(lengths < 0))}] is negative", param=LENGTHS
        )
    rows = features.shape[-2]
    if (lengths > rows).any():
        place = int(np.argmax(lengths > rows))
        raise ValidationError(
            f"{LENGTHS}[{place}] is {lengths[place]}, {FEATURES} has {rows} rows", param=LENGTHS
        )
    if features.ndim == 2:
        total = sum(lengths.tolist())  # of Python: int64 could overflow
        if total != rows:
            raise ValidationError(
                f"{LENGTHS} must add up to the {rows} rows of {FEATURES}, got {total}",
                param=LENGTHS,
            )
        return np.split(features, np.cumsum(lengths)[:-1])
    if len(lengths) != len(features):
        raise ValidationError(
            f"{LENGTHS} must have shape [{len(features)}], one for each sequence of {FEATURES}, "
            f"got [{len(lengths)}]",
            param=LENGTHS,
        )
    return [rows[:length] for rows, length in zip(features, lengths, strict=True)]
