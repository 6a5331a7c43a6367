"""What other programs keep in a schema about its columns, extended by those that are added.

pandas, Hugging Face's datasets and Spark read their own description of a file's columns before the
file's. One that does not name the vectors would hide them, or refuse the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

Extend = Callable[[dict[str, Any], Sequence[pa.Field], int], None]
SPARK_TYPES = {"float16": "float", "float32": "float", "int32": "integer", "int64": "long"}
"""Names of types by those of numpy."""


def extend_metadata(
    metadata: Mapping[bytes, bytes] | None, added: Sequence[pa.Field], rows: int
) -> Any:
    """Metadata of the schema of the output.

    Args:
        metadata: That of the input; None for none.
        added: New columns: numbers, and lists of numbers.
        rows: How many rows the output has.

    Returns:
        The same by key, what is known extended by the columns; without descriptions that nobody
        can read.
    """
    found = dict(metadata or {})
    for key, extend in EXTENDED.items():
        if key not in found:
            continue
        try:
            values = json.loads(found[key])
            extend(values, added, rows)
            found[key] = json.dumps(values).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            del found[key]
    return found


def _extend_pandas(values: dict[str, Any], added: Sequence[pa.Field], rows: int) -> None:
    for column in added:
        element, listed = _element(column.type), _is_list(column.type)
        values["columns"].append(
            {
                "name": column.name,
                "field_name": column.name,
                "pandas_type": f"list[{element}]" if listed else element,
                "numpy_type": "object" if listed else element,
                "metadata": None,
            }
        )
    for index in values["index_columns"]:
        if isinstance(index, dict) and index.get("kind") == "range":
            count = len(range(index["start"], index["stop"], index["step"]))
            if count != rows:  # of several files, without bad records, or with rows a vector
                index.update(start=0, stop=rows, step=1)


def _extend_datasets(values: dict[str, Any], added: Sequence[pa.Field], rows: int) -> None:
    features = values["info"]["features"]
    new = '"_type": "List"' in json.dumps(features)  # written by version 4 or later
    for column in added:
        described: dict[str, Any] = {"dtype": _element(column.type), "_type": "Value"}
        if _is_list(column.type):
            length = column.type.list_size if pa.types.is_fixed_size_list(column.type) else -1
            kind = "List" if new else "Sequence"
            described = {"feature": described, "length": length, "_type": kind}
        features[column.name] = described
    values.pop("fingerprint", None)  # of other content


def _extend_spark(values: dict[str, Any], added: Sequence[pa.Field], rows: int) -> None:
    if values["type"] != "struct":
        raise ValueError("no description of rows")
    for column in added:
        described: Any = SPARK_TYPES[_element(column.type)]
        if _is_list(column.type):
            described = {"type": "array", "elementType": described, "containsNull": True}
        values["fields"].append(
            {"name": column.name, "type": described, "nullable": False, "metadata": {}}
        )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _element(kind: pa.DataType) -> str:
    """Numpy's name of a type of numbers, or of what lists hold."""
    if _is_list(kind):
        kind = kind.value_type
    return str(kind.to_pandas_dtype().__name__)


EXTENDED: dict[bytes, Extend] = {
    b"pandas": _extend_pandas,
    b"huggingface": _extend_datasets,
    b"org.apache.spark.sql.parquet.row.metadata": _extend_spark,
}
