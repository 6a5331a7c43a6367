"""Names of the metrics in a PromQL expression, and of those that a server exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.chart import CHART, of_kind, rendered_case

PROMETHEUS_OWN = {"up"}
"""Series that Prometheus makes for every target."""
WORDS = {
    "by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool",
    "offset", "inf", "nan",
}  # fmt: skip


def asked_metrics(expression: str) -> set[str]:
    """Names of the series in a PromQL expression."""
    plain = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", plain)  # selectors and ranges
    plain = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", plain)  # lists of labels
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\s*\()\b(?![\w:]*\s*\()", plain)
    return {name for name in names if name not in WORDS}


def alerts() -> list[dict[str, Any]]:
    """Rules of ``helm/alerts/osa.yaml``."""
    groups = yaml.safe_load((CHART / "alerts" / "osa.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard."""
    found: dict[str, Any] = json.loads((CHART / "dashboards" / "osa.json").read_text())
    return found


def dashboard_expressions() -> list[str]:
    """Every query of the dashboard, with Grafana's variables filled in."""
    return [
        re.sub(r"\$\w+", ".*", target["expr"].replace("$__rate_interval", "5m"))
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    ]


def scaling_expressions() -> list[str]:
    """Queries of HPA and KEDA."""
    (hpa,) = of_kind(rendered_case("cpu"), "HorizontalPodAutoscaler")
    (keda,) = of_kind(rendered_case("production"), "ScaledObject")
    named = [metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"]]
    return named + [trigger["metadata"]["query"] for trigger in keda["spec"]["triggers"]]


def exported_series(exposition: str) -> set[str]:
    """Names of the series in an exposition text."""
    return {
        re.split(r"[{ ]", line, maxsplit=1)[0]
        for line in exposition.splitlines()
        if line and not line.startswith("#")
    }


def write_rules(expressions: list[str], file: Path) -> None:
    """Write expressions as recording rules, which promtool checks."""
    rules = [{"record": f"q{number}", "expr": text} for number, text in enumerate(expressions)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
