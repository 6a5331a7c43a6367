"""Columns of JSON and CSV records: which kind each has, and their values as Arrow arrays.

A kind is chosen from the first records of the input and then holds: a record that does not fit is
bad. Nested values, and columns of mixed values, are kept as JSON text, so nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from osa.model.records.fields import INT64, display, list_names
from osa.model.records.record import BadRecord

ColumnType = Literal["string", "integer", "number", "boolean", "json"]
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
}


def choose_kinds(records: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """The kind of every column, in the order in which columns come up; only nulls: a string."""
    found: dict[str, set[ColumnType]] = {}
    for values in records:
        for name, value in values.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    return {name: _common(kinds) for name, kinds in found.items()}


def _kind(value: Any) -> ColumnType:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in INT64 else "json"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "json"


def _common(kinds: set[ColumnType]) -> ColumnType:
    if kinds <= {"integer", "number"} and kinds:
        return "number" if "number" in kinds else "integer"
    if not kinds:
        return "string"
    return kinds.pop() if len(kinds) == 1 else "json"


def wider(one: ColumnType, other: ColumnType) -> ColumnType:
    """The kind that holds values of both."""
    return _common({one, other})


def fit(values: Mapping[str, Any], kinds: Mapping[str, ColumnType]) -> dict[str, Any]:
    """A record's values as its columns hold them; null where it has none.

    Raises:
        BadRecord: A column that no earlier record has, or a value of another kind.
    """
    if not values.keys() <= kinds.keys():
        extra = list_names(values.keys() - kinds.keys())
        raise BadRecord("new column", f"has columns that the first records have not: {extra}")
    return {name: _fit(name, values.get(name), kind) for name, kind in kinds.items()}


def _fit(name: str, value: Any, kind: ColumnType) -> Any:
    if value is None:
        return None
    if kind == "json":
        try:
            value = json.dumps(value, ensure_ascii=False)
        except RecursionError:
            raise BadRecord("not JSON", f"column {name!r} is nested too deep") from None
    elif kind == "number" and type(value) is int and abs(value) <= 2**53:
        value = float(value)
    if kind not in ("json", _kind(value)):
        wanted = f"a {kind}" if kind != "integer" else "an integer"
        reason = f"column {name!r} is {wanted} in the first records, got {display(value)}"
        raise BadRecord("wrong type", reason)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            reason = f"column {name!r} holds a lone surrogate, which is not valid Unicode"
            raise BadRecord("not UTF-8", reason) from None
    return value


def to_schema(kinds: Mapping[str, ColumnType]) -> pa.Schema:
    """The Arrow schema of columns of these kinds."""
    return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in kinds.items()])


def to_batch(records: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Fitted records as a batch [records]."""
    arrays = [pa.array([record[field.name] for record in records], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
