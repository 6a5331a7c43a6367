"""Alerts, dashboard and scaling query metrics that a server exports; promtool accepts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from osa.service import errors
from osa.service.errors import ServiceError
from tests.deploy.chart import CHART, ROOT, of_kind, rendered_case
from tests.deploy.metric_names import (
    PROMETHEUS_OWN,
    alerts,
    asked_metrics,
    dashboard,
    dashboard_expressions,
    exported_series,
    scaling_expressions,
    write_rules,
)

RULE_TESTS = ROOT / "tests" / "deploy" / "alerts.test.yaml"
RUNBOOKS = ROOT / "docs" / "operations.md"
SOURCES = {
    "alerts": [rule["expr"] for rule in alerts()],
    "dashboard": dashboard_expressions(),
    "scaling": scaling_expressions(),
}


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: install Debian's package prometheus")
    return found


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, input=text, timeout=120)


def test_names_are_found_in_expressions() -> None:
    expression = """sum by (namespace, le) (rate(a_total{err=~"x|y",job="b"}[5m]))
        / on (job) group_left max(c:d offset 5m) > 0.5 and e{} * 1e3 unless bool_metric"""
    assert asked_metrics(expression) == {"a_total", "c:d", "e", "bool_metric"}


@pytest.mark.parametrize("source", SOURCES)
def test_every_metric_is_exported_by_a_running_server(source: str, client: httpx.Client) -> None:
    asked = set().union(*map(asked_metrics, SOURCES[source])) - PROMETHEUS_OWN
    exported = exported_series(client.get("/metrics").text)
    assert asked
    assert asked - exported == set()


def test_every_error_code_that_is_asked_for_exists() -> None:
    kinds = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ServiceError)
    }
    named = {
        code
        for text in [*SOURCES["alerts"], *SOURCES["dashboard"]]
        for found in re.findall(r'err=~?"([^"]*)"', text)
        for code in found.split("|")
    }
    assert named == {"backend", "deadline", "unavailable", "overloaded"}
    assert named <= kinds


def test_rules_and_queries_are_promql(promtool: str, tmp_path: Path) -> None:
    (rendered,) = of_kind(rendered_case("production"), "PrometheusRule")
    scoped = tmp_path / "scoped.yaml"
    scoped.write_text(yaml.safe_dump({"groups": rendered["spec"]["groups"]}))
    queries = tmp_path / "queries.yaml"
    write_rules([*SOURCES["dashboard"], *SOURCES["scaling"]], queries)
    done = run(
        promtool, "check", "rules", str(CHART / "alerts/osa.yaml"), str(scoped), str(queries)
    )
    assert done.returncode == 0, done.stderr


def test_every_alert_fires_and_stays_silent(promtool: str) -> None:
    done = run(promtool, "test", "rules", str(RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    fires: set[str] = set()
    silent: set[str] = set()
    for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            (fires if check["exp_alerts"] else silent).add(check["alertname"])
    names = {rule["alert"] for rule in alerts()}
    assert fires == names
    assert silent == names


def test_every_alert_has_its_runbook() -> None:
    headings = re.findall(r"^### (Osa\w+)$", RUNBOOKS.read_text(), flags=re.MULTILINE)
    assert headings == [rule["alert"] for rule in alerts()]


def test_the_exposition_is_clean(promtool: str, client: httpx.Client) -> None:
    done = run(promtool, "check", "metrics", text=client.get("/metrics").text)
    assert done.returncode in (0, 3), done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("osa_")]
    assert complaints == []


def test_the_chart_scopes_the_alerts_to_its_release() -> None:
    (rule,) = of_kind(rendered_case("production"), "PrometheusRule")
    found = {alert["alert"]: alert for group in rule["spec"]["groups"] for alert in group["rules"]}
    assert found.keys() == {alert["alert"] for alert in alerts()} - {"OsaSaturated"}
    for alert in found.values():
        selectors = re.findall(r"\{([^}]*)\}", alert["expr"])
        assert selectors
        assert all('namespace="ml",job="osa"' in selector for selector in selectors)
        assert alert["labels"]["team"] == "search"
        assert alert["annotations"]["runbook_url"].endswith("#" + alert["alert"].lower())
    assert found["OsaLatency"]["for"] == "5m"
    assert found["OsaLatency"]["labels"]["severity"] == "critical"
    (monitor,) = of_kind(rendered_case("production"), "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["relabelings"][0]["replacement"] == "osa"


def test_panels_of_the_dashboard_fit() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        box = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        }
        assert box["x"] + box["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "table"
            assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", str(panels))) - {"__rate_interval"}
    assert used <= variables


def test_the_dashboard_in_the_chart_is_the_file() -> None:
    (config,) = [
        item
        for item in of_kind(rendered_case("production"), "ConfigMap")
        if item["metadata"]["name"] == "osa-dashboard"
    ]
    assert json.loads(config["data"]["osa.json"]) == dashboard()
