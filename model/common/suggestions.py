"""Error messages with suggestions for mistyped names."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

CUTOFF = 0.7
"""Least similarity of a name that is suggested, from 0 to 1."""
LEAST = 3
"""Shortest prefix that is completed to a name [characters]."""
ANY_NAME = "NAME"
"""Stands for the name of a table in dotted names of fields."""


def did_you_mean(
    name: str, allowed: Iterable[str], show: Callable[[str], str] = lambda found: found
) -> str:
    """``; did you mean X?`` with the closest of the allowed names; empty where none is close.

    Args:
        name: The unknown name; case does not matter.
        allowed: Known names. The last part of a dotted name is enough: ``port`` suggests
            ``server.port``.
        show: Formats a name for the message.
    """
    names = {full.lower(): full for full in allowed}
    last: dict[str, str] = {}
    for lower, full in names.items():
        last.setdefault(lower.rpartition(".")[2], full)
    name = name.lower()
    found = _closest(name, names) or _closest(name.rpartition(".")[2], last)
    return f"; did you mean {show(found)}?" if found else ""


def _closest(name: str, names: Mapping[str, str]) -> str | None:
    begun = [full for lower, full in names.items() if len(name) >= LEAST and lower.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    close = difflib.get_close_matches(name, list(names), 1, CUTOFF)
    return names[close[0]] if close else None


def field_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of a model and its sections; of tables by name ``x.NAME.y``."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            by_name = f"{ANY_NAME}." if typing.get_origin(field.annotation) is dict else ""
            yield from field_names(section, f"{prefix}{name}.{by_name}")


def _section(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def explain(error: ValidationError, model: type[BaseModel], whole: str) -> str:
    """A message of all problems, with suggestions for mistyped names.

    Args:
        error: The error of validating ``model``.
        model: The model, for its field names.
        whole: Name of the model, for problems of no single field.
    """
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or whole}: {_problem(item, model)}"
        for item in error.errors(include_url=False)
    )


def _problem(item: Any, model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown" + _suggest_field(tuple(map(str, item["loc"])), item["input"], model)
    if item["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return f"{item['msg']}, got {item['input']!r}{did_you_mean(str(item['input']), choices)}"
    message: str = item["msg"]
    return message


def _suggest_field(place: tuple[str, ...], value: object, model: type[BaseModel]) -> str:
    """The suggestion for an unknown field, or for an unknown section by its first field."""
    name = ".".join((*place, *(map(str, list(value)[:1]) if isinstance(value, dict) else ())))
    known = list(field_names(model))
    if len(place) > 2:
        known = [found.replace(f".{ANY_NAME}.", f".{place[1]}.") for found in known]
    return did_you_mean(name, known)
