"""Every case renders, satisfies Kubernetes' strict schemas, and is consistent."""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from osa.service.settings import Settings, load_settings
from tests.deploy.chart import (
    CASES,
    CHART,
    ROOT,
    Object,
    case_values,
    containers,
    of_kind,
    pod_templates,
    render,
    rendered_case,
)

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
SINCE = {"oci-model": "1.31"}
"""Cases that need a newer Kubernetes than the chart."""


@functools.cache
def custom_resources() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "tests/deploy/crds.yaml").read_text())
    return found


def check_custom(item: Object) -> None:
    known = custom_resources()[item["kind"]]
    assert item["apiVersion"] == known["apiVersion"]
    assert set(item) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(item["spec"], known["spec"])


def plain_environment(box: Object) -> dict[str, str]:
    """Variables of a container that have a value of their own."""
    return {entry["name"]: entry["value"] for entry in box["env"] if "value" in entry}


@pytest.mark.parametrize("case", CASES)
def test_lint_has_nothing_to_say(case: str) -> None:
    report = helm_python.lint(CHART, case_values(case), strict=True, namespace="ml")
    assert report["errors"] == []
    assert [m for m in report["messages"] if "icon is recommended" not in m["error"]] == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_satisfy_strict_schemas(case: str, version: str) -> None:
    version = max(version, SINCE.get(case, version))
    for item in rendered_case(case):
        if item["kind"] in custom_resources():
            check_custom(item)
        else:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:  # its text is the whole schema
                pytest.fail(f"{item['kind']}: {list(error.absolute_path)}: {error.message}")


def test_the_cases_use_every_template_and_kind() -> None:
    kinds = {item["kind"] for case in CASES for item in rendered_case(case)}
    assert kinds >= set(custom_resources())
    used = set()
    for case in CASES:
        with helm_python.Chart.load(CHART) as chart:
            rendered = chart.render(case_values(case), name="osa", namespace="ml")
        used |= {file.split("/", 1)[1] for file, text in rendered.items() if text.strip()}
    written = {
        str(file.relative_to(CHART))
        for file in (CHART / "templates").rglob("*.*")
        if not file.name.startswith("_")
    }
    assert written - used == {"templates/checks.yaml"}


@pytest.mark.parametrize("case", CASES)
def test_names_are_unique_and_fit(case: str) -> None:
    objects = rendered_case(case)
    names = Counter((item["kind"], item["metadata"]["name"]) for item in objects)
    assert max(names.values()) == 1
    assert all(len(name) <= 63 for _, name in names)
    long = render({**case_values(case), "fullnameOverride": "n" * 60})
    assert all(len(item["metadata"]["name"]) <= 63 for item in long)


@pytest.mark.parametrize("case", CASES)
def test_every_selector_finds_its_pods_and_no_others(case: str) -> None:
    objects = rendered_case(case)
    labels = {
        name: pod["metadata"]["labels"].items()
        for name, pod in pod_templates(objects)
        if pod.get("kind") != "Pod"
    }
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector if item["kind"] == "Service" else selector.get("matchLabels", {})
        if wanted:
            component = wanted["app.kubernetes.io/component"]
            matched = [name for name, found in labels.items() if wanted.items() <= found]
            assert len(matched) == 1, (item["kind"], component)


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_the_rendered_environment(case: str) -> None:
    for deployment in of_kind(rendered_case(case), "Deployment"):
        (server,) = deployment["spec"]["template"]["spec"]["containers"]
        settings = load_settings(environment=plain_environment(server))
        told = settings.model_dump(mode="json", exclude_unset=True)
        for section, fields in case_values(case).get("settings", {}).items():
            assert told[section] == told[section] | fields
        assert server["ports"][0]["containerPort"] == settings.server.port
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        stop = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {"seconds": 0})
        assert grace >= stop["seconds"] + settings.server.drain_timeout_s + 5


def test_every_setting_reaches_the_server_as_it_was_written() -> None:
    """Large numbers above all: Helm prints them as 1e+06."""
    server = {"payload_limit": 2_000_000_000, "drain_timeout_s": 0.25, "host": "::",
              "request_timeout_s": None}  # fmt: skip
    model = {"others": {"a": "/models/a"}, "prompts": {"query": 'find: "x", '}}
    tables = {"Law/v1.5-large": {"path": "/models/law", "prompts": {"q": '"'}, "kind": "embedding"}}
    given = {"server": server, "model": model, "models": tables}
    values: Object = {"gpu": {"enabled": False}, "settings": given}
    (deployment,) = of_kind(render(values), "Deployment")
    settings = load_settings(
        environment=plain_environment(deployment["spec"]["template"]["spec"]["containers"][0])
    )
    assert settings == Settings.model_validate(values["settings"])
    assert settings.server.payload_limit == 2_000_000_000


