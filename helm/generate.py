"""Generates parts of the chart's files: ``python helm/generate.py [--check]``.

Property ``settings`` of ``values.schema.json`` is generated from the server's ``Settings``, so that
the chart refuses the same settings as the server; null is allowed everywhere there, for "not set".
What else has a default other than nothing is ``required``: Helm drops a value that is set to null,
and a template would write ``<nil>`` in its place. The table of values in ``README.md`` is generated
from the comments of ``values.yaml``. With ``--check`` nothing is written, and the exit code is 1 if
a file is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from osa.service.settings import Settings

HERE = Path(__file__).parent
SCHEMA, README, VALUES = (
    HERE / name for name in ("values.schema.json", "README.md", "values.yaml")
)
BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"
KEPT = (
    "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "pattern", "minItems", "maxItems", "description",
)  # fmt: skip


def settings_schema() -> dict[str, Any]:
    """JSON schema of ``settings``: sections and fields, all optional."""
    whole = Settings.model_json_schema()
    return _section(whole, whole.get("$defs", {}))


def _section(schema: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _or_null(_field(field, shared)) for name, field in properties.items()},
    }


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field or section that may also be null."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    result = {**field, "type": [*(kind for kind in kinds if kind != "null"), "null"]}
    if "enum" in result:
        result["enum"] = [*(value for value in result["enum"] if value is not None), None]
    return result


def _require(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """Require what has a default: of an object, and of those in it."""
    properties = schema.get("properties", {})
    needed = [name for name in properties if values.get(name) not in ("", {}, [], None)]
    schema.pop("required", None)
    if needed:
        schema["required"] = needed
    for condition in (schema, *schema.get("allOf", [])):
        _require_then(condition.get("then", {}))
    for name, inner in properties.items():
        if isinstance(values.get(name), dict) and name != "settings":
            _require(inner, values[name])


def _require_then(schema: dict[str, Any]) -> None:
    """Require what must not be empty under a condition."""
    properties = schema.get("properties", {})
    needed = [name for name, inner in properties.items() if {"minLength", "minItems"} & set(inner)]
    if needed:
        schema["required"] = needed
    for inner in properties.values():
        _require_then(inner)


def _field(field: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Schema of one field or section; ``anyOf`` becomes a list of types, for clear messages."""
    if reference := field.get("$ref"):
        target = shared[reference.rpartition("/")[2]]
        return _section(target, shared) if "properties" in target else _field(target, shared)
    result = {key: field[key] for key in KEPT if key in field}
    if choices := field.get("anyOf"):
        kinds = [_field(choice, shared) for choice in choices]
        for kind in kinds:
            result.update({key: value for key, value in kind.items() if key != "type"})
        result["type"] = [kind["type"] for kind in kinds]
    if isinstance(items := field.get("items"), dict):
        result["items"] = _field(items, shared)
    if isinstance(values := field.get("additionalProperties"), dict):
        result["additionalProperties"] = _field(values, shared)
        if "properties" in result["additionalProperties"]:
            result["additionalProperties"] = _or_null(result["additionalProperties"])
    return result


def values_table(text: str) -> str:
    """A Markdown table of every key of ``values.yaml`` that has a comment."""
    rows = ["| value | default | |", "|---|---|---|"]
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"( *)# (.*)", line):
            comment.append(found[2])
        elif found := re.match(r"( *)(\w+):(?: (.*))?$", line):
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                default = f"`{found[3]}`" if found[3] else "see values.yaml"
                about = " ".join(comment).replace("|", "\\|")
                rows.append(f"| `{'.'.join(path)}` | {default} | {about} |")
            comment = []
        else:
            comment = []
    return "\n".join(rows) + "\n"


def main() -> int:
    """Write, or check; returns the exit code."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"] = settings_schema()
    _require(schema, yaml.safe_load(VALUES.read_text()))
    readme = README.read_text()
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    table = values_table(VALUES.read_text())
    wanted = {
        SCHEMA: json.dumps(schema, indent=2) + "\n",
        README: f"{head}{BEGIN}{table}{END}{tail}",
    }
    stale = [file for file, text in wanted.items() if file.read_text() != text]
    for file in stale:
        if "--check" in sys.argv:
            print(f"{file.name} is out of date: run python helm/generate.py", file=sys.stderr)
        else:
            file.write_text(wanted[file])
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
