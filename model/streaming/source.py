"""One long text, or its ids, as they come: pieces of ids in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from osa.model.config import EncoderConfig
from osa.model.errors import InputError
from osa.model.text.checks import id_out_of_range
from osa.model.tokenization import TextTokenizer

Pieces = str | Iterable[str] | Iterable[int] | Iterable[Sequence[int]] | Iterable[np.ndarray]
"""A text, or pieces of it in order; ids, single or in pieces; or pieces of features [n, F]."""
IDS_AT_ONCE = 4096
"""Single ids that are gathered to a piece."""


def pieces_of(
    source: Pieces, config: EncoderConfig, tokenizer: TextTokenizer | None
) -> Iterator[np.ndarray]:
    """Checked pieces of ids, special tokens included, or of features; see ``Pieces``.

    Args:
        source: The sequence.
        config: Of the model.
        tokenizer: Of the model; None for one that reads no text.

    Raises:
        InputError: Texts for a model without a tokenizer, ids out of range, features of another
            width or that are not finite, pieces of several kinds, or what is none of them.
    """
    if isinstance(source, str):
        source = [source]
    pieces = iter(source)
    first = next(pieces, None)
    if first is None:
        raise InputError("a text or sequence must have at least one token, got none")
    rest = _chained(first, pieces)
    if isinstance(first, str):
        if tokenizer is None:
            raise InputError("this model has no tokenizer: give ids or features")
        yield from _tokens(tokenizer, _texts(rest))
    elif config.feature_size is not None:
        yield from _features(rest, config.feature_size)
    else:
        yield from _ids(rest, config.num_ids)


def _tokens(tokenizer: TextTokenizer, texts: Iterator[str]) -> Iterator[np.ndarray]:
    """Ids of a text that comes in pieces, special tokens included."""
    yield np.array(tokenizer.prefix, dtype=np.int64)
    for ids, _ in tokenizer.stream(texts):
        yield np.array(ids, dtype=np.int64)
    yield np.array(tokenizer.suffix, dtype=np.int64)


def _chained(first: object, rest: Iterator[object]) -> Iterator[object]:
    yield first
    yield from rest


def _texts(pieces: Iterator[object]) -> Iterator[str]:
    for piece in pieces:
        if not isinstance(piece, str):
            raise InputError(f"pieces of a text must be texts, got {type(piece).__name__}")
        yield piece


def _ids(pieces: Iterator[object], most: int) -> Iterator[np.ndarray]:
    single: list[int] = []
    for piece in pieces:
        if isinstance(piece, int | np.integer) and not isinstance(piece, bool):
            single.append(int(piece))
            if len(single) == IDS_AT_ONCE:
                yield _checked_ids(single, most)
                single = []
            continue
        if single:
            yield _checked_ids(single, most)
            single = []
        if not isinstance(piece, Sequence | np.ndarray) or isinstance(piece, str | bytes):
            raise InputError(f"a sequence must hold ids, got {type(piece).__name__}")
        yield _checked_ids(piece, most)
    if single:
        yield _checked_ids(single, most)


def _checked_ids(ids: Sequence[int] | np.ndarray, most: int) -> np.ndarray:
    found = np.asarray(ids)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise InputError(f"ids must be integers, got {found.dtype} of shape {list(found.shape)}")
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < most:
        wrong = id_out_of_range(found.tolist(), most)
        raise InputError(f"the sequence holds id {wrong}, allowed are 0 to {most - 1}")
    return found.astype(np.int64)


def _features(pieces: Iterator[object], width: int) -> Iterator[np.ndarray]:
    for piece in pieces:
        rows = np.asarray(piece, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InputError(
                f"pieces must have rows of {width} numbers, [n, {width}], got {list(rows.shape)}"
            )
        if not np.isfinite(rows).all():
            raise InputError("features must be finite float32 numbers")
        yield rows
