"""Checks of a dataclass' values against its type hints: literals, unions, tuples, classes."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from osa.model.errors import ConfigError

MOST_NAMES, LONGEST_NAME = 5, 40
"""Unknown fields that a message names, and characters of each."""


def check_fields(instance: Any) -> None:
    """Refuse values of other types; where hints say so, lists become tuples and integers floats.

    Args:
        instance: A frozen dataclass, from its ``__post_init__``.

    Raises:
        ConfigError: The field, its value and what is allowed.
    """
    for name, hint in typing.get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        if isinstance(value, list) and _takes_tuples(hint):
            value = tuple(value)
        if isinstance(value, int) and not isinstance(value, bool) and hint is float:
            value = float(value)
        object.__setattr__(instance, name, value)
        if not _matches(value, hint):
            raise ConfigError(f"{name} must be {_allowed(hint)}, got {value!r}")


def check_sizes(instance: Any, largest: Mapping[str, int]) -> None:
    """Refuse sizes below 1 or above what is allowed.

    Args:
        instance: A dataclass, whose fields have been checked by ``check_fields``.
        largest: Allowed value by field; None in a field is allowed.

    Raises:
        ConfigError: The field, its value and what is allowed.
    """
    for name, limit in largest.items():
        size = getattr(instance, name)
        if size is not None and size < 1:
            raise ConfigError(f"{name} must be at least 1, got {size}")
        if size is not None and size > limit:
            raise ConfigError(f"{name} must be at most {limit}, got {size}")


def check_known(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse names that are not fields of the dataclass ``kind``.

    Raises:
        ConfigError: The names, and those that are known.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        told = ", ".join(name[:LONGEST_NAME] for name in unknown[:MOST_NAMES])
        more = ", ..." if len(unknown) > MOST_NAMES else ""
        raise ConfigError(f"unknown field {told}{more}; known are {', '.join(known)}")


def _takes_tuples(hint: Any) -> bool:
    """Whether a type hint is a tuple, or one of several that are allowed is."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    return any(typing.get_origin(kind) is tuple for kind in kinds)


def _allowed(hint: Any) -> str:
    """The values that a type hint allows, for messages."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _matches(value: object, hint: Any) -> bool:
    """Whether ``value`` is of type ``hint``."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_matches(value, part) for part in typing.get_args(hint))
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_matches(part, item) for part in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
