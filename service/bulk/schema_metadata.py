"""What other programs keep in a schema about its columns, extended by the one that is added.

pandas, Hugging Face's datasets and Spark read their own description of a file's columns before the
file's. One that does not name the vectors would hide them, or refuse the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

Extend = Callable[[dict[str, Any], pa.Field, int], None]


def extend_metadata(metadata: Mapping[bytes, bytes] | None, added: pa.Field, rows: int) -> Any:
    """Metadata of the schema of the output.

    Args:
        metadata: That of the input; None for none.
        added: The column of vectors, a list of fixed size.
        rows: How many rows the output has.

    Returns:
        The same by key, what is known extended by the column; without descriptions that nobody
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


def _extend_pandas(values: dict[str, Any], added: pa.Field, rows: int) -> None:
    values["columns"].append(
        {
            "name": added.name,
            "field_name": added.name,
            "pandas_type": f"list[{_element(added)}]",
            "numpy_type": "object",
            "metadata": None,
        }
    )
    for index in values["index_columns"]:
        if isinstance(index, dict) and index.get("kind") == "range":
            count = len(range(index["start"], index["stop"], index["step"]))
            if count != rows:  # of several files, or without bad records
                index.update(start=0, stop=rows, step=1)


def _extend_datasets(values: dict[str, Any], added: pa.Field, rows: int) -> None:
    features = values["info"]["features"]
    new = '"_type": "List"' in json.dumps(features)  # written by version 4 or later
    features[added.name] = {
        "feature": {"dtype": _element(added), "_type": "Value"},
        "length": added.type.list_size,
        "_type": "List" if new else "Sequence",
    }
    values.pop("fingerprint", None)  # of other content


def _extend_spark(values: dict[str, Any], added: pa.Field, rows: int) -> None:
    if values["type"] != "struct":
        raise ValueError("no description of rows")
    array = {"type": "array", "elementType": "float", "containsNull": True}
    values["fields"].append({"name": added.name, "type": array, "nullable": False, "metadata": {}})


def _element(added: pa.Field) -> str:
    return "float16" if pa.types.is_float16(added.type.value_type) else "float32"


EXTENDED: dict[bytes, Extend] = {
    b"pandas": _extend_pandas,
    b"huggingface": _extend_datasets,
    b"org.apache.spark.sql.parquet.row.metadata": _extend_spark,
}