def test_the_setting_of_grpc_opens_its_port_everywhere() -> None:
    for case, port in (("production", 9000), ("default", None)):
        objects = rendered_case(case)
        (deployment,), (service,), (policy,) = (
            of_kind(objects, kind) for kind in ("Deployment", "Service", "NetworkPolicy")
        )
        (server,) = deployment["spec"]["template"]["spec"]["containers"]
        assert load_settings(environment=plain_environment(server)).server.grpc_port == port
        opened = {found["name"]: found["containerPort"] for found in server["ports"]}
        served = {found["name"]: found for found in service["spec"]["ports"]}
        allowed = [found["port"] for found in policy["spec"]["ingress"][0]["ports"]]
        if port is None:
            assert (list(opened), list(served), allowed) == (["http"], ["http"], ["http"])
            continue
        assert (opened["grpc"], allowed) == (port, ["http", "grpc"])
        assert (served["grpc"]["port"], served["grpc"]["targetPort"]) == (port, "grpc")
        assert served["grpc"]["appProtocol"] == "kubernetes.io/h2c"


@pytest.mark.parametrize("case", CASES)
def test_mounts_have_volumes_and_volumes_have_mounts(case: str) -> None:
    for name, pod in pod_templates(rendered_case(case)):
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        mounted = {
            mount["name"] for box in containers(pod) for mount in box.get("volumeMounts", [])
        }
        assert volumes == mounted, name


def test_scaled_deployments_leave_their_replicas_alone() -> None:
    """Otherwise every upgrade would reset the number of pods."""
    for case in CASES:
        objects = rendered_case(case)
        scalers = of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject")
        for deployment in of_kind(objects, "Deployment"):
            assert ("replicas" in deployment["spec"]) == (not scalers)


def test_an_update_without_a_spare_gpu_removes_first() -> None:
    def strategy(case: str) -> Any:
        (deployment,) = of_kind(rendered_case(case), "Deployment")
        return deployment["spec"]["strategy"]["rollingUpdate"]

    assert strategy("default") == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategy("production") == {"maxSurge": 0, "maxUnavailable": 1}


def test_notes_name_the_next_command() -> None:
    with helm_python.Chart.load(CHART) as chart:
        notes = chart.render({}, name="osa", namespace="ml")["osa/templates/NOTES.txt"]
    assert "kubectl -n ml rollout status deployment/osa" in notes
    assert "/embed" in notes


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]


BY_REQUEST = "requests.cpu"


@pytest.mark.parametrize(
    ("requests", "limits", "threads"),
    [
        ("2", None, BY_REQUEST),
        ("500m", "4", BY_REQUEST),
        ("2", "2", BY_REQUEST),
        (None, "2", "2"),
        (None, 3, "3"),
        (None, "2500m", "2"),
        (None, "500m", "1"),
        (None, "0.5", "1"),
        ("1500m", "1500m", "1"),
        ("1500m", "1.5", "1"),
        ("2.5", "2.5", "2"),
        (None, None, None),
    ],
)
def test_threads_are_of_the_request_and_of_a_limit_that_is_less_or_alone(
    requests: Any, limits: Any, threads: str | None
) -> None:
    """Of a limit whole cores, as the server takes; Kubernetes rounds a request up."""
    resources = {"requests": {"cpu": requests}, "limits": {"cpu": limits} if limits else {}}
    values: Object = {"gpu": {"enabled": False}, "resources": resources}
    (deployment,) = of_kind(render(values), "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    found = {entry["name"]: entry for entry in server.get("env", [])}
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        if threads == BY_REQUEST:
            assert found[name]["valueFrom"]["resourceFieldRef"]["resource"] == BY_REQUEST
        else:
            assert found.get(name, {}).get("value") == threads


def test_threads_of_extra_env_are_not_set_twice() -> None:
    (deployment,) = of_kind(
        render({"extraEnv": [{"name": "OMP_NUM_THREADS", "value": "3"}]}), "Deployment"
    )
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    names = Counter(entry["name"] for entry in env)
    assert max(names.values()) == 1
    assert {"name": "OMP_NUM_THREADS", "value": "3"} in env
    assert names["RAYON_NUM_THREADS"] == 1


def test_caches_of_the_image_lie_where_pods_may_write() -> None:
    """On a volume with a limit, which outlives a container that is killed, but not its pod."""
    image = (ROOT / "docker/Dockerfile").read_text()
    caches = dict(re.findall(r"^\s*(?:ENV )?(HOME|\w*CACHE\w*)=(\S+)", image, re.MULTILINE))
    assert {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"} <= set(caches)
    for case in CASES:
        for name, pod in pod_templates(rendered_case(case)):
            sizes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
            for box in pod["spec"]["containers"] if sizes else []:
                (mount,) = [m for m in box["volumeMounts"] if m["mountPath"] == "/tmp"]
                assert sizes[mount["name"]]["emptyDir"]["sizeLimit"], name
    assert all(place == "/tmp" or place.startswith("/tmp/") for place in caches.values())


def test_a_connection_is_kept_longer_than_a_load_balancer_keeps_it() -> None:
    (deployment,) = of_kind(rendered_case("load-balancer"), "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    kept = load_settings(environment=plain_environment(server)).server.keep_alive_s
    assert kept > 600
    assert Settings().server.keep_alive_s > 60  # of AWS' and nginx
