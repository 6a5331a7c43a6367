"""What is wrong with inputs, in the words of the server and of the Python API alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np

from osa.model.errors import InputError

if TYPE_CHECKING:
    Texts = str | Iterable[str]
    IdSequences = Sequence[Sequence[int] | np.ndarray]
    FeatureSequences = Sequence[np.ndarray]
else:  # functions of these say themselves what is wrong, and where
    Texts = IdSequences = FeatureSequences = object

JSON_TYPES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def json_type(value: Any) -> str:
    """JSON's name for the type of a value; of a type that JSON has not, its own name."""
    return JSON_TYPES.get(type(value), type(value).__name__)


def text_problem(value: Any, place: str) -> str | None:
    """What is wrong with a text at ``place``; None if nothing is."""
    if not isinstance(value, str):
        return f"{place} must be a string, got {json_type(value)}"
    return None if value else f"{place} is empty"


def id_problem(value: Any, place: str) -> str | None:
    """What is wrong with a token id at ``place``, whatever its range; None if nothing is."""
    if type(value) is int:
        return None
    return f"{place} must be an integer id, got {json_type(value)}"


def read_texts(texts: Any, field: str) -> list[str]:
    """Texts as a list.

    Raises:
        InputError: Not a list of texts, or one of them is empty or something else; says where.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, str | bytes | Mapping | AbstractSet):
        raise InputError(f"{field} must be a string or a list of strings, got {json_type(texts)}")
    found = list(texts)
    for index, text in enumerate(found):
        if not isinstance(text, str) or not text:
            raise InputError(str(text_problem(text, f"{field}[{index}]")))
    return found


def read_ids(sequences: Iterable[Any], field: str) -> list[list[int]]:
    """Sequences of ids as lists.

    Raises:
        InputError: What is no list of ids; says where, and what is there.
    """
    found = []
    for row, ids in enumerate(sequences):
        place = f"{field}[{row}]"
        if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "iu":
            found.append(ids.tolist())
            continue
        if not isinstance(ids, list | tuple):
            raise InputError(f"{place} must be a list of ids, got {json_type(ids)}")
        for index, number in enumerate(ids):
            if type(number) is not int and not isinstance(number, np.integer):
                raise InputError(str(id_problem(number, f"{place}[{index}]")))
        found.append(list(map(int, ids)))
    return found


def read_features(sequence: Any, place: str) -> np.ndarray:
    """A sequence of features as float32; numbers beyond float32 become infinite.

    Raises:
        InputError: Something else than rows of numbers.
    """
    try:
        found = np.asarray(sequence)
    except ValueError:  # rows of different lengths
        found = np.empty(0, dtype=object)
    if found.dtype.kind not in "iuf" or found.ndim != 2:
        shown = json_type(sequence)
        if isinstance(sequence, np.ndarray):
            shown = f"shape {list(sequence.shape)} of {sequence.dtype}"
        raise InputError(f"{place} must be rows of numbers of one length, got {shown}")
    with np.errstate(over="ignore"):
        return found.astype(np.float32, copy=False)
