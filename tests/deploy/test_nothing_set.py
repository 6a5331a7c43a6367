"""Null is "not set": a setting has the server's default, and no template writes it as a text."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from osa.service.settings import Settings, load_settings
from tests.deploy.chart import CASES, CHART, Object, case_values, of_kind, render

Path = tuple[str, ...]


def settings_of(schema: Object, path: Path = ()) -> Iterator[Path]:
    """Every section and setting of the chart's schema."""
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name)
        yield from settings_of(inner, (*path, name))


def nested(path: Path, value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def environment(values: Object) -> dict[str, str]:
    (deployment,) = of_kind(render({"gpu": {"enabled": False}, **values}), "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in server["env"] if "value" in entry}


def test_a_setting_or_section_that_is_null_is_not_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]
    paths = list(settings_of(schema))
    assert ("server", "keep_alive_s") in paths
    everything: Object = {}
    for path in paths:
        if len(path) == 2:
            everything.setdefault(path[0], {})[path[1]] = None
    assert environment({"settings": everything}) == environment({}) == {}
    sections = {path[0]: None for path in paths}
    assert environment({"settings": sections}) == environment({"settings": None}) == {}


def test_a_null_in_the_table_of_a_model_leaves_it_the_value_of_all_models() -> None:
    table = {"path": "/models/law", "max_input_length": None, "prompts": None}
    given = {"model": {"max_input_length": 100}, "models": {"law": table, "none": None}}
    settings = load_settings(environment=environment({"settings": given}))
    assert list(settings.models) == ["law"]
    assert settings.named("law").max_input_length == 100
    tables = Settings.model_validate({**given, "models": {"law": {"max_input_length": None}}})
    assert tables.named("law").max_input_length is None, "what the server itself takes null for"


def test_a_null_in_a_later_file_takes_back_a_setting_of_an_earlier_one() -> None:
    with helm_python.Chart.load(CHART) as chart:
        merged = chart.merge_values({"settings": {"server": {"port": None, "host": "::"}}})
    assert environment({"settings": merged["settings"]}) == {"OSA_SERVER__HOST": "::"}


def values_of(values: Object, path: Path = ()) -> Iterator[Path]:
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from values_of(value, (*path, name))


def broken(item: Any, place: str = "") -> Iterator[str]:
    """Where an object has null, an empty text, or what Go writes for nothing."""
    if isinstance(item, dict | list):
        parts = item.items() if isinstance(item, dict) else enumerate(item)
        for name, inner in parts:
            yield from broken(inner, f"{place}.{name}")
    elif item in (None, "") or (isinstance(item, str) and ("<nil>" in item or "<no v" in item)):
        yield f"{place}: {item!r}"


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("default", "cpu")])
def test_any_value_that_is_null_is_refused_by_name_or_not_set(case: str) -> None:
    given, found = case_values(case), []
    ours = set(given) if case != "production" else None
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    with helm_python.Chart.load(CHART) as chart:
        usual = chart.render(given, name="osa", namespace="ml")
        for path in values_of(defaults):
            if ours is not None and path[0] not in ours:
                continue  # a value that this case does not use
            values = copy.deepcopy(given)
            place = values
            for name in path[:-1]:
                place = place.setdefault(name, {}) or {}
            place[path[-1]] = None
            try:
                rendered = chart.render(values, name="osa", namespace="ml")
            except helm_python.HelmError as error:
                if "\n- at '" not in str(error) and "execution error at" not in str(error):
                    found.append(f"{'.'.join(path)}: {error}")
                continue
            for file, text in rendered.items():
                if file.endswith(".yaml") and text != usual[file]:
                    items = yaml.safe_load_all(text)
                    found += [f"{'.'.join(path)}: {file}{bad}" for i in items for bad in broken(i)]
    assert found == []
