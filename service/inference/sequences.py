"""Sequences as callers send them, ids or features: checked against the model, and cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from osa.model.sequences import non_finite_place
from osa.model.tokenization import Direction, id_out_of_range
from osa.service.errors import EmptyInputError, ValidationError

FIELD = "input"
ADVICE = ": are these tokens of another model? Send texts"


class LengthRule(NamedTuple):
    """How long a sequence may be.

    Attributes:
        limit: Longest sequence [tokens or rows].
        truncate: Whether longer ones are cut.
        direction: Which side is cut.
        unit: What a sequence consists of, for messages.
    """

    limit: int
    truncate: bool
    direction: Direction
    unit: str = "tokens"

    def check(self, index: int, length: int) -> None:
        """Refuse a sequence of no length, or one that is too long.

        Raises:
            EmptyInputError: It has nothing.
            ValidationError: It is too long; says what is allowed.
        """
        if not length:
            raise EmptyInputError(f"input {index} has no {self.unit}", param=FIELD)
        if length > self.limit:
            raise ValidationError(
                f"input {index} has {length} {self.unit}, at most {self.limit} are allowed "
                "without truncation",
                param=FIELD,
            )

    def kept(self, length: int) -> slice:
        """What remains of a sequence of this length."""
        surplus = max(0, length - self.limit) if self.truncate else 0
        return slice(surplus, None) if self.direction == "left" else slice(0, length - surplus)


class IdRule(NamedTuple):
    """Which ids a sequence may hold.

    Attributes:
        vocab_size: They are below this.
        reserved: Ids that no text has: whoever sends one has tokenised for another model.
    """

    vocab_size: int
    reserved: frozenset[int] = frozenset()

    def check(self, index: int, ids: Sequence[int]) -> None:
        """Refuse a sequence that holds other ids.

        Raises:
            ValidationError: Saying which id, and what may be the cause.
        """
        wrong = id_out_of_range(ids, self.vocab_size)
        if wrong is not None:
            raise ValidationError(
                f"input {index} holds id {wrong}, allowed are 0 to {self.vocab_size - 1}{ADVICE}",
                param=FIELD,
            )
        if not self.reserved.isdisjoint(ids):
            wrong = next(number for number in ids if number in self.reserved)
            raise ValidationError(
                f"input {index} holds id {wrong}, which this model's tokenizer gives for no "
                f"text{ADVICE}",
                param=FIELD,
            )


def fit_ids(
    sequences: Mapping[int, list[int]], allowed: IdRule, rule: LengthRule
) -> tuple[list[list[int]], list[int]]:
    """Id sequences, cut, and how many ids of each were cut off.

    Args:
        sequences: Ids of inputs by their places in the request.
        allowed: Which ids there may be.
        rule: How long they may be.

    Raises:
        EmptyInputError: A sequence without an id.
        ValidationError: An id that may not be, or a sequence that is too long.
    """
    kept, truncated = [], []
    for index, ids in sequences.items():
        allowed.check(index, ids)
        shorter = ids
        if not 0 < len(ids) <= rule.limit:
            shorter = ids[rule.kept(len(ids))]
            rule.check(index, len(shorter))
        kept.append(shorter)
        truncated.append(len(ids) - len(shorter))
    return kept, truncated


def fit_features(
    sequences: Mapping[int, np.ndarray], feature_size: int, rule: LengthRule
) -> tuple[list[np.ndarray], list[int]]:
    """Feature sequences, cut, and how many rows of each were cut off.

    Args:
        sequences: Features of inputs by their places in the request, float32 [n, F].
        feature_size: F of the model.
        rule: How long they may be.

    Raises:
        EmptyInputError: A sequence without a row.
        ValidationError: Rows of another width, a number that is not finite, or a sequence that is
            too long.
    """
    kept, truncated = [], []
    for index, features in sequences.items():
        length, width = features.shape
        if width != feature_size:
            raise ValidationError(
                f"input {index} has rows of {width} numbers, this model takes {feature_size}",
                param=FIELD,
            )
        wrong = non_finite_place(features)
        if wrong is not None:
            raise ValidationError(
                f"input {index} must hold finite float32 numbers: row {wrong[0]}, "
                f"column {wrong[1]} is not",
                param=FIELD,
            )
        shorter = np.ascontiguousarray(features[rule.kept(length)])
        rule.check(index, len(shorter))
        kept.append(shorter)
        truncated.append(length - len(shorter))
    return kept, truncated


def in_order(
    places: Sequence[int], ids: Sequence[Any], truncated: Sequence[int]
) -> tuple[list[Any], list[int]]:
    """Ids or features, and how much of each was cut, of inputs that lie at ``places``."""
    order = sorted(range(len(places)), key=places.__getitem__)
    return [ids[at] for at in order], [truncated[at] for at in order]
