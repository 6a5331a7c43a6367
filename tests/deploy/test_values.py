"""A wrong value is refused with a message that names it; schema, README and values agree."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import helm_python
import pytest
import yaml

from tests.deploy.chart import CHART, ROOT, render

KEDA = {"enabled": True, "serverAddress": "http://prometheus"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    "typo": ({"gpu": {"enable": True}}, "at '/gpu': additional properties 'enable' not allowed"),
    "negative replicas": ({"server": {"replicas": -1}}, "at '/server/replicas': minimum: got -1"),
    "wrong type": ({"gpu": {"enabled": "yes"}}, "at '/gpu/enabled': got string, want boolean"),
    "hpa and keda": (
        {"autoscaling": {"hpa": {"enabled": True}, "keda": KEDA}},
        "at '/autoscaling/keda/enabled': value must be false",
    ),
    "keda without prometheus": (
        {"autoscaling": {"keda": {"enabled": True}}},
        "at '/autoscaling/keda/serverAddress'",
    ),
    "scale to zero": ({"autoscaling": {"minReplicas": 0}}, "at '/autoscaling/minReplicas'"),
    "more than the most": ({"autoscaling": {"minReplicas": 9}}, "autoscaling.minReplicas is 9"),
    "two monitors": (
        {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "at '/monitoring/podMonitor/enabled': value must be false",
    ),
    "unknown setting": (
        {"settings": {"batching": {"max_batch_token": 1}}},
        "at '/settings/batching': additional properties 'max_batch_token' not allowed",
    ),
    "unknown section": (
        {"settings": {"batch": {}}},
        "at '/settings': additional properties 'batch' not allowed",
    ),
    "setting of a wrong kind": (
        {"settings": {"log": {"level": "loud"}}},
        "at '/settings/log/level': value must be one of 'debug', 'info', 'warning', 'error'",
    ),
    "setting out of range": (
        {"settings": {"server": {"port": 70000}}},
        "at '/settings/server/port': maximum: got 70,000, want 65,535",
    ),
    "any port": ({"settings": {"server": {"port": 0}}}, "settings.server.port"),
    "gRPC on the port of HTTP": (
        {"settings": {"server": {"grpc_port": 8080}}},
        "settings.server.grpc_port is 8080, which is the port of HTTP",
    ),
    "any port of gRPC": (
        {"settings": {"server": {"grpc_port": 0}}},
        "settings.server.grpc_port: 0",
    ),
    "path twice": ({"settings": {"model": {"path": "/a"}}, "model": {"path": "/b"}}, "model.path"),
    "path of a table twice": (
        {
            "settings": {"model": {"name": "a"}, "models": {"a": {"path": "/a"}}},
            "model": {"path": "/b"},
        },
        "settings.models.a.path: the chart sets the path of the default model",
    ),
    "unknown setting of a table": (
        {"settings": {"models": {"a": {"pth": "/a"}}}},
        "at '/settings/models/a': additional properties 'pth' not allowed",
    ),
    "a gpu for nothing": ({"settings": {"model": {"device": "cpu"}}}, "gpu.enabled is true"),
    "a setting in extraEnv": (
        {"extraEnv": [{"name": "OSA_LOG__LEVEL", "value": "debug"}]},
        "extraEnv: OSA_LOG__LEVEL is a setting",
    ),
    "source": ({"model": {"source": "ftp"}}, "at '/model/source': value must be one of 'image'"),
    "download without digest": (
        {"model": {"source": "http", "http": {"url": "http://a/b.tar"}}},
        "at '/model/http/sha256'",
    ),
    "claim without name": ({"model": {"source": "pvc"}}, "at '/model/pvc/claimName'"),
    "hub without repository": (
        {"model": {"source": "huggingface"}},
        "at '/model/huggingface/repository'",
    ),
    "repository by address": (
        {"model": {"huggingface": {"repository": "https://hub.example.com/a/b"}}},
        "at '/model/huggingface/repository': 'https://hub.example.com/a/b' does not match",
    ),
    "path in the hub": (
        {"model": {"source": "huggingface", "path": "a", "huggingface": {"repository": "a/b"}}},
        "at '/model/path': value must be ''",
    ),
    "refresh without the hub": (
        {
            "settings": {"model": {"refresh": True}},
            "model": {"source": "huggingface", "huggingface": {"repository": "a/b"}},
        },
        "settings.model.refresh: with model.source huggingface the server asks nobody",
    ),
    "second model of the hub": (
        {
            "settings": {"models": {"law": {"path": "hf:a/law"}}},
            "model": {"source": "huggingface", "huggingface": {"repository": "a/b"}},
        },
        "settings.models.law.path: the chart downloads the default model alone",
    ),
    "another model of the hub": (
        {
            "settings": {"model": {"others": {"law": "hf:a/law"}}},
            "model": {"source": "huggingface", "huggingface": {"repository": "a/b"}},
        },
        "settings.model.others.law: the chart downloads the default model alone",
    ),
    "quantity": ({"resources": {"limits": {"memory": "8GB"}}}, "at '/resources/limits/memory'"),
    "route without gateway": ({"httpRoute": {"enabled": True}}, "at '/httpRoute/parentRefs'"),
    "ingress without host": ({"ingress": {"enabled": True}}, "at '/ingress/hosts'"),
    "training of nothing": (
        {"train": {"enabled": True, "dataClaim": "a", "outputClaim": "b"}},
        "at '/train/configToml'",
    ),
    "two configurations": (
        {"train": {"recipe": "default", "configToml": "seed = 1"}},
        "at '/train/configToml'",
    ),
    "embedding of nothing": (
        {"embed": {"enabled": True, "dataClaim": "a", "outputClaim": "b"}},
        "at '/embed/inputs'",
    ),
    "no such alert": (
        {"monitoring": {"prometheusRule": {"enabled": True, "disabled": ["OsaLatenci"]}}},
        "there is no alert OsaLatenci",
    ),
    "ingress without server": (
        {"server": {"enabled": False}, "ingress": {"enabled": True, "hosts": [{"host": "a"}]}},
        "server.enabled is false",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_named(case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(helm_python.HelmError) as refusal:
        render(values)
    assert message in str(refusal.value)


def test_schema_and_readme_follow_from_settings_and_values() -> None:
    command = [sys.executable, str(CHART / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def paths(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> set[str]:
    """Keys of the values, down to what the schema describes key by key."""
    found = set()
    for key, value in values.items():
        inner = schema.get("properties", {}).get(key, {})
        path = f"{prefix}{key}"
        nested = isinstance(value, dict) and "properties" in inner and value
        found |= paths(value, inner, f"{path}.") if nested else {path}
    return found


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    for path in paths(values, schema):
        node = schema
        for part in path.split("."):
            assert node.get("additionalProperties") is False, f"{path}: unknown keys pass"
            node = node["properties"][part]
        assert f"| `{path}` |" in readme


def test_every_value_of_the_schema_has_a_default() -> None:
    """Users find keys in values.yaml only."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(node: dict[str, Any], value: Any, path: str) -> None:
        for key, inner in node.get("properties", {}).items():
            if path or key not in ("settings", "global"):
                assert key in value, f"{path}{key}"
                if inner.get("type") == "object":
                    compare(inner, value[key], f"{path}{key}.")

    compare(schema, values, "")
